//! The log of a container that does not run.

use http::Response;
use model::{Status, object};
use serde_json::Value;

use super::{annotation, containers, status_of};
use crate::body::Body;
use crate::context::Context;
use crate::{envelope, respond};

/// The longest log, in lines: what `tailLines` may ask for.
const LINES_MAX: i64 = 10_000;

/// `GET` of a Pod's `log`.
pub fn log(context: &Context) -> Result<Response<Body>, Status> {
    let pod = pod_of(context)?;
    let tail = context.query.number("tailLines")?;
    if tail.is_some_and(|lines| lines < 0) {
        return Err(Status::bad_request(
            "tailLines must be greater than or equal to 0",
        ));
    }
    let name = container(&pod, context.query.get("container"))?;
    if object::text(&pod, &["spec", "nodeName"]).is_empty() {
        // As upstream: who has no node has no log yet.
        return Ok(respond::text(200, ""));
    }
    let previous = context.query.flag("previous");
    let text = text(&pod, name, previous)?;
    let lines: Vec<&str> = text.lines().collect();
    let wanted = tail.map_or(lines.len(), |lines| lines.min(LINES_MAX) as usize);
    let from = lines.len().saturating_sub(wanted);
    let kept: String = lines[from..].iter().flat_map(|line| [line, "\n"]).collect();
    Ok(respond::text(200, kept))
}

/// The Pod whose subresource is asked for.
pub fn pod_of(context: &Context) -> Result<Value, Status> {
    let key = context
        .definition
        .key(Some(context.namespace()), context.name());
    let entry = context.state.store.get(&key);
    let entry = entry.ok_or_else(|| context.not_found())?;
    envelope::decode(&entry)
}

/// The container asked for, as upstream finds it.
pub fn container<'a>(pod: &'a Value, asked: Option<&str>) -> Result<&'a str, Status> {
    let name = object::name(pod);
    let names = |list: &str| -> Vec<&'a str> {
        let list = object::list(pod, &["spec", list]);
        list.iter()
            .map(|one| object::text(one, &["name"]))
            .collect()
    };
    if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
        let found = containers(pod)
            .map(|one| object::text(one, &["name"]))
            .find(|own| *own == asked);
        return found.ok_or_else(|| {
            Status::bad_request(format!("container {asked} is not valid for pod {name}"))
        });
    }
    match names("containers").as_slice() {
        [one] => Ok(one),
        several => {
            let mut text = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            );
            let init = names("initContainers");
            if !init.is_empty() {
                text.push_str(" or one of the init containers: [");
                text.push_str(&init.join(" "));
                text.push(']');
            }
            Err(Status::bad_request(text))
        }
    }
}

/// What a container has said.
fn text(pod: &Value, container: &str, previous: bool) -> Result<String, Status> {
    let name = object::name(pod);
    let Some(status) = status_of(pod, container) else {
        return Err(Status::bad_request(format!(
            "container \"{container}\" in pod \"{name}\" is not available"
        )));
    };
    let has_run_before = status.pointer("/lastState/terminated").is_some();
    if previous && !has_run_before {
        return Err(Status::bad_request(format!(
            "previous terminated container \"{container}\" in pod \"{name}\" not found"
        )));
    }
    if let Some(waiting) = status.pointer("/state/waiting")
        && !has_run_before
    {
        let reason = object::text(waiting, &["reason"]);
        let why = if reason.contains("Image") {
            format!("trying and failing to pull image ({reason})")
        } else {
            reason.to_owned()
        };
        return Err(Status::bad_request(format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: {why}"
        )));
    }
    if let Some(own) = annotation(pod, "log", container) {
        return Ok(own.to_owned());
    }
    let state = status.get("state").and_then(Value::as_object);
    let state = state
        .and_then(|state| state.keys().next())
        .map_or("unknown", String::as_str);
    Ok(format!(
        "This is no real log: pod {}/{name} is on a virtual node, which simulates containers and runs none.\n\
         container {container}: image {}, {state}, restarted {} times\n\
         The annotation virtual.corvus.dev/log sets what is shown here.\n",
        object::namespace(pod),
        object::text(status, &["image"]),
        object::number(status, &["restartCount"]).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_are_found_as_upstream_finds_them() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&pod, Some("b")).expect("is there"), "b");
        assert_eq!(container(&pod, Some("i")).expect("is there"), "i");
        let refused = |asked: Option<&str>| container(&pod, asked).expect_err("is none").message;
        assert_eq!(refused(Some("x")), "container x is not valid for pod p");
        assert_eq!(
            refused(None),
            "a container name must be specified for pod p, choose one of: [a b] \
             or one of the init containers: [i]"
        );
    }

    #[test]
    fn logs_say_what_they_are() {
        let pod = |status: Value, annotations: Value| {
            json!({"metadata": {"name": "p", "namespace": "d", "annotations": annotations},
                "status": {"containerStatuses": [status]}})
        };
        let running =
            json!({"name": "c", "image": "i", "restartCount": 2, "state": {"running": {}}});
        let shown = text(&pod(running.clone(), json!({})), "c", false).expect("runs");
        assert!(
            shown.contains("container c: image i, running, restarted 2 times"),
            "{shown}"
        );
        let told = pod(
            running.clone(),
            json!({"virtual.corvus.dev/log": "hello\nworld"}),
        );
        assert_eq!(text(&told, "c", false).expect("runs"), "hello\nworld");
        let refused = text(&told, "c", true)
            .expect_err("has not run before")
            .message;
        assert_eq!(
            refused,
            "previous terminated container \"c\" in pod \"p\" not found"
        );
        let waiting = json!({"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}});
        let refused = text(&pod(waiting, json!({})), "c", false)
            .expect_err("waits")
            .message;
        assert_eq!(
            refused,
            "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image (ErrImagePull)"
        );
    }
}
