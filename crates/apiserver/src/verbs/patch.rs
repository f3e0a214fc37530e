//! `patch`: JSON patch, merge patch, strategic merge patch and server-side apply.

use http::Response;
use model::{Reason, Status, StatusCause, object};
use patch::{FieldSet, JsonPatch};
use serde_json::Value;

use super::create::{create_object, place};
use super::update::{answer, may_create};
use crate::body::Body;
use crate::context::Context;
use crate::go_json::syntax_error;
use crate::media;
use crate::write::{
    Outcome, Update, Versions, decode_value, reset_fields, update_object, yaml_to_value,
};

/// The kinds of patch.
enum Patch {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

/// `PATCH` of one object, or of its status.
pub async fn patch(context: &mut Context) -> Result<Response<Body>, Status> {
    let parsed = parse(context)?;
    match parsed {
        Patch::Apply(config) => {
            context.apply = true;
            apply(context, config).await
        }
        other => modify(context, &other).await,
    }
}

fn parse(context: &Context) -> Result<Patch, Status> {
    let json = |body: &[u8]| -> Result<Value, Status> {
        serde_json::from_slice(body).map_err(|error| {
            Status::bad_request(format!(
                "error decoding patch: {}",
                syntax_error(body, &error)
            ))
        })
    };
    let media_type = if context.headers.contains_key(http::header::CONTENT_TYPE) {
        media::content_type(&context.headers)
    } else {
        ""
    };
    match media_type {
        "application/json-patch+json" => JsonPatch::parse(&context.body)
            .map(Patch::Json)
            .map_err(|error| patch_error(context, &error)),
        "application/merge-patch+json" => json(&context.body).map(Patch::Merge),
        "application/strategic-merge-patch+json" if context.definition.custom.is_none() => {
            json(&context.body).map(Patch::Strategic)
        }
        "application/apply-patch+yaml" => yaml_to_value(&context.body)
            .map_err(|error| Status::bad_request(format!("error decoding YAML: {}", error.message)))
            .map(Patch::Apply),
        _ => Err(media::unsupported()),
    }
}

async fn modify(context: &Context, patch: &Patch) -> Result<Response<Body>, Status> {
    if context.query.get("force").is_some() {
        let path = model::FieldPath::new("force");
        let error = model::FieldError::forbidden(&path, "may not be specified for non-apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let subresource = context.subresource().to_owned();
    // A patch that names a version is not tried again on another one.
    let versioned = match patch {
        Patch::Merge(value) | Patch::Strategic(value) => {
            !object::resource_version(value).is_empty()
        }
        _ => false,
    };
    let update = Update {
        subresource: &subresource,
        applied: false,
        versioned,
    };
    let change = |live: &Value| patched(context, patch, live);
    match update_object(context, &update, &change).await? {
        Some(Outcome { kept }) => answer(context, 200, kept),
        None => Err(context.not_found()),
    }
}

/// The object a patch makes of the current one.
fn patched(context: &Context, patch: &Patch, live: &Value) -> Result<Value, Status> {
    let new = match patch {
        Patch::Json(patch) => patch
            .apply(live)
            .map_err(|error| patch_error(context, &error))?,
        Patch::Merge(patch) => {
            let mut new = live.clone();
            patch::merge_patch(&mut new, patch);
            new
        }
        Patch::Strategic(patch) => {
            patch::strategic_merge(&context.definition.schema, live.clone(), patch)
                .map_err(|error| patch_error(context, &error))?
        }
        Patch::Apply(_) => return Err(Status::internal("an apply is no patch")),
    };
    let definition = &context.definition;
    let text = serde_json::to_vec(&new).map_err(Status::internal)?;
    if !new.is_object() {
        return Err(Status::bad_request("the patch does not make an object"));
    }
    let custom = definition.custom.is_some();
    let new = decode_value(
        context,
        &definition.kind,
        &definition.schema,
        custom,
        new,
        &text,
    )?;
    if object::name(&new) != object::name(live) {
        let error = model::FieldError::invalid(
            &model::FieldPath::new("metadata.name"),
            object::name(&new),
            "field is immutable",
        );
        return Err(context.invalid(object::name(&new), &[error]));
    }
    Ok(new)
}

fn patch_error(context: &Context, error: &patch::Error) -> Status {
    match error {
        patch::Error::Malformed(message) => Status::bad_request(message.clone()),
        patch::Error::Unfit(detail) => {
            let value = String::from_utf8_lossy(&context.body).into_owned();
            let path = model::FieldPath::new("patch");
            let error = model::FieldError::invalid(&path, value, detail.clone());
            let mut status = Status::invalid("", "", "", &[error]);
            status.message = status.message.trim_start().to_owned();
            status
        }
        patch::Error::Unprocessable => {
            let mut status = Status::new(Reason::Invalid, error.to_string());
            status.details = Some(Box::default());
            status
        }
        patch::Error::Internal(message) => bare_internal(message.clone()),
        patch::Error::Conflicts { message, causes } => {
            let mut status = Status::new(Reason::Conflict, message.clone());
            status.details.get_or_insert_default().causes = causes
                .iter()
                .map(|conflict| StatusCause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: conflict.message.clone(),
                    field: conflict.field.clone(),
                })
                .collect();
            status
        }
    }
}

/// 500 without a reason, for what upstream has no better answer to.
fn bare_internal(message: String) -> Status {
    let mut status = Status::internal("");
    (status.message, status.reason, status.details) = (message, String::new(), None);
    status
}

async fn apply(context: &Context, mut config: Value) -> Result<Response<Body>, Status> {
    let definition = &context.definition;
    check_config(context, &mut config)?;
    place(context, &mut config)?;
    let force = context.query.flag("force");
    let manager = context.field_manager()?;
    let subresource = context.subresource().to_owned();
    let reset = reset_fields(definition, &subresource)?;
    let now = context.now();
    let merge = |live: Option<&Value>| -> Result<Value, Status> {
        merged(
            context,
            &manager,
            &subresource,
            &now,
            &reset,
            live,
            &config,
            force,
        )
    };
    let versioned = !object::resource_version(&config).is_empty();
    let update = Update {
        subresource: &subresource,
        applied: true,
        versioned,
    };
    let change = |live: &Value| merge(Some(live));
    if let Some(Outcome { kept }) = update_object(context, &update, &change).await? {
        return answer(context, 200, kept);
    }
    if !subresource.is_empty() {
        return Err(context.not_found());
    }
    if !object::uid(&config).is_empty() {
        return Err(context.conflict(
            "uid mismatch: the provided object specified uid, and no existing object was found",
        ));
    }
    may_create(context)?;
    let object = merge(None)?;
    answer(context, 201, create_object(context, object).await?)
}

/// What an applied configuration must say of itself.
fn check_config(context: &Context, config: &mut Value) -> Result<(), Status> {
    if !config.is_object() {
        return Err(Status::bad_request(
            "error decoding YAML: expected an object",
        ));
    }
    let definition = &context.definition;
    let (version, kind) = (
        object::text(config, &["apiVersion"]),
        object::text(config, &["kind"]),
    );
    if kind.is_empty() {
        return Err(Status::bad_request(format!(
            "Object 'Kind' is missing in '{config}'"
        )));
    }
    if version != definition.kind.api_version() || kind != definition.kind.kind {
        return Err(Status::bad_request(format!(
            "incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            definition.kind.api_version()
        )));
    }
    let name = object::name(config);
    if !name.is_empty() && name != context.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            context.name()
        )));
    }
    if name.is_empty() {
        let name = context.name().to_owned();
        object::metadata_mut(config).insert("name".to_owned(), name.into());
    }
    if !object::list(config, &["metadata", "managedFields"]).is_empty() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one call of the merge"
)]
fn merged(
    context: &Context,
    manager: &str,
    subresource: &str,
    now: &str,
    reset: &FieldSet,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, Status> {
    let write = patch::Write {
        manager,
        subresource,
        now,
        versions: &Versions(context),
        reset_fields: reset,
    };
    let mut merged =
        patch::apply(&write, live, config, force).map_err(|error| patch_error(context, &error))?;
    let definition = &context.definition;
    if definition.custom.is_some() {
        schema::coerce_metadata(&definition.schema, &mut merged)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        schema::prune(&definition.schema, &mut merged);
    } else {
        schema::decode(&definition.schema, &mut merged)
            .map_err(|error| bare_internal(error.to_string()))?;
    }
    Ok(merged)
}
