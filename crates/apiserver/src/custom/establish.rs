//! The life of a definition: names accepted, established, terminating.

use std::sync::Arc;

use model::{GroupVersionResource, object};
use serde_json::{Value, json};
use store::{EventKind, ListOptions, Revision};

use crate::catalog::Catalog;
use crate::context::timestamp;
use crate::custom::definitions;
use crate::custom::naming::{self, Taken};
use crate::dispatch;
use crate::envelope;
use crate::server::{Error, State};

/// Held by a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

const GROUP: &str = "apiextensions.k8s.io";
/// The reason of a termination that has just been asked for.
const PENDING: &str = "InstanceDeletionPending";
const RESOURCE: &str = "customresourcedefinitions";

fn prefix() -> String {
    envelope::key_prefix(GROUP, RESOURCE, None)
}

/// Puts established definitions into the catalog.
pub fn load(state: &Arc<State>) -> Result<(), Error> {
    let listing = state.store.list(&prefix(), &ListOptions::default())?;
    for entry in &listing.entries {
        let Ok(crd) = envelope::decode(entry) else {
            continue;
        };
        if is_true(&crd, "Established") {
            serve(state, &crd, entry.revision());
        }
    }
    Ok(())
}

/// Follows the definitions.
pub async fn run(state: Arc<State>) {
    let mut from = Revision(0);
    while !state.shutdown.is_cancelled() {
        let listing = match state.store.list(&prefix(), &ListOptions::default()) {
            Ok(listing) => listing,
            Err(error) => {
                tracing::error!(%error, "listing the definitions of custom resources");
                return;
            }
        };
        if listing.revision > from {
            for entry in &listing.entries {
                changed(&state, entry).await;
            }
            from = listing.revision;
        }
        follow(&state, &mut from).await;
    }
}

async fn follow(state: &Arc<State>, from: &mut Revision) {
    let Ok(mut watch) = state.store.watch(&prefix(), *from) else {
        return;
    };
    loop {
        let events = tokio::select! {
            events = watch.next() => events,
            () = state.shutdown.cancelled() => return,
        };
        let Ok(events) = events else { return };
        for event in events {
            if event.kind == EventKind::Deleted {
                if let Ok(crd) = envelope::decode(&event.entry) {
                    withdraw(state, &crd);
                    let group = object::text(&crd, &["spec", "group"]);
                    reconsider(state, group).await;
                }
            } else {
                changed(state, &event.entry).await;
            }
        }
        *from = watch.position();
    }
}

async fn changed(state: &Arc<State>, entry: &store::Entry) {
    // An older version of what has changed again, or is gone, is not worth a look.
    let current = state
        .store
        .get(entry.key())
        .is_some_and(|c| c.revision() == entry.revision());
    let Ok(crd) = envelope::decode(entry) else {
        return;
    };
    if !current {
        return;
    }
    if object::is_deleting(&crd) {
        Box::pin(clean_up(state, &crd)).await;
    } else {
        establish(state, &crd).await;
    }
}

fn is_true(crd: &Value, kind: &str) -> bool {
    object::list(crd, &["status", "conditions"])
        .iter()
        .any(|condition| {
            object::text(condition, &["type"]) == kind
                && object::text(condition, &["status"]) == "True"
        })
}

/// Replaces a definition in the catalog.
fn serve(state: &Arc<State>, crd: &Value, since: Revision) {
    let since = unchanged_since(state, crd).unwrap_or(since);
    let served = match definitions(crd, since) {
        Ok(served) => served,
        Err(why) => {
            tracing::error!(
                name = object::name(crd),
                why,
                "a definition does not compile"
            );
            return;
        }
    };
    update_catalog(state, |catalog| {
        catalog.remove_custom(
            object::text(crd, &["spec", "group"]),
            object::text(crd, &["spec", "names", "plural"]),
        );
        for definition in served {
            catalog.insert(definition);
        }
    });
}

/// Since when the definition that is served has the same `spec`.
fn unchanged_since(state: &State, crd: &Value) -> Option<Revision> {
    let catalog = state.catalog.load();
    let group = object::text(crd, &["spec", "group"]);
    let plural = object::text(crd, &["spec", "names", "plural"]);
    let served = catalog
        .all()
        .filter(|other| other.gvr.group == group && other.gvr.resource == plural)
        .find_map(|other| other.custom.as_ref())?;
    (served.spec == super::spec_text(crd)).then_some(served.since)
}

fn withdraw(state: &Arc<State>, crd: &Value) {
    update_catalog(state, |catalog| {
        catalog.remove_custom(
            object::text(crd, &["spec", "group"]),
            object::text(crd, &["spec", "names", "plural"]),
        );
    });
}

fn update_catalog(state: &Arc<State>, change: impl FnOnce(&mut Catalog)) {
    // Only this task writes the catalog, so nothing is lost between the load and the store.
    let mut catalog = Catalog::clone(&state.catalog.load());
    change(&mut catalog);
    catalog.generation += 1;
    state.catalog.store(Arc::new(catalog));
}

/// The names other definitions of the group have.
fn taken(state: &State, crd: &Value) -> Taken {
    let catalog = state.catalog.load();
    let group = object::text(crd, &["spec", "group"]);
    let plural = object::text(crd, &["spec", "names", "plural"]);
    let mut taken = Taken::default();
    for other in catalog
        .all()
        .filter(|other| other.gvr.group == group && other.gvr.resource != plural)
    {
        let names = [&other.gvr.resource, &other.singular];
        let names = names.into_iter().chain(&other.short_names).cloned();
        taken.resources.extend(names);
        let kinds = [other.kind.kind.clone(), other.list_kind.clone()];
        taken.kinds.extend(kinds);
    }
    taken
}

/// Looks again at the definitions of a group that do not have all their names.
async fn reconsider(state: &Arc<State>, group: &str) {
    let Ok(listing) = state.store.list(&prefix(), &ListOptions::default()) else {
        return;
    };
    let suffix = format!(".{group}");
    for entry in listing.entries {
        // The group is the end of the name.
        if !entry.key().ends_with(&suffix) {
            continue;
        }
        let Ok(crd) = envelope::decode(&entry) else {
            continue;
        };
        if !is_true(&crd, "NamesAccepted") && !object::is_deleting(&crd) {
            establish(state, &crd).await;
        }
    }
}

async fn establish(state: &Arc<State>, crd: &Value) {
    let now = timestamp((state.options.clock)());
    let mut status = crd.get("status").cloned().unwrap_or_else(|| json!({}));
    let wanted = object::at(crd, &["spec", "names"]).unwrap_or(&Value::Null);
    let own = status.get("acceptedNames").cloned().unwrap_or_default();
    let naming = naming::accept(wanted, &own, &taken(state, crd));
    let accepted = naming.conflict.is_none();
    status["acceptedNames"] = naming.accepted;
    let names = match naming.conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", reason, message),
    };
    let established = if accepted {
        (
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted".to_owned(),
        )
    } else {
        (
            "False",
            "NotAccepted",
            "not all names are accepted".to_owned(),
        )
    };
    set_condition(&mut status, "NamesAccepted", &names, &now);
    if accepted || !is_true(crd, "Established") {
        set_condition(&mut status, "Established", &established, &now);
    }
    let known = object::list(&status, &["storedVersions"]).to_vec();
    let storage = object::list(crd, &["spec", "versions"])
        .iter()
        .find(|version| version.get("storage") == Some(&Value::Bool(true)))
        .map(|version| json!(object::text(version, &["name"])));
    if let Some(storage) = storage
        && !known.contains(&storage)
    {
        let mut versions = known;
        versions.push(storage);
        status["storedVersions"] = Value::Array(versions);
    }
    if accepted {
        serve(state, crd, state.store.revision());
    }
    if Some(&status) != crd.get("status") {
        put_status(state, crd, status).await;
    }
}

/// What the deletion of a definition makes of it at once. As upstream, it has no period of grace, and
/// its generation stays.
pub fn mark_terminating(new: &mut Value, old: &Value, now: &str) {
    let generation = object::at(old, &["metadata", "generation"]).cloned();
    let metadata = object::metadata_mut(new);
    metadata.remove("deletionGracePeriodSeconds");
    if let Some(generation) = generation {
        metadata.insert("generation".to_owned(), generation);
    }
    let message =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    let pending = ("True", PENDING, message.to_owned());
    let mut status = new.get("status").cloned().unwrap_or_else(|| json!({}));
    set_condition(&mut status, "Terminating", &pending, now);
    new["status"] = status;
}

fn set_condition(status: &mut Value, kind: &str, new: &(&str, &str, String), now: &str) {
    let (value, reason, message) = new;
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    let condition = json!({
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": now,
    });
    match conditions
        .iter_mut()
        .find(|old| object::text(old, &["type"]) == kind)
    {
        Some(old) if old["status"] == condition["status"] => {
            old["reason"] = condition["reason"].clone();
            old["message"] = condition["message"].clone();
        }
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

fn path(crd: &Value, subresource: &str) -> String {
    let collection = GroupVersionResource::new(GROUP, "v1", RESOURCE).collection_path(None);
    format!("{collection}/{}{subresource}", object::name(crd))
}

async fn put_status(state: &Arc<State>, crd: &Value, status: Value) {
    let mut new = crd.clone();
    new["status"] = status;
    let (code, answer) = dispatch::internal(state, "PUT", &path(crd, "/status"), &new).await;
    // On a conflict the newer version is on its way through the watch.
    if code >= 300 && code != 409 && code != 404 {
        tracing::error!(name = object::name(crd), %answer, "writing a definition's status");
    }
}

/// Deletes the objects of a definition that is going, then lets it go.
async fn clean_up(state: &Arc<State>, crd: &Value) {
    if !object::finalizers(crd).any(|finalizer| finalizer == FINALIZER) {
        return;
    }
    if is_true(crd, "Established") {
        // Nothing new is made of it from now on.
        serve(state, crd, state.store.revision());
    }
    let group = object::text(crd, &["spec", "group"]);
    let plural = object::text(crd, &["spec", "names", "plural"]);
    let prefix = envelope::key_prefix(group, plural, None);
    let now = timestamp((state.options.clock)());
    let is_pending = object::list(crd, &["status", "conditions"])
        .iter()
        .all(|condition| {
            object::text(condition, &["type"]) != "Terminating"
                || object::text(condition, &["reason"]) == PENDING
        });
    if is_true(crd, "Established") && is_pending {
        let mut status = crd["status"].clone();
        let message = "CustomResource deletion is in progress".to_owned();
        let new = ("True", "InstanceDeletionInProgress", message);
        set_condition(&mut status, "Terminating", &new, &now);
        put_status(state, crd, status).await;
        // The write comes back through the watch; deleting goes on then.
        return;
    }
    delete_objects(state, crd, &prefix).await;
    if state.store.count(&prefix) > 0 {
        // Objects with finalizers: look again when the last of them goes.
        let (state, crd, prefix) = (state.clone(), crd.clone(), prefix);
        tokio::spawn(async move {
            if wait_until_empty(&state, &prefix).await {
                release(&state, &crd).await;
            }
        });
        return;
    }
    release(state, crd).await;
}

async fn delete_objects(state: &Arc<State>, crd: &Value, prefix: &str) {
    let Ok(listing) = state.store.list(prefix, &ListOptions::default()) else {
        return;
    };
    let group = object::text(crd, &["spec", "group"]);
    let plural = object::text(crd, &["spec", "names", "plural"]);
    let catalog = state.catalog.load_full();
    let version = catalog
        .all()
        .find(|d| d.gvr.group == group && d.gvr.resource == plural)
        .map(|d| d.gvr.version.clone());
    let Some(version) = version else { return };
    let gvr = GroupVersionResource::new(group, version, plural);
    for entry in &listing.entries {
        let (namespace, name) = envelope::name_of(entry.key());
        let path = format!("{}/{name}", gvr.collection_path(namespace));
        let (code, answer) = dispatch::internal(state, "DELETE", &path, &Value::Null).await;
        if code >= 300 && code != 404 {
            tracing::warn!(path, %answer, "deleting an object of a definition that is going");
        }
    }
}

async fn wait_until_empty(state: &State, prefix: &str) -> bool {
    let Ok(mut watch) = state.store.watch(prefix, state.store.revision()) else {
        return false;
    };
    while state.store.count(prefix) > 0 {
        tokio::select! {
            events = watch.next() => if events.is_err() { return false },
            () = state.shutdown.cancelled() => return false,
        }
    }
    true
}

/// Takes the finalizer away.
async fn release(state: &Arc<State>, crd: &Value) {
    let rest: Vec<&str> = object::finalizers(crd)
        .filter(|finalizer| *finalizer != FINALIZER)
        .collect();
    let patch = json!({"metadata": {"finalizers": rest}});
    let (code, answer) = dispatch::internal(state, "PATCH", &path(crd, ""), &patch).await;
    if code >= 300 && code != 404 {
        tracing::error!(name = object::name(crd), %answer, "releasing a definition");
    }
}
