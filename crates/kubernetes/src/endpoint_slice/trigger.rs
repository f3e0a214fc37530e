//! When the change happened that a change of endpoints goes back to: what latency is measured from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use controller::{Object, ObjectKey, condition};
use jiff::Timestamp;
use model::object;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Where the time is told.
pub const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

#[derive(Default)]
struct Known {
    service: Option<Timestamp>,
    pods: BTreeMap<String, Timestamp>,
}

/// What has been seen of each Service and its Pods.
#[derive(Default)]
pub struct Triggers(Mutex<HashMap<ObjectKey, Known>>);

impl Triggers {
    /// The earliest of the changes since the last time this was asked.
    pub fn since_last(&self, service: &Object, pods: &[Arc<Object>]) -> Option<Timestamp> {
        let time = |text: &str| text.parse::<Timestamp>().ok();
        let created = time(service.creation_timestamp());
        let changed = |pod: &Object| {
            let ready = condition::find(pod.status(), "Ready")?;
            time(object::text(ready, &["lastTransitionTime"]))
        };
        let now: BTreeMap<String, Timestamp> = pods
            .iter()
            .filter_map(|pod| Some((pod.name().to_owned(), changed(pod)?)))
            .collect();
        let mut all = self.0.lock();
        let known = all.insert(
            service.key(),
            Known {
                service: created,
                pods: now.clone(),
            },
        );
        let Some(known) = known else {
            return created;
        };
        let later = now
            .into_iter()
            .filter(|(name, at)| known.pods.get(name).is_none_or(|before| at > before))
            .map(|(_, at)| at);
        later
            .chain(created.filter(|at| Some(*at) > known.service))
            .min()
    }

    /// Forgets a Service that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }
}

/// Tells the time in an object that is written, or takes it out where nothing has triggered it.
pub fn tell(object: &mut Value, trigger: Option<Timestamp>) {
    match trigger {
        Some(at) => object["metadata"]["annotations"][ANNOTATION] = json!(at.to_string()),
        None => {
            let annotations = object.pointer_mut("/metadata/annotations");
            if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
                annotations.remove(ANNOTATION);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_change_since_the_last_look_counts() {
        let at = |second: i64| Timestamp::from_second(second).expect("in range");
        let service = Object::new(json!({"metadata": {
            "name": "s", "namespace": "n", "creationTimestamp": at(5).to_string(),
        }}));
        let pod = |name: &str, second: i64| {
            let ready = json!({"type": "Ready", "lastTransitionTime": at(second).to_string()});
            Arc::new(Object::new(
                json!({"metadata": {"name": name}, "status": {"conditions": [ready]}}),
            ))
        };
        let triggers = Triggers::default();
        assert_eq!(triggers.since_last(&service, &[pod("a", 9)]), Some(at(5)));
        assert_eq!(triggers.since_last(&service, &[pod("a", 9)]), None);
        let more = [pod("a", 12), pod("b", 11), pod("c", 15)];
        assert_eq!(triggers.since_last(&service, &more), Some(at(11)));
        assert_eq!(triggers.since_last(&service, &more[..1]), None);
        triggers.forget(&service.key());
        assert_eq!(triggers.since_last(&service, &more), Some(at(5)));
    }
}
