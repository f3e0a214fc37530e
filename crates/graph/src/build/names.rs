//! Names that ids, iterators and kinds may have.

use std::collections::BTreeSet;

use super::error::BuildError;
use crate::rgd::{GraphSpec, ResourceSpec};

/// Words with a meaning of their own in kro.
const KRO_WORDS: [&str; 33] = [
    "apiVersion",
    "context",
    "dependency",
    "dependencies",
    "each",
    "externalRef",
    "externalReference",
    "externalRefs",
    "externalReferences",
    "graph",
    "instance",
    "item",
    "items",
    "kind",
    "kro",
    "metadata",
    "namespace",
    "object",
    "resource",
    "resourcegraphdefinition",
    "resourceGraphDefinition",
    "resources",
    "root",
    "runtime",
    "schema",
    "self",
    "serviceAccountName",
    "spec",
    "status",
    "this",
    "variables",
    "vars",
    "version",
];

fn is_reserved(name: &str) -> bool {
    KRO_WORDS.contains(&name) || cel::RESERVED_WORDS.contains(&name)
}

fn is_lower_camel_case(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a name can be a kind.
pub(crate) fn is_kind(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Checks all names of a graph.
pub(crate) fn check(spec: &GraphSpec, dimension_limit: usize) -> Result<(), BuildError> {
    let violation =
        |message: String| BuildError::new(format!("naming convention violation: {message}"));
    let kind = &spec.schema.kind;
    if !is_kind(kind) {
        let message = format!("kind '{kind}' is not a valid KRO kind name: must be UpperCamelCase");
        return Err(violation(message).at("schema.kind"));
    }
    let mut ids = BTreeSet::new();
    for resource in &spec.resources {
        let id = resource.id.as_str();
        if is_reserved(id) {
            return Err(violation(format!("id {id} is a reserved keyword in KRO")));
        }
        if !is_lower_camel_case(id) {
            let message =
                format!("id {id} is not a valid KRO resource id: must be lower camelCase");
            return Err(violation(message));
        }
        if !ids.insert(id) {
            return Err(violation(format!("found duplicate resource IDs {id}")));
        }
    }
    spec.resources
        .iter()
        .try_for_each(|resource| check_iterators(resource, &ids, dimension_limit))
}

fn check_iterators(
    resource: &ResourceSpec,
    ids: &BTreeSet<&str>,
    dimension_limit: usize,
) -> Result<(), BuildError> {
    let fail = |message: String| Err(BuildError::of(&resource.id, message).at("forEach"));
    if resource.for_each.len() > dimension_limit {
        let found = resource.for_each.len();
        return fail(format!(
            "forEach cannot have more than {dimension_limit} dimensions, got {found}"
        ));
    }
    let mut seen = BTreeSet::new();
    for dimension in &resource.for_each {
        let mut names = dimension.keys();
        let (Some(name), None) = (names.next(), names.next()) else {
            return fail("each forEach entry must have exactly one iterator".to_owned());
        };
        if is_reserved(name) {
            return fail(format!(
                "forEach iterator name \"{name}\" is a reserved keyword"
            ));
        }
        if !is_lower_camel_case(name) {
            return fail(format!(
                "forEach iterator name \"{name}\" is not valid: must be lowerCamelCase"
            ));
        }
        if ids.contains(name.as_str()) {
            return fail(format!(
                "forEach iterator name \"{name}\" conflicts with resource ID"
            ));
        }
        if !seen.insert(name) {
            return fail(format!("duplicate forEach iterator name \"{name}\""));
        }
    }
    Ok(())
}
