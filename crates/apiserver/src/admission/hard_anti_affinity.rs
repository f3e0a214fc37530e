//! `LimitPodHardAntiAffinityTopology`: a Pod may keep others off its node, not off a whole zone. Off by
//! default.

use model::{Status, object};
use serde_json::Value;

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "LimitPodHardAntiAffinityTopology",
    default: false,
    mutate: Mutate::Never,
    validate: Validate::Now(validate),
};

const HOSTNAME: &str = "kubernetes.io/hostname";

fn validate(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is_object("", "pods") {
        return Ok(());
    }
    let path = [
        "spec",
        "affinity",
        "podAntiAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ];
    let keys = object::list(pod, &path)
        .iter()
        .map(|term| object::text(term, &["topologyKey"]));
    match keys.into_iter().find(|key| *key != HOSTNAME) {
        Some(key) => {
            let why = format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is allowed"
            );
            Err(Status::forbidden("", "pods", object::name(pod), &why))
        }
        None => Ok(()),
    }
}
