//! Amounts of resources: their names, their limits and requests.

use std::collections::BTreeMap;

use model::{FieldError, Quantity, names};
use serde_json::{Map, Value};

use crate::at::{At, Errors};
use crate::check::{self, NEGATIVE};

/// Resources a quota may count by name alone.
const QUOTA: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

/// Resources that are counted in whole numbers.
const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Amounts by the name of their resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// The amount a value stands for.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// The amounts of a map of resources.
pub fn amounts(value: Option<&Value>) -> Amounts {
    let members = value.and_then(Value::as_object).into_iter().flatten();
    members
        .filter_map(|(name, value)| Some((name.clone(), quantity(value)?)))
        .collect()
}

/// Rounds amounts up to thousandths, as upstream does with whatever a client sends.
pub fn round_up(list: &mut Value) {
    for amount in list.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let Some(exact) = quantity(amount) else {
            continue;
        };
        let milli = exact.milli_value();
        let rounded = Quantity::from_milli(milli);
        if milli < i64::MAX && rounded != exact {
            *amount = rounded.to_string().into();
        }
    }
}

/// Whether a resource is one of huge pages.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether a resource belongs to Kubernetes itself.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a resource was added to nodes from outside.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether requests of a resource may be lower than its limits.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether a quota may count a resource by this name alone.
pub fn is_standard_quota(name: &str) -> bool {
    QUOTA.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

fn is_standard(name: &str) -> bool {
    is_standard_quota(name) || name == "storage"
}

fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

/// The name of a resource, as the key of a map of amounts at `at`.
pub fn check_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    let messages = names::qualified_name(name);
    if messages.is_empty() && !name.contains('/') && !is_standard(name) {
        let why = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(at.path(), name, why));
    }
    errors.extend(
        messages
            .into_iter()
            .map(|why| FieldError::invalid(at.path(), name, why)),
    );
}

/// The name of a resource a container may ask for.
pub fn check_container_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    check_name(name, at, errors);
    if !name.contains('/') {
        if !is_standard_for_containers(name) {
            let why = "must be a standard resource for containers";
            errors.push(FieldError::invalid(at.path(), name, why));
        }
    } else if !is_native(name) && !is_extended(name) {
        let why = "doesn't follow extended resource name standard";
        errors.push(FieldError::invalid(at.path(), name, why));
    }
}

/// The name of a resource a quota may limit.
pub fn check_quota_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    check_name(name, at, errors);
    if !name.contains('/') && !is_standard_quota(name) {
        let why = "must be a standard resource for quota";
        errors.push(FieldError::invalid(at.path(), name, why));
    }
}

fn check_pod_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    let before = errors.len();
    check_name(name, at, errors);
    if errors.len() == before && !is_supported_for_pods(name) {
        let supported = ["cpu", "hugepages-", "memory"];
        errors.push(FieldError::not_supported(at.path(), name, &supported));
    }
}

/// Whether a Pod as a whole may ask for a resource.
pub fn is_supported_for_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// An amount must not be negative, and whole where the resource is counted.
pub fn check_amount(name: &str, at: &At<'_>, errors: &mut Errors) {
    let Some(amount) = quantity(at.value()) else {
        return;
    };
    if amount.sign() < 0 {
        errors.push(FieldError::invalid(at.path(), amount.to_string(), NEGATIVE));
    }
    if (COUNTED.contains(&name) || is_extended(name)) && amount.milli_value() % 1000 != 0 {
        errors.push(FieldError::invalid(
            at.path(),
            amount.to_string(),
            "must be an integer",
        ));
    }
}

/// An amount must be above zero.
pub fn check_positive(at: &At<'_>, errors: &mut Errors) -> bool {
    let Some(amount) = quantity(at.value()) else {
        return true;
    };
    if amount.sign() <= 0 {
        errors.push(FieldError::invalid(
            at.path(),
            amount.to_string(),
            check::NOT_POSITIVE,
        ));
    }
    amount.sign() > 0
}

/// An amount that is merely not negative, worded as for capacities.
pub fn check_basic(at: &At<'_>, errors: &mut Errors) {
    if let Some(amount) = quantity(at.value()).filter(|amount| amount.value() < 0) {
        let why = "must be a valid resource quantity";
        errors.push(FieldError::invalid(at.path(), amount.value(), why));
    }
}

/// Limits and requests of a container; `claims` are the names of the Pod's resource claims.
pub fn container_requirements(at: &At<'_>, claims: &[&str], errors: &mut Errors) {
    requirements(at, check_container_name, claims, errors);
}

/// Limits and requests of a Pod as a whole.
pub fn pod_requirements(at: &At<'_>, claims: &[&str], errors: &mut Errors) {
    requirements(at, check_pod_name, claims, errors);
}

fn requirements(
    at: &At<'_>,
    check_name: fn(&str, &At<'_>, &mut Errors),
    claims: &[&str],
    errors: &mut Errors,
) {
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    for (name, limit) in limits.entries() {
        check_name(name, &limit, errors);
        check_amount(name, &limit, errors);
        check_huge_page(name, &limit, errors);
    }
    for (name, request) in requests.entries() {
        check_name(name, &request, errors);
        check_amount(name, &request, errors);
        check_against_limit(name, &request, &limits, &requests, errors);
        check_huge_page(name, &request, errors);
    }
    let all = || {
        limits
            .entries()
            .chain(requests.entries())
            .map(|(name, _)| name)
    };
    if all().any(is_huge_page) && !all().any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(at.forbidden("HugePages require cpu or memory"));
    }
    claim_names(&at.get("claims"), claims, errors);
}

fn check_against_limit(
    name: &str,
    request: &At<'_>,
    limits: &At<'_>,
    requests: &At<'_>,
    errors: &mut Errors,
) {
    let Some(amount) = quantity(request.value()) else {
        return;
    };
    match limits.value().get(name).and_then(quantity) {
        Some(limit) if amount != limit && !may_overcommit(name) => {
            let why = format!("must be equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(
                requests.path(),
                amount.to_string(),
                why,
            ));
        }
        Some(limit) if amount > limit => {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(
                requests.path(),
                amount.to_string(),
                why,
            ));
        }
        None if !may_overcommit(name) => {
            errors.push(limits.required("Limit must be set for non overcommitable resources"));
        }
        _ => {}
    }
}

fn check_huge_page(name: &str, at: &At<'_>, errors: &mut Errors) {
    let Some(size) = name
        .strip_prefix("hugepages-")
        .and_then(|size| size.parse::<Quantity>().ok())
    else {
        return;
    };
    let Some(amount) = quantity(at.value()) else {
        return;
    };
    if size.value() <= 0 || amount.value() % size.value() != 0 {
        let why = format!("{amount} is not positive integer multiple of {name}");
        errors.push(FieldError::invalid(at.path(), amount.to_string(), why));
    }
}

fn claim_names(at: &At<'_>, known: &[&str], errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for claim in at.items() {
        let name = claim.get("name").text();
        if name.is_empty() {
            errors.push(claim.required(""));
            continue;
        }
        let request = claim.get("request");
        let key = if request.text().is_empty() {
            name.to_owned()
        } else {
            check::dns_label(&request, errors);
            format!("{name}/{}", request.text())
        };
        let whole_is_known = seen.iter().any(|other| other == name);
        let part_is_known = request.text().is_empty()
            && seen.iter().any(|other| {
                other
                    .split_once('/')
                    .is_some_and(|(whole, _)| whole == name)
            });
        if whole_is_known || part_is_known {
            errors.push(FieldError::duplicate(claim.path(), name));
        } else if seen.contains(&key) {
            errors.push(FieldError::duplicate(claim.path(), key.clone()));
        }
        seen.push(key);
        if !known.contains(&name) {
            let mut detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
            if known.is_empty() {
                detail.push_str(" which is empty");
            } else {
                let mut sorted = known.to_vec();
                sorted.sort_unstable();
                detail.push_str(": ");
                detail.push_str(&sorted.join(", "));
            }
            errors.push(FieldError::not_found(claim.path(), name).with_detail(detail));
        }
    }
}

/// What a Pod's containers ask for together, `field` being `requests` or `limits`: containers run
/// side by side, init containers one after the other beside the sidecars started so far.
pub fn of_all_containers(spec: &Value, field: &str) -> Amounts {
    let own = |container: &Value| amounts(container.pointer(&format!("/resources/{field}")));
    let list = |name: &str| {
        spec.get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let mut running = Amounts::new();
    for container in list("containers") {
        add(&mut running, &own(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in list("initContainers") {
        let mut now = own(container);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut running, &now);
            add(&mut sidecars, &now);
            now = sidecars.clone();
        } else {
            add(&mut now, &sidecars);
        }
        raise(&mut peak, &now);
    }
    raise(&mut running, &peak);
    running
}

fn add(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        let sum = to.get(name).map_or(*amount, |before| *before + *amount);
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        if to.get(name).is_none_or(|before| before < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(requirements: &Value, expect: &[&str]) {
        let mut errors = Vec::new();
        container_requirements(
            &At::new(requirements, model::FieldPath::new("r")),
            &[],
            &mut errors,
        );
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn requests_stay_below_limits() {
        check(
            &json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            &["r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
        );
        check(
            &json!({"requests": {"example.com/gpu": "1"}}),
            &["r.limits: Required value: Limit must be set for non overcommitable resources"],
        );
        check(
            &json!({"limits": {"pods": "1"}}),
            &[
                "r.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            ],
        );
        check(
            &json!({"limits": {"cpu": "-1"}}),
            &["r.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"],
        );
    }

    #[test]
    fn sidecars_count_beside_everything() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"containers": [container("1"), container("1")],
            "initContainers": [sidecar, container("3")]});
        assert_eq!(
            of_all_containers(&spec, "requests")["cpu"].to_string(),
            "3100m"
        );
    }

    #[test]
    fn amounts_are_rounded_up_to_thousandths() {
        let mut list = json!({"cpu": "0.0001", "memory": "1Gi"});
        round_up(&mut list);
        assert_eq!(list, json!({"cpu": "1m", "memory": "1Gi"}));
    }
}
