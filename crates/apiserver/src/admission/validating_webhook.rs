//! `ValidatingAdmissionWebhook`: webhooks that judge an object, all at the same time.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use model::Status;
use serde_json::Value;

use super::matching::is_exempt;
use super::policy::converted;
use super::snapshot::Snapshot;
use super::webhook::{Failure, Webhook, compile};
use super::{Mutate, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "ValidatingAdmissionWebhook",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Later(validate),
};

/// The webhooks that are configured.
pub type Webhooks = Snapshot<Vec<Webhook>>;

/// Where they come from.
pub const RESOURCES: &[&str] = &["validatingwebhookconfigurations"];

fn validate<'a>(request: &'a Request<'a>, new: &'a Value) -> BoxFuture<'a, Result<(), Status>> {
    let state = &request.context.state;
    let here = state.options.admission.handlers(false);
    if is_exempt(request) {
        return futures::future::ok(()).boxed();
    }
    let configured = state
        .admission
        .validating_webhooks
        .get(state.store.as_ref(), |objects| compile(&objects[0], false));
    if configured.is_none() && here.is_empty() {
        return futures::future::ok(()).boxed();
    }
    ask_all(request, new, here, configured).boxed()
}

async fn ask_all(
    request: &Request<'_>,
    new: &Value,
    here: &[Webhook],
    configured: Option<Arc<Vec<Webhook>>>,
) -> Result<(), Status> {
    let configured = configured.unwrap_or_default();
    let mut concerned = Vec::new();
    for webhook in here.iter().chain(configured.iter()) {
        if let Some(matched) = webhook.concerns(request, new)? {
            concerned.push((webhook, matched));
        }
    }
    let questions = concerned.iter().map(|(webhook, matched)| async move {
        let object = converted(request, matched, new);
        webhook.ask(request, matched, &object).await
    });
    let answers = join_all(questions).await;
    for (index, (answer, (webhook, _))) in answers.into_iter().zip(&concerned).enumerate() {
        match answer {
            Ok(_) => {}
            Err(Failure::Refused(status)) => return Err(*status),
            Err(Failure::Calling(why)) if webhook.fail => return Err(webhook.failed(&why)),
            Err(Failure::Calling(why)) => {
                tracing::warn!(webhook = webhook.name, why, "a webhook failed; going on");
                let key = format!(
                    "failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}"
                );
                request.context.annotate(&key, &webhook.name);
            }
        }
    }
    Ok(())
}
