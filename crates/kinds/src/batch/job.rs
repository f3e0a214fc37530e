//! Jobs, and the templates of jobs in cron jobs.

use std::collections::HashSet;

use jiff::Timestamp;
use model::{FieldError, FieldPath, LabelSelector, names, object};
use serde_json::{Map, Value, json};

use super::job_status;
use crate::age::age;
use crate::apps::workload::{self, invalid_selector};
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::core::pod;
use crate::edit::{each, fill, fill_zero, restore, set, with, within};

const ATTEMPTS: i64 = 6;
const INDEXED_PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MANY_COMPLETIONS_LIMIT: i64 = 10_000;
const MANAGED_BY_LENGTH_MAX: usize = 63;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_BYTES_MAX: usize = 64 << 10;

const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Jobs.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Changes,
    default,
    prepare_create,
    validate_create,
    validate_update,
    validate_status: job_status::check,
    cells: Some(cells),
    selectable_fields: &["status.successful"],
    ..Behaviour::DEFAULT
};

fn default(job: &mut Value) {
    take_labels(job);
    within(job, "spec", |spec| {
        default_template(spec);
        let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
        if completions.is_none() && parallelism.is_none() {
            set(spec, "completions", 1);
        }
        fill(spec, "parallelism", 1);
        let per_index = spec.get("backoffLimitPerIndex").is_some();
        fill(
            spec,
            "backoffLimit",
            if per_index {
                i64::from(i32::MAX)
            } else {
                ATTEMPTS
            },
        );
        fill_zero(spec, "completionMode", "NonIndexed");
        fill(spec, "suspend", false);
        fill(spec, "manualSelector", false);
        let policy = if spec.get("podFailurePolicy").is_some() {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        fill(spec, "podReplacementPolicy", policy);
    });
}

/// The defaults a job's spec has in a template too.
pub fn default_template(spec: &mut Value) {
    within(spec, "template", pod::default_template);
    with(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| {
                fill_zero(pattern, "status", "True");
            });
        });
    });
}

/// Unless told otherwise a job selects its Pods by its own uid.
fn prepare_create(job: &mut Value) {
    let (name, uid) = (object::name(job).to_owned(), object::uid(job).to_owned());
    if object::at(job, &["spec", "manualSelector"]) != Some(&json!(true)) {
        within(job, "spec", |spec| {
            within(spec, "template", |template| {
                within(template, "metadata", |metadata| {
                    within(metadata, "labels", |labels| {
                        for label in NAME_LABELS {
                            fill(labels, label, name.as_str());
                        }
                        for label in UID_LABELS {
                            fill(labels, label, uid.as_str());
                        }
                    });
                });
            });
            within(spec, "selector", |selector| {
                within(selector, "matchLabels", |labels| {
                    fill(labels, UID_LABELS[0], uid.as_str());
                });
            });
        });
    }
    take_labels(job);
}

/// A job without labels has those of its Pods.
fn take_labels(job: &mut Value) {
    let labels = object::at(job, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels.filter(|_| object::labels(job).is_none_or(Map::is_empty)) {
        object::metadata_mut(job).insert("labels".to_owned(), labels);
    }
}

/// Whether the containers of a suspended job may get other resources: no Pod of it runs.
fn may_change_resources(job: &Value) -> bool {
    object::number(job, &["status", "active"]).unwrap_or(0) == 0
}

/// Takes over the resources of containers that are there in both.
fn allow_resources(old: &mut Value, new: &Value) {
    for list in ["containers", "initContainers"] {
        let wanted = object::list(new, &[list]).to_vec();
        if wanted.len() != object::list(old, &[list]).len() {
            continue;
        }
        let mut wanted = wanted.into_iter();
        each(old, list, |own| {
            let other = wanted.next().unwrap_or_default();
            if own.get("name") == other.get("name") {
                restore(own, &other, "resources");
            }
        });
    }
}

fn validate_create(job: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(job);
    let spec = root.get("spec");
    generated(job, &spec, &mut errors);
    check_spec(&spec, &mut errors);
    selector(&spec, &mut errors);
    let completions = spec.get("completions").count();
    if spec.get("completionMode").text() == "Indexed" && completions > 0 {
        let host = format!("{}-{}", object::name(job), completions - 1);
        if !names::dns1123_label(&host).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(FieldError::invalid(
                &FieldPath::new("metadata.name"),
                object::name(job),
                why,
            ));
        }
    }
    errors
}

/// A generated selector and its labels must be what is generated.
fn generated(job: &Value, spec: &At<'_>, errors: &mut Errors) {
    let selector = spec.get("selector");
    if spec.get("manualSelector").is_true() || !selector.is_set() {
        return;
    }
    let labels = spec.at("template.metadata.labels");
    let (uid, name) = (object::uid(job), object::name(job));
    let expected = [
        (UID_LABELS[1], uid),
        (NAME_LABELS[1], name),
        (UID_LABELS[0], uid),
        (NAME_LABELS[0], name),
    ];
    for (label, value) in expected {
        let found = labels.value().get(label).and_then(Value::as_str);
        let (path, why) = (labels.path().key(label), format!("must be '{value}'"));
        match found {
            None => errors.push(FieldError::required(&path, why)),
            Some(found) if found != value => {
                errors.push(FieldError::invalid(&path, labels.value().clone(), why));
            }
            Some(_) => {}
        }
    }
    let all: Map<String, Value> = expected
        .iter()
        .map(|(label, value)| ((*label).to_owned(), json!(value)))
        .collect();
    let selects = LabelSelector::from_object(Some(selector.value()));
    if selects.is_ok_and(|selects| !selects.matches(Some(&all))) {
        errors.push(invalid_selector(&selector, "`selector` not auto-generated"));
    }
}

fn selector(spec: &At<'_>, errors: &mut Errors) {
    let selector = spec.get("selector");
    if selector.is_set() {
        check::label_selector(&selector, errors);
    } else {
        errors.push(selector.required(""));
    }
    if !workload::matches(&selector, &spec.get("template")) {
        errors.push(
            spec.at("template.metadata.labels")
                .invalid(workload::NO_MATCH),
        );
    }
}

/// What is checked of a job's spec, in a template too.
pub fn check_spec(spec: &At<'_>, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        check::nonnegative(&spec.get(field), errors);
    }
    let (per_index, failed_max) = (
        spec.get("backoffLimitPerIndex"),
        spec.get("maxFailedIndexes"),
    );
    if failed_max.is_set() && !per_index.is_set() {
        errors.push(per_index.required("when maxFailedIndexes is specified"));
    }
    let manager = spec.get("managedBy");
    if manager.is_set() {
        check::domain_prefixed_path(&manager, errors);
        if manager.text().len() > MANAGED_BY_LENGTH_MAX {
            errors.push(manager.too_long(MANAGED_BY_LENGTH_MAX));
        }
    }
    let mode = spec.get("completionMode");
    check::optional_one_of(&mode, &["NonIndexed", "Indexed"], errors);
    if mode.text() == "Indexed" {
        indexed(spec, errors);
    }
    if !mode.is_set() || mode.text() == "NonIndexed" {
        for field in [&per_index, &failed_max]
            .into_iter()
            .filter(|field| field.is_set())
        {
            errors.push(field.invalid("requires indexed completion mode"));
        }
    }
    if spec.get("podFailurePolicy").is_set() {
        failure_policy(spec, errors);
    }
    success_policy(spec, errors);
    let replacement = spec.get("podReplacementPolicy");
    let allowed: &[&str] = if spec.get("podFailurePolicy").is_set() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    check::optional_one_of(&replacement, allowed, errors);
    pod::check_template(&spec.get("template"), errors);
    restart_policy(spec, errors);
}

fn restart_policy(spec: &At<'_>, errors: &mut Errors) {
    let policy = spec.at("template.spec.restartPolicy");
    match policy.text() {
        "Always" | "" => {
            errors.push(policy.required("valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if spec.get("podFailurePolicy").is_set() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(policy.invalid(why));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(policy.not_supported(&["OnFailure", "Never"])),
    }
}

fn indexed(spec: &At<'_>, errors: &mut Errors) {
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    let failed_max = spec.get("maxFailedIndexes");
    if !completions.is_set() {
        errors.push(completions.required("when completion mode is Indexed"));
    }
    if parallelism.count() > INDEXED_PARALLELISM_MAX {
        let why = format!(
            "must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed"
        );
        errors.push(parallelism.invalid(why));
    }
    if completions.is_set() && failed_max.count() > completions.count() {
        errors.push(failed_max.invalid("must be less than or equal to completions"));
    }
    if failed_max.count() > FAILED_INDEXES_MAX {
        errors.push(failed_max.invalid(format!(
            "must be less than or equal to {FAILED_INDEXES_MAX}"
        )));
    }
    if completions.count() <= MANY_COMPLETIONS || !spec.get("backoffLimitPerIndex").is_set() {
        return;
    }
    if !failed_max.is_set() {
        let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(failed_max.required(&why));
    }
    for field in [&parallelism, &failed_max] {
        if field.count() > MANY_COMPLETIONS_LIMIT {
            let why = format!(
                "must be less than or equal to {MANY_COMPLETIONS_LIMIT} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
            );
            errors.push(field.invalid(why));
        }
    }
}

fn failure_policy(spec: &At<'_>, errors: &mut Errors) {
    let rules = spec.at("podFailurePolicy.rules");
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(rules.path(), rules.len(), RULES_MAX));
    }
    for rule in rules.items() {
        let action = rule.get("action");
        match action.text() {
            "" => {
                let why = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
                errors.push(action.required(why));
            }
            "FailIndex" if !spec.get("backoffLimitPerIndex").is_set() => {
                errors.push(action.invalid("requires the backoffLimitPerIndex to be set"));
            }
            "Count" | "FailIndex" | "FailJob" | "Ignore" => {}
            _ => errors.push(action.not_supported(&["Count", "FailIndex", "FailJob", "Ignore"])),
        }
        let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
        if codes.is_set() {
            exit_codes(spec, &codes, errors);
        }
        pod_conditions(&conditions, errors);
        let why = match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(rule.invalid(why).without_value());
    }
}

fn pod_conditions(at: &At<'_>, errors: &mut Errors) {
    if at.len() > RULES_MAX {
        errors.push(FieldError::too_many(at.path(), at.len(), RULES_MAX));
    }
    for pattern in at.items() {
        check::qualified_name(&pattern.get("type"), errors);
        let status = pattern.get("status");
        if status.is_empty() {
            errors.push(status.required("valid values: [\"False\" \"True\" \"Unknown\"]"));
        } else {
            check::one_of(&status, &["False", "True", "Unknown"], errors);
        }
    }
}

fn exit_codes(spec: &At<'_>, at: &At<'_>, errors: &mut Errors) {
    let operator = at.get("operator");
    if operator.is_empty() {
        errors.push(operator.required("valid values: [\"In\" \"NotIn\"]"));
    } else {
        check::one_of(&operator, &["In", "NotIn"], errors);
    }
    let container = at.get("containerName");
    let known = ["containers", "initContainers"].iter().any(|list| {
        let containers = spec.at("template.spec").get(list);
        containers
            .list()
            .iter()
            .any(|c| object::text(c, &["name"]) == container.text())
    });
    if container.is_set() && !known {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(container.invalid(why));
    }
    let values = at.get("values");
    if values.is_empty() {
        errors.push(values.invalid("at least one value is required"));
    } else if values.len() > EXIT_CODES_MAX {
        errors.push(FieldError::too_many(
            values.path(),
            values.len(),
            EXIT_CODES_MAX,
        ));
    }
    let mut seen = HashSet::new();
    for value in values.items() {
        if operator.text() == "In" && value.count() == 0 {
            errors.push(value.invalid("must not be 0 for the In operator"));
        }
        if !seen.insert(value.count()) {
            errors.push(value.duplicate());
        }
    }
    let numbers: Vec<i64> = values.items().map(|value| value.count()).collect();
    if !numbers.is_sorted() {
        errors.push(values.invalid("must be ordered"));
    }
}

fn success_policy(spec: &At<'_>, errors: &mut Errors) {
    let policy = spec.get("successPolicy");
    if !policy.is_set() {
        return;
    }
    let rules = policy.get("rules");
    if spec.get("completionMode").text() != "Indexed" {
        let printed: Vec<String> = rules
            .items()
            .map(|rule| {
                check::print_struct(&[
                    ("SucceededIndexes", rule.get("succeededIndexes").value()),
                    ("SucceededCount", rule.get("succeededCount").value()),
                ])
            })
            .collect();
        let printed = format!("{{\"Rules\":[{}]}}", printed.join(","));
        errors.push(
            policy
                .invalid("requires indexed completion mode")
                .printed_as(printed),
        );
        return;
    }
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(rules.required(why));
    }
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(rules.path(), rules.len(), RULES_MAX));
    }
    let completions = spec.get("completions").count();
    for rule in rules.items() {
        success_rule(&rule, completions, errors);
    }
}

fn success_rule(rule: &At<'_>, completions: i64, errors: &mut Errors) {
    let (indexes, count) = (rule.get("succeededIndexes"), rule.get("succeededCount"));
    if !indexes.is_set() && !count.is_set() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(rule.required(why));
    }
    let mut total = 0;
    if indexes.is_set() {
        if indexes.text().len() > INDEXES_BYTES_MAX {
            errors.push(indexes.too_long(INDEXES_BYTES_MAX));
        }
        match job_status::count_indexes(indexes.text(), completions) {
            Ok(found) => total = found,
            Err(why) => {
                errors.push(indexes.invalid(format!("error parsing succeededIndexes: {why}")));
            }
        }
    }
    check::nonnegative(&count, errors);
    if count.count() > completions {
        let why = format!(
            "must be less than or equal to {completions} (the number of specified completions)"
        );
        errors.push(count.invalid(why));
    }
    if indexes.is_set() && count.count() > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.push(count.invalid(why));
    }
}

fn validate_update(job: &Value, old: &Value) -> Errors {
    // As upstream, which judges the new spec as such and then again as a change.
    let mut errors = validate_create(job);
    let (spec, before) = (At::root(job).get("spec"), At::root(old).get("spec"));
    check_spec(&spec, &mut errors);
    selector(&spec, &mut errors);
    let completions = spec.get("completions");
    if completions.value() != before.get("completions").value() {
        if spec.get("completionMode").text() != "Indexed" {
            errors.push(completions.invalid(check::IMMUTABLE));
        } else if completions.is_set() && completions.count() != spec.get("parallelism").count() {
            errors
                .push(completions.invalid("can only be modified in tandem with spec.parallelism"));
        }
    }
    workload::immutable_selector(job, old, &mut errors);
    let waits =
        before.get("suspend").is_true() && object::text(old, &["status", "startTime"]).is_empty();
    let mut old_template = before.get("template").value().clone();
    if waits {
        allow_scheduling(&mut old_template, spec.get("template").value());
    }
    if before.get("suspend").is_true() && may_change_resources(old) {
        let template = spec.at("template.spec");
        let mut old_spec = old_template.get("spec").cloned().unwrap_or_default();
        allow_resources(&mut old_spec, template.value());
        if *template.value() != old_spec {
            errors.push(template.invalid(check::IMMUTABLE));
        }
    } else if *spec.get("template").value() != old_template {
        errors.push(spec.get("template").invalid(check::IMMUTABLE));
    }
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        check::immutable(&spec.get(field), &before.get(field), &mut errors);
    }
    errors
}

/// Where a job that has not begun runs may still change.
fn allow_scheduling(old: &mut Value, new: &Value) {
    let spec = new.get("spec").cloned().unwrap_or_default();
    let affinity = spec
        .get("affinity")
        .and_then(|a| a.get("nodeAffinity"))
        .cloned();
    within(old, "spec", |old| {
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            restore(old, &spec, field);
        }
        if spec.get("affinity").is_some() {
            within(old, "affinity", |own| match affinity {
                Some(affinity) => set(own, "nodeAffinity", affinity),
                None => crate::edit::remove(own, "nodeAffinity"),
            });
        } else {
            with(old, "affinity", |own| {
                crate::edit::remove(own, "nodeAffinity");
            });
            crate::edit::remove_if_empty(old, "affinity");
        }
    });
    let metadata = new.get("metadata").cloned().unwrap_or_default();
    within(old, "metadata", |old| {
        restore(old, &metadata, "labels");
        restore(old, &metadata, "annotations");
    });
}

fn cells(job: &Value, now: Timestamp) -> Vec<Value> {
    let count = |path: &[&str]| object::number(job, path);
    let succeeded = count(&["status", "succeeded"]).unwrap_or(0);
    let completions = match (
        count(&["spec", "completions"]),
        count(&["spec", "parallelism"]),
    ) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, Some(parallelism)) if parallelism > 1 => {
            format!("{succeeded}/1 of {parallelism}")
        }
        _ => format!("{succeeded}/1"),
    };
    let time = |name: &str| {
        object::text(job, &["status", name])
            .parse::<Timestamp>()
            .ok()
    };
    let duration = time("startTime")
        .map(|start| age(start, time("completionTime").unwrap_or(now)))
        .unwrap_or_default();
    let is = |kind: &str| job_status::is_true(job, kind);
    let status = if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if object::is_deleting(job) {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let spec = object::at(job, &["spec", "template", "spec"]);
    vec![
        json!(object::name(job)),
        json!(status),
        json!(completions),
        json!(duration),
        cell::age_of(job, now),
        cell::container_names(spec),
        cell::images(spec),
        cell::selector(object::at(job, &["spec", "selector"])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_selects_its_pods_by_its_uid() {
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
        default(&mut job);
        prepare_create(&mut job);
        assert_eq!(job["spec"]["selector"]["matchLabels"][UID_LABELS[0]], "u");
        assert_eq!(job["metadata"]["labels"]["job-name"], "j");
        assert!(validate_create(&job).is_empty());
        job["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
        let found: Vec<String> = validate_create(&job)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
            ]
        );
    }
}
