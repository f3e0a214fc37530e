//! Who looks at what without owning it: a table to ask in both directions.
//!
//! An event is looked up by its object, so it costs what it concerns and not what there is. Selections have to be tried one by
//! one, those of the object's kind alone.

use std::collections::{HashMap, HashSet};

use controller::{Event, Object, ObjectKey, Resource};
use model::LabelSelector;

use super::context::InstanceKey;
use super::metrics::WatchCounts;

/// What an instance looks at without owning it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Interest {
    /// One object.
    Object(Resource, ObjectKey),
    /// Objects with certain labels, in one namespace or all.
    Selection(Resource, Option<String>, LabelSelector),
}

impl Interest {
    pub fn resource(&self) -> &Resource {
        match self {
            Self::Object(resource, _) | Self::Selection(resource, ..) => resource,
        }
    }

    fn covers(&self, object: &Object) -> bool {
        match self {
            Self::Object(_, key) => object.key() == *key,
            Self::Selection(_, namespace, selector) => {
                namespace
                    .as_deref()
                    .is_none_or(|namespace| object.namespace() == Some(namespace))
                    && selector.matches_with(|key| object.label(key))
            }
        }
    }
}

/// The instances that look at things of one resource.
#[derive(Default)]
struct Watchers {
    objects: HashMap<ObjectKey, HashSet<InstanceKey>>,
    /// Instances with selections; which ones is in the other table.
    selecting: HashSet<InstanceKey>,
}

/// The table.
#[derive(Default)]
pub(crate) struct Interests {
    of: HashMap<InstanceKey, Vec<Interest>>,
    watchers: HashMap<Resource, Watchers>,
}

impl Interests {
    /// Adds to what an instance looks at.
    pub fn add(&mut self, instance: &InstanceKey, interest: Interest) {
        let looked_at = self.of.entry(instance.clone()).or_default();
        if looked_at.contains(&interest) {
            return;
        }
        let watchers = self
            .watchers
            .entry(interest.resource().clone())
            .or_default();
        match &interest {
            Interest::Object(_, key) => {
                let instances = watchers.objects.entry(key.clone()).or_default();
                instances.insert(instance.clone());
            }
            Interest::Selection(..) => {
                watchers.selecting.insert(instance.clone());
            }
        }
        looked_at.push(interest);
    }

    /// Makes these all that an instance looks at; returns whether that changed anything.
    pub fn replace(&mut self, instance: &InstanceKey, interests: Vec<Interest>) -> bool {
        let same = self
            .of
            .get(instance)
            .map_or(interests.is_empty(), |present| {
                present.len() == interests.len()
                    && interests.iter().all(|one| present.contains(one))
            });
        if same {
            return false;
        }
        self.forget(instance);
        for interest in interests {
            self.add(instance, interest);
        }
        true
    }

    /// Forgets an instance; returns whether it was known.
    pub fn forget(&mut self, instance: &InstanceKey) -> bool {
        let Some(interests) = self.of.remove(instance) else {
            return false;
        };
        for interest in interests {
            let Some(watchers) = self.watchers.get_mut(interest.resource()) else {
                continue;
            };
            if let Interest::Object(_, key) = &interest
                && let Some(instances) = watchers.objects.get_mut(key)
            {
                instances.remove(instance);
                if instances.is_empty() {
                    watchers.objects.remove(key);
                }
            }
            watchers.selecting.remove(instance);
            if watchers.objects.is_empty() && watchers.selecting.is_empty() {
                self.watchers.remove(interest.resource());
            }
        }
        true
    }

    /// Whether anybody looks at things of a resource.
    pub fn has(&self, resource: &Resource) -> bool {
        self.watchers.contains_key(resource)
    }

    /// The instances an event concerns. An object that leaves a selection concerns those who had it.
    pub fn concerned(&self, resource: &Resource, event: &Event) -> Vec<InstanceKey> {
        let Some(watchers) = self.watchers.get(resource) else {
            return Vec::new();
        };
        let object = event.object();
        let named = watchers.objects.get(&object.key()).into_iter().flatten();
        let mut concerned: Vec<InstanceKey> = named.cloned().collect();
        for instance in &watchers.selecting {
            let looked_at = self.of.get(instance).into_iter().flatten();
            let mut selections = looked_at.filter(
                |interest| matches!(interest, Interest::Selection(of, ..) if of == resource),
            );
            let hit = selections.any(|selection| match event {
                Event::Updated { old, new } => selection.covers(old) || selection.covers(new),
                Event::Added(object) | Event::Deleted(object) => selection.covers(object),
            });
            if hit {
                concerned.push(instance.clone());
            }
        }
        concerned
    }

    /// How many look at what.
    pub fn count(&self, counts: &mut WatchCounts) {
        let (mut watchers, mut requests) = (HashMap::new(), HashMap::new());
        for (instance, interests) in &self.of {
            *watchers.entry(instance.resource.clone()).or_insert(0) += 1;
            for interest in interests {
                let kinds: &mut [usize; 2] =
                    requests.entry(interest.resource().clone()).or_default();
                kinds[usize::from(matches!(interest, Interest::Selection(..)))] += 1;
            }
        }
        counts.watchers.extend(watchers);
        counts.requests.extend(requests);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn secrets() -> Resource {
        Resource::namespaced("v1", "secrets", "Secret")
    }

    fn instance(name: &str) -> InstanceKey {
        InstanceKey {
            resource: Resource::namespaced("kro.run/v1", "apps", "App"),
            key: ObjectKey::new("default", name),
        }
    }

    fn secret(name: &str, label: &str) -> Arc<Object> {
        Arc::new(Object::new(json!({
            "metadata": {"namespace": "default", "name": name, "labels": {"app": label}},
        })))
    }

    fn selection(label: &str) -> Interest {
        let selector = LabelSelector::parse(&format!("app={label}")).unwrap();
        Interest::Selection(secrets(), Some("default".to_owned()), selector)
    }

    #[test]
    fn events_find_those_they_concern() {
        let mut table = Interests::default();
        let one = Interest::Object(secrets(), ObjectKey::new("default", "one"));
        table.add(&instance("a"), one.clone());
        table.add(&instance("b"), one.clone());
        table.add(&instance("c"), selection("x"));
        let names = |table: &Interests, event: &Event| {
            let mut names: Vec<String> = table
                .concerned(&secrets(), event)
                .into_iter()
                .map(|instance| instance.key.name)
                .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names(&table, &Event::Added(secret("one", "-"))), "a b");
        assert_eq!(names(&table, &Event::Added(secret("two", "-"))), "");
        assert_eq!(names(&table, &Event::Deleted(secret("two", "x"))), "c");
        let leaves = Event::Updated {
            old: secret("two", "x"),
            new: secret("two", "y"),
        };
        assert_eq!(names(&table, &leaves), "c");
        assert!(table.replace(&instance("a"), vec![selection("y")]));
        assert!(!table.replace(&instance("a"), vec![selection("y")]));
        assert_eq!(names(&table, &Event::Added(secret("one", "y"))), "a b");
        assert_eq!(names(&table, &leaves), "a c");
        for name in ["a", "b", "c"] {
            assert!(table.has(&secrets()));
            assert!(table.forget(&instance(name)));
        }
        assert!(!table.has(&secrets()));
        assert!(!table.forget(&instance("a")));
    }
}
