//! `delete` and `deletecollection`: preconditions, propagation, finalizers and grace.

use http::Response;
use model::{FieldError, FieldPath, Status, object};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Change, Entry, Error, Expect, Revision, Write};

use super::get::{render, render_value};
use crate::admission::{self, Operation};
use crate::body::Body;
use crate::catalog::Definition;
use crate::context::{Context, timestamp};
use crate::custom;
use crate::envelope;
use crate::selection::Selection;
use crate::write::{Kept, encode_object, is_definition, store_error};
use crate::{go_json, media, respond};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const ATTEMPTS_MAX: usize = 50;

/// `DeleteOptions`, from the body or the query.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    /// Seconds until a graceful end.
    pub grace_period_seconds: Option<i64>,
    /// What the object must be.
    pub preconditions: Option<Preconditions>,
    /// What becomes of its dependents.
    pub propagation_policy: Option<String>,
    /// The older form of the same.
    pub orphan_dependents: Option<bool>,
    /// Whether the deletion is only tried out.
    pub dry_run: Option<Vec<String>>,
}

/// What an object must be for it to be deleted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    /// Its uid.
    pub uid: Option<String>,
    /// Its version.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// The options of a request.
    pub fn of(context: &Context) -> Result<Self, Status> {
        let mut options = if context.body.is_empty() {
            Self::default()
        } else {
            Self::parse(context)?
        };
        let query = &context.query;
        if context.body.is_empty() {
            options.grace_period_seconds = query.number("gracePeriodSeconds")?;
            options.propagation_policy = query.get("propagationPolicy").map(str::to_owned);
            options.orphan_dependents = query
                .get("orphanDependents")
                .map(|_| query.flag("orphanDependents"));
        }
        options.check()?;
        Ok(options)
    }

    fn parse(context: &Context) -> Result<Self, Status> {
        let body = &context.body;
        let value: Value = match media::content_type(&context.headers) {
            "application/json" => serde_json::from_slice(body).map_err(|error| {
                let why = go_json::syntax_error(body, &error);
                Status::bad_request(format!(
                    "couldn't get version/kind; json parse error: {why}"
                ))
            })?,
            "application/yaml" => crate::write::yaml_to_value(body)?,
            protobuf::MEDIA_TYPE => protobuf::decode(body).map_err(|error| {
                Status::bad_request(format!("decoding the protobuf body: {error}"))
            })?,
            _ => return Err(media::unknown_body(false)),
        };
        check_options_kind(&value)?;
        serde_json::from_value(value).map_err(|error| Status::bad_request(error.to_string()))
    }

    fn check(&self) -> Result<(), Status> {
        let mut errors = Vec::new();
        let path = FieldPath::new("propagationPolicy");
        if self.propagation_policy.is_some() && self.orphan_dependents.is_some() {
            let policy = self.propagation_policy.clone().unwrap_or_default();
            errors.push(FieldError::invalid(
                &path,
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if let Some(policy) = &self.propagation_policy
            && !["Background", "Foreground", "Orphan"].contains(&policy.as_str())
        {
            errors.push(FieldError::not_supported(
                &path,
                policy.as_str(),
                &["Background", "Foreground", "Orphan", "nil"],
            ));
        }
        for value in self
            .dry_run
            .iter()
            .flatten()
            .filter(|value| *value != "All")
        {
            let path = FieldPath::new("dryRun");
            errors.push(FieldError::not_supported(&path, value.as_str(), &["All"]));
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors))
    }

    fn is_dry_run(&self) -> bool {
        self.dry_run.iter().flatten().any(|value| value == "All")
    }

    /// `Orphan`, `Foreground`, `Background`, or nothing.
    fn policy(&self) -> Option<&str> {
        match (&self.propagation_policy, self.orphan_dependents) {
            (Some(policy), _) => Some(policy),
            (None, Some(true)) => Some("Orphan"),
            (None, Some(false)) => Some("Background"),
            (None, None) => None,
        }
    }
}

/// A body that says what it is must be `DeleteOptions`, of any group.
fn check_options_kind(value: &Value) -> Result<(), Status> {
    let (kind, version) = (
        object::text(value, &["kind"]),
        object::text(value, &["apiVersion"]),
    );
    match kind {
        "" | "DeleteOptions" => Ok(()),
        "ListOptions" | "GetOptions" | "CreateOptions" | "UpdateOptions" | "PatchOptions" => Err(
            Status::bad_request("decoded object cannot be converted to DeleteOptions"),
        ),
        _ => Err(Status::bad_request(format!(
            "no kind \"{kind}\" is registered for version \"{version}\" in scheme \
             \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
        ))),
    }
}

/// What a deletion came to.
pub struct Deleted {
    kept: Kept,
    /// Whether the object is there no more.
    gone: bool,
}

/// `DELETE` of one object.
pub async fn delete(context: &Context) -> Result<Response<Body>, Status> {
    let options = DeleteOptions::of(context)?;
    let key = context
        .definition
        .key(context.path.namespace.as_deref(), context.name());
    warn_of_dependents(context, &options);
    let deleted = delete_object(context, &key, &options).await?;
    let returns_object = context.definition.behaviour().delete_returns_object;
    if deleted.gone && !returns_object {
        let value = match &deleted.kept {
            Kept::Entry(entry) => envelope::decode(entry)?,
            Kept::Value(value) => (**value).clone(),
        };
        return Ok(respond::value(
            200,
            &success(context, &value),
            context.accept.encoding,
        ));
    }
    match deleted.kept {
        Kept::Entry(entry) => render(context, 200, &entry).await,
        Kept::Value(value) => render_value(context, 200, *value).await,
    }
}

/// Some kinds keep their dependents unless told otherwise, which few expect.
fn warn_of_dependents(context: &Context, options: &DeleteOptions) {
    let gvr = &context.definition.gvr;
    let is_open = options.propagation_policy.is_none() && options.orphan_dependents.is_none();
    if let Some(warning) = kinds::deletion_warning(&gvr.group, &gvr.resource).filter(|_| is_open) {
        context.warn(warning);
    }
}

fn success(context: &Context, value: &Value) -> Value {
    let gvr = &context.definition.gvr;
    let mut details = json!({
        "name": object::name(value),
        "kind": gvr.resource,
        "uid": object::uid(value),
    });
    if !gvr.group.is_empty() {
        details["group"] = json!(gvr.group);
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}

/// `DELETE` of a collection: every selected object, each as if it were deleted alone.
pub async fn delete_collection(context: &Context) -> Result<Response<Body>, Status> {
    let options = DeleteOptions::of(context)?;
    warn_of_dependents(context, &options);
    let selection = Selection::of(context)?;
    let page = super::list::page(context, &selection)?;
    // As upstream: the answer has the objects as they were listed.
    let mut items = Vec::with_capacity(page.entries.len());
    for entry in &page.entries {
        match delete_object(context, entry.key(), &options).await {
            Ok(_) => items.push(envelope::decode(entry)?),
            // Somebody else has deleted it in the meantime.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let custom = context.definition.custom.is_some();
    context
        .definition
        .read_all(&context.state, &mut items)
        .await?;
    for item in &mut items {
        if !custom && let Some(members) = item.as_object_mut() {
            members.remove("kind");
            members.remove("apiVersion");
        }
    }
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if custom {
        metadata["continue"] = json!("");
    }
    let list = json!({
        "kind": context.definition.list_kind,
        "apiVersion": context.definition.kind.api_version(),
        "metadata": metadata,
        "items": items,
    });
    Ok(respond::value(200, &list, context.accept.encoding))
}

/// Deletes what is at a key, or begins to.
pub async fn delete_object(
    context: &Context,
    key: &std::sync::Arc<str>,
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(entry) = context.state.store.get(key) else {
            let gvr = &context.definition.gvr;
            let (_, name) = envelope::name_of(key);
            return Err(Status::not_found(&gvr.group, &gvr.resource, name));
        };
        let mut live = envelope::decode(&entry)?;
        context.definition.read(&context.state, &mut live).await?;
        check_preconditions(context, options, &live)?;
        check_protected(context, &live)?;
        let dry_run = options.is_dry_run() || context.dry_run()?;
        if context.subresource().is_empty() {
            let mut request = admission::Request::new(context, Operation::Delete, "", Some(&live));
            request.dry_run = dry_run;
            admission::mutate(&request, &mut Value::Null).await?;
            admission::validate(&request, &Value::Null).await?;
        }
        let live = if is_definition(&context.definition) {
            held_for_its_objects(live)
        } else {
            live
        };
        let mut plan = plan(
            &context.definition,
            options,
            &live,
            (context.state.options.clock)(),
        );
        if let Plan::Wait(new) = &mut plan
            && is_definition(&context.definition)
            && !object::is_deleting(&live)
        {
            custom::mark_terminating(new, &live, &context.now());
        }
        if dry_run {
            let gone = plan.is_final();
            let kept = Kept::Value(Box::new(plan.object().unwrap_or(live)));
            return Ok(Deleted { kept, gone });
        }
        match carry_out(context, &entry, &live, plan).await? {
            Some(deleted) => return Ok(deleted),
            None => tokio::task::yield_now().await,
        }
    }
    Err(crate::write::modified(context))
}

/// The priority classes of the system stay.
fn check_protected(context: &Context, live: &Value) -> Result<(), Status> {
    let gvr = &context.definition.gvr;
    let name = object::name(live);
    if gvr.resource == "priorityclasses"
        && gvr.group == "scheduling.k8s.io"
        && matches!(name, "system-node-critical" | "system-cluster-critical")
    {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Status::forbidden(&gvr.group, &gvr.resource, name, why));
    }
    Ok(())
}

/// What a deletion makes of an object.
#[derive(Debug, PartialEq)]
enum Plan {
    /// It goes at once.
    Gone,
    /// It is on its way already; nothing changes.
    Pending,
    /// It becomes this until its finalizers and its grace are over.
    Wait(Value),
    /// It becomes this, which watchers get to see, and then goes at once.
    WaitNot(Value),
}

impl Plan {
    /// Whether nothing is left afterwards.
    fn is_final(&self) -> bool {
        matches!(self, Self::Gone | Self::WaitNot(_))
    }

    /// What becomes of the object, where it changes.
    fn object(self) -> Option<Value> {
        match self {
            Self::Gone | Self::Pending => None,
            Self::Wait(object) | Self::WaitNot(object) => Some(object),
        }
    }
}

/// What a deletion makes of an object, as upstream's `BeforeDelete` has it. Pure.
fn plan(
    definition: &Definition,
    options: &DeleteOptions,
    live: &Value,
    now: jiff::Timestamp,
) -> Plan {
    let mut new = live.clone();
    let grace = if object::is_deleting(live) {
        match object::number(live, &["metadata", "deletionGracePeriodSeconds"]) {
            None if has_spec_finalizers(live) => return Plan::Pending,
            None => None,
            // What is being deleted can only be deleted sooner.
            Some(old) => match options.grace_period_seconds {
                Some(wanted) if wanted < old => {
                    bring_forward(&mut new, old, wanted);
                    Some(wanted)
                }
                _ => return Plan::Pending,
            },
        }
    } else {
        let grace = definition
            .behaviour()
            .grace_period_seconds
            .map(|period| period(live, options.grace_period_seconds));
        if let Some(grace) = grace {
            mark_deleting(&mut new, now, grace);
        }
        grace
    };
    let finalizers = finalizers_after(definition, options.policy(), live);
    let held = !finalizers.is_empty();
    let metadata = object::metadata_mut(&mut new);
    metadata.remove("finalizers");
    if held {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
    if is_namespace(live) && !object::is_deleting(live) {
        mark_deleting(&mut new, now, 0);
        object::metadata_mut(&mut new).remove("deletionGracePeriodSeconds");
        object::child_mut(&mut new, "status").insert("phase".to_owned(), "Terminating".into());
        return Plan::Wait(new);
    }
    match grace {
        Some(grace) if held || grace > 0 => Plan::Wait(new),
        Some(_) => Plan::WaitNot(new),
        None if held => {
            mark_deleting(&mut new, now, 0);
            Plan::Wait(new)
        }
        None => Plan::Gone,
    }
}

/// Notes that an object is being deleted, unless that is noted already.
fn mark_deleting(object: &mut Value, now: jiff::Timestamp, grace: i64) {
    if object::is_deleting(object) {
        return;
    }
    let generation = object::generation(object);
    let end = now + jiff::SignedDuration::from_secs(grace);
    let metadata = object::metadata_mut(object);
    if generation > 0 {
        metadata.insert("generation".to_owned(), json!(generation + 1));
    }
    metadata.insert("deletionTimestamp".to_owned(), timestamp(end).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
}

/// Ends a running grace period sooner: counted from when the deletion was asked for first.
fn bring_forward(object: &mut Value, old: i64, wanted: i64) {
    let end = object::text(object, &["metadata", "deletionTimestamp"]).parse::<jiff::Timestamp>();
    let metadata = object::metadata_mut(object);
    if let Ok(end) = end {
        let sooner = end - jiff::SignedDuration::from_secs(old.saturating_sub(wanted));
        metadata.insert("deletionTimestamp".to_owned(), timestamp(sooner).into());
    }
    metadata.insert("deletionGracePeriodSeconds".to_owned(), wanted.into());
}

fn is_namespace(object: &Value) -> bool {
    object::text(object, &["kind"]) == "Namespace"
}

/// A definition stays until its objects are gone.
fn held_for_its_objects(mut live: Value) -> Value {
    if !object::is_deleting(&live)
        && !object::finalizers(&live).any(|finalizer| finalizer == custom::FINALIZER)
    {
        let finalizers = object::metadata_mut(&mut live)
            .entry("finalizers")
            .or_insert_with(|| json!([]));
        if let Some(finalizers) = finalizers.as_array_mut() {
            finalizers.push(json!(custom::FINALIZER));
        }
    }
    live
}

fn has_spec_finalizers(live: &Value) -> bool {
    is_namespace(live) && !object::list(live, &["spec", "finalizers"]).is_empty()
}

/// The finalizers an object has once its deletion has begun.
fn finalizers_after(definition: &Definition, policy: Option<&str>, live: &Value) -> Vec<String> {
    let mut finalizers: Vec<String> = object::finalizers(live).map(str::to_owned).collect();
    let gvr = &definition.gvr;
    // As upstream: these orphan their dependents unless told otherwise.
    let orphans = matches!(
        (gvr.group.as_str(), gvr.resource.as_str()),
        ("", "replicationcontrollers") | ("batch", "jobs")
    );
    let policy = policy.or_else(|| {
        let has = |name: &str| finalizers.iter().any(|f| f == name);
        (orphans && !has(FOREGROUND) && !has(ORPHAN)).then_some("Orphan")
    });
    if let Some(policy) = policy {
        finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
        match policy {
            "Orphan" => finalizers.push(ORPHAN.to_owned()),
            "Foreground" => finalizers.push(FOREGROUND.to_owned()),
            _ => {}
        }
    }
    finalizers
}

fn check_preconditions(
    context: &Context,
    options: &DeleteOptions,
    live: &Value,
) -> Result<(), Status> {
    let Some(preconditions) = &options.preconditions else {
        return Ok(());
    };
    let definition = &context.definition;
    // As upstream: it names the kind here where every other conflict names the resource.
    let refuse = |what: &str, wanted: &str, found: &str, how: &str| {
        Err(Status::conflict(
            &definition.gvr.group,
            &definition.kind.kind,
            object::name(live),
            &format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). \
                 The object might have been {how}"
            ),
        ))
    };
    let (uid, version) = (object::uid(live), object::resource_version(live));
    match preconditions {
        Preconditions {
            uid: Some(wanted), ..
        } if wanted != uid => refuse("UID", wanted, uid, "deleted and then recreated"),
        Preconditions {
            resource_version: Some(wanted),
            ..
        } if wanted != version => refuse("ResourceVersion", wanted, version, "modified"),
        _ => Ok(()),
    }
}

/// Stores what a deletion makes of an object; `None` where somebody was faster.
async fn carry_out(
    context: &Context,
    entry: &Entry,
    live: &Value,
    plan: Plan,
) -> Result<Option<Deleted>, Status> {
    let gone = plan.is_final();
    let wait = match plan {
        Plan::Gone => None,
        Plan::Pending => return Ok(Some(there(live.clone()))),
        Plan::Wait(new) if new == *live => return Ok(Some(there(new))),
        Plan::Wait(new) | Plan::WaitNot(new) => Some(new),
    };
    let last = wait.as_ref().unwrap_or(live);
    let converted = context.definition.for_storage(&context.state, last).await?;
    let last = converted.as_ref().unwrap_or(last);
    let mut expect = entry.revision();
    let mut kept = None;
    if wait.is_some() {
        let change = Change::Put(encode_object(&context.definition, last)?);
        let Some(stored) = commit(context, entry, expect, change).await? else {
            return Ok(None);
        };
        expect = stored.revision();
        kept = Some(stored);
    }
    if gone {
        let change = Change::Delete(encode_object(&context.definition, last)?);
        let Some(stored) = commit(context, entry, expect, change).await? else {
            return Ok(None);
        };
        kept = Some(stored);
    }
    let Some(stored) = kept else {
        return Ok(Some(there(live.clone())));
    };
    admission::written(context, live, &stored, gone).await;
    Ok(Some(Deleted {
        kept: Kept::Entry(stored),
        gone,
    }))
}

/// An object that a deletion leaves as it is.
fn there(object: Value) -> Deleted {
    Deleted {
        kept: Kept::Value(Box::new(object)),
        gone: false,
    }
}

async fn commit(
    context: &Context,
    entry: &Entry,
    expect: Revision,
    change: Change,
) -> Result<Option<std::sync::Arc<Entry>>, Status> {
    let write = Write {
        key: entry.key().clone(),
        expect: Expect::Revision(expect),
        change,
    };
    match context.state.store.commit(write).await {
        Ok(stored) => Ok(Some(stored)),
        Err(Error::Conflict { .. }) => Ok(None),
        Err(other) => Err(store_error(&other)),
    }
}
