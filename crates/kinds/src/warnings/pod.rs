//! Pods and templates of them.

use std::collections::HashMap;

use serde_json::Value;

use super::address::check_ip;
use super::volumes;
use super::{check_bytes, check_claim_spec, check_term, deprecated_label};
use crate::at::At;

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// The volume plugins that are no more, as objects and as messages name them.
const VOLUMES: [(&str, &str, &str); 7] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "flocker",
        "flocker",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "quobyte",
        "quobyte",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
];
const LATE_VOLUMES: [(&str, &str); 2] = [
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What is worth a warning in a Pod or a template.
pub fn check(at: &At<'_>, found: &mut Vec<String>) {
    let spec = at.get("spec");
    check_placement(&spec, found);
    for (key, annotation) in at.at("metadata.annotations").entries() {
        if let Some((_, why)) = ANNOTATIONS.iter().find(|(known, _)| *known == key) {
            found.push(format!("{}: {why}", annotation.path()));
        }
    }
    for volume in spec.get("volumes").items() {
        check_volume(&volume, found);
    }
    for volume in spec.get("volumes").items() {
        volumes::check(&volume, found);
    }
    check_repeated(&spec.get("hostAliases"), "ip", found);
    check_repeated(&spec.get("imagePullSecrets"), "name", found);
    for secret in spec.get("imagePullSecrets").items() {
        let name = secret.get("name");
        if name.text().is_empty() {
            found.push(format!("{}: invalid empty name \"\"", name.path()));
        }
    }
    check_resources(&spec.get("overhead"), found);
    let has_profile = spec.at("securityContext.seccompProfile").is_set();
    if let Some(annotation) = annotation(at, SECCOMP_POD).filter(|_| !has_profile) {
        found.push(format!(
            "{annotation}: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
    for container in containers(&spec) {
        check_container(at, &container, found);
    }
    check_ports(&spec, found);
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.count() < 0 {
        found.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            grace.path()
        ));
    }
    check_affinity(&spec.get("affinity"), found);
    for server in spec.at("dnsConfig.nameservers").items() {
        check_ip(&server, found);
    }
    for alias in spec.get("hostAliases").items() {
        check_ip(&alias.get("ip"), found);
    }
}

/// Every container, those that run first before the others.
fn containers<'a>(spec: &At<'a>) -> Vec<At<'a>> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| spec.get(field).items())
        .collect()
}

/// The place of an annotation that is there.
fn annotation(at: &At<'_>, key: &str) -> Option<String> {
    let annotations = at.at("metadata.annotations");
    annotations.map()?.get(key)?;
    Some(annotations.path().key(key).to_string())
}

fn check_placement(spec: &At<'_>, found: &mut Vec<String>) {
    for (label, place) in spec.get("nodeSelector").entries() {
        if let Some(why) = deprecated_label(label) {
            found.push(format!("{}: {why}", place.path()));
        }
    }
    let nodes = spec.at("affinity.nodeAffinity");
    let required = nodes.at("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    for term in required.items() {
        check_term(&term, false, found);
    }
    for term in nodes
        .get("preferredDuringSchedulingIgnoredDuringExecution")
        .items()
    {
        check_term(&term.get("preference"), true, found);
    }
    for constraint in spec.get("topologySpreadConstraints").items() {
        let key = constraint.get("topologyKey");
        if let Some(why) = deprecated_label(key.text()) {
            found.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
        check_selector(&constraint.get("labelSelector"), found);
    }
}

fn check_selector(selector: &At<'_>, found: &mut Vec<String>) {
    if !selector.is_set() {
        found.push(format!(
            "{}: a null labelSelector results in matching no pod",
            selector.path()
        ));
    }
}

fn check_affinity(affinity: &At<'_>, found: &mut Vec<String>) {
    for field in ["podAffinity", "podAntiAffinity"] {
        let terms = affinity.get(field);
        for term in terms
            .get("requiredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            check_selector(&term.get("labelSelector"), found);
        }
        for term in terms
            .get("preferredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            check_selector(&term.at("podAffinityTerm.labelSelector"), found);
        }
    }
}

fn check_volume(volume: &At<'_>, found: &mut Vec<String>) {
    for (plugin, shown, why) in VOLUMES {
        if volume.get(plugin).is_set() {
            found.push(format!("{}: {why}", volume.path().child(shown)));
        }
    }
    let claim = volume.at("ephemeral.volumeClaimTemplate.spec");
    check_claim_spec(&claim, found);
    for (plugin, why) in LATE_VOLUMES {
        if volume.get(plugin).is_set() {
            found.push(format!("{}: {why}", volume.path().child(plugin)));
        }
    }
}

/// Items of a list that have the same `field`, which keys it in a patch.
fn check_repeated(list: &At<'_>, field: &str, found: &mut Vec<String>) {
    let mut seen: Vec<&str> = Vec::new();
    for item in list.items() {
        let value = item.get(field);
        if seen.contains(&value.text()) {
            found.push(format!(
                "{}: duplicate {field} {:?}",
                value.path(),
                value.text()
            ));
        } else {
            seen.push(value.text());
        }
    }
}

/// Amounts of bytes among resources.
fn check_resources(resources: &At<'_>, found: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let quantity = resources.map().and_then(|map| map.get(name));
        if let Some(quantity) = quantity {
            check_bytes(&At::new(quantity, resources.path().key(name)), found);
        }
    }
}

fn check_container(at: &At<'_>, container: &At<'_>, found: &mut Vec<String>) {
    let name = container.get("name").text();
    let context = container.get("securityContext");
    let seccomp = annotation(at, &format!("{SECCOMP_CONTAINER}{name}"));
    if let Some(place) = seccomp.filter(|_| !context.get("seccompProfile").is_set()) {
        found.push(format!(
            "{place}: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
    // A Pod's own annotation becomes the field; only a template keeps it.
    let is_template = !at.path().as_str().is_empty();
    let app_armor = annotation(at, &format!("{APP_ARMOR_CONTAINER}{name}"));
    let has_profile = context.get("appArmorProfile").is_set()
        || at.at("spec.securityContext.appArmorProfile").is_set();
    if let Some(place) = app_armor.filter(|_| is_template && !has_profile) {
        found.push(format!(
            "{place}: deprecated since v1.30; use the \"appArmorProfile\" field instead"
        ));
    }
    let resources = container.get("resources");
    for resource in ["memory", "ephemeral-storage"] {
        for part in ["limits", "requests"] {
            let amounts = resources.get(part);
            let quantity = amounts.map().and_then(|map| map.get(resource));
            if let Some(quantity) = quantity {
                check_bytes(&At::new(quantity, amounts.path().key(resource)), found);
            }
        }
    }
    check_env(&container.get("env"), found);
}

/// Variables that are set twice, unless the second uses the first.
fn check_env(env: &At<'_>, found: &mut Vec<String>) {
    let mut seen: Vec<&str> = Vec::new();
    for variable in env.items() {
        let name = variable.get("name").text();
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        let reference = format!("$({name})");
        let value = variable.get("value").text();
        let hides =
            variable.get("valueFrom").is_set() || value == reference || !value.contains(&reference);
        if hides {
            found.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path()
            ));
        }
    }
}

fn check_ports(spec: &At<'_>, found: &mut Vec<String>) {
    let ports: Vec<At<'_>> = containers(spec)
        .iter()
        .flat_map(|container| container.get("ports").items())
        .collect();
    let mut seen: HashMap<(i64, &str), Vec<&At<'_>>> = HashMap::new();
    for port in &ports {
        let (host_ip, host_port) = host(port);
        if !host_ip.is_empty() && host_port == 0 {
            found.push(format!(
                "{}: hostIP set without hostPort: {}",
                port.path(),
                shown(port)
            ));
        }
        let key = (
            port.get("containerPort").count(),
            port.get("protocol").text(),
        );
        let others = seen.entry(key).or_default();
        for other in others.iter() {
            let (other_ip, other_port) = host(other);
            let how = if (host_ip, host_port) == (other_ip, other_port) {
                "duplicate"
            } else if host_port == 0 || other_port == 0 {
                "overlapping"
            } else if host_port == other_port && host_ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            found.push(format!(
                "{}: {how} port definition with {}",
                port.path(),
                other.path()
            ));
        }
        others.push(port);
    }
    let mut names: HashMap<&str, &At<'_>> = HashMap::new();
    for port in &ports {
        let name = port.get("name").text();
        if name.is_empty() {
            continue;
        }
        if let Some(other) = names.get(name) {
            let other = other.path();
            found.push(format!(
                "{}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}",
                port.path()
            ));
        } else {
            names.insert(name, port);
        }
    }
}

fn host<'a>(port: &At<'a>) -> (&'a str, i64) {
    (port.get("hostIP").text(), port.get("hostPort").count())
}

/// A port as upstream prints it.
fn shown(port: &At<'_>) -> String {
    let member = |name: &str| match port.get(name).value() {
        Value::String(text) => text.clone(),
        Value::Null if name == "hostPort" => "0".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        member("name"),
        member("hostPort"),
        member("containerPort"),
        member("protocol"),
        member("hostIP")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::FieldPath;
    use serde_json::json;

    #[test]
    fn templates_are_looked_at() {
        let template = json!({
            "metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "x"}},
            "spec": {
                "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                "topologySpreadConstraints": [{"topologyKey": "zone"}],
                "volumes": [{"name": "v", "gitRepo": {"repository": "r"}}],
                "containers": [{"name": "c", "resources": {"limits": {"memory": "100m"}},
                    "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"},
                        {"name": "B", "value": "1"}, {"name": "B", "value": "$(B)2"}],
                    "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 80, "name": "http"}]}],
            },
        });
        let mut found = Vec::new();
        check(
            &At::new(&template, FieldPath::new("spec.template")),
            &mut found,
        );
        assert_eq!(
            found,
            [
                "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.template.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.template.spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "spec.template.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                "spec.template.spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.template.spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.template.spec.containers[0].ports[1]: duplicate port definition with spec.template.spec.containers[0].ports[0]",
                "spec.template.spec.containers[0].ports[1]: duplicate port name \"http\" with spec.template.spec.containers[0].ports[0], services and probes that select ports by name will use spec.template.spec.containers[0].ports[0]",
            ]
        );
    }
}
