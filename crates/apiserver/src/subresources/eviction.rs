//! `eviction`: a deletion that asks the disruption budgets first.
//!
//! A budget is charged before the Pod goes: its `disruptionsAllowed` is counted down and the Pod noted in
//! its status, as a conditional write, so evictions at the same time cannot overdraw it. The disruption
//! controller takes the note back.

use std::sync::Arc;

use http::Response;
use model::{
    FieldError, FieldPath, GroupVersionKind, LabelSelector, Reason, Status, StatusCause,
    StatusDetails, object,
};
use schema::Schema;
use serde_json::{Value, json};
use store::ListOptions;

use crate::admission::{self, Operation};
use crate::body::Body;
use crate::context::Context;
use crate::verbs::{DeleteOptions, delete_object};
use crate::write::decode_body;
use crate::{dispatch, envelope, respond};

/// How often a write is tried again when others are faster.
const ATTEMPTS_MAX: usize = 20;
/// Most Pods a budget may have noted, as upstream.
const DISRUPTED_PODS_MAX: usize = 2000;
/// When to try again while a budget is still being worked on.
const RETRY_SECONDS: u32 = 10;

const GROUP: &str = "policy";

/// What the budgets say of an eviction.
enum Verdict {
    /// The Pod may go.
    Granted,
    /// It may go if it is still as it was looked at.
    GrantedAsSeen,
}

/// `POST` to a Pod's `eviction`.
pub async fn create(context: &Context) -> Result<Response<Body>, Status> {
    let kind = GroupVersionKind::new(GROUP, "v1", "Eviction");
    let schema = Schema::built_in(GROUP, "v1", "Eviction").unwrap_or_else(Schema::any);
    let mut eviction = decode_body(context, &kind, &schema, false)?;
    if object::name(&eviction).is_empty() && object::at(&eviction, &["metadata"]).is_none() {
        object::metadata_mut(&mut eviction).insert("name".to_owned(), context.name().into());
    }
    if object::name(&eviction) != context.name() {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    check_options(&eviction)?;
    let mut options: DeleteOptions = object::at(&eviction, &["deleteOptions"])
        .map(|options| serde_json::from_value(options.clone()))
        .transpose()
        .map_err(|error| Status::bad_request(error.to_string()))?
        .unwrap_or_default();
    let dry_run =
        context.dry_run()? || options.dry_run.iter().flatten().any(|value| value == "All");
    if dry_run {
        options.dry_run = Some(vec!["All".to_owned()]);
    }
    let mut request = admission::Request::new(context, Operation::Create, "eviction", None);
    request.kind = kind;
    request.dry_run = dry_run;
    admission::mutate(&request, &mut eviction).await?;
    admission::validate(&request, &eviction).await?;
    evict(context, &options, dry_run).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    Ok(respond::value(201, &status, context.accept.encoding))
}

fn check_options(eviction: &Value) -> Result<(), Status> {
    let field = "ignoreStoreReadErrorWithClusterBreakingPotential";
    if object::at(eviction, &["deleteOptions", field]) != Some(&Value::Bool(true)) {
        return Ok(());
    }
    let path = FieldPath::new("deleteOptions").child(field);
    let why = "can not be set for pod eviction, try after removing the option";
    let error = FieldError::invalid(&path, true, why);
    Err(Status::invalid(
        GROUP,
        "Eviction",
        object::name(eviction),
        &[error],
    ))
}

async fn evict(context: &Context, options: &DeleteOptions, dry_run: bool) -> Result<(), Status> {
    let key = context
        .definition
        .key(context.path.namespace.as_deref(), context.name());
    let versioned = options
        .preconditions
        .as_ref()
        .is_some_and(|preconditions| preconditions.resource_version.is_some());
    for _ in 0..ATTEMPTS_MAX {
        let entry = context
            .state
            .store
            .get(&key)
            .ok_or_else(|| context.not_found())?;
        let pod = envelope::decode(&entry)?;
        let ended = matches!(
            object::text(&pod, &["status", "phase"]),
            "Succeeded" | "Failed"
        ) || object::is_deleting(&pod);
        let pending = object::text(&pod, &["status", "phase"]) == "Pending";
        let (as_seen, budget) = if ended || pending {
            (!ended, None)
        } else {
            match ask_budgets(context, &pod, dry_run).await? {
                (Verdict::Granted, name) => (false, name),
                (Verdict::GrantedAsSeen, name) => (true, name),
            }
        };
        let outcome = delete(context, &key, options, &pod, as_seen && !versioned, dry_run).await;
        match outcome {
            Err(status) if status.code == 409 && !versioned && pending => {}
            Err(status) if status.code == 409 && !versioned && as_seen => {
                return Err(busy(budget.as_deref().unwrap_or_default()));
            }
            outcome => return outcome,
        }
    }
    Err(crate::write::modified(context))
}

/// Marks the Pod as disrupted and deletes it.
async fn delete(
    context: &Context,
    key: &Arc<str>,
    options: &DeleteOptions,
    pod: &Value,
    as_seen: bool,
    dry_run: bool,
) -> Result<(), Status> {
    let mut options = options.clone();
    if as_seen {
        let version = object::resource_version(pod).to_owned();
        options
            .preconditions
            .get_or_insert_default()
            .resource_version = Some(version);
    }
    if !dry_run {
        let marked = mark(context, pod).await?;
        if let Some(preconditions) = &mut options.preconditions
            && preconditions.resource_version.as_deref() == Some(object::resource_version(pod))
        {
            preconditions.resource_version = Some(marked);
        }
    }
    delete_object(context, key, &options).await.map(drop)
}

/// Sets the `DisruptionTarget` condition; gives the Pod's version after it.
async fn mark(context: &Context, pod: &Value) -> Result<String, Status> {
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null,
        "lastTransitionTime": context.now(),
    });
    let generation = object::generation(pod);
    if generation > 0 {
        condition["observedGeneration"] = json!(generation);
    }
    let mut marked = pod.clone();
    let conditions = object::child_mut(&mut marked, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|own| object::text(own, &["type"]) != "DisruptionTarget");
        conditions.push(condition);
    }
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/status",
        context.namespace(),
        context.name()
    );
    let (code, answer) = dispatch::internal(&context.state, "PUT", &path, &marked).await;
    match code {
        200..300 => Ok(object::resource_version(&answer).to_owned()),
        404 => Err(context.not_found()),
        409 => Err(crate::write::modified(context)),
        _ => Err(Status::internal(
            answer["message"].as_str().unwrap_or_default(),
        )),
    }
}

/// Asks the budget that covers a Pod, and charges it.
async fn ask_budgets(
    context: &Context,
    pod: &Value,
    dry_run: bool,
) -> Result<(Verdict, Option<String>), Status> {
    for _ in 0..ATTEMPTS_MAX {
        let mut budgets = budgets_of(context, pod)?;
        let Some(budget) = budgets.pop() else {
            return Ok((Verdict::Granted, None));
        };
        if !budgets.is_empty() {
            let mut status = Status::internal("");
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                .clone_into(&mut status.message);
            (status.reason, status.details) = (String::new(), None);
            return Err(status);
        }
        let name = object::name(&budget).to_owned();
        if !is_ready(pod) && spares_unready(&budget) {
            return Ok((Verdict::GrantedAsSeen, Some(name)));
        }
        check(&budget)?;
        if dry_run {
            return Ok((Verdict::Granted, Some(name)));
        }
        let charged = charged(budget, context.name(), &context.now());
        let path = format!(
            "/apis/policy/v1/namespaces/{}/poddisruptionbudgets/{name}/status",
            context.namespace()
        );
        let (code, answer) = dispatch::internal(&context.state, "PUT", &path, &charged).await;
        match code {
            200..300 => return Ok((Verdict::Granted, Some(name))),
            404 | 409 => {}
            _ => {
                let why = answer["message"].as_str().unwrap_or_default();
                return Err(Status::internal(why));
            }
        }
    }
    let message = "couldn't update PodDisruptionBudget due to conflicts";
    Err(Status::new(Reason::Timeout, message))
}

fn is_ready(pod: &Value) -> bool {
    object::list(pod, &["status", "conditions"])
        .iter()
        .any(|own| {
            object::text(own, &["type"]) == "Ready" && object::text(own, &["status"]) == "True"
        })
}

fn status_number(budget: &Value, field: &str) -> i64 {
    object::number(budget, &["status", field]).unwrap_or(0)
}

/// Whether a budget lets Pods go that are not ready: they do not count for it.
fn spares_unready(budget: &Value) -> bool {
    let (have, need) = (
        status_number(budget, "currentHealthy"),
        status_number(budget, "desiredHealthy"),
    );
    object::text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || (have >= need && need > 0)
}

/// The budget after one more disruption.
fn charged(mut budget: Value, pod: &str, now: &str) -> Value {
    let left = status_number(&budget, "disruptionsAllowed") - 1;
    let observed = budget["status"]["observedGeneration"].clone();
    let status = object::child_mut(&mut budget, "status");
    status.insert("disruptionsAllowed".to_owned(), json!(left));
    let noted = status.entry("disruptedPods").or_insert_with(|| json!({}));
    if let Some(noted) = noted.as_object_mut() {
        noted.insert(pod.to_owned(), json!(now));
    }
    if left == 0
        && let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut)
    {
        let allowed = |own: &&mut Value| object::text(own, &["type"]) == "DisruptionAllowed";
        if let Some(condition) = conditions.iter_mut().find(allowed) {
            if condition["status"] != "False" {
                condition["lastTransitionTime"] = json!(now);
            }
            condition["status"] = json!("False");
            condition["reason"] = json!("InsufficientPods");
            condition["observedGeneration"] = observed;
        }
    }
    budget
}

fn budgets_of(context: &Context, pod: &Value) -> Result<Vec<Value>, Status> {
    let prefix = envelope::key_prefix(GROUP, "poddisruptionbudgets", Some(context.namespace()));
    let listing = context
        .state
        .store
        .list(&prefix, &ListOptions::default())
        .map_err(Status::internal)?;
    let mut budgets = Vec::new();
    for entry in &listing.entries {
        let budget = envelope::decode(entry)?;
        // One whose selector makes no sense covers nothing.
        let selector = LabelSelector::from_object(object::at(&budget, &["spec", "selector"]));
        if selector.is_ok_and(|selector| selector.matches(object::labels(pod))) {
            budgets.push(budget);
        }
    }
    Ok(budgets)
}

fn too_many(cause: String, retry_after_seconds: u32) -> Status {
    let mut status = Status::new(
        Reason::TooManyRequests,
        "Cannot evict pod as it would violate the pod's disruption budget.",
    );
    status.details = Some(Box::new(StatusDetails {
        causes: vec![StatusCause {
            reason: "DisruptionBudget".to_owned(),
            message: cause,
            field: String::new(),
        }],
        retry_after_seconds,
        ..StatusDetails::default()
    }));
    status
}

/// 429 while a budget is still being worked on.
fn busy(name: &str) -> Status {
    let cause = format!("The disruption budget {name} is still being processed by the server.");
    too_many(cause, RETRY_SECONDS)
}

/// 429 where a budget allows no disruption now.
fn check(budget: &Value) -> Result<(), Status> {
    let name = object::name(budget);
    let number = |field| status_number(budget, field);
    if number("observedGeneration") < object::generation(budget) {
        return Err(busy(name));
    }
    let forbidden = |why: &str| Err(Status::forbidden(GROUP, "poddisruptionbudget", name, why));
    if number("disruptionsAllowed") < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let noted = object::at(budget, &["status", "disruptedPods"]).and_then(Value::as_object);
    if noted.is_some_and(|noted| noted.len() > DISRUPTED_PODS_MAX) {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        );
    }
    if number("disruptionsAllowed") > 0 {
        return Ok(());
    }
    let condition = object::list(budget, &["status", "conditions"])
        .iter()
        .find(|own| object::text(own, &["type"]) == "DisruptionAllowed");
    let said = |field| condition.map_or("", |own| object::text(own, &[field]));
    let explained = said("status") == "False" && !said("message").is_empty();
    let (need, have) = (number("desiredHealthy"), number("currentHealthy"));
    let start = format!("The disruption budget {name}");
    let cause = if explained && said("reason") == "SyncFailed" {
        format!(
            "{start} does not allow evicting pods currently because it failed sync: {}",
            said("message")
        )
    } else if have <= need {
        format!("{start} needs {need} healthy pods and has {have} currently")
    } else if explained {
        format!(
            "{start} does not allow evicting pods currently ({}): {}",
            said("reason"),
            said("message")
        )
    } else {
        format!("{start} does not allow evicting pods currently")
    };
    Err(too_many(cause, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "status": status})
    }

    #[test]
    fn budgets_say_why_not() {
        let cause = |status: Value| {
            check(&budget(status)).map_err(|status| {
                let details = status.details.unwrap_or_default();
                details.causes.first().map(|cause| cause.message.clone())
            })
        };
        assert_eq!(
            cause(json!({})),
            Err(Some(
                "The disruption budget b is still being processed by the server.".to_owned()
            ))
        );
        assert_eq!(
            cause(json!({"observedGeneration": 1, "desiredHealthy": 2, "currentHealthy": 2})),
            Err(Some(
                "The disruption budget b needs 2 healthy pods and has 2 currently".to_owned()
            ))
        );
        assert_eq!(
            cause(json!({"observedGeneration": 1, "disruptionsAllowed": 1})),
            Ok(())
        );
    }

    #[test]
    fn a_disruption_is_charged() {
        let before = budget(json!({
            "disruptionsAllowed": 1, "observedGeneration": 1,
            "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}],
        }));
        let after = charged(before, "p", "now");
        assert_eq!(after["status"]["disruptionsAllowed"], 0);
        assert_eq!(after["status"]["disruptedPods"], json!({"p": "now"}));
        assert_eq!(after["status"]["conditions"][0]["status"], "False");
    }
}
