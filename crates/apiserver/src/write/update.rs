//! Changing an object that is there: read, change, check, store, and again where somebody was faster.

use std::sync::Arc;

use model::{FieldError, FieldPath, Status, object};
use serde_json::{Value, json};
use store::{Change, Entry, Error, Expect, Write};

use super::{canonical, default_object, store_error, track, validate_update};
use crate::admission::{self, Operation};
use crate::context::Context;
use crate::envelope;
use crate::write::encode_object;

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
        context.definition.present(&mut live);
        let wanted = change(&live)?;
        let mut new = finish(context, update, &live, wanted).await?;
        let dry_run = context.dry_run()?;
        let reserved =
            context
                .state
                .allocator
                .reserve(&context.definition, &mut new, Some(&live), dry_run)?;
        if new == live {
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
        let document = encode_object(&context.definition, &new)?;
        let write = Write {
            key: key.clone(),
            expect: Expect::Revision(entry.revision()),
            change: if gone {
                Change::Delete(document)
            } else {
                Change::Put(document)
            },
        };
        match context.state.store.commit(write).await {
            Ok(stored) => {
                reserved.keep();
                admission::written(context, &live, &stored, gone);
                return Ok(Some(Outcome {
                    kept: Kept::Entry(stored),
                }));
            }
            Err(Error::Conflict { .. }) if update.versioned => {
                return Err(modified(context));
            }
            Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
            Err(other) => return Err(store_error(&other)),
        }
    }
    Err(modified(context))
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
    check_versions(context, live, &new)?;
    restore_system_fields(live, &mut new);
    let definition = &context.definition;
    let behaviour = definition.behaviour();
    default_object(definition, &mut new);
    // What is written differently but means the same is no change.
    canonical(definition, &mut new);
    if !update.applied {
        track(context, update.subresource, Some(live), &mut new)?;
    }
    // A binding is the server's own change: it sets what no client may.
    let own_change = update.subresource == "binding";
    let request =
        admission::Request::new(context, Operation::Update, update.subresource, Some(live));
    if !own_change {
        admission::mutate(&request, &mut new).await?;
    }
    if !own_change {
        behaviour.before_write(update.subresource, &mut new, live);
    }
    if let Some(stamp) = behaviour.stamp {
        stamp(&mut new, Some(live), &context.now());
    }
    canonical(definition, &mut new);
    let errors = if own_change {
        Vec::new()
    } else {
        validate_update(context, update.subresource, &new, live)
    };
    if !errors.is_empty() {
        return Err(context.invalid(object::name(&new), &errors));
    }
    if !own_change {
        admission::validate(&request, &new).await?;
    }
    patch::keep_timestamps(live, &mut new);
    Ok(new)
}

/// The client's uid and resource version, where it names them, must be the current ones.
fn check_versions(context: &Context, live: &Value, new: &Value) -> Result<(), Status> {
    let (uid, live_uid) = (object::uid(new), object::uid(live));
    if !uid.is_empty() && uid != live_uid {
        return Err(context.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {live_uid}"
        )));
    }
    let version = object::resource_version(new);
    if version.is_empty() || version == "0" {
        if !context.definition.behaviour().unconditional_update {
            let path = FieldPath::new("metadata.resourceVersion");
            let error = FieldError::invalid(&path, version, "must be specified for an update");
            return Err(context.invalid(context.name(), &[error]));
        }
        return Ok(());
    }
    if version.parse::<u64>().is_err() {
        let mut status = Status::internal("");
        status.message = format!(
            "resourceVersion: Invalid value: \"{version}\": strconv.ParseUint: parsing \"{version}\": invalid syntax"
        );
        status.reason = String::new();
        status.details = None;
        return Err(status);
    }
    if version == object::resource_version(live) {
        Ok(())
    } else {
        Err(modified(context))
    }
}

/// What only the server writes stays as it was.
fn restore_system_fields(live: &Value, new: &mut Value) {
    let old = object::metadata(live).cloned().unwrap_or_default();
    let metadata = object::metadata_mut(new);
    for name in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "namespace",
        "generateName",
    ] {
        match old.get(name) {
            Some(value) => {
                metadata.insert(name.to_owned(), value.clone());
            }
            None if name == "generateName" => {}
            None => {
                metadata.remove(name);
            }
        }
    }
    if !metadata.contains_key("name") {
        metadata.insert("name".to_owned(), json!(object::name(live)));
    }
}
