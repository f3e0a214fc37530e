//! The write pipeline every writing verb goes through.
//!
//! ```text
//! body -> parse -> (verb makes the new object) -> default -> prepare -> admit -> validate
//!      -> track fields -> store, and again from the current object where somebody was faster
//! ```

mod decode;
mod key_pair;
mod metadata;
pub mod opaque;
mod store_object;
mod update;
mod yaml;

pub use decode::{decode_body, decode_patched, decode_value, parse_yaml, yaml_to_value};
pub use metadata::{
    check_embedded_metadata, check_metadata, check_metadata_update, check_name, drop_equal_owners,
    random_suffix,
};
pub use store_object::{encode_object, encode_with_text, store_error};
pub use update::{Kept, Outcome, Update, modified, update_object, wrong_uid};

use model::{FieldError, Status};
use patch::FieldSet;
use schema::Schema;
use serde_json::Value;

use crate::catalog::Definition;
use crate::context::Context;
use crate::custom;

/// Fills in what the client left out, and brings a built-in object into the form it is stored in.
pub fn default_object(definition: &Definition, object: &mut Value) {
    if definition.custom.is_some() {
        schema::default(&definition.schema, object);
    } else {
        (definition.behaviour().default)(object);
        if is_definition(definition) {
            custom::default_definition(object);
        }
    }
}

/// Whether objects define custom resources.
pub fn is_definition(definition: &Definition) -> bool {
    definition.gvr.resource == "customresourcedefinitions" && definition.custom.is_none()
}

/// Brings a built-in object into the form upstream encodes: empty members that Go leaves out are
/// left out, and those it always writes are there.
pub fn canonical(definition: &Definition, object: &mut Value) {
    if definition.custom.is_none() {
        schema::encode(&definition.schema, object);
    }
}

/// As [`canonical`], for the object as the client sent it, whose fields are to be owned.
pub fn canonical_unstored(definition: &Definition, object: &mut Value) {
    if definition.custom.is_none() {
        schema::encode_unstored(&definition.schema, object);
    }
}

/// Everything that is wrong with a new object.
pub fn validate_create(context: &Context, object: &Value) -> Vec<FieldError> {
    let definition = &context.definition;
    let mut errors = check_metadata(definition, object);
    if let Some(custom) = &definition.custom {
        errors.extend(judged(context, custom.validate(object, None, "")));
    } else {
        errors.extend((definition.behaviour().validate_create)(object));
    }
    if is_definition(definition) {
        errors.extend(custom::check_definition(object, None));
        warn_all(context, custom::definition_warnings(object, None));
    }
    if errors.is_empty() {
        warn_of_use(context, object, None);
    }
    errors
}

/// Everything that is wrong with a changed object.
pub fn validate_update(
    context: &Context,
    subresource: &str,
    object: &Value,
    old: &Value,
) -> Vec<FieldError> {
    let definition = &context.definition;
    let mut errors = check_metadata_update(definition, subresource, object, old);
    if let Some(custom) = &definition.custom {
        errors.extend(judged(
            context,
            custom.validate(object, Some(old), subresource),
        ));
    } else {
        errors.extend(definition.behaviour().check_write(subresource, object, old));
    }
    if is_definition(definition) && subresource == "status" {
        errors.extend(custom::check_definition_status(object));
    } else if is_definition(definition) {
        errors.extend(custom::check_definition(object, Some(old)));
        warn_all(context, custom::definition_warnings(object, Some(old)));
    }
    if errors.is_empty() && subresource.is_empty() {
        warn_of_use(context, object, Some(old));
    }
    errors
}

/// Warns of what is sound, but deprecated or hardly meant.
fn warn_of_use(context: &Context, object: &Value, old: Option<&Value>) {
    let definition = &context.definition;
    let found = if definition.custom.is_some() {
        kinds::finalizer_warnings(object, old)
    } else {
        kinds::warnings(&definition.gvr.group, &definition.gvr.resource, object, old)
    };
    warn_all(context, found);
    if (&*definition.gvr.group, &*definition.gvr.resource) == ("", "secrets") {
        let mismatch = key_pair::warning(object).map(str::to_owned);
        warn_all(context, mismatch.into_iter().collect());
    }
}

fn warn_all(context: &Context, warnings: Vec<String>) {
    for warning in warnings {
        context.warn(warning);
    }
}

/// The errors of a verdict; its warnings go to the client.
fn judged(context: &Context, verdict: custom::Verdict) -> Vec<FieldError> {
    warn_all(context, verdict.warnings);
    verdict.errors
}

/// The schemas of a kind for field tracking.
pub struct Versions<'a>(pub &'a Context);

impl patch::Versions for Versions<'_> {
    fn schema(&self, api_version: &str) -> Option<Schema> {
        self.definition(api_version)
            .map(|definition| definition.schema.clone())
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        let definition = self.definition(api_version)?;
        let mut converted = object.clone();
        definition.present(&mut converted);
        Some(converted)
    }
}

impl Versions<'_> {
    fn definition(&self, api_version: &str) -> Option<&Definition> {
        let own = &self.0.definition;
        if own.kind.api_version() == api_version {
            return Some(own);
        }
        let version = model::GroupVersion::parse(api_version).ok()?;
        if version.group != own.gvr.group {
            return None;
        }
        self.0
            .catalog
            .get(&version.group, &version.version, &own.gvr.resource)
            .map(AsRef::as_ref)
    }
}

/// Brings `managedFields` up to date with what a client has written, before the server adds anything
/// of its own. An apply does this by itself.
pub fn track(
    context: &Context,
    subresource: &str,
    live: Option<&Value>,
    new: &mut Value,
) -> Result<(), Status> {
    let (manager, now) = (context.field_manager()?, context.now());
    let reset = reset_fields(&context.definition, subresource)?;
    let write = patch::Write {
        manager: &manager,
        subresource,
        now: &now,
        versions: &Versions(context),
        reset_fields: &reset,
    };
    patch::track_update(&write, live, new);
    Ok(())
}

/// The fields a write through a subresource resets, which nobody comes to own by it.
pub fn reset_fields(definition: &Definition, subresource: &str) -> Result<FieldSet, Status> {
    definition
        .behaviour()
        .reset_fields(subresource)
        .map_or_else(
            || Ok(FieldSet::default()),
            |fields| {
                FieldSet::parse(&fields).ok_or_else(|| Status::internal("malformed reset fields"))
            },
        )
}
