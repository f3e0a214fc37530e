//! What every template must look like, whatever its kind.

use model::GroupVersionKind;
use serde_json::Value;

use super::NodeKind;
use super::error::BuildError;
use super::extract::{self, RawField};
use crate::keys;
use crate::kinds::Kind;
use crate::rgd::Scope;

/// The kind a template names; it must be written out.
pub(crate) fn kind_of(id: &str, template: &Value) -> Result<GroupVersionKind, BuildError> {
    let invalid = |field: &str, message: &str| {
        let message = format!("resource {id} is not a valid Kubernetes object: {message}");
        BuildError::of(id, message).at(field)
    };
    let literal = |field: &str| match &template[field] {
        Value::Null => Err(invalid(field, &format!("{field} field not found"))),
        Value::String(text) if text.contains("${") => Err(invalid(
            field,
            &format!("{field} must be written out, expressions are not allowed, got {text:?}"),
        )),
        Value::String(text) if text.is_empty() => {
            Err(invalid(field, &format!("{field} field is empty")))
        }
        Value::String(text) => Ok(text.clone()),
        _ => Err(invalid(field, &format!("{field} field is not a string"))),
    };
    let (api_version, kind) = (literal("apiVersion")?, literal("kind")?);
    match &template["metadata"] {
        Value::Object(_) => {}
        Value::Null => return Err(invalid("metadata", "metadata field not found")),
        _ => return Err(invalid("metadata", "metadata field is not a map")),
    }
    let version = model::GroupVersion::parse(&api_version)
        .map_err(|error| invalid("apiVersion", &error.to_string()))?;
    Ok(version.with_kind(kind))
}

/// Whether templates of this kind hold whole schemas, which are not looked into.
pub(crate) fn is_crd(kind: &GroupVersionKind) -> bool {
    kind.group == "apiextensions.k8s.io"
        && kind.version == "v1"
        && kind.kind == "CustomResourceDefinition"
}

/// The expressions of a template that makes a CustomResourceDefinition: only its metadata may have any.
pub(crate) fn fields_of_crd_template(
    id: &str,
    template: &Value,
) -> Result<Vec<RawField>, BuildError> {
    let fields = extract::without_schema(id, template)?.fields;
    match fields
        .iter()
        .find(|field| !field.path.starts_with(&["metadata"]))
    {
        None => Ok(fields),
        Some(field) => {
            let path = &field.path;
            let message = format!(
                "CEL expressions in CRDs are only supported for metadata fields, found in path \"{path}\", resource {id}"
            );
            Err(BuildError::of(id, message).at(path))
        }
    }
}

/// Checks namespaces and reserved keys.
pub(crate) fn check(
    id: &str,
    node_kind: NodeKind,
    template: &Value,
    kind: &Kind,
    instance_scope: Scope,
) -> Result<(), BuildError> {
    if node_kind.is_written() && template.pointer("/metadata/name").is_none() {
        let message = "metadata.name is required: it names the object to make";
        return Err(BuildError::of(id, message).at("metadata.name"));
    }
    let namespace = template.pointer("/metadata/namespace");
    let namespace_path = "metadata.namespace";
    if !kind.resource.namespaced && namespace.is_some() {
        let message =
            format!("resource \"{id}\" is cluster-scoped and must not set metadata.namespace");
        return Err(BuildError::of(id, message).at(namespace_path));
    }
    let namespace = namespace.filter(|namespace| !namespace.is_null());
    if let Some(namespace) = namespace
        && !namespace.is_string()
    {
        return Err(BuildError::of(id, "metadata.namespace must be a string").at(namespace_path));
    }
    let is_set = namespace
        .and_then(Value::as_str)
        .is_some_and(|text| !text.trim().is_empty());
    let must_be_set = instance_scope == Scope::Cluster
        && kind.resource.namespaced
        && node_kind != NodeKind::ExternalCollection;
    if must_be_set && !is_set {
        let message = format!(
            "resource \"{id}\" is namespaced and must set metadata.namespace when the instance CRD is cluster-scoped"
        );
        return Err(BuildError::of(id, message).at(namespace_path));
    }
    for field in ["labels", "annotations"] {
        reserved_keys(id, field, &template["metadata"][field])?;
    }
    Ok(())
}

fn reserved_keys(id: &str, field: &str, map: &Value) -> Result<(), BuildError> {
    for key in map.as_object().into_iter().flatten().map(|(key, _)| key) {
        if let Some(prefix) = keys::RESERVED_PREFIXES
            .iter()
            .find(|prefix| key.starts_with(**prefix))
        {
            let message = format!(
                "invalid {} for resource \"{id}\". {field} with prefix \"{prefix}\" are reserved for internal use, got {key:?}",
                field.trim_end_matches('s'),
            );
            return Err(BuildError::of(id, message).at(format!("metadata.{field}")));
        }
    }
    Ok(())
}

/// Whether a field tells one object from another.
pub(crate) fn is_identity(field: &RawField, namespaced: bool) -> bool {
    field.path.is(&["metadata", "name"])
        || (namespaced && field.path.is(&["metadata", "namespace"]))
}
