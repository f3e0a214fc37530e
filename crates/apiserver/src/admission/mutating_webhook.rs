//! `MutatingAdmissionWebhook`: webhooks that may change an object, one after the other.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use model::Status;
use patch::JsonPatch;
use serde_json::{Value, json};

use super::matching::is_exempt;
use super::policy::converted;
use super::snapshot::Snapshot;
use super::webhook::{Failure, Webhook, compile};
use super::{Mutate, Plugin, Request, Validate};
use crate::catalog::Definition;
use crate::write::default_object;

pub const PLUGIN: Plugin = Plugin {
    name: "MutatingAdmissionWebhook",
    default: true,
    mutate: Mutate::Later(mutate),
    validate: Validate::Never,
};

/// The webhooks that are configured.
pub type Webhooks = Snapshot<Vec<Webhook>>;

/// Where they come from.
pub const RESOURCES: &[&str] = &["mutatingwebhookconfigurations"];

fn mutate<'a>(request: &'a Request<'a>, new: &'a mut Value) -> BoxFuture<'a, Result<(), Status>> {
    let state = &request.context.state;
    let here = state.options.admission.handlers(true);
    if is_exempt(request) {
        return futures::future::ok(()).boxed();
    }
    let configured = state
        .admission
        .mutating_webhooks
        .get(state.store.as_ref(), |objects| compile(&objects[0], true));
    if configured.is_none() && here.is_empty() {
        return futures::future::ok(()).boxed();
    }
    ask_all(request, new, here, configured).boxed()
}

async fn ask_all(
    request: &Request<'_>,
    new: &mut Value,
    here: &[Webhook],
    configured: Option<Arc<Vec<Webhook>>>,
) -> Result<(), Status> {
    let configured = configured.unwrap_or_default();
    let again = request.reinvocation.begin_webhooks(new);
    for (index, webhook) in here.iter().chain(configured.iter()).enumerate() {
        let Some(matched) = webhook.concerns(request, new)? else {
            continue;
        };
        if again && !request.reinvocation.wants_webhook(&webhook.key()) {
            continue;
        }
        let place = format!("round_{}_index_{index}", u8::from(again));
        let changed = match ask(request, webhook, &matched, new).await {
            Ok(changed) => changed,
            Err(Failure::Refused(status)) => return Err(*status),
            Err(Failure::Calling(why)) if webhook.fail => return Err(webhook.failed(&why)),
            Err(Failure::Calling(why)) => {
                tracing::warn!(webhook = webhook.name, why, "a webhook failed; going on");
                let key = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                request.context.annotate(&key, &webhook.name);
                false
            }
        };
        let note = json!({
            "configuration": webhook.configuration, "webhook": webhook.name, "mutated": changed,
        });
        let key = format!("mutation.webhook.admission.k8s.io/{place}");
        request.context.annotate(&key, &note.to_string());
        if changed {
            request.reinvocation.webhook_changed();
        }
        if webhook.reinvoked {
            request.reinvocation.remember_webhook(webhook.key());
        }
    }
    request.reinvocation.end_webhooks(new);
    Ok(())
}

/// Asks one webhook, and changes the object as it says; tells whether it changed.
async fn ask(
    request: &Request<'_>,
    webhook: &Webhook,
    matched: &Definition,
    new: &mut Value,
) -> Result<bool, Failure> {
    let object = converted(request, matched, new);
    let answer = webhook.ask(request, matched, &object).await?;
    if answer.patch.is_empty() {
        return Ok(false);
    }
    let undecodable = |error: patch::Error| {
        Failure::Calling(format!(
            "received undecodable patch in webhook response: {error}"
        ))
    };
    let patch = JsonPatch::parse(&answer.patch).map_err(undecodable)?;
    if patch.is_empty() {
        return Ok(false);
    }
    let internal = |why: String| Failure::Refused(Box::new(Status::internal(why)));
    if !object.is_object() {
        return Err(internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            webhook.name
        )));
    }
    let patched = patch.apply_explained(&object).map_err(internal)?;
    let mut patched = patched.ok_or_else(|| internal("test failed".to_owned()))?;
    settle(request, matched, &mut patched).map_err(internal)?;
    let changed = patched != object;
    if changed {
        *new = back(request, matched, patched);
    }
    Ok(changed)
}

/// Checks the types of a changed object and fills in what it leaves out.
fn settle(request: &Request<'_>, matched: &Definition, object: &mut Value) -> Result<(), String> {
    let own = &request.context.definition;
    if !object.is_object() {
        return Err("the patch does not make an object".to_owned());
    }
    if request.kind != own.kind {
        return Ok(());
    }
    if matched.custom.is_none() {
        schema::decode(&matched.schema, object).map_err(|error| error.to_string())?;
    }
    default_object(matched, object);
    Ok(())
}

/// A changed object in the version of the request.
pub fn back(request: &Request<'_>, matched: &Definition, mut object: Value) -> Value {
    let own = &request.context.definition;
    if request.kind == own.kind && own.gvr != matched.gvr {
        matched.to_storage(&mut object);
        own.present(&mut object);
    }
    object
}
