//! `get`, and the shape in which any verb answers with one object.

use http::Response;
use model::{Status, object};
use serde_json::{Map, Value, json};
use store::Entry;

use crate::body::Body;
use crate::context::Context;
use crate::media::{Encoding, Shape};
use crate::{envelope, respond, table};

/// `GET` of one object.
pub async fn get(context: &Context) -> Result<Response<Body>, Status> {
    let key = context
        .definition
        .key(context.path.namespace.as_deref(), context.name());
    let entry = context
        .state
        .store
        .get(&key)
        .ok_or_else(|| context.not_found())?;
    check_version(context)?;
    render(context, 200, &entry).await
}

/// A `resourceVersion` in a get must be a number that has happened.
fn check_version(context: &Context) -> Result<(), Status> {
    let Some(text) = context.query.get("resourceVersion") else {
        return Ok(());
    };
    let wanted = super::list::parse_version(text)?;
    super::list::check_not_ahead(wanted, context.state.store.revision())
}

/// Answers with a stored object: the stored bytes themselves where that is what is asked for.
pub async fn render(context: &Context, code: u16, entry: &Entry) -> Result<Response<Body>, Status> {
    let accept = context.accept;
    let definition = &context.definition;
    let stored = definition.serves_as_stored(entry);
    if accept.shape == Shape::Object && accept.encoding == Encoding::Json && stored {
        return Ok(respond::bytes(
            code,
            "application/json",
            entry.bytes().clone(),
        ));
    }
    render_value(context, code, envelope::decode(entry)?).await
}

/// Answers with an object.
pub async fn render_value(
    context: &Context,
    code: u16,
    mut value: Value,
) -> Result<Response<Body>, Status> {
    context.definition.read(&context.state, &mut value).await?;
    let encoding = context.accept.encoding;
    let shaped = match context.accept.shape {
        Shape::Object | Shape::AggregatedDiscovery(_) => value,
        Shape::Table(version) => table::one(context, version, value)?,
        Shape::Metadata(version) => metadata_only(&value, version),
        Shape::MetadataList(_) => return Err(not_a_list(context)),
    };
    Ok(respond::value(code, &shaped, encoding))
}

fn not_a_list(context: &Context) -> Status {
    Status::new(
        model::Reason::NotAcceptable,
        format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
            context.definition.go_type(false)
        ),
    )
}

/// As upstream: an annotation that repeats a field is only there in whole objects.
fn drop_derived_annotation(metadata: &mut Map<String, Value>) {
    let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.remove("deprecated.daemonset.template.generation");
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// An object with nothing but its metadata.
pub fn metadata_only(value: &Value, version: &str) -> Value {
    let mut metadata = object::metadata(value).cloned().unwrap_or_default();
    if object::text(value, &["kind"]) == "DaemonSet" {
        drop_derived_annotation(&mut metadata);
    }
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
    })
}
