//! What a resource of a definition is: exactly one of the fields that say so.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use super::error::BuildError;
use super::{BuildOptions, NodeKind, patches};
use crate::features::Feature;
use crate::kinds::{Definitions, Kind};
use crate::rgd::{ExternalRef, ResourceSpec};

/// The kind that stands where resources without an object need one; it is never looked up or served.
pub(super) static VARIABLE_KIND: LazyLock<Arc<Kind>> = LazyLock::new(|| {
    let resource =
        controller::Resource::cluster("virtual.kro.run/v1alpha1", "variables", "Variable");
    let anything = json!({"x-kubernetes-preserve-unknown-fields": true});
    Arc::new(Kind::new(resource, anything, Definitions::BuiltIn))
});

/// The document of a resource, and what it is.
pub(super) fn of(
    resource: &ResourceSpec,
    options: &BuildOptions,
) -> Result<(Value, NodeKind), BuildError> {
    let id = resource.id.as_str();
    let gate = |feature, field: &str| {
        let what = format!("the field \"{field}\"");
        let checked = options.features.require(feature, &what);
        checked.map_err(|message| BuildError::of(id, message).at(field))
    };
    let given = [
        ("externalRef", resource.external_ref.is_some()),
        ("variable", resource.variable.is_some()),
        ("patch", resource.patch.is_some()),
        ("template", resource.template.is_some()),
    ];
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(name, _)| *name)
        .collect();
    if let [first, second, ..] = given.as_slice() {
        let message = format!("cannot use {first} with {second}");
        return Err(BuildError::of(id, message));
    }
    let repeated = !resource.for_each.is_empty();
    if let Some(template) = &resource.template {
        let kind = if repeated {
            NodeKind::Collection
        } else {
            NodeKind::Resource
        };
        return Ok((template.clone(), kind));
    }
    if let Some(external) = &resource.external_ref {
        if repeated {
            return Err(BuildError::of(id, "cannot use externalRef with forEach"));
        }
        return external_template(id, external);
    }
    if let Some(values) = &resource.variable {
        gate(Feature::Variables, "variable")?;
        let kind = if repeated {
            NodeKind::VariableList
        } else {
            NodeKind::Variable
        };
        return Ok((values.clone(), kind));
    }
    if let Some(patch) = &resource.patch {
        gate(Feature::Decorators, "patch")?;
        patches::check(resource, patch)?;
        let kind = if repeated {
            NodeKind::PatchCollection
        } else {
            NodeKind::Patch
        };
        return Ok((patch.clone(), kind));
    }
    Err(BuildError::of(
        id,
        "exactly one of template or externalRef must be provided",
    ))
}

/// The object an external reference looks for, written like a template.
fn external_template(id: &str, external: &ExternalRef) -> Result<(Value, NodeKind), BuildError> {
    let mut metadata = Map::new();
    if let Some(namespace) = &external.metadata.namespace {
        metadata.insert("namespace".to_owned(), namespace.as_str().into());
    }
    let kind = match (&external.metadata.name, &external.metadata.selector) {
        (Some(name), None) => {
            metadata.insert("name".to_owned(), name.as_str().into());
            NodeKind::External
        }
        (None, selector) => {
            let selector = selector.clone().filter(|selector| !selector.is_null());
            metadata.insert("selector".to_owned(), selector.unwrap_or_else(|| json!({})));
            NodeKind::ExternalCollection
        }
        (Some(_), Some(_)) => {
            let message = "exactly one of name or selector must be provided";
            return Err(BuildError::of(id, message).at("externalRef.metadata"));
        }
    };
    Ok((
        json!({"apiVersion": external.api_version, "kind": external.kind, "metadata": metadata}),
        kind,
    ))
}
