//! `Priority`: the number behind a Pod's priority class.

use model::{Status, object};
use serde_json::{Value, json};
use store::ListOptions;

use super::{find, refuse};
use crate::context::Context;
use crate::envelope;

const GROUP: &str = "scheduling.k8s.io";

/// Sets `priority` and `preemptionPolicy` from the class.
pub fn mutate(context: &Context, pod: &mut Value) -> Result<(), Status> {
    let name = object::text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        default_class(context)
    } else {
        let found = find(context, GROUP, "priorityclasses", None, &name);
        Some(found.ok_or_else(|| {
            refuse(
                context,
                pod,
                &format!("no PriorityClass with name {name} was found"),
            )
        })?)
    };
    let number = |class: &Value| object::number(class, &["value"]).unwrap_or(0);
    let priority = class.as_ref().map_or(0, number);
    if let Some(own) = object::number(pod, &["spec", "priority"])
        && own != priority
    {
        let why = format!(
            "the integer value of priority must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(refuse(context, pod, &why));
    }
    let policy = class
        .as_ref()
        .map(|class| object::text(class, &["preemptionPolicy"]))
        .filter(|policy| !policy.is_empty())
        .unwrap_or("PreemptLowerPriority")
        .to_owned();
    let spec = object::child_mut(pod, "spec");
    if name.is_empty()
        && let Some(class) = &class
    {
        spec.insert("priorityClassName".to_owned(), json!(object::name(class)));
    }
    spec.insert("priority".to_owned(), json!(priority));
    spec.entry("preemptionPolicy").or_insert(json!(policy));
    Ok(())
}

/// The class that is marked as the default; the lowest where there are several.
fn default_class(context: &Context) -> Option<Value> {
    let prefix = envelope::key_prefix(GROUP, "priorityclasses", None);
    let listing = context
        .state
        .store
        .list(&prefix, &ListOptions::default())
        .ok()?;
    listing
        .entries
        .iter()
        .filter_map(|entry| envelope::decode(entry).ok())
        .filter(|class| class.get("globalDefault") == Some(&Value::Bool(true)))
        .min_by_key(|class| object::number(class, &["value"]))
}
