//! What a Job asks of its Pods, and the Pods it makes. Pure.

use std::sync::Arc;

use controller::Object;
use model::object;
use serde_json::{Value, json};

use super::policy;
use crate::pod;

/// Keeps a Pod until its Job has counted it.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The completion index, as an annotation and as a label.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index failed before this Pod.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often it failed without that being counted.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The variable that tells a container its index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// What is left of a name of 63 characters before the five random ones.
const GENERATED_NAME_LIMIT: usize = 58;

/// The completion index of a Pod.
pub fn index(pod: &Object) -> Option<usize> {
    pod.annotation(INDEX)?.parse().ok()
}

/// Whether its Job has not let go of it yet.
pub fn is_tracked(pod: &Object) -> bool {
    pod.has_finalizer(FINALIZER)
}

/// Whether terminating Pods are waited for before they are replaced.
pub fn replaces_only_failed(job: &Object) -> bool {
    object::text(job.value(), &["spec", "podReplacementPolicy"]) == "Failed"
        || job
            .get(&["spec", "podFailurePolicy"])
            .is_some_and(|policy| !policy.is_null())
}

/// Whether a Pod is to be seen as failed.
pub fn is_failed(job: &Object, pod: &Object) -> bool {
    match pod::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        // A Pod that was deleted may never come to the point of failing.
        _ => pod.is_terminating() && !replaces_only_failed(job),
    }
}

/// Whether a Pod is going and has not ended.
pub fn is_leaving(pod: &Object) -> bool {
    pod.is_terminating() && !matches!(pod::phase(pod), "Succeeded" | "Failed")
}

fn count(pod: &Object, annotation: &str) -> u32 {
    let count = pod
        .annotation(annotation)
        .and_then(|c| c.parse::<i32>().ok());
    count
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(0)
}

/// How often the index had failed when the Pod was made; only what counts.
pub fn failures(pod: &Object) -> u32 {
    count(pod, FAILURES)
}

/// The same, with what does not count.
pub fn all_failures(pod: &Object) -> u32 {
    count(pod, FAILURES) + count(pod, IGNORED)
}

/// One Pod to make.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its index, in an indexed Job.
    pub index: Option<usize>,
    /// The failed Pod it comes in place of, where the Job limits the failures of each index.
    pub replaces: Option<Arc<Object>>,
}

/// The document of a Pod to make, without a name.
pub fn make(job: &Object, wanted: &Wanted) -> Value {
    let template = job.get(&["spec", "template"]).cloned().unwrap_or_default();
    let mut made = pod::from_template(job, &template, &[]);
    let finalizers = &mut made["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|one| one == FINALIZER) => {}
        Some(list) => list.push(json!(FINALIZER)),
        None => *finalizers = json!([FINALIZER]),
    }
    let Some(index) = wanted.index else {
        return made;
    };
    made["metadata"]["generateName"] = json!(generate_name(job.name(), index));
    made["metadata"]["labels"][INDEX] = json!(index.to_string());
    made["metadata"]["annotations"][INDEX] = json!(index.to_string());
    made["spec"]["hostname"] = json!(format!("{}-{index}", job.name()));
    if job.get(&["spec", "backoffLimitPerIndex"]).is_some() {
        let (mut counted, mut ignored) = (0, 0);
        if let Some(before) = &wanted.replaces {
            (counted, ignored) = (failures(before), count(before, IGNORED));
            let counts = policy::judge(job, before).counts();
            *(if counts { &mut counted } else { &mut ignored }) += 1;
        }
        made["metadata"]["annotations"][FAILURES] = json!(counted.to_string());
        if ignored > 0 {
            made["metadata"]["annotations"][IGNORED] = json!(ignored.to_string());
        }
    }
    for list in ["initContainers", "containers"] {
        let containers = made["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            tell_index(container);
        }
    }
    made
}

fn tell_index(container: &mut Value) {
    let variable = json!({
        "name": VARIABLE,
        "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.labels['{INDEX}']")}},
    });
    match container.get_mut("env").and_then(Value::as_array_mut) {
        Some(list) if list.iter().any(|one| one["name"] == VARIABLE) => {}
        Some(list) => list.push(variable),
        None => container["env"] = json!([variable]),
    }
}

fn generate_name(job: &str, index: usize) -> String {
    let end = format!("-{index}-");
    let room = GENERATED_NAME_LIMIT.saturating_sub(end.len());
    let start: String = job.chars().take(room).collect();
    format!("{start}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: Value) -> Object {
        Object::new(json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec,
        }))
    }

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let template = json!({"spec": {
            "containers": [{"name": "a"}, {"name": "b", "env": [{"name": VARIABLE, "value": "own"}]}],
            "initContainers": [{"name": "c", "env": [{"name": "X"}]}],
        }});
        let job = job(
            json!({"completionMode": "Indexed", "backoffLimitPerIndex": 2, "template": template}),
        );
        let before = Object::new(json!({"metadata": {"annotations": {FAILURES: "1"}}}));
        let made = make(
            &job,
            &Wanted {
                index: Some(3),
                replaces: Some(Arc::new(before)),
            },
        );
        assert_eq!(made["metadata"]["generateName"], "j-3-");
        assert_eq!(made["metadata"]["labels"][INDEX], "3");
        assert_eq!(
            made["metadata"]["annotations"],
            json!({INDEX: "3", FAILURES: "2"})
        );
        assert_eq!(made["metadata"]["finalizers"], json!([FINALIZER]));
        assert_eq!(made["spec"]["hostname"], "j-3");
        let field = "metadata.labels['batch.kubernetes.io/job-completion-index']";
        assert_eq!(
            made["spec"]["containers"][0]["env"],
            json!([{"name": VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": field}}}])
        );
        assert_eq!(
            made["spec"]["containers"][1]["env"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        assert_eq!(
            made["spec"]["initContainers"][0]["env"]
                .as_array()
                .map(Vec::len),
            Some(2)
        );
    }

    #[test]
    fn long_names_leave_room_for_the_index() {
        let name = "a".repeat(63);
        let made = generate_name(&name, 12);
        assert_eq!((made.len(), made.ends_with("a-12-")), (58, true));
    }
}
