//! The caches of definitions and revisions, and how they are looked up.
//!
//! Both are large and hardly ever looked at (what a reconciler works on it asks the server for), so they are kept folded;
//! what has to be found among them without opening each is in an index.

use controller::{Informer, InformerOptions, Informers, Object};
use serde_json::Value;

use super::context::{revision_resource, rgd_resource};
use super::revision::VERIFIED;
use super::rgd_status::ACCEPTED;

/// What could not be built, which a kind that appears may change; all under one empty value.
pub(crate) const REFUSED: &str = "refused";
/// Revisions by the definition they are of.
pub(crate) const DEFINITION: &str = "definition";

/// The definitions.
pub(crate) fn rgds(informers: &Informers) -> Informer {
    let informer = informers.informer(&rgd_resource(), InformerOptions::folded());
    informer.add_index(REFUSED, |rgd| refused(rgd, ACCEPTED));
    informer
}

/// The revisions.
pub(crate) fn revisions(informers: &Informers) -> Informer {
    let informer = informers.informer(&revision_resource(), InformerOptions::folded());
    informer.add_index(REFUSED, |revision| refused(revision, VERIFIED));
    informer.add_index(DEFINITION, |revision| {
        definition(revision)
            .map(str::to_owned)
            .into_iter()
            .collect()
    });
    informer
}

/// The definition a revision is of.
pub(crate) fn definition(revision: &Object) -> Option<&str> {
    revision
        .pointer("/spec/snapshot/name")
        .and_then(Value::as_str)
}

fn refused(object: &Object, condition: &str) -> Vec<String> {
    let found = controller::condition::find(object.status(), condition);
    let is_refused = found.is_some_and(|condition| condition["status"] == "False");
    is_refused.then(String::new).into_iter().collect()
}
