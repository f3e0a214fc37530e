//! Where the Pods of a daemon set run, and what they look like. Pure.
//!
//! A Pod is made for one node, which its node affinity names; the scheduler binds it there. It tolerates what befalls nodes.

use controller::Object;
use model::object;
use serde_json::{Value, json};

use crate::node_affinity::RequiredNodes;
use crate::taints::{self, Effect, Taint, Toleration};
use crate::{history, pod};

/// The annotation with the number of the template, of old.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// The label with the same.
const GENERATION_LABEL: &str = "pod-template-generation";

/// What every daemon Pod tolerates: key and effect.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// What one on its node's network tolerates besides.
const TOLERATED_ON_HOST_NETWORK: (&str, &str) =
    ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// Whether a node should get a Pod, and may keep one it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// It should get one.
    pub runs: bool,
    /// It may keep one.
    pub keeps: bool,
}

/// What of a daemon set decides where its Pods run. Read once for all nodes.
pub struct Placer {
    node_name: String,
    required: RequiredNodes,
    tolerations: Vec<Toleration>,
}

impl Placer {
    /// Reads a daemon set.
    pub fn of(set: &Object) -> Self {
        let spec = tolerant_spec(set);
        Self {
            node_name: object::text(&spec, &["nodeName"]).to_owned(),
            required: RequiredNodes::of_spec(&spec),
            tolerations: object::list(&spec, &["tolerations"])
                .iter()
                .map(Toleration::of)
                .collect(),
        }
    }

    /// Decides about a node.
    pub fn place(&self, node: &Object) -> Placement {
        let named = self.node_name.is_empty() || self.node_name == node.name();
        if !named || !self.required.matches(node) {
            return Placement {
                runs: false,
                keeps: false,
            };
        }
        let taints = Taint::of_node(node);
        let evicting: Vec<Taint> = taints
            .iter()
            .filter(|taint| taint.effect == Effect::NoExecute)
            .cloned()
            .collect();
        Placement {
            runs: taints::admits(&taints, &self.tolerations),
            keeps: taints::admits(&evicting, &self.tolerations),
        }
    }
}

/// The template's spec with the tolerations of daemon Pods.
fn tolerant_spec(set: &Object) -> Value {
    let template = set.get(&["spec", "template", "spec"]);
    let mut spec = template.cloned().unwrap_or_else(|| json!({}));
    let on_host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    let mut tolerations = object::list(&spec, &["tolerations"]).to_vec();
    let host = on_host_network.then_some(&TOLERATED_ON_HOST_NETWORK);
    for (key, effect) in TOLERATED.iter().chain(host) {
        let wanted = json!({"key": key, "operator": "Exists", "effect": effect});
        let same = |one: &&mut Value| {
            let text = |name: &str| object::text(one, &[name]);
            text("key") == *key
                && text("effect") == *effect
                && text("operator") == "Exists"
                && text("value").is_empty()
        };
        match tolerations.iter_mut().find(same) {
            Some(present) => *present = wanted,
            None => tolerations.push(wanted),
        }
    }
    spec["tolerations"] = Value::Array(tolerations);
    spec
}

/// The number of a set's template, where it has one.
fn template_generation(set: &Object) -> Option<i64> {
    set.annotation(TEMPLATE_GENERATION)?.parse().ok()
}

/// Whether a Pod is of the current template, which has this hash.
pub fn is_updated(set: &Object, pod: &Object, hash: &str) -> bool {
    let by_hash = !hash.is_empty() && pod.label(history::HASH) == Some(hash);
    let generation = template_generation(set).map(|generation| generation.to_string());
    by_hash || generation.is_some() && pod.label(GENERATION_LABEL) == generation.as_deref()
}

/// A Pod for a node.
pub fn new_pod(set: &Object, hash: &str, node: &str) -> Value {
    let mut template = set.get(&["spec", "template"]).cloned().unwrap_or_default();
    let mut spec = tolerant_spec(set);
    let by_name = json!([{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": [node]}]}]);
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    if !spec["affinity"].is_object() {
        spec["affinity"] = json!({});
    }
    let affinity = object::child_mut(&mut spec["affinity"], "nodeAffinity");
    affinity.insert(required.to_owned(), json!({"nodeSelectorTerms": by_name}));
    template["spec"] = spec;
    let mut labels = vec![(history::HASH, hash.to_owned())];
    if let Some(generation) = template_generation(set) {
        labels.push((GENERATION_LABEL, generation.to_string()));
    }
    pod::from_template(set, &template, &labels)
}

/// The node a Pod runs on or is made for.
pub fn node_of(pod: &Object) -> Option<&str> {
    let assigned = object::text(pod.value(), &["spec", "nodeName"]);
    if !assigned.is_empty() {
        return Some(assigned);
    }
    let path = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    let terms = object::list(pod.value(), &path).iter();
    let fields = terms.flat_map(|term| object::list(term, &["matchFields"]));
    let mut named = fields.filter(|field| {
        object::text(field, &["key"]) == "metadata.name"
            && object::text(field, &["operator"]) == "In"
    });
    match object::list(named.next()?, &["values"]) {
        [only] => only.as_str(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spec: &Value) -> Object {
        Object::new(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "agent", "namespace": "n", "uid": "u",
                "annotations": {TEMPLATE_GENERATION: "3"}},
            "spec": {"template": {"metadata": {"labels": {"app": "agent"}}, "spec": spec}},
        }))
    }

    fn node(labels: &Value, taints: &Value) -> Object {
        Object::new(
            json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}}),
        )
    }

    #[test]
    fn selectors_and_taints_decide() {
        let check = |spec: Value, labels: Value, taints: Value, runs: bool, keeps: bool| {
            let found = Placer::of(&set(&spec)).place(&node(&labels, &taints));
            assert_eq!(found, Placement { runs, keeps }, "{spec} {labels} {taints}");
        };
        let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
        check(json!({}), json!({}), json!([]), true, true);
        check(json!({"nodeName": "n1"}), json!({}), json!([]), true, true);
        check(
            json!({"nodeName": "n2"}),
            json!({}),
            json!([]),
            false,
            false,
        );
        check(
            json!({"nodeSelector": {"a": "b"}}),
            json!({}),
            json!([]),
            false,
            false,
        );
        check(
            json!({"nodeSelector": {"a": "b"}}),
            json!({"a": "b"}),
            json!([]),
            true,
            true,
        );
        check(json!({}), json!({}), taint("x", "NoSchedule"), false, true);
        check(json!({}), json!({}), taint("x", "NoExecute"), false, false);
        check(
            json!({}),
            json!({}),
            taint("x", "PreferNoSchedule"),
            true,
            true,
        );
        let cordoned = taint("node.kubernetes.io/unschedulable", "NoSchedule");
        check(json!({}), json!({}), cordoned, true, true);
        let lost = taint("node.kubernetes.io/unreachable", "NoExecute");
        check(json!({}), json!({}), lost, true, true);
        let network = taint("node.kubernetes.io/network-unavailable", "NoSchedule");
        check(json!({}), json!({}), network.clone(), false, true);
        check(json!({"hostNetwork": true}), json!({}), network, true, true);
    }

    #[test]
    fn a_pod_is_made_for_its_node() {
        let affinity =
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}});
        let set = set(&json!({"affinity": affinity, "containers": []}));
        let pod = Object::new(new_pod(&set, "h", "n7"));
        assert_eq!(node_of(&pod), Some("n7"));
        assert_eq!(pod.label(history::HASH), Some("h"));
        assert_eq!(pod.label(GENERATION_LABEL), Some("3"));
        assert!(
            pod.pointer(
                "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution"
            )
            .is_some()
        );
        assert_eq!(object::list(pod.value(), &["spec", "tolerations"]).len(), 6);
        assert!(is_updated(&set, &pod, "other"), "by its generation");
    }
}
