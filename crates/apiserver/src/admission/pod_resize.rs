//! `PodResizeValidator`: what a Pod is resized to must fit its node.

use kinds::demand::{self, Amounts};
use model::{Quantity, Status, StatusCause, object};
use serde_json::Value;

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "PodResizeValidator",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Now(validate),
};

fn validate(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    let resizes = request.operation == Operation::Update
        && request.subresource == "resize"
        && request.is("", "pods");
    let name = object::text(pod, &["spec", "nodeName"]);
    let unchanged = request
        .old
        .is_some_and(|old| object::generation(old) == object::generation(pod));
    if !resizes || name.is_empty() || unchanged {
        return Ok(());
    }
    let node = request
        .find("", "nodes", None, name)
        .ok_or_else(|| request.refuse(pod, &format!("node {name:?} not found")))?;
    let refuse = |why: &str, reason: &str| {
        let mut status = request.refuse(pod, why);
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: reason.to_owned(),
                ..StatusCause::default()
            });
        }
        Err(status)
    };
    match object::label(&node, "kubernetes.io/os") {
        None | Some("linux") => {}
        Some(system) => {
            let why =
                format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
            return refuse(&why, "UnsupportedPlatform");
        }
    }
    let allocatable = demand::amounts(object::at(&node, &["status", "allocatable"]));
    let lacking = lacking(&demand::pod_requests(pod), &allocatable);
    if lacking.is_empty() {
        return Ok(());
    }
    let why = format!(
        "node didn't have enough allocatable resources: {}",
        lacking.join("; ")
    );
    refuse(&why, "NodeCapacity")
}

/// How a message counts a resource.
type Unit = fn(&Quantity) -> i64;

/// What of processors and memory the node lacks.
fn lacking(wanted: &Amounts, allocatable: &Amounts) -> Vec<String> {
    let units: [(&str, Unit); 2] = [("cpu", Quantity::milli_value), ("memory", Quantity::value)];
    let mut lacking = Vec::new();
    for (name, unit) in units {
        let none = Quantity::from_units(0);
        let (wanted, there) = (
            wanted.get(name).unwrap_or(&none),
            allocatable.get(name).unwrap_or(&none),
        );
        if wanted > there {
            lacking.push(format!(
                "{name}, requested: {}, allocatable: {}",
                unit(wanted),
                unit(there)
            ));
        }
    }
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_node_lacks_is_named() {
        let amounts = |value: Value| demand::amounts(Some(&value));
        let node = amounts(json!({"cpu": "4", "memory": "1Ki"}));
        let check = |wanted: Value, expect: &[&str]| {
            assert_eq!(lacking(&amounts(wanted), &node), expect);
        };
        check(json!({"cpu": "4"}), &[]);
        check(
            json!({"cpu": "4001m", "memory": "2Ki"}),
            &[
                "cpu, requested: 4001, allocatable: 4000",
                "memory, requested: 2048, allocatable: 1024",
            ],
        );
    }
}
