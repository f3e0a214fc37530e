//! `DefaultTolerationSeconds`: a Pod stays five minutes on a node that is not ready or not reachable.

use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "DefaultTolerationSeconds",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Never,
};

const SECONDS: i64 = 300;
const KEYS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if writes && request.is_object("", "pods") {
        add(pod);
    }
    Ok(())
}

/// Adds the tolerations a Pod does not have by itself.
fn add(pod: &mut Value) {
    let present = object::list(pod, &["spec", "tolerations"]);
    let tolerated = |key: &str| {
        present.iter().any(|toleration| {
            let own = object::text(toleration, &["key"]);
            let effect = object::text(toleration, &["effect"]);
            (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        })
    };
    let missing: Vec<Value> = KEYS
        .into_iter()
        .filter(|key| !tolerated(key))
        .map(|key| {
            json!({
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": SECONDS,
            })
        })
        .collect();
    if missing.is_empty() {
        return;
    }
    let tolerations = object::child_mut(pod, "spec")
        .entry("tolerations")
        .or_insert_with(|| json!([]));
    if let Some(list) = tolerations.as_array_mut() {
        list.extend(missing);
    } else {
        *tolerations = Value::Array(missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tolerations_are_kept() {
        let mut pod = json!({"spec": {"tolerations": [{"key": KEYS[0], "operator": "Exists"}]}});
        add(&mut pod);
        let keys: Vec<&str> = object::list(&pod, &["spec", "tolerations"])
            .iter()
            .map(|toleration| object::text(toleration, &["key"]))
            .collect();
        assert_eq!(keys, KEYS);
    }
}
