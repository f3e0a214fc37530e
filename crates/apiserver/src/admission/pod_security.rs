//! `PodSecurity`: the pod security standards, as the labels of a namespace ask for them.
//!
//! A namespace says which level is enforced, which is warned of and which is audited. Enforced are Pods
//! themselves; workloads that make Pods are only warned of and audited, and so are Pods that are there
//! when a namespace's labels change.
//!
//! Left out: the plugin's configuration file, which sets defaults and exemptions.

mod checks;
mod level;

use std::collections::{BTreeMap, BTreeSet};

use model::{Status, object};
use serde_json::Value;

use self::checks::Violations;
use self::level::{Level, Policy, Standard};
use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "PodSecurity",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Now(validate),
};

/// Most Pods that are looked at when a namespace's labels change, as upstream.
const PODS_MAX: usize = 3000;
/// Subresources of Pods that do not change what runs.
const IGNORED: &[&str] = &[
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];

fn validate(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    if request.is_object("", "namespaces") {
        return namespace(request, new);
    }
    if request.is("", "pods") {
        return pod(request, new);
    }
    if let Some(path) = template_path(request) {
        controller(request, new, path);
    }
    Ok(())
}

/// Where the template of a workload's Pods is.
fn template_path(request: &Request<'_>) -> Option<&'static [&'static str]> {
    if !request.subresource.is_empty() {
        return None;
    }
    let gvr = &request.context.definition.gvr;
    match (gvr.group.as_str(), gvr.resource.as_str()) {
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template"]),
        ("", "podtemplates") => Some(&["template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// The policy of the namespace of a write.
fn policy_of(request: &Request<'_>) -> Option<Policy> {
    let namespace = request.find("", "namespaces", None, request.namespace())?;
    Some(Policy::of(object::labels(&namespace)))
}

fn annotate(request: &Request<'_>, key: &str, value: &str) {
    let key = format!("pod-security.kubernetes.io/{key}");
    request.context.annotate(&key, value);
}

fn pod(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    if IGNORED.contains(&request.subresource) {
        return Ok(());
    }
    let Some(policy) = policy_of(request) else {
        let name = request.namespace();
        return Err(Status::internal(format!(
            "failed to lookup namespace {name:?}"
        )));
    };
    if policy.is_privileged() {
        annotate(request, "enforce-policy", "privileged:latest");
        return Ok(());
    }
    if request.old.is_some_and(|old| !is_significant(pod, old)) {
        return Ok(());
    }
    annotate(request, "enforce-policy", &policy.enforce.to_string());
    let found = violations(policy.enforce, pod);
    audit(request, &policy, pod);
    if found.is_empty() {
        warn(request, &policy, pod);
        return Ok(());
    }
    let why = format!(
        "violates PodSecurity \"{}\": {}",
        policy.enforce,
        found.details()
    );
    Err(request.refuse(pod, &why))
}

fn controller(request: &Request<'_>, object: &Value, path: &[&str]) {
    let Some(policy) = policy_of(request) else {
        return;
    };
    let is_privileged = |standard: Standard| standard.level == Level::Privileged;
    if policy.errors.is_empty() && is_privileged(policy.warn) && is_privileged(policy.audit) {
        return;
    }
    if let Some(template) = object::at(object, path) {
        audit(request, &policy, template);
        warn(request, &policy, template);
    }
}

fn violations(standard: Standard, pod: &Value) -> Violations {
    checks::run(standard, pod)
}

fn audit(request: &Request<'_>, policy: &Policy, pod: &Value) {
    if !policy.errors.is_empty() {
        let list: Vec<String> = policy.errors.iter().map(ToString::to_string).collect();
        let text = match list.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        annotate(request, "error", &format!("Failed to parse policy: {text}"));
    }
    let found = violations(policy.audit, pod);
    if !found.is_empty() {
        let text = format!(
            "would violate PodSecurity \"{}\": {}",
            policy.audit,
            found.details()
        );
        annotate(request, "audit-violations", &text);
    }
}

fn warn(request: &Request<'_>, policy: &Policy, pod: &Value) {
    let found = violations(policy.warn, pod);
    if !found.is_empty() {
        request.context.warn(format!(
            "would violate PodSecurity \"{}\": {}",
            policy.warn,
            found.details()
        ));
    }
}

/// Whether a change is to what runs.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let list = |pod, kind| object::list(pod, &["spec", kind]);
    let image = |container| object::text(container, &["image"]);
    let differs = |kind| {
        let (new, old) = (list(pod, kind), list(old, kind));
        new.len() != old.len() || new.iter().zip(old).any(|(n, o)| image(n) != image(o))
    };
    if differs("containers") || differs("initContainers") {
        return true;
    }
    let before = list(old, "ephemeralContainers");
    list(pod, "ephemeralContainers").iter().any(|container| {
        let same = |other: &&Value| other["name"] == container["name"];
        before
            .iter()
            .find(same)
            .is_none_or(|other| image(other) != image(container))
    })
}

/// The labels of a namespace have to make sense; Pods that are there already are only warned of.
fn namespace(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    let policy = Policy::of(object::labels(new));
    let invalid = || {
        let kind = &request.context.definition.kind;
        Status::invalid(&kind.group, &kind.kind, object::name(new), &policy.errors)
    };
    let Some(old) = request.old else {
        return if policy.errors.is_empty() {
            Ok(())
        } else {
            Err(invalid())
        };
    };
    let before = Policy::of(object::labels(old));
    if !policy.errors.is_empty() && policy.errors != before.errors {
        return Err(invalid());
    }
    let (now, then) = (policy.enforce, before.enforce);
    let laxer = now.version == then.version && now.level <= then.level;
    if now == then || now.level == Level::Privileged || laxer {
        return Ok(());
    }
    let pods = request.list("", "pods", Some(object::name(new)));
    for warning in existing(object::name(new), now, &pods) {
        request.context.warn(warning);
    }
    Ok(())
}

/// What is to be said of the Pods a namespace has when a level comes into force.
fn existing(namespace: &str, standard: Standard, pods: &[Value]) -> Vec<String> {
    let mut controllers = BTreeSet::new();
    let (first, copies): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|pod| {
        object::controller_of(pod)
            .is_none_or(|owner| controllers.insert(object::text(owner, &["uid"]).to_owned()))
    });
    let mut warnings = Vec::new();
    if pods.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        ));
    }
    let mut by_reason: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for pod in first.into_iter().chain(copies).take(PODS_MAX) {
        let found = violations(standard, pod);
        if !found.is_empty() {
            let name = object::name(pod);
            let entry = by_reason.entry(found.reasons()).or_insert((name, 0));
            entry.0 = entry.0.min(name);
            entry.1 += 1;
        }
    }
    if !by_reason.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut told: Vec<String> = by_reason
        .iter()
        .map(|(reason, (name, count))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            count => format!("{name} (and {} other pods): {reason}", count - 1),
        })
        .collect();
    told.sort();
    warnings.extend(told);
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_that_are_there_are_told_by_reason() {
        let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"hostNetwork": true}});
        let standard = Standard {
            level: Level::Baseline,
            version: None,
        };
        assert_eq!(
            existing(
                "a",
                standard,
                &[pod("y"), pod("x"), json!({"metadata": {"name": "ok"}})]
            ),
            [
                "existing pods in namespace \"a\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "x (and 1 other pod): host namespaces",
            ]
        );
    }

    #[test]
    fn only_what_runs_is_significant() {
        let pod = |image: &str, label: &str| json!({"metadata": {"labels": {"a": label}}, "spec": {"containers": [{"image": image}]}});
        assert!(!is_significant(&pod("i", "x"), &pod("i", "y")));
        assert!(is_significant(&pod("i", "x"), &pod("j", "x")));
    }
}
