//! Legacy service account token cleaner: tokens in Secrets that nobody has used for a year are marked as invalid, and deleted a
//! year later.
//!
//! Only those the cluster made by itself are touched: an account lists them in `secrets`. The API server labels Secrets with the day
//! they were last used, and says in a ConfigMap since when it does. A Secret that a Pod names stays.

use std::collections::BTreeSet;
use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, Informer, InformerOptions, ListOptions, Object, ObjectKey, Outcome,
    Reconciler, Subresource, WorkQueue, enqueue, index,
};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use model::object;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// How long tokens may lie unused, unless told otherwise: a year, as upstream.
const UNUSED: Duration = Duration::from_hours(8760);
/// How often they are looked at.
const PERIOD: Duration = Duration::from_hours(24);

/// Runs the controller.
pub async fn run(cluster: Cluster, unused: Option<Duration>) {
    let queue: WorkQueue = WorkQueue::new("legacyserviceaccounttokencleaner", Backoff::default());
    let secrets = cluster.informers().informer(
        &resources::secrets(),
        InformerOptions {
            field_selector: Some(format!("type={TYPE}")),
            ..InformerOptions::metadata_only()
        },
    );
    let accounts = cluster.informer(&resources::service_accounts());
    let pods = cluster.informer(&resources::pods());
    pods.add_namespace_index();
    let _handler = secrets.add_handler(enqueue::object(&queue));
    let informers = vec![secrets.clone(), accounts.clone(), pods.clone()];
    let reconciler = Cleaner {
        cluster: cluster.clone(),
        secrets,
        accounts,
        pods,
        unused: unused.unwrap_or(UNUSED),
    };
    let name = "legacyserviceaccounttokencleaner";
    cluster.drive(name, queue, reconciler, informers).await;
}

struct Cleaner {
    cluster: Cluster,
    secrets: Informer,
    accounts: Informer,
    pods: Informer,
    unused: Duration,
}

/// What is to be done about a token.
#[derive(Debug, PartialEq)]
enum Verdict {
    Keep,
    /// Nobody is let in with it any more.
    Invalidate,
    Delete,
}

/// Judges a token nobody's Pod names, of an account that lists it.
fn judge(secret: &Object, since: Date, now: Timestamp, unused: Duration) -> Verdict {
    let Some(oldest) = SignedDuration::try_from(unused)
        .ok()
        .and_then(|unused| now.checked_sub(unused).ok())
    else {
        return Verdict::Keep;
    };
    let day = oldest.strftime("%Y-%m-%d").to_string();
    let tracked = since.checked_add(1.day()).map(|day| day.to_string());
    // Use has to have been noted all the time, from the day after it began.
    if !tracked.is_ok_and(|tracked| tracked <= day) {
        return Verdict::Keep;
    }
    let created: Result<Timestamp, _> = secret.creation_timestamp().parse();
    if secret.is_terminating() || !created.is_ok_and(|created| created < oldest) {
        return Verdict::Keep;
    }
    let is_day = |text: &str| text.len() == day.len() && text.parse::<Date>().is_ok();
    match secret.label(LAST_USED) {
        Some(used) if !is_day(used) || *used >= *day => return Verdict::Keep,
        _ => {}
    }
    match secret.label(INVALID_SINCE).filter(|since| is_day(since)) {
        None => Verdict::Invalidate,
        Some(since) if *since >= *day => Verdict::Keep,
        Some(_) => Verdict::Delete,
    }
}

/// The Secrets a Pod names.
fn secrets_of(pod: &Object) -> BTreeSet<&str> {
    let spec = pod.spec();
    let mut names = BTreeSet::new();
    for reference in object::list(spec, &["imagePullSecrets"]) {
        names.insert(object::text(reference, &["name"]));
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for container in object::list(spec, &[kind]) {
            for from in object::list(container, &["envFrom"]) {
                names.insert(object::text(from, &["secretRef", "name"]));
            }
            for variable in object::list(container, &["env"]) {
                names.insert(object::text(
                    variable,
                    &["valueFrom", "secretKeyRef", "name"],
                ));
            }
        }
    }
    for volume in object::list(spec, &["volumes"]) {
        // Every source names its Secret by one of these.
        for source in volume
            .as_object()
            .into_iter()
            .flat_map(|volume| volume.values())
        {
            names.insert(object::text(source, &["secretName"]));
            names.insert(object::text(source, &["secretRef", "name"]));
            names.insert(object::text(source, &["nodePublishSecretRef", "name"]));
            for source in object::list(source, &["sources"]) {
                names.insert(object::text(source, &["secret", "name"]));
            }
        }
    }
    names
}

impl Cleaner {
    /// Whether the cluster has made the token by itself, for an account that is there, and no Pod names it.
    fn is_left(&self, secret: &Object) -> bool {
        let namespace = secret.namespace().unwrap_or_default();
        let account = secret.annotation(ACCOUNT_NAME).unwrap_or_default();
        let Some(account) = self.accounts.get(&ObjectKey::new(namespace, account)) else {
            return false;
        };
        let uid = secret.annotation(ACCOUNT_UID).unwrap_or_default();
        let names = |reference: &Value| object::text(reference, &["name"]) == secret.name();
        let is_listed = object::list(account.value(), &["secrets"])
            .iter()
            .any(names);
        let is_named = || {
            let pods = self.pods.by_index(index::NAMESPACE, namespace);
            pods.iter()
                .any(|pod| secrets_of(pod).contains(secret.name()))
        };
        (uid.is_empty() || uid == account.uid()) && is_listed && !is_named()
    }

    /// Whether a Pod names a Secret, as the server has it.
    async fn is_named_after_all(&self, secret: &Object) -> Result<bool, Error> {
        let options = ListOptions {
            namespace: secret.namespace().map(str::to_owned),
            ..ListOptions::default()
        };
        let pods = self
            .cluster
            .api()
            .list(&resources::pods(), &options)
            .await?;
        let mut pods = pods.items.iter();
        Ok(pods.any(|pod| secrets_of(pod).contains(secret.name())))
    }

    /// Since when the use of tokens is noted.
    async fn tracked_since(&self) -> Result<Option<Date>, Error> {
        let key = ObjectKey::new("kube-system", TRACKING);
        let api = self.cluster.api();
        let tracking = api.get_opt(&resources::config_maps(), &key).await?;
        let since = tracking
            .as_ref()
            .map(|tracking| object::text(tracking.value(), &["data", "since"]));
        Ok(since.and_then(|since| since.parse().ok()))
    }
}

impl Reconciler for Cleaner {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(secret) = self.secrets.get(key) else {
            return Ok(Outcome::Done);
        };
        if !self.is_left(&secret) {
            return Ok(Outcome::RequeueAfter(PERIOD));
        }
        let Some(since) = self.tracked_since().await? else {
            return Ok(Outcome::RequeueAfter(PERIOD));
        };
        let (now, api) = (self.cluster.now(), self.cluster.api());
        let verdict = judge(&secret, since, now, self.unused);
        // A Pod may have come that the cache does not show yet, and would be locked out.
        if verdict != Verdict::Keep && self.is_named_after_all(&secret).await? {
            return Ok(Outcome::RequeueAfter(PERIOD));
        }
        let outcome = match verdict {
            Verdict::Keep => Ok(()),
            Verdict::Invalidate => {
                let today = now.strftime("%Y-%m-%d").to_string();
                let patch = json!({"metadata": {
                    "resourceVersion": secret.resource_version(),
                    "labels": {INVALID_SINCE: today},
                }});
                let patched = api
                    .merge_patch(&resources::secrets(), key, Subresource::None, &patch)
                    .await;
                patched.map(drop)
            }
            Verdict::Delete => {
                let options = DeleteOptions {
                    // It may be used in this moment.
                    resource_version: Some(secret.resource_version().to_owned()),
                    ..DeleteOptions::default()
                };
                api.delete(&resources::secrets(), key, &options)
                    .await
                    .map(drop)
            }
        };
        match outcome {
            // It has changed: its event wakes it, too.
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Outcome::RequeueAfter(PERIOD)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_nobody_uses_are_marked_then_deleted() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().expect("a time");
        let check = |created: &str, used: &str, invalid: &str, since: &str, expect: Verdict| {
            let mut labels = json!({});
            for (label, value) in [(LAST_USED, used), (INVALID_SINCE, invalid)] {
                if !value.is_empty() {
                    labels[label] = json!(value);
                }
            }
            let secret = Object::new(json!({"metadata": {
                "name": "t", "labels": labels, "creationTimestamp": format!("{created}T00:00:00Z"),
            }}));
            let since = since.parse().expect("a day");
            let found = judge(&secret, since, now, UNUSED);
            assert_eq!(found, expect, "{created} {used} {invalid}");
        };
        check("2024-01-01", "", "", "2024-01-01", Verdict::Invalidate);
        check("2026-01-01", "", "", "2024-01-01", Verdict::Keep);
        check("2024-01-01", "2026-01-01", "", "2024-01-01", Verdict::Keep);
        check(
            "2024-01-01",
            "2025-01-01",
            "",
            "2024-01-01",
            Verdict::Invalidate,
        );
        check("2024-01-01", "nonsense", "", "2024-01-01", Verdict::Keep);
        // It has not been noted for long enough.
        check("2024-01-01", "", "", "2025-11-21", Verdict::Keep);
        check("2024-01-01", "", "", "2025-11-20", Verdict::Invalidate);
        check(
            "2023-01-01",
            "",
            "2024-06-01",
            "2023-01-01",
            Verdict::Delete,
        );
        check("2023-01-01", "", "2026-06-01", "2023-01-01", Verdict::Keep);
        check(
            "2023-01-01",
            "",
            "nonsense",
            "2023-01-01",
            Verdict::Invalidate,
        );
    }

    #[test]
    fn pods_name_secrets_in_many_places() {
        let pod = Object::new(json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "all"}}]}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "one"}}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "mounted"}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "part"}}]}},
                {"name": "c", "csi": {"nodePublishSecretRef": {"name": "driver"}}},
                {"name": "d", "iscsi": {"secretRef": {"name": "disk"}}},
            ],
        }}));
        let expect = ["all", "disk", "driver", "mounted", "one", "part", "pull"];
        let found: Vec<&str> = secrets_of(&pod)
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(found, expect);
    }
}
