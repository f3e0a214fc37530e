//! `eviction`: a deletion that asks the disruption budgets first.

use http::Response;
use model::{GroupVersionKind, LabelSelector, Reason, Status, StatusCause, StatusDetails, object};
use schema::Schema;
use serde_json::{Value, json};
use store::ListOptions;

use crate::admission::{self, Operation};
use crate::body::Body;
use crate::context::Context;
use crate::verbs::{DeleteOptions, delete_object};
use crate::write::decode_body;
use crate::{envelope, respond};

/// `POST` to a Pod's `eviction`.
pub async fn create(context: &Context) -> Result<Response<Body>, Status> {
    let kind = GroupVersionKind::new("policy", "v1", "Eviction");
    let schema = Schema::built_in("policy", "v1", "Eviction").unwrap_or_else(Schema::any);
    let mut eviction = decode_body(context, &kind, &schema, false)?;
    let name = object::name(&eviction);
    if !name.is_empty() && name != context.name() {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let key = context
        .definition
        .key(context.path.namespace.as_deref(), context.name());
    let entry = context
        .state
        .store
        .get(&key)
        .ok_or_else(|| context.not_found())?;
    let pod = envelope::decode(&entry)?;
    let mut request = admission::Request::new(context, Operation::Create, "eviction", None);
    request.kind = kind;
    admission::mutate(&request, &mut eviction).await?;
    admission::validate(&request, &eviction).await?;
    if counts(&pod) {
        let budgets = budgets_of(context, &pod)?;
        match budgets.as_slice() {
            [] => {}
            [budget] => check(budget)?,
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
    }
    let options: DeleteOptions = object::at(&eviction, &["deleteOptions"])
        .map(|options| serde_json::from_value(options.clone()))
        .transpose()
        .map_err(|error| Status::bad_request(error.to_string()))?
        .unwrap_or_default();
    delete_object(context, &key, &options).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    Ok(respond::value(201, &status, context.accept.encoding))
}

/// Whether a Pod counts for a budget: one that has ended or is going does not.
fn counts(pod: &Value) -> bool {
    let phase = object::text(pod, &["status", "phase"]);
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && !object::is_deleting(pod)
}

fn budgets_of(context: &Context, pod: &Value) -> Result<Vec<Value>, Status> {
    let prefix = envelope::key_prefix("policy", "poddisruptionbudgets", Some(context.namespace()));
    let listing = context
        .state
        .store
        .list(&prefix, &ListOptions::default())
        .map_err(Status::internal)?;
    let mut budgets = Vec::new();
    for entry in &listing.entries {
        let budget = envelope::decode(entry)?;
        let selector = LabelSelector::from_object(object::at(&budget, &["spec", "selector"]))
            .map_err(Status::internal)?;
        if selector.matches(object::labels(pod)) {
            budgets.push(budget);
        }
    }
    Ok(budgets)
}

/// 429 where a budget allows no disruption now.
fn check(budget: &Value) -> Result<(), Status> {
    let name = object::name(budget);
    let number = |field: &str| object::number(budget, &["status", field]).unwrap_or(0);
    if number("disruptionsAllowed") > 0
        && number("observedGeneration") >= object::generation(budget)
    {
        return Ok(());
    }
    let mut status = Status::new(
        Reason::TooManyRequests,
        "Cannot evict pod as it would violate the pod's disruption budget.",
    );
    let (need, have) = (number("desiredHealthy"), number("currentHealthy"));
    let message = if number("observedGeneration") < object::generation(budget) {
        format!("The disruption budget {name} is still being processed by the server.")
    } else {
        format!("The disruption budget {name} needs {need} healthy pods and has {have} currently")
    };
    status.details = Some(Box::new(StatusDetails {
        causes: vec![StatusCause {
            reason: "DisruptionBudget".to_owned(),
            message,
            field: String::new(),
        }],
        ..StatusDetails::default()
    }));
    Err(status)
}
