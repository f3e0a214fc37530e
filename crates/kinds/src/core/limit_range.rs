//! Limit ranges.

use std::collections::{BTreeSet, HashSet};

use model::{FieldError, Quantity, names};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::edit::{each, fill, with, within};
use crate::resources::{self, amounts};

const LISTS: [&str; 5] = [
    "max",
    "min",
    "default",
    "defaultRequest",
    "maxLimitRequestRatio",
];

/// Limit ranges.
pub const BEHAVIOUR: Behaviour = Behaviour {
    create_on_update: true,
    default,
    validate_create,
    validate_update: |new, _| validate_create(new),
    ..Behaviour::DEFAULT
};

/// For containers, what is not said follows from what is: limits from maxima, requests from limits
/// and minima.
fn default(range: &mut Value) {
    with(range, "spec", |spec| {
        each(spec, "limits", |item| {
            for list in LISTS {
                with(item, list, resources::round_up);
            }
            if item.get("type") != Some(&json!("Container")) {
                return;
            }
            for (to, from) in [
                ("default", "max"),
                ("defaultRequest", "default"),
                ("defaultRequest", "min"),
            ] {
                let Some(Value::Object(known)) = item.get(from).cloned() else {
                    continue;
                };
                within(item, to, |list| {
                    known
                        .into_iter()
                        .for_each(|(name, amount)| fill(list, &name, amount));
                });
            }
        });
    });
}

fn validate_create(range: &Value) -> Errors {
    let mut errors = Vec::new();
    let mut kinds = HashSet::new();
    for item in At::root(range).at("spec.limits").items() {
        let kind = item.get("type");
        let messages = names::qualified_name(kind.text());
        let standard = matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim");
        if messages.is_empty() && !kind.text().contains('/') && !standard {
            errors.push(kind.invalid_text("must be a standard limit type or fully qualified"));
        }
        errors.extend(
            messages
                .into_iter()
                .map(|message| kind.invalid_text(message)),
        );
        if !kinds.insert(kind.text()) {
            errors.push(kind.duplicate());
        }
        check_names(&item, kind.text(), &mut errors);
        check_order(&item, &mut errors);
    }
    errors
}

fn check_names(item: &At<'_>, kind: &str, errors: &mut Errors) {
    let check = |list: &str, errors: &mut Errors| {
        for (name, amount) in item.get(list).entries() {
            if matches!(kind, "Pod" | "Container") {
                resources::check_container_name(name, &amount, errors);
            } else {
                resources::check_name(name, &amount, errors);
            }
        }
    };
    check("max", errors);
    check("min", errors);
    for list in ["default", "defaultRequest"] {
        if kind != "Pod" {
            check(list, errors);
        } else if !item.get(list).is_empty() {
            errors.push(
                item.get(list)
                    .forbidden("may not be specified when `type` is 'Pod'"),
            );
        }
    }
    let has_storage = |list: &str| item.get(list).value().get("storage").is_some();
    if kind == "PersistentVolumeClaim" && !has_storage("min") && !has_storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(item.get("limits").required(why));
    }
    check("maxLimitRequestRatio", errors);
}

/// Minima are below defaults, defaults below maxima.
fn check_order(item: &At<'_>, errors: &mut Errors) {
    let is_pod = item.get("type").text() == "Pod";
    let lists = LISTS.map(|list| {
        let ignored = is_pod && matches!(list, "default" | "defaultRequest");
        amounts(item.value().get(list).filter(|_| !ignored))
    });
    let [maxima, minima, defaults, requests, ratios] = &lists;
    let names: BTreeSet<&String> = lists.iter().flat_map(|list| list.keys()).collect();
    for name in names {
        let (max, min) = (maxima.get(name), minima.get(name));
        let (default, request) = (defaults.get(name), requests.get(name));
        let mut compare = |list: &str,
                           shown: Option<&Quantity>,
                           low: (&str, Option<&Quantity>),
                           high: (&str, Option<&Quantity>)| {
            if let (Some(shown), Some(small), Some(big)) = (shown, low.1, high.1)
                && small > big
            {
                let why = format!(
                    "{} value {small} is greater than {} value {big}",
                    low.0, high.0
                );
                let path = item.get(list).path().key(name);
                errors.push(FieldError::invalid(&path, shown.to_string(), why));
            }
        };
        compare("min", min, ("min", min), ("max", max));
        compare(
            "defaultRequest",
            request,
            ("min", min),
            ("default request", request),
        );
        compare(
            "defaultRequest",
            request,
            ("default request", request),
            ("max", max),
        );
        compare(
            "defaultRequest",
            request,
            ("default request", request),
            ("default limit", default),
        );
        compare("default", min, ("min", min), ("default", default));
        compare("default", max, ("default", default), ("max", max));
        if let Some(ratio) = ratios.get(name) {
            check_ratio(item, name, ratio, min, max, errors);
        }
        if let (Some(default), Some(request)) = (default, request)
            && !resources::may_overcommit(name)
            && default != request
        {
            let path = item.get("defaultRequest").path().key(name);
            let why = format!(
                "default value {default} must equal to defaultRequest value {request} in {name}"
            );
            errors.push(FieldError::invalid(&path, request.to_string(), why));
        }
    }
}

fn check_ratio(
    item: &At<'_>,
    name: &str,
    ratio: &Quantity,
    min: Option<&Quantity>,
    max: Option<&Quantity>,
    errors: &mut Errors,
) {
    let path = item.get("maxLimitRequestRatio").path().key(name);
    if *ratio < Quantity::from_units(1) {
        let why = format!("ratio {ratio} is less than 1");
        errors.push(FieldError::invalid(&path, ratio.to_string(), why));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let limit = max.as_f64() / min.as_f64();
        if ratio.as_f64() > limit {
            let why = format!("ratio {ratio} is greater than max/min = {limit:.6}");
            errors.push(FieldError::invalid(&path, ratio.to_string(), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_from_limits() {
        let mut range = json!({"spec": {"limits": [{"type": "Container",
            "max": {"cpu": "2"}, "min": {"memory": "1Gi"}}]}});
        default(&mut range);
        let item = &range["spec"]["limits"][0];
        assert_eq!(item["default"], json!({"cpu": "2"}));
        assert_eq!(item["defaultRequest"], json!({"cpu": "2", "memory": "1Gi"}));
    }
}
