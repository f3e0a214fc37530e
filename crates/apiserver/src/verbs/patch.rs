//! `patch`: JSON patch, merge patch, strategic merge patch and server-side apply.

use http::Response;
use model::{Reason, Status, StatusCause, object};
use patch::{FieldSet, JsonPatch};
use serde_json::{Map, Value};

use super::create::{create_object, place};
use super::update::{answer, may_create};
use crate::body::Body;
use crate::context::Context;
use crate::go_json::{go_value, syntax_error};
use crate::media;
use crate::write::{
    Outcome, Update, Versions, check_name, decode_patched, parse_yaml, reset_fields, update_object,
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
    let media_type = if context.headers.contains_key(http::header::CONTENT_TYPE) {
        media::content_type(&context.headers)
    } else {
        ""
    };
    let body = &context.body;
    match media_type {
        "application/json-patch+json" => JsonPatch::parse(body)
            .map(Patch::Json)
            .map_err(|error| patch_error(context, &error)),
        "application/merge-patch+json" => match json_object(body) {
            Ok(Value::Null) => Err(Status::bad_request("Invalid JSON Patch")),
            Ok(patch) => Ok(Patch::Merge(patch)),
            Err(why) => Err(Status::bad_request(format!("error decoding patch: {why}"))),
        },
        "application/strategic-merge-patch+json" if context.definition.custom.is_none() => {
            match json_object(body).map_err(Status::bad_request)? {
                Value::Null => Ok(Patch::Strategic(Value::Object(Map::new()))),
                patch => Ok(Patch::Strategic(patch)),
            }
        }
        "application/apply-patch+yaml" => configuration(body).map(Patch::Apply),
        _ => Err(media::unknown_patch(context.definition.custom.is_some())),
    }
}

/// A JSON object, or null; else what Go's decoder says.
fn json_object(body: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| syntax_error(body, &error))?;
    if value.is_object() || value.is_null() {
        return Ok(value);
    }
    Err(not_a_map(&value))
}

fn not_a_map(value: &Value) -> String {
    let kind = match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        _ => "bool",
    };
    format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
}

/// The configuration an apply brings; an empty one is an object that says nothing.
fn configuration(body: &[u8]) -> Result<Value, Status> {
    let refuse = |why: String| Status::bad_request(format!("error decoding YAML: {why}"));
    let value = parse_yaml(body)
        .map_err(|error| refuse(format!("error converting YAML to JSON: {error}")))?;
    match value {
        Value::Null => Ok(Value::Object(Map::new())),
        Value::Object(_) => Ok(value),
        other => Err(refuse(format!(
            "error unmarshaling JSON: while decoding JSON: {}",
            not_a_map(&other)
        ))),
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
        replaces: false,
    };
    let change = |live: &Value| patched(context, patch, live);
    match update_object(context, &update, &change).await? {
        Some(Outcome { kept }) => answer(context, 200, kept).await,
        None => Err(context.not_found()),
    }
}

/// The object a patch makes of the current one, checked and typed.
fn patched(context: &Context, patch: &Patch, live: &Value) -> Result<Value, Status> {
    let mut new =
        decode_patched(context, apply_patch(context, patch, live)?).map_err(|misfit| {
            misfit.with(|why| match patch {
                Patch::Strategic(patch) => unfit(go_value(patch), &why),
                // What came out is made once more, as it is not kept where all goes well.
                _ => match apply_patch(context, patch, live) {
                    Ok(object) => unfit(object.to_string(), &why),
                    Err(status) => status,
                },
            })
        })?;
    place(context, &mut new)?;
    check_name(context, &new)?;
    Ok(new)
}

/// What a patch makes of the current object.
fn apply_patch(context: &Context, patch: &Patch, live: &Value) -> Result<Value, Status> {
    match patch {
        Patch::Json(patch) => patch
            .apply(live)
            .map_err(|error| patch_error(context, &error)),
        Patch::Merge(patch) => {
            let mut new = live.clone();
            patch::merge_patch(&mut new, patch);
            Ok(new)
        }
        Patch::Strategic(patch) => {
            patch::strategic_merge(&context.definition.schema, live.clone(), patch).map_err(
                |error| match error {
                    patch::Error::Unfit(why) => unfit(go_value(patch), &why),
                    other => patch_error(context, &other),
                },
            )
        }
        Patch::Apply(_) => Err(Status::internal("an apply is no patch")),
    }
}

/// 422 for a patch that does not make an object of the kind.
fn unfit(shown: String, why: &str) -> Status {
    let path = model::FieldPath::new("patch");
    Status::invalid("", "", "", &[model::FieldError::invalid(&path, shown, why)])
}

/// What a client is told of a patch that cannot be applied.
pub fn patch_error(context: &Context, error: &patch::Error) -> Status {
    match error {
        patch::Error::Malformed(message) => Status::bad_request(message.clone()),
        patch::Error::Unfit(why) => unfit(String::from_utf8_lossy(&context.body).into_owned(), why),
        patch::Error::Unprocessable => {
            let mut status = Status::new(Reason::Invalid, error.to_string());
            status.details = Some(Box::default());
            status
        }
        patch::Error::Internal(message) => Status::bare_internal(message.clone()),
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

async fn apply(context: &Context, config: Value) -> Result<Response<Body>, Status> {
    let definition = &context.definition;
    let force = context.query.flag("force");
    let manager = context.field_manager()?;
    check_config(context, &config)?;
    let subresource = context.subresource().to_owned();
    let reset = reset_fields(definition, &subresource)?;
    let now = context.now();
    let merge = |live: Option<&Value>| -> Result<Value, Status> {
        let mut merged = merged(
            context,
            &manager,
            &subresource,
            &now,
            &reset,
            live,
            &config,
            force,
        )?;
        let uid = object::uid(&merged);
        if live.is_none() && !uid.is_empty() {
            return Err(context.conflict(&format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            )));
        }
        place(context, &mut merged)?;
        check_name(context, &merged)?;
        Ok(merged)
    };
    let versioned = !object::resource_version(&config).is_empty();
    let update = Update {
        subresource: &subresource,
        applied: true,
        versioned,
        replaces: false,
    };
    let change = |live: &Value| merge(Some(live));
    if let Some(Outcome { kept }) = update_object(context, &update, &change).await? {
        return answer(context, 200, kept).await;
    }
    if !subresource.is_empty() {
        return Err(context.not_found());
    }
    let mut object = merge(None)?;
    may_create(context)?;
    // As upstream: there is nothing the version could be compared with.
    object::metadata_mut(&mut object).remove("resourceVersion");
    answer(context, 201, create_object(context, object).await?).await
}

/// What an applied configuration must say of itself.
fn check_config(context: &Context, config: &Value) -> Result<(), Status> {
    let definition = &context.definition;
    let (version, kind) = (
        object::text(config, &["apiVersion"]),
        object::text(config, &["kind"]),
    );
    if version != definition.kind.api_version() || kind != definition.kind.kind {
        let group_version = if version.contains('/') {
            version.to_owned()
        } else {
            format!("/{version}")
        };
        return Err(Status::bad_request(format!(
            "invalid object type: {group_version}, Kind={kind}"
        )));
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
            .map_err(|error| Status::bare_internal(error.to_string()))?;
    }
    Ok(merged)
}
