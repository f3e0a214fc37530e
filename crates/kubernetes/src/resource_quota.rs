//! Resource quotas: `status.hard` follows the spec, `status.used` is what is there.
//!
//! The admission plugin charges every write at once; this controller sets the limits in force, counts
//! when a quota is new or changed, and gives back what deleted objects and ended Pods were charged for.
//!
//! A write is charged a moment before its object is there, and who counts in between finds too little. So less than was
//! charged is believed only when it is found twice, [`SETTLE`] apart, with no charge in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controller::{
    Backoff, Discovery, Event, HandlerGuard, Informer, InformerOptions, ListOptions, Object,
    ObjectKey, Outcome, Reconciler, Resource, WorkQueue,
};
use kinds::demand::{self, Amounts};
use kinds::quota;
use model::object;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// How often everything is counted again, whatever happens; as upstream.
const RESYNC: Duration = Duration::from_mins(5);

/// How long changes are gathered before they are counted.
const SETTLE: Duration = Duration::from_millis(100);

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("resourcequota", Backoff::default());
    let quotas = cluster.informer(&resources::resource_quotas());
    let wanted = queue.clone();
    let _handler = quotas.add_handler(move |event| {
        let limits = |part: &str| demand::amounts(event.object().get(&[part, "hard"]));
        let is_new = || print(&limits("spec")) != print(&limits("status"));
        // Those that are there at the start may have missed what went before. What admission charges is no reason to
        // count: it would be counted before it is there.
        if matches!(event, Event::Added(_)) || is_new() {
            wanted.add(event.object().key());
        }
    });
    let reconciler = Quotas {
        cluster: cluster.clone(),
        discovery: Discovery::new(cluster.api().clone()),
        queue: queue.clone(),
        followed: Mutex::default(),
        doubts: Mutex::default(),
    };
    cluster
        .drive("resourcequota", queue, reconciler, vec![quotas])
        .await;
}

struct Quotas {
    cluster: Cluster,
    discovery: Discovery,
    queue: WorkQueue,
    /// What is counted for some quota; each wakes the quotas of its namespace when something goes.
    followed: Mutex<BTreeMap<(String, String), Followed>>,
    /// The quotas of which less was found than was charged.
    doubts: Mutex<BTreeMap<ObjectKey, Doubt>>,
}

/// Less was found than was charged.
#[derive(Clone)]
struct Doubt {
    /// The resource version of the quota, which every charge changes.
    version: String,
    found: Value,
    since: Instant,
}

/// A resource that is counted.
struct Followed {
    resource: Resource,
    full: bool,
    _informer: Informer,
    _guard: HandlerGuard,
}

impl Reconciler for Quotas {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        let Some(quota) = api.get_opt(&resources::resource_quotas(), key).await? else {
            self.doubts.lock().remove(key);
            return Ok(Outcome::Done);
        };
        let namespace = key.namespace().unwrap_or_default();
        let hard = demand::amounts(quota.get(&["spec", "hard"]));
        let counted = self.count(quota.value(), namespace, &hard).await?;
        let wanted = json!({"hard": print(&hard), "used": print(&counted)});
        if let Some(left) = self.doubt(key, &quota, &counted, &wanted) {
            return Ok(Outcome::RequeueAfter(left));
        }
        if *quota.status() != wanted {
            let mut updated = quota.into_value();
            updated["status"] = wanted;
            match api
                .update_status(&resources::resource_quotas(), &updated)
                .await
            {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Outcome::RequeueAfter(RESYNC))
    }
}

fn print(amounts: &Amounts) -> Map<String, Value> {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), json!(amount.to_string())))
        .collect()
}

impl Quotas {
    /// How long to wait before what was found is believed: none unless it is less than was charged.
    fn doubt(
        &self,
        key: &ObjectKey,
        quota: &Object,
        counted: &Amounts,
        wanted: &Value,
    ) -> Option<Duration> {
        let charged = demand::amounts(quota.get(&["status", "used"]));
        let less = counted
            .iter()
            .any(|(name, found)| charged.get(name).is_some_and(|charged| found < charged));
        let mut doubts = self.doubts.lock();
        if !less {
            doubts.remove(key);
            return None;
        }
        let fresh = Doubt {
            version: quota.resource_version().to_owned(),
            found: wanted.clone(),
            since: Instant::now(),
        };
        let doubt = doubts.entry(key.clone()).or_insert_with(|| fresh.clone());
        if doubt.version != fresh.version || doubt.found != fresh.found {
            *doubt = fresh;
        }
        let left = SETTLE.saturating_sub(doubt.since.elapsed());
        if left.is_zero() {
            doubts.remove(key);
            return None;
        }
        Some(left)
    }

    /// What is used of every limit that is on something the cluster serves.
    async fn count(
        &self,
        quota: &Value,
        namespace: &str,
        hard: &Amounts,
    ) -> Result<Amounts, Error> {
        let wanted: BTreeSet<(String, String)> =
            hard.keys().map(|name| quota::measured(name)).collect();
        let mut used = Amounts::new();
        for (group, resource) in wanted {
            let Some((found, full)) = self.follow(&group, &resource).await? else {
                continue;
            };
            // Asked of the server: a cache may lag behind what has been charged.
            let options = ListOptions {
                namespace: Some(namespace.to_owned()),
                metadata_only: !full,
                ..ListOptions::default()
            };
            let objects = self.cluster.api().list(&found, &options).await?.items;
            let (group, resource) = (group.as_str(), resource.as_str());
            let now = self.cluster.now();
            used.extend(sum(quota, group, resource, hard, &objects, now));
        }
        Ok(used)
    }

    /// Sees to it that what is counted wakes its quotas; gives it, and whether all of it has to be known.
    /// `None` where the cluster does not serve it.
    async fn follow(&self, group: &str, resource: &str) -> Result<Option<(Resource, bool)>, Error> {
        let name = (group.to_owned(), resource.to_owned());
        if let Some(followed) = self.followed.lock().get(&name) {
            return Ok(Some((followed.resource.clone(), followed.full)));
        }
        let found = self
            .discovery
            .resolve_group_resource(group, resource)
            .await?;
        let Some(found) = found.filter(|found| found.namespaced) else {
            return Ok(None);
        };
        // Only what is measured more closely has to be known in full.
        let full = matches!(
            (group, resource),
            ("", "pods" | "services" | "persistentvolumeclaims")
                | ("resource.k8s.io", "resourceclaims")
        );
        let options = if full {
            InformerOptions::default()
        } else {
            InformerOptions::metadata_only()
        };
        let informer = self.cluster.informers().informer(&found, options);
        let (queue, quotas) = (
            self.queue.clone(),
            self.cluster.informer(&resources::resource_quotas()),
        );
        let of = name.clone();
        let guard = informer.add_handler(move |event| {
            if let Some(namespace) = recounts(event, &of.0, &of.1) {
                for quota in quotas.list_namespace(&namespace) {
                    queue.add_after(quota.key(), SETTLE);
                }
            }
        });
        let followed = Followed {
            resource: found.clone(),
            full,
            _informer: informer,
            _guard: guard,
        };
        self.followed.lock().insert(name, followed);
        Ok(Some((found, full)))
    }
}

/// The namespace in which to count again after a change. What is new has been charged already, unless
/// it was counted between its charge and its write.
fn recounts(event: &Event, group: &str, resource: &str) -> Option<String> {
    let ended = |pod: &Object| {
        matches!(
            object::text(pod.status(), &["phase"]),
            "Failed" | "Succeeded"
        )
    };
    let object = match event {
        Event::Deleted(object) | Event::Added(object) => object,
        Event::Updated { old, new } => {
            let is_pod = group.is_empty() && resource == "pods";
            // Services and claims can come to need less.
            let differs = (is_pod && ended(new) && !ended(old))
                || quota::may_differ(group, resource, old.value(), new.value());
            if !differs {
                return None;
            }
            new
        }
    };
    object.namespace().map(str::to_owned)
}

/// What the objects of one resource use of a quota's limits on it.
fn sum(
    quota: &Value,
    group: &str,
    resource: &str,
    hard: &Amounts,
    objects: &[Object],
    now: jiff::Timestamp,
) -> Amounts {
    let zero = model::Quantity::from_units(0);
    let mut used: Amounts = hard
        .keys()
        .filter(|name| quota::measures(group, resource, name))
        .map(|name| (name.clone(), zero))
        .collect();
    for object in objects {
        if !quota::in_scope(group, resource, quota, object.value()) {
            continue;
        }
        for (name, amount) in quota::usage(group, resource, object.value(), now) {
            if let Some(total) = used.get_mut(&name) {
                *total = if total.sign() == 0 {
                    amount
                } else {
                    *total + amount
                };
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_scope_are_counted() {
        let pod = |class: &str, cpu: &str| {
            Object::new(json!({
                "metadata": {"name": cpu, "namespace": "a"},
                "spec": {
                    "priorityClassName": class,
                    "containers": [{"resources": {"requests": {"cpu": cpu}}}],
                },
            }))
        };
        let quota = json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]},
        ]}}});
        let limits = json!({"pods": "5", "requests.cpu": "2", "services": "1"});
        let hard = demand::amounts(Some(&limits));
        let pods = [pod("high", "250m"), pod("high", "1"), pod("low", "1")];
        let used = sum(
            &quota,
            "",
            "pods",
            &hard,
            &pods,
            jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            Value::Object(print(&used)),
            json!({"pods": "2", "requests.cpu": "1250m"})
        );
    }
}
