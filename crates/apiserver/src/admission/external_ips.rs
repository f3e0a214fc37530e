//! `DenyServiceExternalIPs`: no Service gets an external IP it does not have. Off by default.

use model::{Status, object};
use serde_json::Value;

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "DenyServiceExternalIPs",
    default: false,
    mutate: Mutate::Never,
    validate: Validate::Now(validate),
};

fn validate(request: &Request<'_>, service: &Value) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is_object("", "services") {
        return Ok(());
    }
    let of = |service| object::list(service, &["spec", "externalIPs"]);
    let before = request.old.map(of).unwrap_or_default();
    if of(service).iter().all(|address| before.contains(address)) {
        return Ok(());
    }
    Err(request.refuse(
        service,
        "Use of external IPs is denied by admission control",
    ))
}
