//! `ResourceQuota`: a write is charged to the quotas of its namespace, or refused.
//!
//! What is used stands in the quotas' status, so several servers see the same numbers: charging is a
//! conditional write there, and again from the current numbers where another write was faster. In one
//! server the writes of a namespace take turns, so they hardly ever collide. What a write was charged
//! for that fails later, the quota controller gives back.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kinds::demand::{self, Amounts};
use kinds::quota;
use model::{Status, object};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate};
use crate::{dispatch, envelope};

pub const PLUGIN: Plugin = Plugin {
    name: "ResourceQuota",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Later(validate),
};

/// How often a charge is tried; upstream gives up after three retries.
const ATTEMPTS_MAX: usize = 16;
/// Most namespaces whose locks are remembered when nobody holds them.
const LOCKS_MAX: usize = 1024;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// One lock a namespace.
#[derive(Default)]
pub struct Locks(Mutex<HashMap<String, Lock>>);

impl Locks {
    fn of(&self, namespace: &str) -> Lock {
        let mut locks = self.0.lock();
        if locks.len() >= LOCKS_MAX {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        locks.entry(namespace.to_owned()).or_default().clone()
    }
}

/// Whether a write can change what is used, as upstream's measures have it.
fn applies(request: &Request<'_>, new: &Value) -> bool {
    let gvr = &request.context.definition.gvr;
    if request.namespace().is_empty() || quota::is_ignored(&gvr.group, &gvr.resource) {
        return false;
    }
    let measured = gvr.group.is_empty() && matches!(gvr.resource.as_str(), "services")
        || request.is("resource.k8s.io", "resourceclaims");
    match (request.operation, request.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") if measured || request.is("", "persistentvolumeclaims") => true,
        (Operation::Update, "") if request.is("", "pods") => request
            .old
            .is_some_and(|old| quota::is_terminating(old) != quota::is_terminating(new)),
        (Operation::Update, "resize") => request.is("", "pods"),
        (Operation::Update, "status") => request.is("", "persistentvolumeclaims"),
        _ => false,
    }
}

fn validate<'a>(request: &'a Request<'a>, new: &'a Value) -> BoxFuture<'a, Result<(), Status>> {
    if !applies(request, new) {
        return futures::future::ok(()).boxed();
    }
    let prefix = envelope::key_prefix("", "resourcequotas", Some(request.namespace()));
    let store = &request.context.state.store;
    if store.count("//resourcequotas/") == 0 || store.count(&prefix) == 0 {
        return futures::future::ok(()).boxed();
    }
    charge(request, new).boxed()
}

async fn charge(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    let state = &request.context.state;
    let lock = state.admission.quotas.of(request.namespace());
    let _turn = lock.lock().await;
    let mut charged: Vec<String> = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        let quotas = request.list("", "resourcequotas", Some(request.namespace()));
        let mut charges = Vec::new();
        for quota in &quotas {
            if let Some(used) = check(request, quota, new)? {
                charges.push((quota, used));
            }
        }
        charges.retain(|(quota, _)| !charged.iter().any(|name| name == object::name(quota)));
        if request.dry_run || charges.is_empty() {
            return Ok(());
        }
        let mut failed = None;
        for (quota, used) in charges {
            match write(request, quota, &used).await {
                Ok(()) => charged.push(object::name(quota).to_owned()),
                Err(status) if status.code == 409 || status.code == 404 => failed = Some(status),
                Err(status) => return Err(status),
            }
        }
        if failed.is_none() {
            return Ok(());
        }
    }
    Err(Status::internal("resource quota evaluation timed out"))
}

/// What a quota says is used after the write; `None` where the write does not concern it.
fn check(request: &Request<'_>, quota: &Value, new: &Value) -> Result<Option<Amounts>, Status> {
    let gvr = &request.context.definition.gvr;
    let (group, resource) = (gvr.group.as_str(), gvr.resource.as_str());
    let name = object::name(quota);
    let hard = demand::amounts(object::at(quota, &["status", "hard"]));
    let used = demand::amounts(object::at(quota, &["status", "used"]));
    let limited: Vec<&str> = hard
        .keys()
        .map(String::as_str)
        .filter(|name| quota::measures(group, resource, name))
        .collect();
    if limited.is_empty() || !quota::in_scope(group, resource, quota, new) {
        return Ok(None);
    }
    if request.is("", "pods")
        && let Some(why) = quota::missing_measures(&limited, new)
    {
        return Err(request.refuse(new, &format!("failed quota: {name}: {why}")));
    }
    if limited.iter().any(|limit| !used.contains_key(*limit)) {
        let why = format!(
            "status unknown for quota: {name}, resources: {}",
            limited.join(",")
        );
        return Err(request.refuse(new, &why));
    }
    let mut delta = delta(request, quota, new)?;
    delta.retain(|measure, amount| amount.sign() != 0 && hard.contains_key(measure));
    if delta.is_empty() {
        return Ok(None);
    }
    let mut total = used.clone();
    for (measure, amount) in &delta {
        let sum = total.entry(measure.clone()).or_insert(*amount);
        if let Some(before) = used.get(measure) {
            *sum = *before + *amount;
        }
    }
    let exceeded: Vec<&String> = delta
        .keys()
        .filter(|measure| total.get(*measure) > hard.get(*measure))
        .collect();
    if exceeded.is_empty() || request.subresource == "status" {
        return Ok(Some(total));
    }
    let print = |amounts: &Amounts| -> String {
        let list: Vec<String> = exceeded
            .iter()
            .filter_map(|measure| Some(format!("{measure}={}", amounts.get(*measure)?)))
            .collect();
        list.join(",")
    };
    let why = format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        print(&delta),
        print(&used),
        print(&hard)
    );
    Err(request.refuse(new, &why))
}

/// What the write adds to what is used.
fn delta(request: &Request<'_>, quota: &Value, new: &Value) -> Result<Amounts, Status> {
    let gvr = &request.context.definition.gvr;
    let (group, resource) = (gvr.group.as_str(), gvr.resource.as_str());
    let now = (request.context.state.options.clock)();
    let usage = quota::usage(group, resource, new, now);
    let negative: Vec<&str> = usage
        .iter()
        .filter(|(_, amount)| amount.sign() < 0)
        .map(|(measure, _)| measure.as_str())
        .collect();
    if !negative.is_empty() {
        let why = format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        );
        return Err(request.refuse(new, &why));
    }
    let before = request
        .old
        .filter(|old| quota::in_scope(group, resource, quota, old))
        .map(|old| quota::usage(group, resource, old, now))
        .unwrap_or_default();
    Ok(usage
        .into_iter()
        .filter_map(|(measure, amount)| match before.get(&measure) {
            // What a write gives back, the controller counts.
            Some(old) if *old >= amount => None,
            Some(old) => Some((measure, amount - *old)),
            None => Some((measure, amount)),
        })
        .collect())
}

async fn write(request: &Request<'_>, quota: &Value, used: &Amounts) -> Result<(), Status> {
    let mut quota = quota.clone();
    let list: serde_json::Map<String, Value> = used
        .iter()
        .map(|(measure, amount)| (measure.clone(), json!(amount.to_string())))
        .collect();
    object::child_mut(&mut quota, "status").insert("used".to_owned(), Value::Object(list));
    let path = format!(
        "/api/v1/namespaces/{}/resourcequotas/{}/status",
        request.namespace(),
        object::name(&quota)
    );
    let (code, answer) = dispatch::internal(&request.context.state, "PUT", &path, &quota).await;
    match code {
        200..300 => Ok(()),
        404 | 409 => Err(request.context.conflict("the quota has changed")),
        _ => Err(Status::internal(
            answer["message"].as_str().unwrap_or_default(),
        )),
    }
}
