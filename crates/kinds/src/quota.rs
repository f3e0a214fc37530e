//! What objects count for in a ResourceQuota: shared by the admission plugin, which charges a write, and
//! the controller, which counts what is there.
//!
//! Pods, Services and claims (of volumes and of devices) have measures of their own; everything else counts as `count/things.group`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::{LabelSelector, Quantity, object};
use serde_json::{Value, json};

use crate::core::pod::quality_class as pod_quality;
use crate::demand::{self, Amounts};
use crate::resources::is_native;

/// Measures of Pods.
const PODS: &[&str] = &[
    "count/pods",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// Measures a Pod has to state where a quota limits them.
const STATED: &[&str] = &[
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];
const SERVICES: &[&str] = &[
    "count/services",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Measures of claims, of all or of those of one class.
const CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];
const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
/// What a claim of devices counts for, behind the name of a class.
const DEVICES_SUFFIX: &str = ".deviceclass.resource.k8s.io/devices";
const DEVICE_GROUP: &str = "resource.k8s.io";
const DEVICE_CLAIMS: &str = "resourceclaims";
/// A claim of all devices there are counts for the most one can get.
const ALL_DEVICES: i64 = 32;
/// Resources whose count has an older name.
const ALIASES: &[&str] = &[
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];

/// The name under which objects of a resource are counted.
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() {
        format!("count/{resource}")
    } else {
        format!("count/{resource}.{group}")
    }
}

/// Whether quotas never look at a resource.
pub fn is_ignored(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        ("", "bindings" | "componentstatuses")
            | ("authentication.k8s.io" | "authorization.k8s.io", _)
            | ("" | "events.k8s.io", "events")
    )
}

/// Whether the limit called `name` is on a measure of this resource.
pub fn measures(group: &str, resource: &str, name: &str) -> bool {
    match (group, resource) {
        ("", "pods") => {
            PODS.contains(&name)
                || name.starts_with("hugepages-")
                || name.starts_with("requests.hugepages-")
                || (name.starts_with("requests.") && !is_native(name))
        }
        ("", "services") => SERVICES.contains(&name),
        ("", "persistentvolumeclaims") => {
            name == "count/persistentvolumeclaims"
                || CLAIMS.contains(&name)
                || name
                    .split_once(CLASS_SUFFIX)
                    .is_some_and(|(_, measure)| CLAIMS.contains(&measure))
        }
        (DEVICE_GROUP, DEVICE_CLAIMS) => {
            name == count_name(group, resource) || name.ends_with(DEVICES_SUFFIX)
        }
        _ => {
            name == count_name(group, resource)
                || (group.is_empty() && name == resource && ALIASES.contains(&name))
        }
    }
}

/// The group and resource a limit is on.
pub fn measured(name: &str) -> (String, String) {
    if let Some(counted) = name.strip_prefix("count/") {
        let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
        return (group.to_owned(), resource.to_owned());
    }
    if name.ends_with(DEVICES_SUFFIX) {
        return (DEVICE_GROUP.to_owned(), DEVICE_CLAIMS.to_owned());
    }
    // Claims before Pods: their storage looks like an extended resource.
    let resource = ["services", "persistentvolumeclaims", "pods"]
        .into_iter()
        .find(|resource| measures("", resource, name))
        .unwrap_or(name);
    (String::new(), resource.to_owned())
}

/// What an object counts for.
pub fn usage(group: &str, resource: &str, object: &Value, now: Timestamp) -> Amounts {
    match (group, resource) {
        ("", "pods") => pod_usage(object, now),
        ("", "services") => service_usage(object),
        ("", "persistentvolumeclaims") => claim_usage(object),
        (DEVICE_GROUP, DEVICE_CLAIMS) => device_claim_usage(object),
        _ => {
            let mut usage = Amounts::from([(count_name(group, resource), one())]);
            if group.is_empty() && ALIASES.contains(&resource) {
                usage.insert(resource.to_owned(), one());
            }
            usage
        }
    }
}

fn one() -> Quantity {
    Quantity::from_units(1)
}

fn pod_usage(pod: &Value, now: Timestamp) -> Amounts {
    let mut usage = Amounts::from([("count/pods".to_owned(), one())]);
    if is_charged(pod, now) {
        usage.extend(compute_usage(
            &demand::pod_requests(pod),
            &demand::pod_limits(pod),
        ));
    }
    usage
}

/// A Pod that has ended, or whose end is overdue, is charged for nothing.
fn is_charged(pod: &Value, now: Timestamp) -> bool {
    if matches!(
        object::text(pod, &["status", "phase"]),
        "Failed" | "Succeeded"
    ) {
        return false;
    }
    let deleted = object::text(pod, &["metadata", "deletionTimestamp"]);
    let grace = object::number(pod, &["metadata", "deletionGracePeriodSeconds"]);
    match (deleted.parse::<Timestamp>(), grace) {
        (Ok(deleted), Some(grace)) => now.as_second() <= deleted.as_second().saturating_add(grace),
        _ => true,
    }
}

/// What requests and limits count for.
fn compute_usage(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), one())]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            usage.insert(name.to_owned(), *request);
            usage.insert(format!("requests.{name}"), *request);
        }
        if let Some(limit) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *limit);
        }
    }
    for (name, request) in requests {
        let huge = name.starts_with("hugepages-");
        if huge {
            usage.insert(name.clone(), *request);
        }
        if huge || crate::resources::is_extended(name) {
            usage.insert(format!("requests.{name}"), *request);
        }
    }
    usage
}

fn service_usage(service: &Value) -> Amounts {
    let ports = object::list(service, &["spec", "ports"]);
    let all = ports.len() as i64;
    let kind = object::text(service, &["spec", "type"]);
    let suppressed = object::at(service, &["spec", "allocateLoadBalancerNodePorts"])
        == Some(&Value::Bool(false));
    let node_ports = match kind {
        "NodePort" => all,
        "LoadBalancer" if suppressed => {
            let has = |port: &&Value| object::number(port, &["nodePort"]).unwrap_or(0) != 0;
            ports.iter().filter(has).count() as i64
        }
        "LoadBalancer" => all,
        _ => 0,
    };
    let balancers = i64::from(kind == "LoadBalancer");
    Amounts::from([
        ("count/services".to_owned(), one()),
        ("services".to_owned(), one()),
        (
            "services.loadbalancers".to_owned(),
            Quantity::from_units(balancers),
        ),
        (
            "services.nodeports".to_owned(),
            Quantity::from_units(node_ports),
        ),
    ])
}

fn claim_usage(claim: &Value) -> Amounts {
    let mut usage = Amounts::from([("persistentvolumeclaims".to_owned(), one())]);
    let wanted =
        object::at(claim, &["spec", "resources", "requests", "storage"]).and_then(demand::quantity);
    let given =
        object::at(claim, &["status", "allocatedResources", "storage"]).and_then(demand::quantity);
    if let Some(wanted) = wanted {
        let most = given.filter(|given| *given > wanted).unwrap_or(wanted);
        let whole = if most.is_integer() {
            most
        } else {
            Quantity::from_units(most.value())
        };
        usage.insert("requests.storage".to_owned(), whole);
    }
    let class = object::annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object::text(claim, &["spec", "storageClassName"]));
    if !class.is_empty() {
        let by_class: Vec<(String, Quantity)> = usage
            .iter()
            .map(|(name, amount)| (format!("{class}{CLASS_SUFFIX}{name}"), *amount))
            .collect();
        usage.extend(by_class);
    }
    usage.insert("count/persistentvolumeclaims".to_owned(), one());
    usage
}

/// Of several requests that will do, each class counts for the most any of them asks for.
fn device_claim_usage(claim: &Value) -> Amounts {
    let count = |request: &Value| match object::text(request, &["allocationMode"]) {
        "ExactCount" => object::number(request, &["count"]).unwrap_or(1),
        "All" => ALL_DEVICES,
        _ => 0,
    };
    let class = |request: &Value| object::text(request, &["deviceClassName"]).to_owned();
    let mut usage = Amounts::from([(count_name(DEVICE_GROUP, DEVICE_CLAIMS), one())]);
    let mut totals: BTreeMap<String, i64> = BTreeMap::new();
    for request in object::list(claim, &["spec", "devices", "requests"]) {
        let mut most: BTreeMap<String, i64> = BTreeMap::new();
        let choices = object::list(request, &["firstAvailable"]);
        for one in choices.iter().chain(request.get("exactly")) {
            let entry = most.entry(class(one)).or_default();
            *entry = count(one).max(*entry);
        }
        for (class, count) in most {
            let total = totals.entry(class).or_default();
            *total = total.saturating_add(count);
        }
    }
    let totals = totals.into_iter();
    usage.extend(totals.map(|(class, count)| {
        (
            format!("{class}{DEVICES_SUFFIX}"),
            Quantity::from_units(count),
        )
    }));
    usage
}

/// Whether what an object counts for may have changed, other than by its being made or ended.
pub fn may_differ(group: &str, resource: &str, old: &Value, new: &Value) -> bool {
    let differs = |path: &[&str]| object::at(old, path) != object::at(new, path);
    match (group, resource) {
        ("", "services") => differs(&["spec"]),
        ("", "persistentvolumeclaims") => {
            differs(&["spec"])
                || differs(&["status", "allocatedResources"])
                || attribute_classes(old) != attribute_classes(new)
        }
        _ => false,
    }
}

/// Whether an object is within all scopes of a quota.
pub fn in_scope(group: &str, resource: &str, quota: &Value, object: &Value) -> bool {
    let scopes = object::list(quota, &["spec", "scopes"])
        .iter()
        .map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    let selectors = object::list(quota, &["spec", "scopeSelector", "matchExpressions"]);
    scopes
        .chain(selectors.iter().cloned())
        .all(|selector| matches_scope(group, resource, &selector, object))
}

fn matches_scope(group: &str, resource: &str, selector: &Value, object: &Value) -> bool {
    let scope = object::text(selector, &["scopeName"]);
    let exists = object::text(selector, &["operator"]) == "Exists";
    match (group, resource, scope) {
        ("", "pods", "Terminating") => is_terminating(object),
        ("", "pods", "NotTerminating") => !is_terminating(object),
        ("", "pods", "BestEffort") => pod_quality(&object["spec"]) == "BestEffort",
        ("", "pods", "NotBestEffort") => pod_quality(&object["spec"]) != "BestEffort",
        ("", "pods", "CrossNamespacePodAffinity") => crosses_namespaces(object),
        ("", "pods", "PriorityClass") => {
            let class = object::text(object, &["spec", "priorityClassName"]);
            if exists {
                !class.is_empty()
            } else {
                selects(selector, class)
            }
        }
        ("", "persistentvolumeclaims", "VolumeAttributesClass") => {
            let names = attribute_classes(object);
            if exists {
                !names.is_empty()
            } else if names.is_empty() {
                selects(selector, "")
            } else {
                names.iter().any(|name| selects(selector, name))
            }
        }
        _ => false,
    }
}

/// Whether a scope selector selects the one value an object has for the scope.
fn selects(selector: &Value, value: &str) -> bool {
    let scope = object::text(selector, &["scopeName"]);
    let expression = json!({"matchExpressions": [{
        "key": scope,
        "operator": selector["operator"],
        "values": selector.get("values").cloned().unwrap_or_else(|| json!([])),
    }]});
    LabelSelector::from_object(Some(&expression)).is_ok_and(|selector| {
        selector.matches_with(|key| (key == scope && !value.is_empty()).then_some(value))
    })
}

fn attribute_classes(claim: &Value) -> Vec<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &[
            "status",
            "modifyVolumeStatus",
            "targetVolumeAttributesClassName",
        ],
    ];
    paths
        .into_iter()
        .map(|path| object::text(claim, path))
        .filter(|name| !name.is_empty())
        .collect()
}

/// Whether a Pod has a deadline.
pub fn is_terminating(pod: &Value) -> bool {
    object::number(pod, &["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        !object::list(term, &["namespaces"]).is_empty() || term.get("namespaceSelector").is_some()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let of = |when| object::list(pod, &["spec", "affinity", kind, when]);
        of("requiredDuringSchedulingIgnoredDuringExecution")
            .iter()
            .any(crosses)
            || of("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| weighted.get("podAffinityTerm").is_some_and(crosses))
    })
}

/// What containers of a Pod do not state although a quota limits it.
pub fn missing_measures(limited: &[&str], pod: &Value) -> Option<String> {
    let own = ["requests", "limits"].iter().any(|field| {
        object::at(pod, &["spec", "resources", field])
            .and_then(Value::as_object)
            .is_some_and(|list| {
                list.keys().any(|name| {
                    matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-")
                })
            })
    });
    if own {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for kind in ["containers", "initContainers"] {
        for container in object::list(pod, &["spec", kind]) {
            let of = |field| demand::amounts(object::at(container, &["resources", field]));
            let stated = compute_usage(&of("requests"), &of("limits"));
            for name in limited {
                if STATED.contains(name) && !stated.contains_key(*name) {
                    let container = object::text(container, &["name"]);
                    missing.entry(name).or_default().insert(container);
                }
            }
        }
    }
    let list: Vec<String> = missing
        .iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.iter().copied().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    (!list.is_empty()).then(|| format!("must specify {}", list.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_usage(resource: &str, object: Value, expect: &str) {
        let usage = usage("", resource, &object, Timestamp::UNIX_EPOCH);
        let text: Vec<String> = usage.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text.join(" "), expect);
    }

    #[test]
    fn objects_count_for_their_measures() {
        check_usage("configmaps", json!({}), "configmaps=1 count/configmaps=1");
        check_usage(
            "services",
            json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}),
            "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2",
        );
        check_usage(
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "a", "resources": {"requests": {"storage": "1Gi"}}}}),
            "a.storageclass.storage.k8s.io/persistentvolumeclaims=1 a.storageclass.storage.k8s.io/requests.storage=1Gi count/persistentvolumeclaims=1 persistentvolumeclaims=1 requests.storage=1Gi",
        );
        let container = json!({"resources": {"requests": {"cpu": "1", "x.y/z": "2"}, "limits": {"memory": "1Gi"}}});
        check_usage(
            "pods",
            json!({"spec": {"containers": [container]}}),
            "count/pods=1 cpu=1 limits.memory=1Gi pods=1 requests.cpu=1 requests.x.y/z=2",
        );
        let claim = json!({"spec": {"devices": {"requests": [
            {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
            {"firstAvailable": [
                {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
                {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
                {"deviceClassName": "nic", "allocationMode": "All"},
            ]},
        ]}}});
        let usage = usage(DEVICE_GROUP, DEVICE_CLAIMS, &claim, Timestamp::UNIX_EPOCH);
        let text: Vec<String> = usage.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "count/resourceclaims.resource.k8s.io=1",
                "gpu.deviceclass.resource.k8s.io/devices=5",
                "nic.deviceclass.resource.k8s.io/devices=32",
            ]
        );
        check_usage(
            "pods",
            json!({"status": {"phase": "Failed"}}),
            "count/pods=1",
        );
    }

    #[test]
    fn limits_know_what_they_are_on() {
        let check = |name: &str, group: &str, resource: &str| {
            assert_eq!(
                measured(name),
                (group.to_owned(), resource.to_owned()),
                "{name}"
            );
            assert!(measures(group, resource, name), "{name}");
        };
        check("pods", "", "pods");
        check("requests.cpu", "", "pods");
        check("requests.nvidia.com/gpu", "", "pods");
        check("requests.storage", "", "persistentvolumeclaims");
        check(
            "gold.storageclass.storage.k8s.io/requests.storage",
            "",
            "persistentvolumeclaims",
        );
        check("services.nodeports", "", "services");
        check("configmaps", "", "configmaps");
        check("count/deployments.apps", "apps", "deployments");
        check("count/secrets", "", "secrets");
        check(
            "gpu.deviceclass.resource.k8s.io/devices",
            "resource.k8s.io",
            "resourceclaims",
        );
    }

    #[test]
    fn scopes_select() {
        let quota = |name: &str, operator: &str, values: Value| {
            json!({"spec": {"scopeSelector": {"matchExpressions": [
                {"scopeName": name, "operator": operator, "values": values},
            ]}}})
        };
        let pod = json!({"spec": {"priorityClassName": "high", "containers": [{}]}});
        let within = |quota: &Value| in_scope("", "pods", quota, &pod);
        assert!(within(&quota("PriorityClass", "In", json!(["high"]))));
        assert!(!within(&quota("PriorityClass", "NotIn", json!(["high"]))));
        assert!(within(
            &json!({"spec": {"scopes": ["BestEffort", "NotTerminating"]}})
        ));
        assert!(!within(&json!({"spec": {"scopes": ["Terminating"]}})));
        assert!(!in_scope(
            "",
            "services",
            &json!({"spec": {"scopes": ["Terminating"]}}),
            &pod
        ));
    }

    #[test]
    fn what_is_limited_has_to_be_stated() {
        let pod = json!({"spec": {"containers": [
            {"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}},
        ]}});
        assert_eq!(
            missing_measures(&["limits.memory", "pods", "requests.cpu"], &pod).as_deref(),
            Some("must specify limits.memory for: a,b; requests.cpu for: b")
        );
        assert_eq!(missing_measures(&["pods"], &pod), None);
    }
}
