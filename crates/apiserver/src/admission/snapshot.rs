//! Compiled forms of the objects of a resource, made anew when one of them changes.
//!
//! What is current is decided by the revisions in the store, so a change is seen by the next request,
//! whoever made it; where there are no objects, looking costs one count.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use store::{ListOptions, Revision, Store};

use crate::envelope;

type Versions = Vec<(Arc<str>, Revision)>;

/// The compiled objects of some resources of one group.
pub struct Snapshot<T> {
    resources: &'static [&'static str],
    current: Mutex<Option<(Versions, Arc<T>)>>,
}

const GROUP: &str = "admissionregistration.k8s.io";

impl<T> Snapshot<T> {
    /// Of these resources of the group of admission's own objects.
    pub const fn new(resources: &'static [&'static str]) -> Self {
        Self {
            resources,
            current: Mutex::new(None),
        }
    }

    /// The current compiled form; `None` where the first of the resources has no objects. `compile` gets
    /// the objects of each resource, by name.
    pub fn get(
        &self,
        store: &dyn Store,
        compile: impl FnOnce(&[Vec<Value>]) -> T,
    ) -> Option<Arc<T>> {
        let prefix = |resource: &&str| envelope::key_prefix(GROUP, resource, None);
        if store.count(&prefix(self.resources.first()?)) == 0 {
            return None;
        }
        let mut versions = Vec::new();
        let mut listings = Vec::new();
        for resource in self.resources {
            let listing = store.list(&prefix(resource), &ListOptions::default());
            let entries = listing.map(|listing| listing.entries).unwrap_or_default();
            versions.extend(entries.iter().map(|e| (e.key().clone(), e.revision())));
            listings.push(entries);
        }
        let mut current = self.current.lock();
        if let Some((known, compiled)) = &*current
            && *known == versions
        {
            return Some(compiled.clone());
        }
        let objects: Vec<Vec<Value>> = listings
            .iter()
            .map(|entries| {
                entries
                    .iter()
                    .filter_map(|entry| envelope::decode(entry).ok())
                    .collect()
            })
            .collect();
        let compiled = Arc::new(compile(&objects));
        *current = Some((versions, compiled.clone()));
        Some(compiled)
    }
}
