//! `scale`: the replicas of an object, whatever its kind.

use http::Response;
use model::{FieldError, FieldPath, GroupVersionKind, Status, object};
use patch::JsonPatch;
use schema::Schema;
use serde_json::{Map, Value, json};

use crate::admission::{self, Request};
use crate::body::Body;
use crate::catalog::Definition;
use crate::context::Context;
use crate::custom::{self, ScalePaths};
use crate::media::Shape;
use crate::write::{
    Kept, Update, Versions, decode_body, decode_value, reset_fields, update_object,
};
use crate::{envelope, media, respond, table};

/// Where a kind keeps its replicas.
struct Paths {
    spec: Vec<String>,
    status: Vec<String>,
    selector: Option<Vec<String>>,
}

impl Paths {
    fn of(definition: &Definition) -> Self {
        let split = |path: &str| {
            path.split('.')
                .filter(|p| !p.is_empty())
                .map(str::to_owned)
                .collect()
        };
        if let Some(scale) = definition
            .custom
            .as_ref()
            .and_then(|custom| custom.scale.as_ref())
        {
            return Self {
                spec: split(&scale.spec_replicas),
                status: split(&scale.status_replicas),
                selector: scale.selector.as_deref().map(split),
            };
        }
        Self {
            spec: split("spec.replicas"),
            status: split("status.replicas"),
            selector: None,
        }
    }
}

fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// Sets the value at a path; what is no object on the way becomes one.
fn set(value: &mut Value, path: &[String], new: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut place = value;
    for name in parents {
        object::child_mut(place, name);
        match place.get_mut(name) {
            Some(child) => place = child,
            None => return,
        }
    }
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    if let Some(members) = place.as_object_mut() {
        members.insert(last.clone(), new);
    }
}

/// The Scale of an object.
fn scale_of(definition: &Definition, value: &Value) -> Result<Value, Status> {
    let paths = Paths::of(definition);
    let custom = definition
        .custom
        .as_ref()
        .and_then(|custom| custom.scale.as_ref());
    if let Some(scale) = custom {
        check_untyped(scale, value)?;
    }
    let number = |path: &[String]| at(value, path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = json!({
        "name": object::name(value),
        "uid": object::uid(value),
        "resourceVersion": object::resource_version(value),
        "creationTimestamp": object::text(value, &["metadata", "creationTimestamp"]),
    });
    if !object::namespace(value).is_empty() {
        metadata["namespace"] = json!(object::namespace(value));
    }
    let mut status = json!({"replicas": number(&paths.status)});
    let selector = match (&paths.selector, custom) {
        (Some(path), _) => at(value, path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        (None, Some(_)) => String::new(),
        (None, None) => selector_text(value),
    };
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    let replicas = number(&paths.spec);
    let spec = if replicas == 0 {
        json!({})
    } else {
        json!({"replicas": replicas})
    };
    Ok(json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }))
}

/// The numbers of a custom resource's scale may be anything in a stored object.
fn check_untyped(scale: &ScalePaths, value: &Value) -> Result<(), Status> {
    for path in [&scale.spec_replicas, &scale.status_replicas] {
        custom::nested(value, path, "int64", Value::is_i64).map_err(Status::internal)?;
    }
    if let Some(path) = &scale.selector {
        custom::nested(value, path, "string", Value::is_string).map_err(Status::internal)?;
    }
    Ok(())
}

/// The path of the wanted replicas of a custom resource, where the object has none.
fn missing<'a>(definition: &'a Definition, value: &Value) -> Option<&'a str> {
    let scale = definition.custom.as_ref()?.scale.as_ref()?;
    let found = at(value, &Paths::of(definition).spec);
    found.is_none().then_some(scale.spec_replicas.as_str())
}

/// The selector of a built-in workload in its query-string form.
fn selector_text(value: &Value) -> String {
    let Some(selector) = object::at(value, &["spec", "selector"]) else {
        return String::new();
    };
    if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        return model::LabelSelector::from_object(Some(selector))
            .map(|selector| selector.to_string())
            .unwrap_or_default();
    }
    let labels = selector.as_object().into_iter().flatten();
    labels
        .filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?)))
        .collect::<Vec<_>>()
        .join(",")
}

fn kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

fn schema() -> Schema {
    Schema::built_in("autoscaling", "v1", "Scale").unwrap_or_else(Schema::any)
}

/// A write to a scale, as admission sees it: a change of the Scale, whatever it is the scale of.
pub struct Scale<'a> {
    definition: &'a Definition,
    before: Value,
}

impl<'a> Scale<'a> {
    /// The scale of an object that is written through `subresource`, if that is its scale.
    pub fn of(
        context: &'a Context,
        subresource: &str,
        live: &Value,
    ) -> Result<Option<Self>, Status> {
        if subresource != "scale" {
            return Ok(None);
        }
        Ok(Some(Self {
            definition: &context.definition,
            before: scale_of(&context.definition, live)?,
        }))
    }

    /// The kind admission is asked about.
    pub fn kind() -> GroupVersionKind {
        kind()
    }

    /// The Scale before the write.
    pub fn before(&self) -> &Value {
        &self.before
    }

    /// The Scale of the changed object.
    pub fn view(&self, object: &Value) -> Result<Value, Status> {
        scale_of(self.definition, object)
    }

    /// Lets admission change the number of replicas.
    pub async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Status> {
        let before = self.view(object)?;
        let mut view = before.clone();
        admission::mutate(request, &mut view).await?;
        if view != before {
            let replicas = object::number(&view, &["spec", "replicas"]).unwrap_or(0);
            set(object, &Paths::of(self.definition).spec, json!(replicas));
        }
        Ok(())
    }
}

/// `GET` of the scale.
pub async fn get(context: &Context) -> Result<Response<Body>, Status> {
    let key = context
        .definition
        .key(context.path.namespace.as_deref(), context.name());
    let entry = context
        .state
        .store
        .get(&key)
        .ok_or_else(|| context.not_found())?;
    let mut value = envelope::decode(&entry)?;
    context.definition.read(&context.state, &mut value).await?;
    if let Some(path) = missing(&context.definition, &value) {
        let why = format!("the spec replicas field {path:?} does not exist");
        return Err(Status::internal(why));
    }
    answer(context, scale_of(&context.definition, &value)?)
}

/// Answers with a scale, in the shape that is asked for.
fn answer(context: &Context, scale: Value) -> Result<Response<Body>, Status> {
    let shaped = match context.accept.shape {
        Shape::Table(version) => table::of_scale(context, version, scale)?,
        Shape::Metadata(version) => crate::verbs::metadata_only(&scale, version),
        _ => scale,
    };
    Ok(respond::value(200, &shaped, context.accept.encoding))
}

/// `PUT` of the scale.
pub async fn update(context: &Context) -> Result<Response<Body>, Status> {
    let scale = decode_body(context, &kind(), &schema(), false)?;
    let name = object::name(&scale);
    if name != context.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            context.name()
        )));
    }
    write(context, &|_| Ok(scale.clone())).await
}

/// `PATCH` of the scale.
pub async fn patch(context: &Context) -> Result<Response<Body>, Status> {
    let media_type = media::content_type(&context.headers).to_owned();
    if media_type == "application/apply-patch+yaml" {
        return apply(context).await;
    }
    let change = |current: &Value| -> Result<Value, Status> {
        let body = || -> Result<Value, Status> {
            serde_json::from_slice(&context.body)
                .map_err(|error| Status::bad_request(error.to_string()))
        };
        let mut new = current.clone();
        match media_type.as_str() {
            "application/json-patch+json" => {
                new = JsonPatch::parse(&context.body)
                    .and_then(|patch| patch.apply(current))
                    .map_err(|error| Status::bad_request(error.to_string()))?;
            }
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                patch::merge_patch(&mut new, &body()?);
            }
            _ => return Err(media::unknown_body(context.definition.custom.is_some())),
        }
        let text = serde_json::to_vec(&new).map_err(Status::internal)?;
        decode_value(context, &kind(), &schema(), false, new, &text)
    };
    write(context, &change).await
}

/// A server-side apply of the scale: of the wanted replicas in the object itself.
async fn apply(context: &Context) -> Result<Response<Body>, Status> {
    let scale = crate::write::yaml_to_value(&context.body)?;
    let definition = context.definition.clone();
    let manager = context.field_manager()?;
    let reset = reset_fields(&definition, "scale")?;
    let (now, force) = (context.now(), context.query.flag("force"));
    let mut config = json!({
        "apiVersion": definition.kind.api_version(),
        "kind": definition.kind.kind,
        "metadata": {"name": context.name()},
    });
    if let Some(replicas) = object::at(&scale, &["spec", "replicas"]) {
        set(&mut config, &Paths::of(&definition).spec, replicas.clone());
    }
    let change = |live: &Value| -> Result<Value, Status> {
        let write = patch::Write {
            manager: &manager,
            subresource: "scale",
            now: &now,
            versions: &Versions(context),
            reset_fields: &reset,
        };
        patch::apply(&write, Some(live), &config, force)
            .map_err(|error| crate::verbs::patch_error(context, &error))
    };
    store(context, true, &change).await
}

async fn write(
    context: &Context,
    change: &(dyn Fn(&Value) -> Result<Value, Status> + Send + Sync),
) -> Result<Response<Body>, Status> {
    let definition = context.definition.clone();
    let paths = Paths::of(&definition);
    let apply = |live: &Value| -> Result<Value, Status> {
        let scale = change(&scale_of(&definition, live)?)?;
        let wanted = object::number(&scale, &["spec", "replicas"]);
        if let (None, Some(path)) = (wanted, missing(&definition, live)) {
            let why = format!("the spec replicas field {path:?} cannot be empty");
            return Err(Status::bad_request(why));
        }
        let replicas = wanted.unwrap_or(0);
        if replicas < 0 && definition.custom.is_none() {
            let path = FieldPath::new("spec.replicas");
            let why = "must be greater than or equal to 0";
            let error = FieldError::invalid(&path, replicas, why);
            return Err(Status::invalid(
                "autoscaling",
                "Scale",
                context.name(),
                &[error],
            ));
        }
        let mut new = live.clone();
        set(&mut new, &paths.spec, json!(replicas));
        let metadata = object::metadata_mut(&mut new);
        for name in ["uid", "resourceVersion"] {
            if let Some(value) = object::at(&scale, &["metadata", name]) {
                metadata.insert(name.to_owned(), value.clone());
            }
        }
        Ok(new)
    };
    store(context, false, &apply).await
}

async fn store(
    context: &Context,
    applied: bool,
    change: &(dyn Fn(&Value) -> Result<Value, Status> + Send + Sync),
) -> Result<Response<Body>, Status> {
    let update = Update {
        subresource: "scale",
        applied,
        versioned: false,
        replaces: false,
    };
    let Some(outcome) = update_object(context, &update, change).await? else {
        return Err(context.not_found());
    };
    let mut value = match outcome.kept {
        Kept::Entry(entry) => envelope::decode(&entry)?,
        Kept::Value(value) => *value,
    };
    context.definition.read(&context.state, &mut value).await?;
    answer(context, scale_of(&context.definition, &value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_set_whatever_was_there() {
        let path = ["spec".to_owned(), "size".to_owned()];
        for (before, after) in [
            (json!({}), json!({"spec": {"size": 2}})),
            (
                json!({"spec": {"a": 1}}),
                json!({"spec": {"a": 1, "size": 2}}),
            ),
        ] {
            let mut value = before;
            set(&mut value, &path, json!(2));
            assert_eq!(value, after);
        }
    }
}
