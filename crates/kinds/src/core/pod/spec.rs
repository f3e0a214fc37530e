//! Checks of the spec of a Pod or of a Pod template.

use std::collections::HashSet;

use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use super::containers::{self, Surroundings};
use super::{scheduling, security, volumes};
use crate::at::{At, Errors};
use crate::check;
use crate::resources::{self, amounts};

const DEADLINE_RANGE: &str = "must be between 1 and 2147483647, inclusive";
const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

/// Checks a Pod template.
pub fn check_template(at: &At<'_>, errors: &mut Errors) {
    let metadata = at.get("metadata");
    // As upstream: labels and annotations are said to be the template's.
    let labels = metadata.get("labels").said_at(at.path().child("labels"));
    let annotations = metadata
        .get("annotations")
        .said_at(at.path().child("annotations"));
    check::labels(&labels, errors);
    check::annotations(&annotations, errors);
    let spec = at.get("spec");
    check_annotations(&annotations, &spec, errors);
    check_spec(&spec, None, errors);
    match_annotations(&metadata.get("annotations"), &spec, errors);
    if !spec.get("ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(spec.get("ephemeralContainers").forbidden(why));
    }
}

/// Annotations of Pods that mean something.
pub fn check_annotations(at: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    let get = |key: &str| at.value().get(key).and_then(Value::as_str);
    let mirror = "kubernetes.io/config.mirror";
    if let Some(value) = get(mirror)
        && spec.get("nodeName").is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&at.path().key(mirror), value, why));
    }
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(value) = get(cost) {
        let padded = value.strip_prefix(['+', '-']).unwrap_or(value);
        let zero_led = padded.len() > 1 && padded.starts_with('0');
        if value.starts_with('+') || zero_led || value.parse::<i32>().is_err() {
            errors.push(FieldError::invalid(
                &at.path().key(cost),
                value,
                "must be a 32bit integer",
            ));
        }
    }
    for (key, value) in at.map().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let of_container = key.starts_with("container.seccomp.security.alpha.kubernetes.io/");
        if key == "seccomp.security.alpha.kubernetes.io/pod" || of_container {
            seccomp_annotation(value, &at.path().child(key), errors);
        }
        if let Some(name) = key.strip_prefix("container.apparmor.security.beta.kubernetes.io/") {
            app_armor_annotation(name, value, spec, &at.path().key(key), errors);
        }
    }
}

fn seccomp_annotation(value: &str, path: &FieldPath, errors: &mut Errors) {
    if matches!(value, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match value.strip_prefix("localhost/") {
        Some(profile) => {
            let profile = json!(profile);
            check::descending_path(&At::new(&profile, path.clone()), errors);
        }
        None => errors.push(FieldError::invalid(
            path,
            value,
            "must be a valid seccomp profile",
        )),
    }
}

fn app_armor_annotation(
    name: &str,
    value: &str,
    spec: &At<'_>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let known = security::CONTAINERS.iter().any(|list| {
        spec.get(list)
            .list()
            .iter()
            .any(|container| object::text(container, &["name"]) == name)
    });
    if !known {
        errors.push(FieldError::invalid(path, name, "container not found"));
    }
    let fine =
        matches!(value, "" | "runtime/default" | "unconfined") || value.starts_with("localhost/");
    if !fine {
        let why = format!("invalid AppArmor profile name: {value:?}");
        errors.push(FieldError::invalid(path, value, why));
    }
}

/// Old annotations and the fields that replaced them must agree.
pub fn match_annotations(annotations: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    let get = |key: &str| annotations.value().get(key).and_then(Value::as_str);
    let pod = spec.get("securityContext");
    if let Some(value) = get("seccomp.security.alpha.kubernetes.io/pod") {
        agree(value, &pod.get("seccompProfile"), "seccomp", errors);
    }
    for list in security::CONTAINERS {
        for container in spec.get(list).items() {
            let name = container.get("name").text();
            let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
            if let Some(value) = get(&key) {
                agree(
                    value,
                    &container.at("securityContext.seccompProfile"),
                    "seccomp",
                    errors,
                );
            }
        }
    }
    if spec.at("os.name").text() == "windows" {
        return;
    }
    for list in security::CONTAINERS {
        for container in spec.get(list).items() {
            let name = container.get("name").text();
            let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
            let own = container.at("securityContext.appArmorProfile");
            let inherited = pod.get("appArmorProfile");
            let profile = if own.is_set() {
                own
            } else {
                inherited.said_at(own.path().clone())
            };
            if let Some(value) = get(&key) {
                agree(value, &profile, "apparmor", errors);
            }
        }
    }
}

fn agree(value: &str, profile: &At<'_>, what: &str, errors: &mut Errors) {
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    let fine = match kind.text() {
        "Unconfined" => value == "unconfined",
        "RuntimeDefault" => {
            value == "runtime/default" || (what == "seccomp" && value == "docker/default")
        }
        "Localhost" => match value.strip_prefix("localhost/") {
            Some(named) if local.text() != named || !local.is_set() => {
                let why = format!("{what} profile in annotation and field must match");
                errors.push(local.forbidden(&why));
                return;
            }
            found => found.is_some(),
        },
        _ => true,
    };
    if !fine {
        errors.push(kind.forbidden(&format!("{what} type in annotation and field must match")));
    }
}

/// Checks the spec of `pod`, or of a template where there is none.
pub fn check_spec(spec: &At<'_>, pod: Option<&Value>, errors: &mut Errors) {
    let names = spec
        .get("resourceClaims")
        .items()
        .map(|claim| claim.get("name").text());
    let claims: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let volumes = volumes::check(&spec.get("volumes"), pod, errors);
    resource_claims(&spec.get("resourceClaims"), errors);
    let surroundings = Surroundings {
        spec: spec.clone(),
        volumes,
        claims,
    };
    containers::check(&surroundings, errors);
    pod_resources(&surroundings, errors);
    host_network_ports(spec, pod.is_some(), errors);
    check::required_one_of(&spec.get("restartPolicy"), RESTART_POLICIES, errors);
    check::required_one_of(&spec.get("dnsPolicy"), DNS_POLICIES, errors);
    check::labels(&spec.get("nodeSelector"), errors);
    security::of_pod(spec, errors);
    scheduling::affinity(&spec.get("affinity"), errors);
    dns(spec, errors);
    for gate in spec.get("readinessGates").items() {
        check::qualified_name(&gate.get("conditionType"), errors);
    }
    scheduling::gates(&spec.get("schedulingGates"), errors);
    scheduling::spread(&spec.get("topologySpreadConstraints"), errors);
    security::host_process(spec, errors);
    security::host_users(spec, errors);
    names_of(spec, errors);
    scheduling::tolerations(&spec.get("tolerations"), errors);
    for alias in spec.get("hostAliases").items() {
        check::check_ip(&alias.get("ip"), &[], errors);
        alias
            .get("hostnames")
            .items()
            .for_each(|name| check::subdomain(&name, errors));
    }
    for field in ["priorityClassName", "runtimeClassName"] {
        if !spec.get(field).is_empty() || (field == "runtimeClassName" && spec.get(field).is_set())
        {
            check::subdomain(&spec.get(field), errors);
        }
    }
    let preemption = spec.get("preemptionPolicy");
    if preemption.is_set() {
        check::required_one_of(&preemption, &["PreemptLowerPriority", "Never"], errors);
    }
    let overhead = json!({"limits": spec.get("overhead").value()});
    let overhead = At::new(&overhead, spec.path().child("overhead"));
    resources::container_requirements(&overhead, &[], errors);
    security::operating_system(spec, errors);
}

fn names_of(spec: &At<'_>, errors: &mut Errors) {
    for field in ["serviceAccountName", "nodeName"] {
        if !spec.get(field).is_empty() {
            check::subdomain(&spec.get(field), errors);
        }
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline
        .number()
        .is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds))
    {
        errors.push(deadline.invalid(DEADLINE_RANGE));
    }
    for field in ["hostname", "subdomain"] {
        if !spec.get(field).is_empty() {
            check::dns_label(&spec.get(field), errors);
        }
    }
}

fn resource_claims(at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for claim in at.items() {
        let name = claim.get("name");
        if check::required(&name, errors) {
            if seen.insert(name.text()) {
                check::dns_label(&name, errors);
            } else {
                errors.push(name.duplicate());
            }
        }
        let (own, template) = (
            claim.get("resourceClaimName"),
            claim.get("resourceClaimTemplateName"),
        );
        let printed = check::print_struct(&[
            ("Name", name.value()),
            ("ResourceClaimName", own.value()),
            ("ResourceClaimTemplateName", template.value()),
        ]);
        let why = match (own.is_set(), template.is_set()) {
            (true, true) => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
            (false, false) => {
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            }
            _ => "",
        };
        if !why.is_empty() {
            errors.push(claim.invalid(why).printed_as(printed));
        }
        for reference in [own, template] {
            if reference.is_set() {
                check::messages(
                    &reference,
                    names::dns1123_subdomain(reference.text()),
                    errors,
                );
            }
        }
    }
}

/// What the Pod as a whole asks for covers what its containers ask for.
fn pod_resources(pod: &Surroundings<'_>, errors: &mut Errors) {
    let at = pod.spec.get("resources");
    if !at.is_set() {
        return;
    }
    if at.get("claims").is_set() {
        errors.push(
            at.get("claims")
                .forbidden("claims cannot be set for Resources at pod-level"),
        );
    }
    resources::pod_requirements(&at, &pod.claims, errors);
    let own = amounts(at.value().get("requests"));
    for (name, sum) in resources::of_all_containers(pod.spec.value(), "requests") {
        if !resources::is_supported_for_pods(&name) {
            continue;
        }
        let asked = own.get(&name);
        if asked.is_none_or(|asked| sum > *asked) {
            let shown = asked.map_or("0".to_owned(), ToString::to_string);
            let why =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(FieldError::invalid(
                &at.path().child("requests").key(&name),
                shown,
                why,
            ));
        }
    }
    let limits = amounts(at.value().get("limits"));
    for (index, container) in pod.spec.get("containers").items().enumerate() {
        for (name, limit) in amounts(
            container
                .at("resources.limits")
                .map()
                .map(|_| container.at("resources.limits").value()),
        ) {
            if let Some(whole) = limits.get(&name).filter(|whole| limit > **whole) {
                let path = at
                    .path()
                    .child("containers")
                    .index(index)
                    .key(&name)
                    .child("limits");
                let why = format!("must be less than or equal to pod limits of {whole}");
                errors.push(FieldError::invalid(&path, limit.to_string(), why));
            }
        }
    }
}

/// On the host's network the host's port is the container's.
fn host_network_ports(spec: &At<'_>, is_pod: bool, errors: &mut Errors) {
    if !spec.get("hostNetwork").is_true() {
        return;
    }
    for container in spec.get("containers").items() {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            let differs = host.count() != port.get("containerPort").count();
            if differs && (is_pod || host.count() != 0) {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(host.invalid_count(why));
            }
        }
    }
}

fn dns(spec: &At<'_>, errors: &mut Errors) {
    let at = spec.get("dnsConfig");
    let servers = at.get("nameservers");
    if spec.get("dnsPolicy").text() == "None" {
        if !at.is_set() {
            errors.push(at.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(servers.required(why));
            return;
        }
    }
    if servers.len() > 3 {
        errors.push(servers.invalid("must not have more than 3 nameservers"));
    }
    for server in servers.items() {
        check::check_ip(&server, &[], errors);
    }
    let searches = at.get("searches");
    if searches.len() > 32 {
        errors.push(searches.invalid("must not have more than 32 search paths"));
    }
    let length = searches
        .texts()
        .map(|search| search.len() + 1)
        .sum::<usize>();
    if length.saturating_sub(1) > 2048 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(searches.invalid(why));
    }
    for search in searches.items().filter(|search| search.text() != ".") {
        let text = search.text().strip_suffix('.').unwrap_or(search.text());
        for message in underscored_subdomain(text) {
            errors.push(FieldError::invalid(search.path(), text, message));
        }
    }
    for option in at.get("options").items() {
        if option.get("name").is_empty() {
            errors.push(option.required("must not be empty"));
        }
    }
}

/// A DNS subdomain whose labels may contain underscores.
fn underscored_subdomain(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.len() > names::DNS1123_SUBDOMAIN_LENGTH_MAX {
        messages.push("must be no more than 253 characters".to_owned());
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-' && inner(*b));
    let fine = text.split('.').all(|label| {
        label.bytes().all(inner) && edge(label.as_bytes().first()) && edge(label.as_bytes().last())
    });
    if !fine {
        messages.push("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*')".to_owned());
    }
    messages
}
