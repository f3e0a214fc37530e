//! `Priority`: the number behind a Pod's priority class.

use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "Priority",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Now(validate),
};

const GROUP: &str = "scheduling.k8s.io";

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !request.is_object("", "pods") {
        return Ok(());
    }
    match (request.operation, request.old) {
        (Operation::Create, _) => set(request, pod),
        (Operation::Update, Some(old)) => {
            keep(pod, old);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What was computed when the Pod was made stays, also where a client leaves it out.
fn keep(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        if let Some(value) = object::at(old, &["spec", field]) {
            let spec = object::child_mut(pod, "spec");
            let own = spec.entry(field).or_insert(Value::Null);
            if own.is_null() {
                *own = value.clone();
            }
        }
    }
}

/// Sets `priority` and `preemptionPolicy` from the class.
fn set(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = object::text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        default_class(request)
    } else {
        let found = request.find(GROUP, "priorityclasses", None, &name);
        Some(found.ok_or_else(|| {
            let why = format!("no PriorityClass with name {name} was found");
            request.refuse(pod, &why)
        })?)
    };
    let number = |class: &Value| object::number(class, &["value"]).unwrap_or(0);
    let priority = class.as_ref().map_or(0, number);
    if let Some(own) = object::number(pod, &["spec", "priority"])
        && own != priority
    {
        let why = format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(request.refuse(pod, &why));
    }
    let policy = class
        .as_ref()
        .map(|class| object::text(class, &["preemptionPolicy"]))
        .filter(|policy| !policy.is_empty())
        .unwrap_or("PreemptLowerPriority")
        .to_owned();
    let own = object::text(pod, &["spec", "preemptionPolicy"]);
    if !own.is_empty() && own != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(request.refuse(pod, &why));
    }
    let spec = object::child_mut(pod, "spec");
    if name.is_empty()
        && let Some(class) = &class
    {
        spec.insert("priorityClassName".to_owned(), json!(object::name(class)));
    }
    spec.insert("priority".to_owned(), json!(priority));
    spec.insert("preemptionPolicy".to_owned(), json!(policy));
    Ok(())
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault") == Some(&Value::Bool(true))
}

/// The class that is marked as the default; the lowest where there are several.
fn default_class(request: &Request<'_>) -> Option<Value> {
    request
        .list(GROUP, "priorityclasses", None)
        .into_iter()
        .filter(is_default)
        .min_by_key(|class| object::number(class, &["value"]))
}

/// There is one default at most.
fn validate(request: &Request<'_>, class: &Value) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is_object(GROUP, "priorityclasses") || !is_default(class) {
        return Ok(());
    }
    match default_class(request) {
        Some(other) if object::name(&other) != object::name(class) => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                object::name(&other)
            );
            Err(request.refuse(class, &why))
        }
        _ => Ok(()),
    }
}
