//! What may be said of a job's state.

use std::collections::HashSet;

use model::object;
use serde_json::Value;

use crate::at::{At, Errors};
use crate::check;

/// Whether a condition of a job holds.
pub fn is_true(job: &Value, kind: &str) -> bool {
    object::list(job, &["status", "conditions"])
        .iter()
        .any(|condition| {
            object::text(condition, &["type"]) == kind
                && object::text(condition, &["status"]) == "True"
        })
}

/// How many indexes a text such as `0,2-4` names, all below `completions`.
pub fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut total, mut last) = (0, None);
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {first}"
            ));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = part.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let number = |text: &str| {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(number)
    };
    let first = number(limits[0])?;
    let end = limits.get(1).map_or(Ok(first), |text| number(text))?;
    if limits.len() == 2 && first >= end {
        return Err(format!(
            "non-increasing order, previous: {first}, current: {end}"
        ));
    }
    Ok((first, end))
}

/// Checks a changed status.
pub fn check(job: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(job);
    let status = root.get("status");
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        check::nonnegative(&status.get(field), &mut errors);
    }
    uncounted(&status.get("uncountedTerminatedPods"), &mut errors);
    let unfinished_before = !is_true(old, "Complete") && !is_true(old, "Failed");
    conditions(job, &status, &mut errors);
    if unfinished_before {
        finished(job, &status, &mut errors);
    }
    indexes(&root, &status, &mut errors);
    transitions(job, old, &status, &mut errors);
    errors
}

fn uncounted(at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for uid in at.get(list).items() {
            if uid.is_empty() {
                errors.push(uid.invalid("must not be empty"));
            } else if !seen.insert(uid.text()) {
                errors.push(uid.duplicate());
            }
        }
    }
}

/// Conditions that exclude or require each other.
fn conditions(job: &Value, status: &At<'_>, errors: &mut Errors) {
    let is = |kind: &str| is_true(job, kind);
    let (complete, failed) = (is("Complete"), is("Failed"));
    let (target, met) = (is("FailureTarget"), is("SuccessCriteriaMet"));
    let at = status.get("conditions");
    let mut refuse = |found: bool, why: &str| {
        if found {
            errors.push(at.invalid(why).without_value());
        }
    };
    refuse(
        complete && failed,
        "cannot set Complete=True and Failed=true conditions",
    );
    refuse(
        complete && target,
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    refuse(
        met && failed,
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    );
    refuse(
        met && target,
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    refuse(
        failed && !target,
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        complete && !met,
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
}

/// What holds once a job has ended.
fn finished(job: &Value, status: &At<'_>, errors: &mut Errors) {
    let complete = is_true(job, "Complete");
    let (start, completion) = (status.get("startTime"), status.get("completionTime"));
    if completion.is_set() && !complete {
        let why = "cannot set completionTime when there is no Complete=True condition";
        errors.push(completion.invalid(why));
    }
    if complete && !completion.is_set() {
        errors.push(completion.required("completionTime is required for Complete jobs"));
    }
    if start.is_set() && completion.is_set() && completion.text() < start.text() {
        errors.push(completion.invalid("completionTime cannot be set before startTime"));
    }
    if !complete && !is_true(job, "Failed") {
        return;
    }
    let (active, terminating) = (status.get("active"), status.get("terminating"));
    if active.count() > 0 {
        errors.push(active.invalid("active>0 is invalid for finished job"));
    }
    if !start.is_set() {
        errors.push(start.required("startTime is required for finished job"));
    }
    let uncounted = status.get("uncountedTerminatedPods");
    if ["succeeded", "failed"]
        .iter()
        .any(|list| !uncounted.get(list).is_empty())
    {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        errors.push(uncounted.invalid(why));
    }
    if terminating.count() > 0 {
        errors.push(terminating.invalid("terminating>0 is invalid for finished job"));
    }
}

fn indexes(root: &At<'_>, status: &At<'_>, errors: &mut Errors) {
    let spec = root.get("spec");
    let (completed, failed) = (status.get("completedIndexes"), status.get("failedIndexes"));
    if let Some(completions) = spec.get("completions").number() {
        for (field, name) in [(&completed, "completedIndexes"), (&failed, "failedIndexes")] {
            if let Err(why) = count_indexes(field.text(), completions) {
                errors.push(field.invalid(format!("error parsing {name}: {why}")));
            }
        }
    }
    if !completed.is_empty() && spec.get("completionMode").text() != "Indexed" {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(completed.invalid(why));
    }
    if failed.is_set() && !spec.get("backoffLimitPerIndex").is_set() {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(failed.invalid(why));
    }
    let ready = status.get("ready");
    if ready.count() > status.get("active").count() {
        errors.push(ready.invalid("cannot set more ready pods than active"));
    }
}

/// What never goes back.
fn transitions(job: &Value, old: &Value, status: &At<'_>, errors: &mut Errors) {
    let conditions = status.get("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is_true(old, kind) && !is_true(job, kind) {
            let why = format!("cannot disable the terminal {kind}=True condition");
            errors.push(conditions.invalid(why).without_value());
        }
    }
    let before = At::root(old).get("status");
    for field in ["failed", "succeeded"] {
        if status.get(field).count() < before.get(field).count() {
            let why = format!("cannot decrease the {field} counter");
            errors.push(status.get(field).invalid_count(why));
        }
    }
    let (completion, old_completion) = (status.get("completionTime"), before.get("completionTime"));
    if completion.is_set()
        && old_completion.is_set()
        && completion.value() != old_completion.value()
    {
        errors.push(completion.invalid("completionTime cannot be mutated"));
    }
    let (start, old_start) = (status.get("startTime"), before.get("startTime"));
    let suspended = object::at(job, &["spec", "suspend"]) == Some(&Value::Bool(true));
    if old_start.is_set() && start.value() != old_start.value() && !suspended {
        errors.push(start.required("startTime cannot be removed for unsuspended job"));
    }
    let met = "SuccessCriteriaMet";
    if is_true(old, met) && !is_true(job, met) {
        let why = "cannot disable the SuccessCriteriaMet=True condition";
        errors.push(conditions.invalid(why).without_value());
    }
    if is_true(old, "Complete") && !is_true(old, met) && is_true(job, met) {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(conditions.invalid(why).without_value());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_ordered_intervals() {
        assert_eq!(count_indexes("0,2-4", 5), Ok(4));
        assert_eq!(count_indexes("", 5), Ok(0));
        assert!(count_indexes("4-2", 5).is_err());
        assert!(count_indexes("5", 5).is_err());
    }
}
