//! The objects an informer holds, with indexes over them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::object::{Object, ObjectKey};

/// A cache of more objects than this keeps them folded, but those that are being looked at: reading a
/// text costs some microseconds, a tree some times its memory.
pub(crate) const OPEN_MAX: usize = 8_192;

/// Names under which an object is found in an index.
pub type IndexFunction = Arc<dyn Fn(&Object) -> Vec<String> + Send + Sync>;

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum Event {
    /// It is new to the informer.
    Added(Arc<Object>),
    /// It changed.
    Updated {
        /// As it was.
        old: Arc<Object>,
        /// As it is.
        new: Arc<Object>,
    },
    /// It is gone; this is the last that is known of it.
    Deleted(Arc<Object>),
}

impl Event {
    /// The latest known state of the object.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Added(object) | Self::Deleted(object) => object,
            Self::Updated { new, .. } => new,
        }
    }
}

pub(crate) struct Cache {
    /// How many objects may be open at rest.
    open_max: usize,
    objects: HashMap<ObjectKey, Arc<Object>>,
    indexes: HashMap<String, Index>,
}

struct Index {
    function: IndexFunction,
    /// Invariant: no empty sets.
    keys: HashMap<String, BTreeSet<ObjectKey>>,
}

impl Index {
    fn insert(&mut self, key: &ObjectKey, object: &Object) {
        for value in (self.function)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &Object) {
        for value in (self.function)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

impl Cache {
    /// An empty cache that folds its objects when they are more than `open_max`.
    pub fn new(open_max: usize) -> Self {
        Self {
            open_max,
            objects: HashMap::new(),
            indexes: HashMap::new(),
        }
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.objects.get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object>> {
        let objects = self.objects.iter();
        objects
            .filter(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }

    /// Adds an index under a name not taken yet and fills it.
    pub fn add_index(&mut self, name: &str, function: IndexFunction) {
        if self.indexes.contains_key(name) {
            return;
        }
        let mut index = Index {
            function,
            keys: HashMap::new(),
        };
        for (key, object) in &self.objects {
            index.insert(key, object);
        }
        self.indexes.insert(name.to_owned(), index);
    }

    pub fn by_index(&self, name: &str, value: &str) -> Option<Vec<Arc<Object>>> {
        let keys = self.indexes.get(name)?.keys.get(value);
        let found = keys
            .into_iter()
            .flatten()
            .filter_map(|key| self.get(key))
            .collect();
        Some(found)
    }

    /// Stores an object; `None` if exactly this version is there already.
    pub fn upsert(&mut self, object: Arc<Object>) -> Option<Event> {
        let key = object.key();
        let old = self.objects.insert(key.clone(), Arc::clone(&object));
        for index in self.indexes.values_mut() {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &object);
        }
        match old {
            None => Some(Event::Added(object)),
            Some(old) if same_version(&old, &object) => None,
            Some(old) => Some(Event::Updated { old, new: object }),
        }
    }

    /// Removes an object; the event carries `last` if the server told its last state.
    pub fn remove(&mut self, key: &ObjectKey, last: Option<Arc<Object>>) -> Option<Event> {
        let old = self.objects.remove(key)?;
        for index in self.indexes.values_mut() {
            index.remove(key, &old);
        }
        Some(Event::Deleted(last.unwrap_or(old)))
    }

    /// The keys that a fresh list lacks.
    pub fn missing_from(&self, list: &HashSet<&ObjectKey>) -> Vec<ObjectKey> {
        let keys = self.objects.keys();
        keys.filter(|key| !list.contains(key)).cloned().collect()
    }

    /// Makes one object as small as it gets, when the cache is large.
    pub fn fold(&mut self, key: &ObjectKey) {
        if self.objects.len() > self.open_max
            && let Some(object) = self.objects.get_mut(key).filter(|object| object.is_open())
        {
            *object = Arc::new(object.folded());
        }
    }

    /// Makes all objects small that have been looked at since the last time.
    pub fn fold_all(&mut self) {
        if self.objects.len() > self.open_max {
            for object in self.objects.values_mut().filter(|object| object.is_open()) {
                *object = Arc::new(object.folded());
            }
        }
    }
}

fn same_version(old: &Object, new: &Object) -> bool {
    !old.resource_version().is_empty()
        && old.resource_version() == new.resource_version()
        && old.uid() == new.uid()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(name: &str, version: u32, label: u8) -> Arc<Object> {
        Arc::new(Object::new(json!({"metadata": {
            "name": name, "resourceVersion": version.to_string(), "labels": {"l": label.to_string()},
        }})))
    }

    fn by_label() -> IndexFunction {
        Arc::new(|object| object.label("l").map(str::to_owned).into_iter().collect())
    }

    #[test]
    fn a_large_cache_is_folded_and_reads_the_same() {
        let mut cache = Cache::new(OPEN_MAX);
        let name = |number: usize| format!("o{number}");
        for number in 0..=OPEN_MAX {
            cache.upsert(object(&name(number), 1, 0));
        }
        let open = |cache: &Cache| cache.all().filter(|object| object.is_open()).count();
        assert_eq!(open(&cache), OPEN_MAX + 1);
        cache.fold(&ObjectKey::cluster("o7"));
        assert_eq!(open(&cache), OPEN_MAX);
        cache.fold_all();
        assert_eq!(open(&cache), 0);
        let seven = cache.get(&ObjectKey::cluster("o7")).expect("still there");
        assert_eq!(seven.label("l"), Some("0"));
        cache.remove(&ObjectKey::cluster("o0"), None);
        cache.upsert(object("o1", 1, 0));
        cache.fold_all();
        assert_eq!(open(&cache), 2, "a small cache is left alone");
    }

    proptest! {
        #[test]
        fn an_index_equals_a_scan(
            open_max in 0..8_usize,
            steps in prop::collection::vec((0..6_u8, 0..4_u8, any::<bool>()), 0..60),
        ) {
            let mut cache = Cache::new(open_max);
            cache.add_index("l", by_label());
            for (version, (name, label, remove)) in steps.into_iter().enumerate() {
                let object = object(&format!("n{name}"), u32::try_from(version).unwrap(), label);
                if remove {
                    cache.remove(&object.key(), None);
                } else {
                    let key = object.key();
                    cache.upsert(object);
                    cache.fold(&key);
                }
                for label in 0..4_u8 {
                    let label = label.to_string();
                    let mut scan: Vec<_> =
                        cache.all().filter(|object| object.label("l") == Some(&label)).map(|object| object.key()).collect();
                    scan.sort();
                    let index: Vec<_> = cache.by_index("l", &label).unwrap().iter().map(|object| object.key()).collect();
                    prop_assert_eq!(index, scan);
                }
            }
        }
    }
}
