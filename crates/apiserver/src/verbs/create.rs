//! `create`.

use http::Response;
use model::{Reason, Status, object};
use serde_json::{Value, json};
use store::{Change, Error, Expect, Write};

use super::get::{render, render_value};
use crate::admission::{self, Operation};
use crate::body::Body;
use crate::context::Context;
use crate::custom;
use crate::identity::{check_grants, note_requester};
use crate::subresources::review;
use crate::write::{
    Kept, canonical, canonical_unstored, default_object, drop_equal_owners, encode_with_text,
    is_definition, opaque, random_suffix, store_error, track, validate_create,
};

/// How often a generated name is tried, as upstream.
const GENERATED_NAME_ATTEMPTS: usize = 8;

/// `POST` to a collection.
pub async fn create(context: &Context) -> Result<Response<Body>, Status> {
    if let Some(answer) = review(context).await {
        return answer;
    }
    let object = context.definition.decode(context)?;
    match create_object(context, object).await? {
        Kept::Entry(entry) => render(context, 201, &entry).await,
        Kept::Value(value) => render_value(context, 201, *value).await,
    }
}

/// Makes a new object.
pub async fn create_object(context: &Context, mut object: Value) -> Result<Kept, Status> {
    place(context, &mut object)?;
    if !object::resource_version(&object).is_empty() {
        return Err(Status::bare_internal(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let generate = object::text(&object, &["metadata", "generateName"]).to_owned();
    let generated = object::name(&object).is_empty() && !generate.is_empty();
    for _ in 0..GENERATED_NAME_ATTEMPTS {
        match store_new(context, object.clone()).await {
            Err(status) if generated && status.reason == Reason::AlreadyExists.as_str() => {}
            outcome => return outcome,
        }
    }
    Err(context.conflict("no free name was found for generateName; try again"))
}

/// The object's namespace must be the path's; what has none is given none.
pub fn place(context: &Context, object: &mut Value) -> Result<(), Status> {
    let namespace = context.namespace().to_owned();
    let own = object::namespace(object);
    if own == namespace {
        return Ok(());
    }
    if !own.is_empty() && context.definition.namespaced() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let metadata = object::metadata_mut(object);
    metadata.remove("namespace");
    if context.definition.namespaced() {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    Ok(())
}

async fn store_new(context: &Context, mut object: Value) -> Result<Kept, Status> {
    let definition = &context.definition;
    if definition
        .custom
        .as_ref()
        .is_some_and(|custom| custom.is_terminating)
    {
        let (gvr, name) = (&definition.gvr, object::name(&object));
        let why = "create not allowed while custom resource definition is terminating";
        return Err(Status::forbidden(&gvr.group, &gvr.resource, name, why));
    }
    let metadata = object::metadata_mut(&mut object);
    for name in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        metadata.remove(name);
    }
    metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".to_owned(), context.now().into());
    default_object(definition, &mut object);
    canonical_unstored(definition, &mut object);
    drop_equal_owners(context, &mut object);
    // As upstream: what admission and the server itself add belongs to nobody.
    if !context.apply {
        track(context, "", None, &mut object)?;
    }
    let mut request = admission::Request::new(context, Operation::Create, "", None);
    object::name(&object).clone_into(&mut request.name);
    admission::mutate(&request, &mut object).await?;
    generate_name(&mut object);
    definition.behaviour().before_create(&mut object);
    note_requester(context, &mut object);
    if let Some(stamp) = definition.behaviour().stamp {
        stamp(&mut object, None, &context.now());
    }
    if is_definition(definition) {
        object["status"] = custom::initial_status(&object);
    }
    canonical(definition, &mut object);
    check_grants(context, &object, None)?;
    context
        .state
        .allocator
        .settle(definition, &mut object, None)?;
    let errors = validate_create(context, &object);
    if !errors.is_empty() {
        return Err(context.invalid(object::name(&object), &errors));
    }
    admission::validate(&request, &object).await?;
    let dry_run = context.dry_run()?;
    let reserved = context
        .state
        .allocator
        .reserve(definition, &mut object, None, dry_run)
        .await?;
    let name = object::name(&object).to_owned();
    let key = definition.key(context.path.namespace.as_deref(), &name);
    if dry_run {
        if let Some(there) = context.state.store.get(&key) {
            return Err(exists(context, &name, Some(&there)));
        }
        return Ok(Kept::Value(Box::new(object)));
    }
    let text = opaque::sent(context, &object);
    let converted = definition.for_storage(&context.state, &object).await?;
    let stored = converted.as_ref().unwrap_or(&object);
    let change = Change::Put(encode_with_text(definition, stored, text.as_deref())?);
    match context
        .state
        .store
        .commit(Write {
            key,
            expect: Expect::Absent,
            change,
        })
        .await
    {
        Ok(entry) => {
            reserved.keep();
            admission::written(context, &json!(null), &entry, false).await;
            Ok(Kept::Entry(entry))
        }
        Err(Error::Conflict { current, .. }) => {
            reserved.give_back().await;
            Err(exists(context, &name, current.as_deref()))
        }
        Err(other) => Err(store_error(&other)),
    }
}

/// Makes up a name, where the client and admission leave it to the server.
fn generate_name(object: &mut Value) {
    let base = object::text(object, &["metadata", "generateName"]);
    if object::name(object).is_empty() && !base.is_empty() {
        let name = random_suffix(base);
        object::metadata_mut(object).insert("name".to_owned(), name.into());
    }
}

/// 409; worded differently where the name is free as soon as a deletion has ended.
fn exists(context: &Context, name: &str, current: Option<&store::Entry>) -> Status {
    let gvr = &context.definition.gvr;
    let mut status = Status::already_exists(&gvr.group, &gvr.resource, name);
    let deleting = current
        .and_then(|entry| crate::envelope::decode(entry).ok())
        .is_some_and(|object| object::is_deleting(&object));
    if deleting {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}
