//! `update`: replacing an object.

use http::Response;
use model::{Status, object};
use serde_json::Value;

use super::create::{create_object, place};
use super::get::{render, render_value};
use crate::body::Body;
use crate::context::Context;
use crate::identity::Attributes;
use crate::write::{Kept, Outcome, Update, check_name, update_object, wrong_uid};

/// `PUT` of one object, or of its status.
pub async fn update(context: &Context) -> Result<Response<Body>, Status> {
    let mut object = context.definition.decode(context)?;
    place(context, &mut object)?;
    check_name(context, &object)?;
    let version = object::resource_version(&object);
    let versioned = !version.is_empty() && version != "0";
    let subresource = context.subresource().to_owned();
    let update = Update {
        subresource: &subresource,
        applied: false,
        versioned,
        replaces: true,
    };
    let change = |_: &Value| Ok(object.clone());
    match update_object(context, &update, &change).await? {
        Some(Outcome { kept }) => answer(context, 200, kept).await,
        None => create_instead(context, object).await,
    }
}

/// Answers with what is there after a write.
pub async fn answer(context: &Context, code: u16, kept: Kept) -> Result<Response<Body>, Status> {
    match kept {
        Kept::Entry(entry) => render(context, code, &entry).await,
        Kept::Value(value) => render_value(context, code, *value).await,
    }
}

/// A PUT to a name that does not exist: created for the kinds that allow it, 404 for the rest.
async fn create_instead(context: &Context, mut object: Value) -> Result<Response<Body>, Status> {
    let allowed = context.definition.behaviour().create_on_update;
    if !allowed || context.path.subresource.is_some() {
        return Err(context.not_found());
    }
    let uid = object::uid(&object);
    if !uid.is_empty() {
        return Err(wrong_uid(context, uid, ""));
    }
    may_create(context)?;
    object::metadata_mut(&mut object).remove("resourceVersion");
    answer(context, 201, create_object(context, object).await?).await
}

/// Creating through another verb asks for the right to create.
pub fn may_create(context: &Context) -> Result<(), Status> {
    let gvr = &context.definition.gvr;
    let attributes = Attributes {
        verb: "create".to_owned(),
        group: gvr.group.clone(),
        resource: gvr.resource.clone(),
        namespace: context.namespace().to_owned(),
        name: context.name().to_owned(),
        ..Attributes::default()
    };
    let decision = context
        .state
        .authorizer
        .authorize(&context.user, &attributes);
    if !decision.is_allowed() {
        let why = format!(
            "User \"{}\" cannot create resource \"{}\" in API group \"{}\"",
            context.user.name, gvr.resource, gvr.group
        );
        return Err(Status::forbidden(
            &gvr.group,
            &gvr.resource,
            context.name(),
            &why,
        ));
    }
    Ok(())
}
