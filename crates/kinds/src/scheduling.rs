//! The groups `scheduling.k8s.io` and `node.k8s.io`: priority classes and runtime classes.

use jiff::Timestamp;
use model::{FieldError, FieldPath, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::edit::{fill, with};
use crate::resources;

const USER_VALUE_MAX: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

/// Priority classes.
pub const PRIORITY_CLASS: Behaviour = Behaviour {
    generation: true,
    default: |class| fill(class, "preemptionPolicy", "PreemptLowerPriority"),
    validate_create: validate_priority,
    validate_update: update_priority,
    cells: Some(priority_cells),
    ..Behaviour::DEFAULT
};

/// Runtime classes.
pub const RUNTIME_CLASS: Behaviour = Behaviour {
    unconditional_update: false,
    default: |class| {
        with(class, "overhead", |overhead| {
            with(overhead, "podFixed", resources::round_up);
        });
    },
    validate_create: validate_runtime,
    validate_update: |class, old| {
        let mut errors = Vec::new();
        let handler = |value| At::root(value).get("handler");
        check::immutable(&handler(class), &handler(old), &mut errors);
        errors
    },
    cells: Some(|class, now| {
        vec![
            json!(object::name(class)),
            json!(object::text(class, &["handler"])),
            cell::age_of(class, now),
        ]
    }),
    ..Behaviour::DEFAULT
};

fn validate_priority(class: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(class);
    let (name, value) = (object::name(class), root.get("value"));
    if name.starts_with(SYSTEM_PREFIX) {
        let known = SYSTEM_CLASSES.iter().find(|(known, _)| *known == name);
        let why = match known {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, number)) if value.count() != *number => {
                Some(format!("value of {name} PriorityClass must be {number}"))
            }
            Some(_) if root.get("globalDefault").is_true() => Some(format!(
                "globalDefault of {name} PriorityClass must be false"
            )),
            Some(_) => None,
        };
        if let Some(why) = why {
            let path = FieldPath::new("metadata.name");
            let why = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            );
            errors.push(FieldError::forbidden(&path, why));
        }
    } else if value.count() > USER_VALUE_MAX {
        let why = format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}");
        errors.push(value.forbidden(&why));
    }
    let policy = root.get("preemptionPolicy");
    if policy.is_set() {
        check::required_one_of(&policy, &["PreemptLowerPriority", "Never"], &mut errors);
    }
    errors
}

fn update_priority(class: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let (root, before) = (At::root(class), At::root(old));
    if root.get("value").count() != before.get("value").count() {
        errors.push(
            root.get("value")
                .forbidden("may not be changed in an update."),
        );
    }
    let policy = "preemptionPolicy";
    check::immutable(&root.get(policy), &before.get(policy), &mut errors);
    errors
}

fn priority_cells(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(object::name(class)),
        cell::count(class, &["value"]),
        json!(class.get("globalDefault") == Some(&json!(true))),
        cell::age_of(class, now),
        json!(object::text(class, &["preemptionPolicy"])),
    ]
}

fn validate_runtime(class: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(class);
    check::dns_label(&root.get("handler"), &mut errors);
    let overhead = json!({"limits": root.at("overhead.podFixed").value()});
    let overhead = At::new(&overhead, FieldPath::new("overhead.podFixed"));
    resources::container_requirements(&overhead, &[], &mut errors);
    let scheduling = root.get("scheduling");
    check::labels(&scheduling.get("nodeSelector"), &mut errors);
    crate::core::pod::check_tolerations(&scheduling.get("tolerations"), &mut errors);
    errors
}
