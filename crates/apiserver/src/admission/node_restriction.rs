//! `NodeRestriction`: a node changes itself and what runs on it, nothing else. Asked of nodes alone.

use std::collections::BTreeSet;

use model::{Status, object};
use serde_json::{Map, Value};

use super::{Mutate, Operation, Plugin, Request, Validate};
use crate::identity::{Attributes, node_of};

pub const PLUGIN: Plugin = Plugin {
    name: "NodeRestriction",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Now(validate_deletion),
};

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// Upstream asks this plugin before those that validate.
fn mutate(request: &Request<'_>, new: &mut Value) -> Result<(), Status> {
    check(request, new)
}

/// Deletions pass through validation only.
fn validate_deletion(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    if request.operation == Operation::Delete {
        return check(request, new);
    }
    Ok(())
}

fn check(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    let Some(node) = node_of(&request.context.user) else {
        return Ok(());
    };
    let asked = Asked { request, new, node };
    if node.is_empty() {
        return asked.refuse(&format!(
            "could not determine node from user {:?}",
            request.context.user.name
        ));
    }
    let gvr = &request.context.definition.gvr;
    match (
        gvr.group.as_str(),
        gvr.resource.as_str(),
        request.subresource,
    ) {
        ("", "pods", "") => asked.pod(),
        ("", "pods", "status") => asked.pod_status(),
        ("", "pods", "eviction") => asked.eviction(),
        ("", "pods", other) => asked.refuse(&format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        )),
        ("", "nodes", _) => asked.node(),
        ("", "persistentvolumeclaims", "status") => asked.claim_status(),
        ("", "persistentvolumeclaims", _) => asked.refuse("may only update PVC status"),
        ("", "serviceaccounts", "token") => asked.token(),
        ("coordination.k8s.io", "leases", _) => asked.lease(),
        ("storage.k8s.io", "csinodes", _) => {
            asked.named("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices", _) => asked.slice(),
        ("certificates.k8s.io", "certificatesigningrequests", "") => asked.certificate(),
        _ => Ok(()),
    }
}

struct Asked<'a> {
    request: &'a Request<'a>,
    new: &'a Value,
    node: &'a str,
}

impl Asked<'_> {
    fn refuse(&self, why: &str) -> Result<(), Status> {
        Err(self.request.refuse(self.new, why))
    }

    fn old(&self) -> &Value {
        self.request.old.unwrap_or(&Value::Null)
    }

    fn name(&self) -> &str {
        match object::name(self.new) {
            "" if object::name(self.old()).is_empty() => self.request.context.name(),
            "" => object::name(self.old()),
            name => name,
        }
    }

    fn runs_here(&self, pod: &Value) -> bool {
        object::text(pod, &["spec", "nodeName"]) == self.node
    }

    fn pod(&self) -> Result<(), Status> {
        let node = self.node;
        match self.request.operation {
            Operation::Create => self.mirror_pod(),
            Operation::Delete if self.runs_here(self.old()) => Ok(()),
            Operation::Delete => self.refuse(&format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            )),
            other => self.refuse(&format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                other.as_str()
            )),
        }
    }

    fn mirror_pod(&self) -> Result<(), Status> {
        let node = self.node;
        if object::annotation(self.new, MIRROR).is_none() {
            return self.refuse(&format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if !self.runs_here(self.new) {
            return self.refuse(&format!(
                "node {node:?} can only create pods with spec.nodeName set to itself"
            ));
        }
        let owner = match object::owner_references(self.new) {
            [owner] => owner,
            [] => {
                return self.refuse(&format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                ));
            }
            _ => {
                return self.refuse(&format!(
                    "node {node:?} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        let text = |field: &str| object::text(owner, &[field]);
        if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
            return self.refuse(&format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        if owner["controller"] != true {
            return self.refuse(&format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner["blockOwnerDeletion"] == true {
            return self.refuse(&format!(
                "node {node:?} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let found = self
            .request
            .find("", "nodes", None, node)
            .ok_or_else(|| Status::not_found("", "node", node))?;
        if object::uid(&found) != text("uid") {
            return self.refuse(&format!(
                "node {node} UID mismatch: expected {} got {}",
                text("uid"),
                object::uid(&found)
            ));
        }
        if let Some(resource) = referenced(self.new) {
            return self.refuse(&format!(
                "node {node:?} can not create pods that reference {resource}"
            ));
        }
        Ok(())
    }

    fn pod_status(&self) -> Result<(), Status> {
        let node = self.node;
        if self.request.operation != Operation::Update {
            let operation = self.request.operation.as_str();
            return self.refuse(&format!("unexpected operation {operation:?}"));
        }
        if !self.runs_here(self.old()) {
            return self.refuse(&format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        let empty = Map::new();
        let labels = |pod| object::labels(pod).unwrap_or(&empty).clone();
        if labels(self.new) != labels(self.old()) {
            return self.refuse(&format!(
                "node {node:?} cannot update labels through pod status"
            ));
        }
        let list = |pod| object::list(pod, &["status", "resourceClaimStatuses"]).to_vec();
        if list(self.new) != list(self.old()) {
            return self.refuse(&format!(
                "node {node:?} cannot update resource claim statues"
            ));
        }
        let extended = ["status", "extendedResourceClaimStatus"];
        if object::at(self.new, &extended) != object::at(self.old(), &extended) {
            return self.refuse(&format!(
                "node {node:?} cannot update extended resource claim status"
            ));
        }
        Ok(())
    }

    fn eviction(&self) -> Result<(), Status> {
        let name = self.request.context.name();
        let namespace = self.request.namespace();
        let pod = self
            .request
            .find("", "pods", Some(namespace), name)
            .ok_or_else(|| Status::not_found("", "pods", name))?;
        if self.runs_here(&pod) {
            return Ok(());
        }
        self.refuse(&format!(
            "node {} can only evict pods with spec.nodeName set to itself",
            self.node
        ))
    }

    fn claim_status(&self) -> Result<(), Status> {
        let node = self.node;
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            let metadata = object::metadata_mut(&mut claim);
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
            let status = object::child_mut(&mut claim, "status");
            for field in [
                "capacity",
                "conditions",
                "allocatedResourceStatuses",
                "allocatedResources",
            ] {
                status.remove(field);
            }
            claim
        };
        if rest(self.new) == rest(self.old()) {
            return Ok(());
        }
        self.refuse(&format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        ))
    }

    fn node(&self) -> Result<(), Status> {
        let (node, name) = (self.node, self.name());
        if name != node {
            return self.refuse(&format!(
                "node {node:?} is not allowed to modify node {name:?}"
            ));
        }
        let source = ["spec", "configSource"];
        let given = object::at(self.new, &source).filter(|source| !source.is_null());
        match self.request.operation {
            Operation::Create => {
                if given.is_some() {
                    return self.refuse(&format!(
                        "node {node:?} is not allowed to create pods with a non-nil configSource"
                    ));
                }
                let labels = forbidden_labels(self.new, &Value::Null);
                if !labels.is_empty() {
                    return self.refuse(&format!(
                        "node {node:?} is not allowed to set the following labels: {labels}"
                    ));
                }
            }
            Operation::Update => {
                if given.is_some() && given != object::at(self.old(), &source) {
                    return self.refuse(&format!(
                        "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                    ));
                }
                let taints = |node| object::list(node, &["spec", "taints"]).to_vec();
                if taints(self.new) != taints(self.old()) {
                    return self.refuse(&format!("node {node:?} is not allowed to modify taints"));
                }
                if object::owner_references(self.new) != object::owner_references(self.old()) {
                    return self.refuse(&format!(
                        "node {node:?} is not allowed to modify ownerReferences"
                    ));
                }
                let labels = forbidden_labels(self.new, self.old());
                if !labels.is_empty() {
                    return self.refuse(&format!("is not allowed to modify labels: {labels}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A token must be bound to a Pod that runs here, for an audience the Pod asks for.
    fn token(&self) -> Result<(), Status> {
        let reference = ["spec", "boundObjectRef"];
        let reference = object::at(self.new, &reference).unwrap_or(&Value::Null);
        let text = |field: &str| object::text(reference, &[field]);
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return self.refuse("node requested token not bound to a pod");
        }
        if text("uid").is_empty() {
            return self.refuse("node requested token with a pod binding without a uid");
        }
        let namespace = self.request.namespace();
        let pod = self
            .request
            .find("", "pods", Some(namespace), text("name"))
            .ok_or_else(|| Status::not_found("", "pods", text("name")))?;
        if object::uid(&pod) != text("uid") {
            return self.refuse(&format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                text("uid")
            ));
        }
        if !self.runs_here(&pod) {
            return self
                .refuse("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(&pod)
    }

    fn audience(&self, pod: &Value) -> Result<(), Status> {
        let audiences = object::list(self.new, &["spec", "audiences"]);
        let audience = match audiences {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return self.refuse("node may only request 0 or 1 audiences"),
        };
        if self.asks_for(pod, audience) {
            return Ok(());
        }
        let context = self.request.context;
        let wanted = Attributes {
            verb: "request-serviceaccounts-token-audience".to_owned(),
            version: "v1".to_owned(),
            resource: audience.to_owned(),
            namespace: self.request.namespace().to_owned(),
            name: context.name().to_owned(),
            ..Attributes::default()
        };
        if context
            .state
            .authorizer
            .authorize(&context.user, &wanted)
            .is_allowed()
        {
            return Ok(());
        }
        self.refuse(&format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            context.user.name
        ))
    }

    /// Whether a Pod has a token for this audience mounted, or a volume whose driver needs one.
    fn asks_for(&self, pod: &Value, audience: &str) -> bool {
        let namespace = self.request.namespace();
        let driver_of_claim = |claim: &str| -> Option<String> {
            let claim = self
                .request
                .find("", "persistentvolumeclaims", Some(namespace), claim)?;
            let volume = object::text(&claim, &["spec", "volumeName"]);
            let volume = self.request.find("", "persistentvolumes", None, volume)?;
            Some(object::text(&volume, &["spec", "csi", "driver"]).to_owned())
        };
        object::list(pod, &["spec", "volumes"])
            .iter()
            .any(|volume| {
                let mounted = object::list(volume, &["projected", "sources"]);
                if mounted.iter().any(|source| {
                    source
                        .get("serviceAccountToken")
                        .is_some_and(Value::is_object)
                        && object::text(source, &["serviceAccountToken", "audience"]) == audience
                }) {
                    return true;
                }
                let claim = object::text(volume, &["persistentVolumeClaim", "claimName"]);
                let driver = if volume.get("ephemeral").is_some_and(Value::is_object) {
                    let name = format!("{}-{}", object::name(pod), object::text(volume, &["name"]));
                    driver_of_claim(&name)
                } else if claim.is_empty() {
                    Some(object::text(volume, &["csi", "driver"]).to_owned())
                } else {
                    driver_of_claim(claim)
                };
                let Some(driver) = driver.filter(|driver| !driver.is_empty()) else {
                    return false;
                };
                let Some(driver) = self
                    .request
                    .find("storage.k8s.io", "csidrivers", None, &driver)
                else {
                    return false;
                };
                object::list(&driver, &["spec", "tokenRequests"])
                    .iter()
                    .any(|request| object::text(request, &["audience"]) == audience)
            })
    }

    /// Only what is called like the node itself.
    fn named(&self, why: &str) -> Result<(), Status> {
        if self.request.operation == Operation::Create && self.name() != self.node {
            return self.refuse(why);
        }
        Ok(())
    }

    fn lease(&self) -> Result<(), Status> {
        if self.request.operation == Operation::Create
            && self.request.namespace() != "kube-node-lease"
        {
            return self
                .refuse("can only access leases in the \"kube-node-lease\" system namespace");
        }
        self.named("can only access node lease with the same name as the requesting node")
    }

    fn slice(&self) -> Result<(), Status> {
        let of = |slice| object::text(slice, &["spec", "nodeName"]);
        let ours = match self.request.operation {
            Operation::Create => of(self.new) == self.node,
            Operation::Delete => of(self.old()) == self.node,
            _ => true,
        };
        if ours {
            return Ok(());
        }
        let what = if self.request.operation == Operation::Create {
            "can only create ResourceSlice with the same NodeName as the requesting node"
        } else {
            "can only delete ResourceSlice with the same NodeName as the requesting node"
        };
        self.refuse(what)
    }

    /// A node asks for certificates in its own name only.
    fn certificate(&self) -> Result<(), Status> {
        let signer = object::text(self.new, &["spec", "signerName"]);
        let kubelet = matches!(
            signer,
            "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
        );
        if self.request.operation != Operation::Create || !kubelet {
            return Ok(());
        }
        let name = super::certificates::common_name(object::text(self.new, &["spec", "request"]));
        let name = match name {
            Ok(name) => name,
            Err(why) => return self.refuse(&format!("unable to parse csr: {why}")),
        };
        if name == format!("system:node:{}", self.node) {
            return Ok(());
        }
        self.refuse(&format!(
            "can only create a node CSR with CN=system:node:{}",
            self.node
        ))
    }
}

/// The first kind of object a Pod refers to, which a mirror Pod may not.
fn referenced(pod: &Value) -> Option<&'static str> {
    let has = |value: &Value, path: &[&str]| !object::text(value, path).is_empty();
    if has(pod, &["spec", "serviceAccountName"]) {
        return Some("serviceaccounts");
    }
    if !object::list(pod, &["spec", "imagePullSecrets"]).is_empty() {
        return Some("secrets");
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| object::list(pod, &["spec", list]));
    for container in containers {
        let sources = object::list(container, &["envFrom"]).iter();
        let variables = object::list(container, &["env"]).iter();
        for source in sources.chain(variables.filter_map(|v| v.get("valueFrom"))) {
            for (field, resource) in [
                ("secretRef", "secrets"),
                ("secretKeyRef", "secrets"),
                ("configMapRef", "configmaps"),
                ("configMapKeyRef", "configmaps"),
            ] {
                if source.get(field).is_some_and(Value::is_object) {
                    return Some(resource);
                }
            }
        }
    }
    for volume in object::list(pod, &["spec", "volumes"]) {
        for (field, resource) in [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("projected", "projected volumes"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("ephemeral", "persistentvolumeclaims"),
            ("csi", "csidrivers"),
        ] {
            if volume.get(field).is_some_and(Value::is_object) {
                return Some(resource);
            }
        }
    }
    if !object::list(pod, &["spec", "resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    None
}

/// Labels of Kubernetes' own that a node sets on itself.
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Domains under which a node may set any label on itself.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The labels that differ and that a node may not set, in one text.
fn forbidden_labels(new: &Value, old: &Value) -> String {
    let empty = Map::new();
    let (new, old) = (
        object::labels(new).unwrap_or(&empty),
        object::labels(old).unwrap_or(&empty),
    );
    let changed: BTreeSet<&str> = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value))
        .chain(old.iter().filter(|(key, _)| !new.contains_key(*key)))
        .map(|(key, _)| key.as_str())
        .collect();
    let forbidden: Vec<&str> = changed
        .into_iter()
        .filter(|key| is_forbidden(key))
        .collect();
    forbidden.join(", ")
}

fn is_forbidden(key: &str) -> bool {
    let domain = key
        .split_once('/')
        .map(|(domain, _)| domain)
        .unwrap_or_default();
    let within = |root: &str| {
        domain == root
            || domain
                .strip_suffix(root)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within(RESTRICTED) {
        return true;
    }
    let own = OWN_LABELS.contains(&key) || OWN_DOMAINS.iter().any(|root| within(root));
    (within("kubernetes.io") || within("k8s.io")) && !own
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_sets_only_labels_of_its_own() {
        let of = |labels: Value| json!({"metadata": {"labels": labels}});
        let check = |new: Value, old: Value, expect: &str| {
            assert_eq!(forbidden_labels(&of(new), &of(old)), expect);
        };
        check(
            json!({"kubernetes.io/hostname": "n", "a": "b"}),
            json!({}),
            "",
        );
        check(json!({"x.kubelet.kubernetes.io/y": "n"}), json!({}), "");
        check(
            json!({"node-restriction.kubernetes.io/z": "1", "app.kubernetes.io/name": "x"}),
            json!({}),
            "app.kubernetes.io/name, node-restriction.kubernetes.io/z",
        );
        check(
            json!({}),
            json!({"k8s.io/x": "1", "other.io/y": "1"}),
            "k8s.io/x",
        );
    }

    #[test]
    fn what_a_pod_refers_to_is_found() {
        let check = |spec: Value, expect: Option<&str>| {
            assert_eq!(referenced(&json!({"spec": spec})), expect);
        };
        check(
            json!({"containers": [{"env": [{"name": "a", "value": "b"}]}]}),
            None,
        );
        check(json!({"serviceAccountName": "x"}), Some("serviceaccounts"));
        check(
            json!({"containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "m"}}}]}]}),
            Some("configmaps"),
        );
        check(json!({"volumes": [{"secret": {}}]}), Some("secrets"));
    }
}
