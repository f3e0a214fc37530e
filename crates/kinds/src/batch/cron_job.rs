//! Cron jobs.

use jiff::Timestamp;
use model::{FieldError, FieldPath, object};
use serde_json::{Value, json};

use super::{job, schedule};
use crate::apps::workload::invalid_selector;
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::{fill, fill_zero, within};

/// The name of a job made from a cron job is this much longer.
const NAME_LENGTH_MAX: usize = 63 - 11;

/// Cron jobs.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Changes,
    default,
    validate_create,
    validate_update: |object, old| check_spec(object, Some(old)),
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn default(object: &mut Value) {
    within(object, "spec", |spec| {
        fill_zero(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        within(spec, "jobTemplate", |template| {
            within(template, "spec", job::default_template);
        });
    });
}

fn validate_create(object: &Value) -> Errors {
    let mut errors = check_spec(object, None);
    let name = object::name(object);
    if name.len() > NAME_LENGTH_MAX {
        let why = format!("must be no more than {NAME_LENGTH_MAX} characters");
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata.name"),
            name,
            why,
        ));
    }
    errors
}

fn check_spec(object: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(object).get("spec");
    let old = old.map(|old| At::root(old).get("spec"));
    let plan = spec.get("schedule");
    if check::required(&plan, &mut errors) {
        if let Some(why) = schedule::error(plan.text()) {
            errors.push(plan.invalid(why));
        }
        let had_zone = old
            .as_ref()
            .is_some_and(|old| old.get("schedule").text().contains("TZ"));
        if plan.text().contains("TZ") {
            if !had_zone {
                let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.push(plan.invalid(why));
            } else if spec.get("timeZone").is_set() {
                let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
                errors.push(plan.invalid(why));
            }
        }
    }
    check::nonnegative(&spec.get("startingDeadlineSeconds"), &mut errors);
    let zone = spec.get("timeZone");
    if old.is_none_or(|old| old.get("timeZone").value() != zone.value()) {
        time_zone(&zone, &mut errors);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    check::required_one_of(&spec.get("concurrencyPolicy"), &policies, &mut errors);
    let template = spec.at("jobTemplate.spec");
    job::check_spec(&template, &mut errors);
    if template.get("selector").is_set() {
        let why = "`selector` will be auto-generated";
        errors.push(invalid_selector(&template.get("selector"), why));
    }
    let manual = template.get("manualSelector");
    if manual.is_true() {
        errors.push(FieldError::not_supported(
            manual.path(),
            true,
            &["nil", "false"],
        ));
    }
    check::nonnegative(&spec.get("successfulJobsHistoryLimit"), &mut errors);
    check::nonnegative(&spec.get("failedJobsHistoryLimit"), &mut errors);
    errors
}

fn time_zone(at: &At<'_>, errors: &mut Errors) {
    if !at.is_set() {
        return;
    }
    if at.is_empty() {
        errors.push(at.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let fine = at.text().split('/').all(|part| {
        !matches!(part, "" | "." | "..")
            && part.len() <= 14
            && !part.starts_with('-')
            && part.chars().all(allowed)
    });
    if at.text().eq_ignore_ascii_case("Local") {
        let why =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(at.invalid(why));
    } else if !fine || !schedule::is_zone(at.text()) {
        errors.push(at.invalid(format!("unknown time zone {}", at.text())));
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = object::at(object, &["spec", "jobTemplate", "spec", "template", "spec"]);
    let last = ["status", "lastScheduleTime"];
    let suspended = object::at(object, &["spec", "suspend"]) == Some(&json!(true));
    vec![
        json!(object::name(object)),
        json!(object::text(object, &["spec", "schedule"])),
        cell::or_none(object::text(object, &["spec", "timeZone"])),
        cell::truth(suspended),
        json!(object::list(object, &["status", "active"]).len()),
        if object::text(object, &last).is_empty() {
            json!("<none>")
        } else {
            cell::age_at(object, &last, now)
        },
        cell::age_of(object, now),
        cell::container_names(spec),
        cell::images(spec),
        cell::selector(object::at(
            object,
            &["spec", "jobTemplate", "spec", "selector"],
        )),
    ]
}
