//! `LimitRanger`: fills in what containers ask for and are limited to, and refuses what is out of the
//! namespace's bounds.

use kinds::demand::{self, Amounts};
use model::{Quantity, Status, object};
use serde_json::{Map, Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "LimitRanger",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Now(validate),
};

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Above this, thousandths are not compared, as upstream.
const MILLI_VALUE_MAX: i64 = i64::MAX / 1000;

/// The limits that apply to a write: of the namespace's LimitRanges, by name.
fn ranges(request: &Request<'_>) -> Vec<Value> {
    let applies = match request.operation {
        Operation::Create => {
            request.is_object("", "pods") || request.is_object("", "persistentvolumeclaims")
        }
        Operation::Update => {
            request.is_object("", "persistentvolumeclaims")
                || (request.is("", "pods") && request.subresource == "resize")
        }
        _ => false,
    };
    if !applies || request.old.is_some_and(object::is_deleting) {
        return Vec::new();
    }
    request.list("", "limitranges", Some(request.namespace()))
}

fn limits(range: &Value) -> &[Value] {
    object::list(range, &["spec", "limits"])
}

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !request.is("", "pods") {
        return Ok(());
    }
    for range in ranges(request) {
        let (mut requests, mut maxima) = (Map::new(), Map::new());
        for limit in limits(&range) {
            if object::text(limit, &["type"]) == "Container" {
                let of = |field| limit.get(field).and_then(Value::as_object).cloned();
                requests.extend(of("defaultRequest").unwrap_or_default());
                maxima.extend(of("default").unwrap_or_default());
            }
        }
        fill_in(pod, &requests, &maxima);
    }
    Ok(())
}

fn fill_in(pod: &mut Value, requests: &Map<String, Value>, limits: &Map<String, Value>) {
    let mut said = Vec::new();
    for (kind, words) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let containers = pod.pointer_mut(&format!("/spec/{kind}"));
        for container in containers
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let name = object::text(container, &["name"]).to_owned();
            for (field, defaults, word) in [
                ("requests", requests, "request"),
                ("limits", limits, "limit"),
            ] {
                let added = add_missing(container, field, defaults);
                if !added.is_empty() {
                    said.push(format!("{} {word} for {words} {name}", added.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let annotations = object::metadata_mut(pod)
            .entry("annotations")
            .or_insert_with(|| json!({}));
        annotations[ANNOTATION] = json!(format!("LimitRanger plugin set: {}", said.join("; ")));
    }
}

/// Adds the amounts a container does not state; gives their names.
fn add_missing<'a>(
    container: &mut Value,
    field: &str,
    defaults: &'a Map<String, Value>,
) -> Vec<&'a str> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let resources = object::child_mut(container, "resources");
    let list = resources.entry(field).or_insert_with(|| json!({}));
    if !list.is_object() {
        *list = json!({});
    }
    let mut added = Vec::new();
    if let Some(list) = list.as_object_mut() {
        for (name, value) in defaults {
            if !list.contains_key(name) {
                list.insert(name.clone(), value.clone());
                added.push(name.as_str());
            }
        }
    }
    added
}

fn validate(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    for range in ranges(request) {
        let errors: Vec<String> = if request.is("", "pods") {
            limits(&range)
                .iter()
                .flat_map(|l| check_pod(l, new))
                .collect()
        } else {
            limits(&range)
                .iter()
                .flat_map(|l| check_claim(l, new))
                .collect()
        };
        if let Some(why) = aggregate(errors) {
            return Err(request.refuse(new, &why));
        }
    }
    Ok(())
}

/// Several errors as one, as upstream prints them: without repetitions, in brackets.
fn aggregate(errors: Vec<String>) -> Option<String> {
    let mut unique: Vec<String> = Vec::new();
    for error in errors {
        if !unique.contains(&error) {
            unique.push(error);
        }
    }
    match unique.len() {
        0 => None,
        1 => unique.pop(),
        _ => Some(format!("[{}]", unique.join(", "))),
    }
}

fn check_pod(limit: &Value, pod: &Value) -> Vec<String> {
    match object::text(limit, &["type"]) {
        "Container" => ["containers", "initContainers"]
            .iter()
            .flat_map(|kind| object::list(pod, &["spec", kind]))
            .flat_map(|container| {
                let of = |field| demand::amounts(object::at(container, &["resources", field]));
                check(limit, "Container", &of("requests"), &of("limits"))
            })
            .collect(),
        "Pod" => check(
            limit,
            "Pod",
            &demand::pod_requests(pod),
            &demand::pod_limits(pod),
        ),
        _ => Vec::new(),
    }
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let bounds = |field| demand::amounts(limit.get(field));
    let mut errors = Vec::new();
    for (name, bound) in bounds("min") {
        let text = format!("minimum {name} usage per {kind} is {bound}");
        errors.extend(check_min(
            &text,
            bound,
            requests.get(&name),
            limits.get(&name),
        ));
    }
    for (name, bound) in bounds("max") {
        let text = format!("maximum {name} usage per {kind} is {bound}");
        errors.extend(check_max(
            &text,
            bound,
            requests.get(&name),
            limits.get(&name),
        ));
    }
    for (name, bound) in bounds("maxLimitRequestRatio") {
        let text = format!("{name} max limit to request ratio per {kind} is {bound}");
        errors.extend(check_ratio(
            &text,
            bound,
            requests.get(&name),
            limits.get(&name),
        ));
    }
    errors
}

fn check_claim(limit: &Value, claim: &Value) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    if object::text(limit, &["type"]) != KIND {
        return Vec::new();
    }
    let requests = demand::amounts(object::at(claim, &["spec", "resources", "requests"]));
    let mut errors = Vec::new();
    for (name, bound) in demand::amounts(limit.get("min")) {
        let text = format!("minimum {name} usage per {KIND} is {bound}");
        errors.extend(check_min(&text, bound, requests.get(&name), None));
    }
    for (name, bound) in demand::amounts(limit.get("max")) {
        let text = format!("maximum {name} usage per {KIND} is {bound}");
        match requests.get(&name) {
            None => errors.push(format!("{text}.  No request is specified")),
            Some(request) if *request > bound => {
                errors.push(format!("{text}, but request is {request}"));
            }
            Some(_) => {}
        }
    }
    errors
}

fn check_min(
    text: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let Some(request) = request else {
        return Some(format!("{text}.  No request is specified"));
    };
    if *request < bound {
        return Some(format!("{text}, but request is {request}"));
    }
    let limit = limit.filter(|limit| **limit < bound)?;
    Some(format!("{text}, but limit is {limit}"))
}

fn check_max(
    text: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let Some(limit) = limit else {
        return Some(format!("{text}.  No limit is specified"));
    };
    if *limit > bound {
        return Some(format!("{text}, but limit is {limit}"));
    }
    let request = request.filter(|request| **request > bound)?;
    Some(format!("{text}, but request is {request}"))
}

fn check_ratio(
    text: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let Some(request) = request.filter(|request| request.sign() != 0) else {
        return Some(format!(
            "{text}, but no request is specified or request is 0"
        ));
    };
    let Some(limit) = limit.filter(|limit| limit.sign() != 0) else {
        return Some(format!("{text}, but no limit is specified or limit is 0"));
    };
    let milli = request.value() <= MILLI_VALUE_MAX && limit.value() <= MILLI_VALUE_MAX;
    let measure = |amount: &Quantity| {
        let number = if milli {
            amount.milli_value()
        } else {
            amount.value()
        };
        number as f64
    };
    let ratio = measure(limit) / measure(request);
    let exceeded = ratio * 1000.0 > bound.milli_value() as f64;
    exceeded.then(|| format!("{text}, but provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_amounts_are_filled_in_and_told() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}},
        ]}});
        let limit = json!({"cpu": "2", "memory": "1Gi"});
        let limits = limit.as_object().expect("an object");
        fill_in(&mut pod, &Map::new(), limits);
        assert_eq!(
            object::annotation(&pod, ANNOTATION),
            Some(
                "LimitRanger plugin set: cpu, memory limit for container a; memory limit for container b"
            )
        );
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": limit})
        );
    }

    fn check_container(limit: Value, resources: Value, expect: &str) {
        let mut limit = limit;
        limit["type"] = json!("Container");
        let pod = json!({"spec": {"containers": [{"resources": resources}]}});
        let found = aggregate(check_pod(&limit, &pod)).unwrap_or_default();
        assert_eq!(found, expect);
    }

    #[test]
    fn bounds_hold() {
        let max = json!({"max": {"cpu": "2"}, "min": {"cpu": "100m"}});
        check_container(
            max.clone(),
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
            "",
        );
        check_container(
            max.clone(),
            json!({}),
            "[minimum cpu usage per Container is 100m.  No request is specified, maximum cpu usage per Container is 2.  No limit is specified]",
        );
        check_container(
            max,
            json!({"limits": {"cpu": "3"}, "requests": {"cpu": "1m"}}),
            "[minimum cpu usage per Container is 100m, but request is 1m, maximum cpu usage per Container is 2, but limit is 3]",
        );
        check_container(
            json!({"maxLimitRequestRatio": {"memory": "2"}}),
            json!({"limits": {"memory": "3Mi"}, "requests": {"memory": "1Mi"}}),
            "memory max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        );
        check_container(
            json!({"maxLimitRequestRatio": {"memory": "2"}}),
            json!({"limits": {"memory": "3Mi"}}),
            "memory max limit to request ratio per Container is 2, but no request is specified or request is 0",
        );
    }

    #[test]
    fn claims_are_bounded_by_what_they_request() {
        let limit = json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}});
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert!(check_claim(&limit, &claim("1Gi")).is_empty());
        assert_eq!(
            check_claim(&limit, &claim("2Gi")),
            ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"]
        );
    }
}
