//! Expressions in the keys of templates (gate `DynamicTemplateKeys`, kro's KREP-020).
//!
//! What stands below such a key is checked against the values of a map. Where the schema lists the fields, it is known only
//! in the end which one is meant: then the value is left to the server, and the key must be one of the list.

use std::collections::BTreeSet;

use cel::{Env, Type};

use super::error::BuildError;
use super::extract::{RawField, RawKey};
use super::parse::ParsedResource;
use super::references::{Allowed, references};
use super::{BuildOptions, FieldValue, TemplateKey, compile};
use crate::features::Feature;

/// Checks what the keys of a resource refer to; returns the expressions with what they read.
pub(super) fn check(
    resource: &ParsedResource,
    names: &[&str],
    options: &BuildOptions,
) -> Result<Vec<(String, BTreeSet<String>)>, BuildError> {
    let allowed = Allowed {
        names: names.to_vec(),
        omit: false,
        runtime: false,
    };
    let mut found = Vec::new();
    for key in &resource.keys {
        let fail = |message: String| BuildError::of(&resource.id, message).at(&key.path);
        options
            .features
            .require(Feature::DynamicTemplateKeys, "an expression in a key")
            .map_err(fail)?;
        for source in key.parts.sources() {
            let roots = references(source, &allowed)
                .map_err(|message| fail(message).in_expression(source))?;
            found.push((source.to_owned(), roots));
        }
    }
    let is_below = |field: &&RawField| {
        let mut keys = resource.keys.iter();
        field.is_deferred && keys.any(|key| field.path.steps().starts_with(key.path.steps()))
    };
    match resource.fields.iter().find(is_below) {
        None => Ok(found),
        Some(field) => {
            let message = "defer() cannot be used below a key with an expression in it";
            Err(BuildError::of(&resource.id, message).at(&field.path))
        }
    }
}

/// Compiles a key, which must be a string; an empty optional is no entry.
pub(super) fn compile(id: &str, key: &RawKey, env: &Env) -> Result<TemplateKey, BuildError> {
    let field = RawField {
        path: key.path.clone(),
        parts: key.parts.clone(),
        is_deferred: false,
    };
    let value = compile::field_value(id, &field, env)?;
    if let FieldValue::Expression(expression) = &value {
        let ty = expression.result_type().unwrap_optional();
        if !ty.is_dyn() && !matches!(ty, Type::String | Type::Null) {
            let message = format!("a key must be a string, but the expression returns \"{ty}\"");
            return Err(BuildError::of(id, message)
                .at(&key.path)
                .in_expression(expression.source()));
        }
    }
    Ok(TemplateKey {
        path: key.path.clone(),
        value,
        fields: key.fields.clone(),
    })
}
