//! What clients are warned of: fields that are deprecated, ignored, or hardly meant as they are.
//!
//! Nothing here refuses a write. Texts are upstream's, because tools filter them.

mod address;
mod pod;
mod volumes;

use model::{FieldPath, names};
use serde_json::Value;

use self::address::{check_ip, check_range};
use crate::at::At;

/// What is worth a warning in an object: a new one, or the new form of `old`.
pub fn warnings(group: &str, resource: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let at = At::root(object);
    // As upstream: what runs Pods is only looked at again where its spec has changed.
    let is_changed = old.is_none_or(|old| old.get("spec") != object.get("spec"));
    let mut found = Vec::new();
    match (group, resource) {
        ("", "pods") if old.is_none() => {
            check_name(&at, "this is used in the Pod's hostname", &mut found);
            pod::check(&at, &mut found);
        }
        ("", "podtemplates")
            if old.is_none_or(|old| old.get("template") != object.get("template")) =>
        {
            pod::check(&at.get("template"), &mut found);
        }
        ("", "replicationcontrollers") | ("apps", "deployments" | "replicasets") => {
            if old.is_none() {
                check_name(&at, IN_POD_NAMES, &mut found);
            }
            if is_changed {
                pod::check(&at.at("spec.template"), &mut found);
            }
        }
        ("apps", "daemonsets") if is_changed => pod::check(&at.at("spec.template"), &mut found),
        ("apps", "statefulsets") => check_stateful_set(&at, old.is_none(), is_changed, &mut found),
        ("batch", "jobs" | "cronjobs") => check_job(&at, resource, old, is_changed, &mut found),
        ("", "services") => check_service(&at, &mut found),
        ("", "secrets") => check_secret(&at, &mut found),
        ("", "nodes") => check_node(&at, &mut found),
        ("", "persistentvolumes") => check_volume(&at, &mut found),
        ("", "persistentvolumeclaims") => check_claim(&at, &mut found),
        ("storage.k8s.io", _) => check_storage(resource, &at, old, &mut found),
        ("networking.k8s.io", "ingresses") if old.is_none() => check_ingress(&at, &mut found),
        ("networking.k8s.io", "networkpolicies") => check_network_policy(&at, &mut found),
        ("discovery.k8s.io", "endpointslices") => check_slice(&at, old.is_none(), &mut found),
        ("node.k8s.io", "runtimeclasses") => {
            for (label, _) in at.at("scheduling.nodeSelector").entries() {
                if let Some(why) = deprecated_label(label) {
                    found.push(format!("scheduling.nodeSelector: {why}"));
                }
            }
        }
        ("resource.k8s.io", "resourceslices") => {
            let driver = at.at("spec.driver");
            if driver.text().chars().any(|c| c.is_ascii_uppercase()) {
                found.push(format!(
                    "spec.driver: driver names should be lowercase; {:?} contains uppercase characters",
                    driver.text()
                ));
            }
        }
        _ => {}
    }
    found
}

/// What a client that deletes an object without saying what becomes of its dependents is warned of.
pub fn deletion_warning(group: &str, resource: &str) -> Option<&'static str> {
    ((group, resource) == ("batch", "jobs")).then_some(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
    )
}

/// What is worth a warning in the finalizers of a custom resource that were not there before.
pub fn finalizer_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let old: Vec<&str> = old.map_or_else(Vec::new, |old| model::object::finalizers(old).collect());
    let mut new: Vec<&str> = model::object::finalizers(object)
        .filter(|finalizer| !old.contains(finalizer))
        .collect();
    new.sort_unstable();
    new.dedup();
    let mut found = Vec::new();
    for finalizer in new {
        let mut warn = |why: &str| found.push(format!("metadata.finalizers: {finalizer:?}: {why}"));
        for why in names::qualified_name(finalizer) {
            warn(&why);
        }
        let is_known = matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes");
        if finalizer.contains('/') || is_known {
            continue;
        }
        warn(if finalizer.contains('.') {
            "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
        } else {
            "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
        });
    }
    found
}

const IN_POD_NAMES: &str = "this is used in Pod names and hostnames";

fn check_name(at: &At<'_>, what: &str, found: &mut Vec<String>) {
    let messages = names::dns1123_label(at.at("metadata.name").text());
    if !messages.is_empty() {
        found.push(format!(
            "metadata.name: {what}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            messages.join(" ")
        ));
    }
}

/// The labels of nodes that have got other names.
fn deprecated_label(label: &str) -> Option<&'static str> {
    Some(match label {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// A term of a node selector; the labels it prefers may even be malformed.
fn check_term(term: &At<'_>, is_preference: bool, found: &mut Vec<String>) {
    for expression in term.get("matchExpressions").items() {
        let key = expression.get("key");
        if let Some(why) = deprecated_label(key.text()) {
            found.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
        for value in expression.get("values").items().filter(|_| is_preference) {
            for why in names::label_value(value.text()) {
                found.push(format!(
                    "{}: {} is invalid, {why}",
                    value.path(),
                    value.text()
                ));
            }
        }
    }
}

/// Bytes that come in fractions.
fn check_bytes(at: &At<'_>, found: &mut Vec<String>) {
    let text = at.text();
    let is_fraction = text
        .parse::<model::Quantity>()
        .map(|quantity| quantity.milli_value())
        // What is too large to count in thousandths is whole.
        .is_ok_and(|milli| milli != i64::MAX && milli % 1000 != 0);
    if is_fraction {
        found.push(format!(
            "{}: fractional byte value {text:?} is invalid, must be an integer",
            at.path()
        ));
    }
}

fn check_claim_spec(spec: &At<'_>, found: &mut Vec<String>) {
    for part in ["requests", "limits"] {
        for (name, quantity) in spec.get("resources").get(part).entries() {
            if name == "storage" {
                check_bytes(&quantity, found);
            }
        }
    }
}

fn check_claim(at: &At<'_>, found: &mut Vec<String>) {
    for (key, annotation) in at.at("metadata.annotations").entries() {
        if key == "volume.beta.kubernetes.io/storage-class" {
            found.push(format!(
                "{}: deprecated since v1.8; use \"storageClassName\" attribute instead",
                annotation.path()
            ));
        }
    }
    check_claim_spec(&at.get("spec"), found);
}

fn check_stateful_set(at: &At<'_>, is_new: bool, is_changed: bool, found: &mut Vec<String>) {
    let spec = at.get("spec");
    if is_changed {
        pod::check(&spec.get("template"), found);
    }
    for claim in spec.get("volumeClaimTemplates").items() {
        let path = if is_new {
            claim.path().clone()
        } else {
            claim.path().child("Spec")
        };
        check_claim_spec(&claim.get("spec").said_at(path), found);
    }
    if spec.get("revisionHistoryLimit").count() < 0 {
        found.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
    }
}

fn check_job(
    at: &At<'_>,
    resource: &str,
    old: Option<&Value>,
    is_changed: bool,
    found: &mut Vec<String>,
) {
    if old.is_none() {
        check_name(at, IN_POD_NAMES, found);
    }
    let spec = if resource == "jobs" {
        at.get("spec")
    } else {
        at.at("spec.jobTemplate.spec")
    };
    if is_changed {
        let is_indexed = spec.get("completionMode").text() == "Indexed";
        let is_large =
            spec.get("completions").count() > 100_000 && spec.get("parallelism").count() > 10_000;
        if is_indexed && is_large {
            found.push(format!(
                "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
                spec.path()
            ));
        }
        pod::check(&spec.get("template"), found);
    }
    if resource == "cronjobs" && old.is_some() && at.at("spec.schedule").text().contains("TZ") {
        found.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
    }
}

fn check_service(at: &At<'_>, found: &mut Vec<String>) {
    let spec = at.get("spec");
    let annotations = at.at("metadata.annotations");
    let has = |key: &str| annotations.map().is_some_and(|map| map.contains_key(key));
    if has("service.kubernetes.io/topology-aware-hints") {
        found.push("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead".to_owned());
    }
    let is_headless =
        spec.get("type").text() == "ClusterIP" && spec.get("clusterIP").text() == "None";
    if !matches!(spec.get("clusterIP").text(), "" | "None") {
        for address in spec.get("clusterIPs").items() {
            check_ip(&address, found);
        }
    }
    let external = spec.get("externalIPs");
    if is_headless {
        for (field, is_used) in [
            ("loadBalancerIP", !spec.get("loadBalancerIP").is_empty()),
            ("externalIPs", !external.is_empty()),
            (
                "SessionAffinity",
                spec.get("sessionAffinity").text() != "None",
            ),
        ] {
            if is_used {
                found.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    for address in external.items() {
        check_ip(&address, found);
    }
    let is_external = spec.get("type").text() == "ExternalName";
    if !external.is_empty() && !is_headless && !is_external {
        found.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .to_owned(),
        );
    }
    if !spec.get("loadBalancerIP").is_empty() {
        check_ip(&spec.get("loadBalancerIP"), found);
    }
    for range in spec.get("loadBalancerSourceRanges").items() {
        check_range(&range, found);
    }
    if is_external && !external.is_empty() {
        found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_external && !spec.get("externalName").is_empty() {
        found
            .push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.get("trafficDistribution").text() == "PreferClose" {
        found.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .to_owned(),
        );
    }
}

/// A certificate and a key that are none. Whether they belong together is for who can read them.
fn check_secret(at: &At<'_>, found: &mut Vec<String>) {
    use base64::Engine as _;
    if at.get("type").text() != "kubernetes.io/tls" {
        return;
    }
    for (key, what) in [("tls.crt", "certificate"), ("tls.key", "key")] {
        let data = at.get("data");
        let encoded = data.map().and_then(|map| map.get(key));
        let encoded = encoded.and_then(Value::as_str).unwrap_or_default();
        let bytes = base64::prelude::BASE64_STANDARD.decode(encoded);
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        if !(text.contains("-----BEGIN ") && text.contains("-----END ")) {
            found.push(format!("tls: failed to find any PEM data in {what} input"));
            return;
        }
    }
}

fn check_node(at: &At<'_>, found: &mut Vec<String>) {
    let spec = at.get("spec");
    if spec.get("configSource").is_set() {
        found.push("spec.configSource: the feature is removed".to_owned());
    }
    if !spec.get("externalID").is_empty() {
        found.push(
            "spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned(),
        );
    }
    for range in spec.get("podCIDRs").items() {
        check_range(&range, found);
    }
}

fn check_volume(at: &At<'_>, found: &mut Vec<String>) {
    for (key, annotation) in at.at("metadata.annotations").entries() {
        let why = match key {
            "volume.beta.kubernetes.io/storage-class" => {
                "deprecated since v1.8; use \"storageClassName\" attribute instead"
            }
            "volume.beta.kubernetes.io/mount-options" => {
                "deprecated since v1.31; use \"mountOptions\" attribute instead"
            }
            _ => continue,
        };
        found.push(format!("{}: {why}", annotation.path()));
    }
    let spec = at.get("spec");
    if spec.get("persistentVolumeReclaimPolicy").text() == "Recycle" {
        found.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    for term in spec.at("nodeAffinity.required.nodeSelectorTerms").items() {
        check_term(&term, false, found);
    }
    for (plugin, why) in [
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        (
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if spec.get(plugin).is_set() {
            let shown = if plugin == "storageos" {
                "storageOS"
            } else {
                plugin
            };
            found.push(format!("spec.{shown}: {why}"));
        }
    }
}

fn check_storage(resource: &str, at: &At<'_>, old: Option<&Value>, found: &mut Vec<String>) {
    match resource {
        "storageclasses" => {
            for topology in at.get("allowedTopologies").items() {
                for expression in topology.get("matchLabelExpressions").items() {
                    let key = expression.get("key");
                    if let Some(why) = deprecated_label(key.text()) {
                        found.push(format!("{}: {why}", key.path()));
                    }
                }
            }
        }
        "csidrivers" => {
            let requests = at.at("spec.tokenRequests");
            let is_news = old.is_none_or(|old| {
                At::root(old).at("spec.tokenRequests").value() != requests.value()
            });
            let is_unset = !at.at("spec.serviceAccountTokenInSecrets").is_set();
            if is_news && is_unset && !requests.is_empty() {
                found.push("spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".to_owned());
            }
        }
        "csistoragecapacities" => {
            let topology = at.get("nodeTopology");
            check_term(&topology, false, found);
            for (label, _) in topology.get("matchLabels").entries() {
                if let Some(why) = deprecated_label(label) {
                    found.push(format!("nodeTopology.matchLabels.{label}: {why}"));
                }
            }
        }
        _ => {}
    }
}

fn check_ingress(at: &At<'_>, found: &mut Vec<String>) {
    let annotations = at.at("metadata.annotations");
    let class = "kubernetes.io/ingress.class";
    let is_annotated = annotations.map().is_some_and(|map| map.contains_key(class));
    if is_annotated && !at.at("spec.ingressClassName").is_set() {
        found.push(format!(
            "annotation {class:?} is deprecated, please use 'spec.ingressClassName' instead"
        ));
    }
}

fn check_network_policy(at: &At<'_>, found: &mut Vec<String>) {
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in at.get("spec").get(rules).items() {
            for block in rule.get(peers).items().map(|peer| peer.get("ipBlock")) {
                if !block.is_set() {
                    continue;
                }
                check_range(&block.get("cidr"), found);
                for range in block.get("except").items() {
                    check_range(&range, found);
                }
            }
        }
    }
}

fn check_slice(at: &At<'_>, is_new: bool, found: &mut Vec<String>) {
    if is_new && at.get("addressType").text() == "FQDN" {
        let path = FieldPath::new("spec.addressType");
        found.push(format!("{path}: FQDN endpoints are deprecated"));
    }
    // Controllers of Kubernetes put addresses right themselves.
    let labels = at.at("metadata.labels");
    let by = labels
        .map()
        .and_then(|map| map.get("endpointslice.kubernetes.io/managed-by"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    if matches!(
        by,
        "endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io"
    ) || at.get("addressType").text() == "FQDN"
    {
        return;
    }
    for endpoint in at.get("endpoints").items() {
        for address in endpoint.get("addresses").items() {
            check_ip(&address, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(group: &str, resource: &str, object: Value, expect: &[&str]) {
        assert_eq!(warnings(group, resource, &object, None), expect);
    }

    #[test]
    fn what_is_deprecated_or_ignored_is_told() {
        check(
            "",
            "services",
            json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "None",
                "externalIPs": ["010.0.0.1"], "trafficDistribution": "PreferClose"}}),
            &[
                "spec.externalIPs is ignored for headless services",
                "spec.externalIPs[0]: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ],
        );
        check(
            "batch",
            "cronjobs",
            json!({"metadata": {"name": "a.3"}}),
            &[
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            ],
        );
        check(
            "networking.k8s.io",
            "ingresses",
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}}),
            &[
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
            ],
        );
        check(
            "",
            "secrets",
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA==", "tls.key": "eA=="}}),
            &["tls: failed to find any PEM data in certificate input"],
        );
        check(
            "",
            "persistentvolumeclaims",
            json!({"spec": {"resources": {"requests": {"storage": "1500m"}}}}),
            &[
                "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer",
            ],
        );
    }

    #[test]
    fn finalizers_should_name_a_domain() {
        let object = json!({"metadata": {"finalizers": ["x", "example.com/y", "orphan"]}});
        let found = finalizer_warnings(&object, None);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            finalizer_warnings(&object, Some(&object)),
            Vec::<String>::new()
        );
    }
}
