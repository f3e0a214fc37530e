//! Changing an object that is there: read, change, check, store, and again where somebody was faster.

use std::sync::Arc;

use model::{FieldError, FieldPath, Status, object};
use serde_json::{Value, json};
use store::{Change, Entry, Error, Expect, Write};

use super::{
    canonical, canonical_unstored, default_object, drop_equal_owners, is_definition, store_error,
    track, validate_update,
};
use crate::admission::{self, Operation};
use crate::context::Context;
use crate::custom;
use crate::envelope;
use crate::identity::check_grants;
use crate::subresources::Scale;
use crate::write::{encode_object, encode_with_text, opaque};

/// How often a write is tried again when others are faster.
const ATTEMPTS_MAX: usize = 50;

/// A change to an object that is there.
pub struct Update<'a> {
    /// Through which subresource, empty for none.
    pub subresource: &'a str,
    /// Whether this is a server-side apply, which has tracked fields by itself.
    pub applied: bool,
    /// Whether the client named the version it has seen, so that a conflict is final.
    pub versioned: bool,
    /// Whether the client sends all of the object, whose uid is then a precondition.
    pub replaces: bool,
}

/// What is there after a write.
pub enum Kept {
    /// This entry.
    Entry(Arc<Entry>),
    /// This object, which was only tried out, or is gone.
    Value(Box<Value>),
}

/// What a change came to.
pub struct Outcome {
    /// What is there now.
    pub kept: Kept,
}

/// Changes an object: `change` makes the new one from the current one. Gives `None` where there is no
/// object to change.
pub async fn update_object(
    context: &Context,
    update: &Update<'_>,
    change: &(dyn Fn(&Value) -> Result<Value, Status> + Send + Sync),
) -> Result<Option<Outcome>, Status> {
    let key = context
        .definition
        .key(context.path.namespace.as_deref(), context.name());
    for _ in 0..ATTEMPTS_MAX {
        let Some(entry) = context.state.store.get(&key) else {
            return Ok(None);
        };
        let mut live = envelope::decode(&entry)?;
        context.definition.read(&context.state, &mut live).await?;
        let wanted = change(&live)?;
        let mut new = finish(context, update, &live, wanted).await?;
        let dry_run = context.dry_run()?;
        let reserved = context
            .state
            .allocator
            .reserve(&context.definition, &mut new, Some(&live), dry_run)
            .await?;
        if new == live && is_as_stored(context, &entry, &new).await? {
            return Ok(Some(Outcome {
                kept: Kept::Entry(entry),
            }));
        }
        if dry_run {
            return Ok(Some(Outcome {
                kept: Kept::Value(Box::new(new)),
            }));
        }
        let gone = is_finished(&new);
        // As upstream: what watchers see of an object that goes is what was stored last.
        let last = if gone { &live } else { &new };
        let converted = context.definition.for_storage(&context.state, last).await?;
        let last = converted.as_ref().unwrap_or(last);
        let change = if gone {
            Change::Delete(encode_object(&context.definition, last)?)
        } else {
            opaque::check_unchanged(context, &entry, &new)?;
            let text = opaque::sent(context, &new);
            Change::Put(encode_with_text(
                &context.definition,
                last,
                text.as_deref(),
            )?)
        };
        let write = Write {
            key: key.clone(),
            expect: Expect::Revision(entry.revision()),
            change,
        };
        match context.state.store.commit(write).await {
            Ok(stored) => {
                reserved.keep();
                admission::written(context, &live, &stored, gone).await;
                let kept = if gone {
                    Kept::Value(Box::new(new))
                } else {
                    Kept::Entry(stored)
                };
                return Ok(Some(Outcome { kept }));
            }
            Err(Error::Conflict { .. }) if update.versioned => {
                return Err(modified(context));
            }
            Err(Error::Conflict { .. }) => {
                reserved.give_back().await;
                tokio::task::yield_now().await;
            }
            Err(other) => return Err(store_error(&other)),
        }
    }
    Err(modified(context))
}

/// Whether what is stored is what would be stored now. A rewrite brings an object that is stored in an
/// older version, or without a default that came later, up to date.
async fn is_as_stored(context: &Context, entry: &Entry, new: &Value) -> Result<bool, Status> {
    let definition = &context.definition;
    if definition.custom.is_none() || definition.serves_as_stored(entry) {
        return Ok(true);
    }
    let mut stored = match definition.for_storage(&context.state, new).await? {
        Some(stored) => stored,
        None => new.clone(),
    };
    definition.to_storage(&mut stored);
    Ok(stored == envelope::decode(entry)?)
}

/// 409, as upstream words it.
pub fn modified(context: &Context) -> Status {
    context.conflict(
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

/// Whether an object that is being deleted has nothing left to wait for.
fn is_finished(value: &Value) -> bool {
    object::is_deleting(value)
        && object::finalizers(value).next().is_none()
        && object::number(value, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
        // Only a Namespace has finalizers in its spec.
        && (object::text(value, &["kind"]) != "Namespace"
            || object::list(value, &["spec", "finalizers"]).is_empty())
}

/// Everything between what the client wants and what is stored.
async fn finish(
    context: &Context,
    update: &Update<'_>,
    live: &Value,
    mut new: Value,
) -> Result<Value, Status> {
    check_versions(context, update, live, &new)?;
    restore_system_fields(live, &mut new);
    let definition = &context.definition;
    let behaviour = definition.behaviour();
    default_object(definition, &mut new);
    let untracked = object::at(&new, &["metadata", "managedFields"]) == Some(&json!([]));
    // What is written differently but means the same is no change.
    canonical_unstored(definition, &mut new);
    if untracked {
        // An empty list turns tracking off, which the canonical form cannot say.
        object::metadata_mut(&mut new).insert("managedFields".to_owned(), json!([]));
    }
    if update.replaces {
        drop_equal_owners(context, &mut new);
    }
    if !update.applied {
        track(context, update.subresource, Some(live), &mut new)?;
    }
    canonical(definition, &mut new);
    // A binding is the server's own change: it sets what no client may.
    let own_change = update.subresource == "binding";
    // Admission sees what the client sees: for a scale, the Scale.
    let scale = Scale::of(context, update.subresource, live)?;
    let seen = scale.as_ref().map_or(live, Scale::before);
    let mut request =
        admission::Request::new(context, Operation::Update, update.subresource, Some(seen));
    if let Some(scale) = &scale {
        request.kind = Scale::kind();
        scale.mutate(&request, &mut new).await?;
    } else if !own_change {
        admission::mutate(&request, &mut new).await?;
    }
    if !own_change {
        behaviour.before_write(update.subresource, &mut new, live);
    }
    if is_definition(definition) && update.subresource.is_empty() {
        custom::note_storage(&mut new);
    }
    if let Some(stamp) = behaviour.stamp {
        stamp(&mut new, Some(live), &context.now());
    }
    drop_equal_owners(context, &mut new);
    canonical(definition, &mut new);
    check_grants(context, &new, Some(live))?;
    let allocator = &context.state.allocator;
    allocator.settle(definition, &mut new, Some(live))?;
    let errors = if own_change {
        Vec::new()
    } else {
        validate_update(context, update.subresource, &new, live)
    };
    if !errors.is_empty() {
        return Err(context.invalid(object::name(&new), &errors));
    }
    if let Some(scale) = &scale {
        admission::validate(&request, &scale.view(&new)?).await?;
    } else if !own_change {
        admission::validate(&request, &new).await?;
    }
    patch::keep_timestamps(live, &mut new);
    Ok(new)
}

/// The client's uid and resource version, where it names them, must be the current ones.
fn check_versions(
    context: &Context,
    update: &Update<'_>,
    live: &Value,
    new: &Value,
) -> Result<(), Status> {
    let (uid, live_uid) = (object::uid(new), object::uid(live));
    if update.replaces && !uid.is_empty() && uid != live_uid {
        return Err(wrong_uid(context, uid, live_uid));
    }
    let version = object::resource_version(new);
    if !version.is_empty() && version.parse::<u64>().is_err() {
        return Err(Status::bare_internal(format!(
            "strconv.ParseUint: parsing \"{version}\": invalid syntax"
        )));
    }
    if version.is_empty() || version == "0" {
        if !context.definition.behaviour().unconditional_update {
            let path = FieldPath::new("metadata.resourceVersion");
            let error = FieldError::invalid(&path, 0, "must be specified for an update");
            let gvr = &context.definition.gvr;
            // As upstream: it names the resource here where every other refusal names the kind.
            return Err(Status::invalid(
                &gvr.group,
                &gvr.resource,
                context.name(),
                &[error],
            ));
        }
        return Ok(());
    }
    if version == object::resource_version(live) {
        Ok(())
    } else {
        Err(modified(context))
    }
}

/// 409 for a uid that is not the object's, in the words of upstream's storage.
pub fn wrong_uid(context: &Context, wanted: &str, found: &str) -> Status {
    context.conflict(&format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}",
        registry_key(context)
    ))
}

/// Where upstream keeps the object in etcd, which its messages name.
fn registry_key(context: &Context) -> String {
    let definition = &context.definition;
    let gvr = &definition.gvr;
    let place = match (gvr.group.as_str(), gvr.resource.as_str()) {
        ("", "services") => "services/specs".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "nodes") => "minions".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        (group @ ("apiextensions.k8s.io" | "apiregistration.k8s.io"), resource) => {
            format!("{group}/{resource}")
        }
        (group, resource) if definition.custom.is_some() => format!("{group}/{resource}"),
        (_, resource) => resource.to_owned(),
    };
    let name = context.name();
    match &context.path.namespace {
        Some(namespace) => format!("/registry/{place}/{namespace}/{name}"),
        None => format!("/registry/{place}/{name}"),
    }
}

/// What only the server writes stays as it was, or is refused later where it is named and differs.
fn restore_system_fields(live: &Value, new: &mut Value) {
    let old = object::metadata(live).cloned().unwrap_or_default();
    let metadata = object::metadata_mut(new);
    metadata.remove("selfLink");
    for (name, when_named) in [
        ("uid", false),
        ("creationTimestamp", true),
        ("deletionTimestamp", true),
        ("deletionGracePeriodSeconds", false),
        ("resourceVersion", true),
        ("namespace", true),
    ] {
        let named = metadata
            .get(name)
            .is_some_and(|value| value.as_str() != Some(""));
        if let Some(value) = old.get(name)
            && (when_named || !named)
        {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
}
