//! The group `flowcontrol.apiserver.k8s.io`: flow schemas and priority levels.

use jiff::Timestamp;
use model::{FieldError, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::{fill, fill_zero, with, within};

const PRECEDENCE: i64 = 1_000;
const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;

/// Flow schemas.
pub const FLOW_SCHEMA: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Keeps,
    default: |schema| {
        within(schema, "spec", |spec| {
            fill_zero(spec, "matchingPrecedence", PRECEDENCE);
        });
    },
    validate_create: check_schema,
    validate_update: |schema, _| check_schema(schema),
    cells: Some(schema_cells),
    ..Behaviour::DEFAULT
};

/// Priority levels.
pub const PRIORITY_LEVEL: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Keeps,
    default: default_level,
    validate_create: check_level,
    validate_update: |level, _| check_level(level),
    cells: Some(level_cells),
    ..Behaviour::DEFAULT
};

fn default_level(level: &mut Value) {
    with(level, "spec", |spec| {
        with(spec, "exempt", |exempt| {
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        });
        with(spec, "limited", |limited| {
            fill(limited, "nominalConcurrencyShares", 30);
            fill(limited, "lendablePercent", 0);
            with(limited, "limitResponse", |response| {
                with(response, "queuing", |queuing| {
                    fill_zero(queuing, "queues", 64);
                    fill_zero(queuing, "handSize", 8);
                    fill_zero(queuing, "queueLengthLimit", 50);
                });
            });
        });
    });
}

fn check_schema(schema: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(schema).get("spec");
    let precedence = spec.get("matchingPrecedence");
    if precedence.count() <= 0 {
        errors.push(precedence.invalid_count("must be a positive value"));
    }
    if precedence.count() > PRECEDENCE_MAX {
        errors.push(precedence.invalid(format!("must not be greater than {PRECEDENCE_MAX}")));
    }
    if precedence.count() == 1 && object::name(schema) != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(precedence.invalid(why));
    }
    let method = spec.get("distinguisherMethod");
    if method.is_set() {
        check::one_of(&method.get("type"), &["ByNamespace", "ByUser"], &mut errors);
    }
    let level = spec.at("priorityLevelConfiguration.name");
    if level.is_empty() {
        errors.push(level.required("must reference a priority level"));
    } else {
        check::subdomain(&level, &mut errors);
    }
    spec.get("rules")
        .items()
        .for_each(|rule| check_rule(&rule, &mut errors));
    errors
}

fn check_rule(at: &At<'_>, errors: &mut Errors) {
    let subjects = at.get("subjects");
    if subjects.is_empty() {
        errors.push(subjects.required("subjects must contain at least one value"));
    }
    subjects
        .items()
        .for_each(|subject| check_subject(&subject, errors));
    let (resources, paths) = (at.get("resourceRules"), at.get("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(at.required(why));
    }
    for rule in resources.items() {
        for (list, what) in [
            ("verbs", "verbs"),
            ("apiGroups", "resource rules must supply"),
            ("resources", "resource rules must supply"),
        ] {
            require(&rule.get(list), what, errors);
        }
        let (namespaces, cluster) = (rule.get("namespaces"), rule.get("clusterScope"));
        if namespaces.is_empty() && !cluster.is_true() {
            let why =
                "resource rules that are not cluster scoped must supply at least one namespace";
            errors.push(namespaces.required(why));
        }
    }
    for rule in paths.items() {
        require(&rule.get("verbs"), "verbs", errors);
        let urls = rule.get("nonResourceURLs");
        require(&urls, "nonResourceURLs", errors);
        urls.items().for_each(|url| check_url(&url, errors));
    }
}

fn require(at: &At<'_>, what: &str, errors: &mut Errors) {
    if at.is_empty() {
        let why = match what {
            "resource rules must supply" if at.path().as_str().ends_with("apiGroups") => {
                "resource rules must supply at least one api group".to_owned()
            }
            "resource rules must supply" => {
                "resource rules must supply at least one resource".to_owned()
            }
            name => format!("{name} must contain at least one value"),
        };
        errors.push(at.required(&why));
    }
    if at.len() > 1 && at.texts().any(|text| text == "*") {
        errors.push(at.invalid("if '*' is present, must not specify other values"));
    }
}

fn check_url(at: &At<'_>, errors: &mut Errors) {
    let text = at.text();
    if text.is_empty() {
        errors.push(at.invalid("must not be empty"));
        return;
    }
    if matches!(text, "/" | "*") {
        return;
    }
    if !text.starts_with('/') {
        errors.push(at.invalid("must start with slash"));
    }
    if text.contains(' ') {
        errors.push(at.invalid("must not contain white-space"));
    }
    if text.contains("//") {
        errors.push(at.invalid("must not contain double slash"));
    }
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        let why = "wildcard can only do suffix matching";
        errors.push(at.invalid(why));
    }
}

fn check_subject(at: &At<'_>, errors: &mut Errors) {
    let kind = at.get("kind");
    let (field, known) = match kind.text() {
        "User" => ("user", true),
        "Group" => ("group", true),
        "ServiceAccount" => ("serviceAccount", true),
        _ => ("", false),
    };
    if !known {
        errors.push(kind.not_supported(&["Group", "ServiceAccount", "User"]));
        return;
    }
    let own = at.get(field);
    if !own.is_set() {
        let why = format!("{field} is required when subject kind is '{}'", kind.text());
        errors.push(own.required(&why));
        return;
    }
    check::required(&own.get("name"), errors);
    if field == "serviceAccount" {
        check::required(&own.get("namespace"), errors);
    }
    for other in ["user", "group", "serviceAccount"] {
        if other != field && at.get(other).is_set() {
            let why = format!(
                "{other} is forbidden when subject kind is not '{}'",
                capital(other)
            );
            errors.push(at.get(other).forbidden(&why));
        }
    }
}

fn capital(text: &str) -> &str {
    match text {
        "user" => "User",
        "group" => "Group",
        _ => "ServiceAccount",
    }
}

fn check_level(level: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(level).get("spec");
    let (kind, limited) = (spec.get("type"), spec.get("limited"));
    let exempt = object::name(level) == "exempt";
    if matches!(kind.text(), "Exempt" | "Limited") && exempt != (kind.text() == "Exempt") {
        errors.push(kind.invalid("must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
        }
        "Limited" => {
            if spec.get("exempt").is_set() {
                errors.push(
                    spec.get("exempt")
                        .forbidden("must be nil if the type is Limited"),
                );
            }
            if limited.is_set() {
                check_limited(&limited, &mut errors);
            } else {
                errors.push(limited.required("must not be empty when type is Limited"));
            }
        }
        _ => errors.push(kind.not_supported(&["Exempt", "Limited"])),
    }
    errors
}

fn check_limited(at: &At<'_>, errors: &mut Errors) {
    let shares = at.get("nominalConcurrencyShares");
    if shares.count() < 0 {
        errors.push(shares.invalid("must be a non-negative integer"));
    }
    let response = at.get("limitResponse");
    let (kind, queuing) = (response.get("type"), response.get("queuing"));
    match kind.text() {
        "Reject" => {
            if queuing.is_set() {
                let why = "must be nil if limited.limitResponse.type is not Limited";
                errors.push(queuing.forbidden(why));
            }
        }
        "Queue" => {
            if queuing.is_set() {
                check_queuing(&queuing, errors);
            } else {
                let why = "must not be empty if limited.limitResponse.type is Limited";
                errors.push(queuing.required(why));
            }
        }
        _ => errors.push(kind.not_supported(&["Queue", "Reject"])),
    }
    let lendable = at.get("lendablePercent");
    if !(0..=100).contains(&lendable.count()) {
        errors.push(lendable.invalid("must be between 0 and 100, inclusive"));
    }
    let borrowing = at.get("borrowingLimitPercent");
    if borrowing.count() < 0 {
        let why = "if specified, must be a non-negative integer";
        errors.push(borrowing.invalid(why));
    }
}

fn check_queuing(at: &At<'_>, errors: &mut Errors) {
    let (length, queues, hand) = (
        at.get("queueLengthLimit"),
        at.get("queues"),
        at.get("handSize"),
    );
    if length.count() <= 0 {
        errors.push(length.invalid_count("must be positive"));
    }
    if queues.count() <= 0 {
        errors.push(queues.invalid_count("must be positive"));
    } else if queues.count() > QUEUES_MAX {
        errors.push(queues.invalid(format!("must not be greater than {QUEUES_MAX}")));
    }
    if hand.count() <= 0 {
        errors.push(hand.invalid_count("must be positive"));
    } else if hand.count() > queues.count() {
        let why = format!("should not be greater than queues ({})", queues.count());
        errors.push(FieldError::invalid(hand.path(), hand.count(), why));
    }
}

fn schema_cells(schema: &Value, now: Timestamp) -> Vec<Value> {
    let text = |path: &[&str]| object::text(schema, path);
    let dangling = object::list(schema, &["status", "conditions"])
        .iter()
        .find(|condition| object::text(condition, &["type"]) == "Dangling")
        .map_or("?", |condition| object::text(condition, &["status"]));
    vec![
        json!(object::name(schema)),
        json!(text(&["spec", "priorityLevelConfiguration", "name"])),
        cell::count(schema, &["spec", "matchingPrecedence"]),
        cell::or_none(text(&["spec", "distinguisherMethod", "type"])),
        cell::age_of(schema, now),
        json!(dangling),
    ]
}

fn level_cells(level: &Value, now: Timestamp) -> Vec<Value> {
    let number = |path: &[&str]| match object::number(level, path) {
        Some(number) => json!(number),
        None => json!("<none>"),
    };
    let kind = object::text(level, &["spec", "type"]);
    let part = if kind == "Exempt" {
        "exempt"
    } else {
        "limited"
    };
    let queue = |name: &str| number(&["spec", "limited", "limitResponse", "queuing", name]);
    vec![
        json!(object::name(level)),
        json!(kind),
        number(&["spec", part, "nominalConcurrencyShares"]),
        queue("queues"),
        queue("handSize"),
        queue("queueLengthLimit"),
        cell::age_of(level, now),
    ]
}
