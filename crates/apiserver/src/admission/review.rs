//! A write as expressions and webhooks see it: an AdmissionRequest.

use model::{GroupVersionKind, GroupVersionResource, Status};
use serde_json::{Map, Value, json};

use super::{Operation, Request};
use crate::catalog::Definition;
use crate::identity::User;
use crate::write::yaml_to_value;
use crate::{go_json, media};

/// The AdmissionRequest without its objects; `matched` is the resource under which the write matched.
pub fn request_value(request: &Request<'_>, matched: &Definition) -> Map<String, Value> {
    let own = &request.context.definition;
    let matched_kind = if request.kind == own.kind {
        &matched.kind
    } else {
        &request.kind
    };
    let mut value = Map::new();
    let mut put = |name: &str, member: Value| value.insert(name.to_owned(), member);
    put("kind", kind(matched_kind));
    put("resource", resource(&matched.gvr));
    put("requestKind", kind(&request.kind));
    put("requestResource", resource(&own.gvr));
    for (name, text) in [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", &request.name),
        ("namespace", request.namespace()),
    ] {
        if !text.is_empty() {
            put(name, json!(text));
        }
    }
    put("operation", json!(request.operation.as_str()));
    put("userInfo", user_info(&request.context.user));
    put("dryRun", json!(request.dry_run));
    put("options", options(request));
    value
}

fn kind(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn resource(resource: &GroupVersionResource) -> Value {
    json!({"group": resource.group, "version": resource.version, "resource": resource.resource})
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// The options of the write.
fn options(request: &Request<'_>) -> Value {
    let context = request.context;
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = if request.operation == Operation::Delete {
        delete_options(request).unwrap_or_default()
    } else {
        let mut options = Map::new();
        for name in ["fieldManager", "fieldValidation"] {
            if let Some(value) = context.query.get(name) {
                options.insert(name.to_owned(), json!(value));
            }
        }
        options
    };
    if request.dry_run {
        options.insert("dryRun".to_owned(), json!(["All"]));
    }
    options.insert("kind".to_owned(), json!(kind));
    options.insert("apiVersion".to_owned(), json!("meta.k8s.io/v1"));
    Value::Object(options)
}

fn delete_options(request: &Request<'_>) -> Option<Map<String, Value>> {
    let context = request.context;
    if context.body.is_empty() {
        let mut options = Map::new();
        if let Ok(Some(seconds)) = context.query.number("gracePeriodSeconds") {
            options.insert("gracePeriodSeconds".to_owned(), json!(seconds));
        }
        if let Some(policy) = context.query.get("propagationPolicy") {
            options.insert("propagationPolicy".to_owned(), json!(policy));
        }
        return Some(options);
    }
    let parsed: Result<Value, Status> = match media::content_type(&context.headers) {
        "application/yaml" => yaml_to_value(&context.body),
        protobuf::MEDIA_TYPE => protobuf::decode(&context.body).map_err(Status::internal),
        _ => go_json::parse(&context.body, "DeleteOptions"),
    };
    match parsed {
        Ok(Value::Object(options)) => Some(options),
        _ => None,
    }
}
