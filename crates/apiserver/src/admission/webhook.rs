//! Admission webhooks: which there are, which a write concerns, and asking one.
//!
//! A webhook is a server that a configuration names, or a handler in this process; both are asked the
//! same question and may answer the same. What becomes of the answers is in
//! [`super::mutating_webhook`] and [`super::validating_webhook`].

mod answer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cel_kube::RUNTIME_COST_BUDGET;
use cel_kube::admission::{Compiler, Declarations, Evaluation, Inputs};
use model::admission::{AdmissionRequest, Handler};
use model::{Status, object};
use serde_json::{Map, Value, json};

pub use self::answer::Answer;

use super::authorizer::RequestAuthorizer;
use super::matching::Criteria;
use super::policy::{Conditions, converted};
use super::{Request, review};
use crate::catalog::Definition;
use crate::webhook_client::Target;

/// How long a webhook has that does not say.
const TIMEOUT_DEFAULT_SECONDS: i64 = 10;

/// One webhook of a configuration.
pub struct Webhook {
    /// The name of the configuration, and the webhook's in it.
    pub configuration: String,
    pub name: String,
    /// Whether a failure of the webhook refuses the write.
    pub fail: bool,
    /// Whether it is asked again when others change the object after it.
    pub reinvoked: bool,
    criteria: Result<Criteria, String>,
    conditions: Conditions,
    server: Server,
    timeout: Duration,
    has_side_effects: bool,
    /// The first version of AdmissionReview both sides know.
    version: Option<&'static str>,
    mutating: bool,
}

/// Who answers.
enum Server {
    Remote(Value),
    Here(Arc<dyn Handler>),
}

/// A handler in this process, registered like a webhook.
#[derive(Clone)]
pub struct InProcess {
    /// The members a webhook has in a configuration, without `clientConfig`: its name, rules, selectors,
    /// `failurePolicy`...
    pub webhook: Value,
    /// Whether it may change objects; else it only judges them.
    pub mutating: bool,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
}

/// Why a webhook's answer cannot be had, or what it is.
pub enum Failure {
    /// It could not be asked, or answered nonsense: its failure policy decides.
    Calling(String),
    /// The write is refused whatever the failure policy says.
    Refused(Box<Status>),
}

impl Failure {
    fn refused(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// The webhooks of configurations, in the order of their names.
pub fn compile(configurations: &[Value], mutating: bool) -> Vec<Webhook> {
    configurations
        .iter()
        .flat_map(|configuration| {
            let name = object::name(configuration);
            object::list(configuration, &["webhooks"])
                .iter()
                .map(move |webhook| Webhook::remote(name, webhook, mutating))
        })
        .collect()
}

impl Webhook {
    fn remote(configuration: &str, webhook: &Value, mutating: bool) -> Self {
        let config = webhook.get("clientConfig").cloned().unwrap_or_default();
        Self::new(configuration, webhook, mutating, Server::Remote(config))
    }

    /// A webhook that is a handler in this process.
    pub fn in_process(registered: &InProcess) -> Self {
        Self::new(
            "corvus",
            &registered.webhook,
            registered.mutating,
            Server::Here(registered.handler.clone()),
        )
    }

    fn new(configuration: &str, webhook: &Value, mutating: bool, server: Server) -> Self {
        let text = |field| object::text(webhook, &[field]);
        let declarations = Declarations {
            authorizer: true,
            ..Declarations::default()
        };
        let versions = object::list(webhook, &["admissionReviewVersions"]);
        let version = match &server {
            Server::Here(_) => Some("v1"),
            Server::Remote(_) => versions.iter().find_map(|version| match version.as_str() {
                Some("v1") => Some("v1"),
                Some("v1beta1") => Some("v1beta1"),
                _ => None,
            }),
        };
        let seconds =
            object::number(webhook, &["timeoutSeconds"]).unwrap_or(TIMEOUT_DEFAULT_SECONDS);
        Self {
            configuration: configuration.to_owned(),
            name: text("name").to_owned(),
            fail: text("failurePolicy") != "Ignore",
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            criteria: Criteria::of_webhook(webhook),
            conditions: Conditions::compile(webhook, &Compiler::new(), declarations),
            timeout: Duration::from_secs(seconds.max(1) as u64),
            has_side_effects: !matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            version,
            mutating,
            server,
        }
    }

    /// The key under which it is remembered.
    pub fn key(&self) -> String {
        format!("{}/{}", self.configuration, self.name)
    }

    /// The resource under which a write concerns the webhook; `None` where it does not.
    pub fn concerns(
        &self,
        request: &Request<'_>,
        new: &Value,
    ) -> Result<Option<Arc<Definition>>, Status> {
        let criteria = self.criteria.as_ref().map_err(Status::internal)?;
        let Some(matched) = criteria.matches(request, new)? else {
            return Ok(None);
        };
        if self.conditions.is_empty() {
            return Ok(Some(matched));
        }
        let null = Value::Null;
        let inputs = Inputs {
            object: Arc::new(converted(request, &matched, new)),
            old_object: Arc::new(converted(request, &matched, request.old.unwrap_or(&null))),
            request: Arc::new(Value::Object(review::request_value(request, &matched))),
            namespace_object: Arc::default(),
            params: Arc::default(),
            authorizer: Some(RequestAuthorizer::of(request, &request.name)),
        };
        let evaluation = Evaluation::new(&Compiler::new(), inputs, RUNTIME_COST_BUDGET);
        match self.conditions.hold(&evaluation) {
            Ok(holds) => Ok(holds.then_some(matched)),
            Err(why) if self.fail => {
                let gvr = &request.context.definition.gvr;
                Err(Status::forbidden(
                    &gvr.group,
                    &gvr.resource,
                    &request.name,
                    &why,
                ))
            }
            Err(_) => Ok(None),
        }
    }

    /// Asks the webhook about a write that concerns it. What it says besides its judgement is passed on.
    pub async fn ask(
        &self,
        request: &Request<'_>,
        matched: &Definition,
        object: &Value,
    ) -> Result<Answer, Failure> {
        if request.dry_run && self.has_side_effects {
            let why = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(Failure::refused(Status::bad_request(why)));
        }
        let Some(version) = self.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Failure::Calling(why.to_owned()));
        };
        let null = Value::Null;
        let old = converted(request, matched, request.old.unwrap_or(&null));
        let uid = uuid::Uuid::new_v4().to_string();
        let mut question = review::request_value(request, matched);
        question.insert("uid".to_owned(), json!(uid));
        question.insert("object".to_owned(), object.clone());
        question.insert("oldObject".to_owned(), old);
        let answer = match &self.server {
            Server::Remote(config) => {
                let answer = self.post(request, config, version, question).await?;
                Answer::parse(&answer, version, &uid, self.mutating)
                    .map_err(|why| Failure::Calling(why.to_string()))?
            }
            Server::Here(handler) => self.ask_here(handler.as_ref(), question).await?,
        };
        for (key, value) in &answer.annotations {
            request
                .context
                .annotate(&format!("{}/{key}", self.name), value);
        }
        for warning in &answer.warnings {
            request.context.warn(warning.clone());
        }
        if answer.allowed {
            Ok(answer)
        } else {
            Err(Failure::refused(answer.refusal(&self.name)))
        }
    }

    async fn post(
        &self,
        request: &Request<'_>,
        config: &Value,
        version: &str,
        question: Map<String, Value>,
    ) -> Result<Bytes, Failure> {
        let calling = |why: &dyn std::fmt::Display| {
            Failure::Calling(format!("failed to call webhook: {why}"))
        };
        let state = &request.context.state;
        let target =
            Target::resolve(state.store.as_ref(), config).map_err(|error| calling(&error))?;
        let review = json!({
            "kind": "AdmissionReview",
            "apiVersion": format!("admission.k8s.io/{version}"),
            "request": question,
        });
        let body = Bytes::from(review.to_string());
        let posted = state.webhooks.post(&target, self.timeout, body).await;
        posted.map_err(|error| calling(&error))
    }

    async fn ask_here(
        &self,
        handler: &dyn Handler,
        question: Map<String, Value>,
    ) -> Result<Answer, Failure> {
        let question: AdmissionRequest = serde_json::from_value(Value::Object(question))
            .map_err(|error| Failure::Calling(error.to_string()))?;
        match tokio::time::timeout(self.timeout, handler.review(&question)).await {
            Ok(answer) => Ok(Answer::of(answer)),
            Err(_) => Err(Failure::Calling(
                "failed to call webhook: context deadline exceeded".to_owned(),
            )),
        }
    }

    /// 500, where the failure policy is to refuse.
    pub fn failed(&self, why: &str) -> Status {
        Status::internal(format!("failed calling webhook {:?}: {why}", self.name))
    }
}
