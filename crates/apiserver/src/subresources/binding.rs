//! `binding`: the scheduler's decision, taken as upstream takes it.

use http::Response;
use model::{FieldError, FieldPath, GroupVersionKind, Status, object};
use schema::Schema;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::body::Body;
use crate::context::Context;
use crate::respond;
use crate::write::{Update, decode_body, update_object};

/// `POST` to a Pod's `binding`.
pub async fn create(context: &Context) -> Result<Response<Body>, Status> {
    let kind = GroupVersionKind::new("", "v1", "Binding");
    let schema = Schema::built_in("", "v1", "Binding").unwrap_or_else(Schema::any);
    let mut binding = decode_body(context, &kind, &schema, false)?;
    let mut request = admission::Request::new(context, Operation::Create, "binding", None);
    request.kind = kind;
    admission::mutate(&request, &mut binding).await?;
    admission::validate(&request, &binding).await?;
    let node = object::text(&binding, &["target", "name"]).to_owned();
    if node.is_empty() {
        let error = FieldError::required(&FieldPath::new("target.name"), "");
        return Err(Status::invalid("", "Binding", context.name(), &[error]));
    }
    let now = context.now();
    let bind = |live: &Value| -> Result<Value, Status> {
        let refuse = |why: &str| Err(context.conflict(why));
        if object::is_deleting(live) {
            let name = context.name();
            return refuse(&format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            ));
        }
        let current = object::text(live, &["spec", "nodeName"]);
        if !current.is_empty() {
            let name = context.name();
            return refuse(&format!(
                "pod {name} is already assigned to node \"{current}\""
            ));
        }
        if !object::list(live, &["spec", "schedulingGates"]).is_empty() {
            return refuse("pod has non-empty .spec.schedulingGates");
        }
        let mut new = live.clone();
        object::child_mut(&mut new, "spec").insert("nodeName".to_owned(), json!(node));
        for field in ["annotations", "labels"] {
            let said = object::at(&binding, &["metadata", field]).and_then(Value::as_object);
            let Some(said) = said.filter(|said| !said.is_empty()) else {
                continue;
            };
            let own = object::metadata_mut(&mut new)
                .entry(field)
                .or_insert(json!({}));
            if let Some(own) = own.as_object_mut() {
                own.extend(said.clone());
            }
        }
        // Room that was made for it is its own now.
        object::child_mut(&mut new, "status").remove("nominatedNodeName");
        scheduled(&mut new, &now);
        Ok(new)
    };
    let update = Update {
        subresource: "binding",
        applied: false,
        versioned: false,
        replaces: false,
    };
    if update_object(context, &update, &bind).await?.is_none() {
        return Err(context.not_found());
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    Ok(respond::value(201, &status, context.accept.encoding))
}

/// Sets the `PodScheduled` condition, as the API server does when it binds.
fn scheduled(pod: &mut Value, now: &str) {
    let generation = object::generation(pod);
    let conditions = object::child_mut(pod, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    conditions.retain(|condition| object::text(condition, &["type"]) != "PodScheduled");
    let mut condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    });
    if generation > 0 {
        condition["observedGeneration"] = json!(generation);
    }
    conditions.push(condition);
}
