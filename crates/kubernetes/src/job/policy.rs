//! What a Job's policies make of failed Pods and of succeeded indexes. Pure.

use controller::Object;
use model::object;
use serde_json::Value;

use super::indexes::Indexes;

/// What a failed Pod means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It counts, as without a policy.
    Count,
    /// It does not count.
    Ignore,
    /// It ends its index.
    FailIndex,
    /// It ends the Job; why.
    FailJob(String),
}

impl Verdict {
    /// Whether the failure counts against the back-off limits.
    pub fn counts(&self) -> bool {
        *self != Self::Ignore
    }
}

/// Judges a failed Pod by `spec.podFailurePolicy`: the first rule that fits it counts.
pub fn judge(job: &Object, pod: &Object) -> Verdict {
    for (position, rule) in rules(job, "podFailurePolicy").iter().enumerate() {
        let action = object::text(rule, &["action"]);
        let why = if let Some(requirement) = rule.get("onExitCodes").filter(|r| !r.is_null()) {
            exited(pod, requirement).map(|(container, code)| {
                format!(
                    "Container {container} for pod {} failed with exit code {code} matching {action} rule at index {position}",
                    pod.key()
                )
            })
        } else {
            condition(pod, object::list(rule, &["onPodConditions"])).map(|kind| {
                format!(
                    "Pod {} has condition {kind} matching {action} rule at index {position}",
                    pod.key()
                )
            })
        };
        let Some(why) = why else { continue };
        match action {
            "Ignore" => return Verdict::Ignore,
            "FailIndex" => return Verdict::FailIndex,
            "FailJob" => return Verdict::FailJob(why),
            "Count" => return Verdict::Count,
            // An action of a later Kubernetes: as if the rule did not fit.
            _ => {}
        }
    }
    Verdict::Count
}

fn rules<'a>(job: &'a Object, policy: &str) -> &'a [Value] {
    object::list(job.value(), &["spec", policy, "rules"])
}

/// The first container that ended with an exit code the requirement names.
fn exited<'a>(pod: &'a Object, requirement: &Value) -> Option<(&'a str, i64)> {
    let wanted = object::text(requirement, &["containerName"]);
    let values = object::list(requirement, &["values"]);
    let negated = object::text(requirement, &["operator"]) == "NotIn";
    ["containerStatuses", "initContainerStatuses"]
        .iter()
        .flat_map(|list| object::list(pod.value(), &["status", list]))
        .find_map(|status| {
            let name = object::text(status, &["name"]);
            let code = object::number(status, &["state", "terminated", "exitCode"])?;
            let named = wanted.is_empty() || wanted == name;
            let listed = values.iter().any(|value| value.as_i64() == Some(code));
            (named && code != 0 && listed != negated).then_some((name, code))
        })
}

/// The first condition of the Pod that a pattern describes.
fn condition<'a>(pod: &'a Object, patterns: &[Value]) -> Option<&'a str> {
    let field = |value: &Value, name: &str| object::text(value, &[name]).to_owned();
    object::list(pod.value(), &["status", "conditions"])
        .iter()
        .find(|condition| {
            patterns.iter().any(|pattern| {
                let status = match field(pattern, "status") {
                    empty if empty.is_empty() => "True".to_owned(),
                    status => status,
                };
                field(pattern, "type") == field(condition, "type")
                    && status == field(condition, "status")
            })
        })
        .map(|condition| object::text(condition, &["type"]))
}

/// Which rule of `spec.successPolicy` the succeeded indexes fulfil.
pub fn success(job: &Object, completions: usize, succeeded: &Indexes) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let met = rules(job, "successPolicy").iter().position(|rule| {
        let enough = object::number(rule, &["succeededCount"])
            .map(|count| usize::try_from(count).unwrap_or(0));
        match rule.get("succeededIndexes").and_then(Value::as_str) {
            Some(text) => {
                let required = Indexes::parse(text, completions);
                let common = required.common(succeeded);
                !required.is_empty()
                    && (common == required.len() || enough.is_some_and(|enough| common >= enough))
            }
            None => enough.is_some_and(|enough| succeeded.len() >= enough),
        }
    });
    met.map(|position| format!("Matched rules at index {position}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(field: &str, rules: Value) -> Object {
        let mut job = json!({"metadata": {"name": "j", "namespace": "n"}, "spec": {}});
        job["spec"][field] = json!({"rules": rules});
        Object::new(job)
    }

    fn pod(code: i64, condition: &str) -> Object {
        Object::new(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "status": {
                "phase": "Failed",
                "conditions": [{"type": condition, "status": "True"}],
                "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": code}}}],
            },
        }))
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let job = job(
            "podFailurePolicy",
            json!([
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
                {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [43], "containerName": "main"}},
                {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [44], "containerName": "other"}},
                {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [42, 45]}},
                {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [45]}},
            ]),
        );
        let check = |code: i64, condition: &str, expect: Verdict| {
            assert_eq!(
                judge(&job, &pod(code, condition)),
                expect,
                "{code} {condition}"
            );
        };
        check(42, "DisruptionTarget", Verdict::Ignore);
        let why =
            "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        check(42, "Ready", Verdict::FailJob(why.to_owned()));
        check(43, "Ready", Verdict::FailIndex);
        check(44, "Ready", Verdict::Count);
        check(45, "Ready", Verdict::Ignore);
        check(0, "Ready", Verdict::Count);
    }

    #[test]
    fn a_success_policy_names_indexes_and_counts() {
        let check = |rules: Value, succeeded: &str, expect: Option<&str>| {
            let job = job("successPolicy", rules);
            let succeeded = Indexes::parse(succeeded, 10);
            assert_eq!(success(&job, 10, &succeeded).as_deref(), expect);
        };
        check(json!([{"succeededIndexes": "0,2"}]), "0", None);
        check(
            json!([{"succeededIndexes": "0,2"}]),
            "0-2",
            Some("Matched rules at index 0"),
        );
        check(json!([{"succeededCount": 2}]), "", None);
        check(
            json!([{"succeededIndexes": "9"}, {"succeededCount": 2}]),
            "3,5",
            Some("Matched rules at index 1"),
        );
        check(
            json!([{"succeededIndexes": "0-4", "succeededCount": 2}]),
            "1,4,7",
            Some("Matched rules at index 0"),
        );
        check(
            json!([{"succeededIndexes": "0-4", "succeededCount": 2}]),
            "1,7",
            None,
        );
    }
}
