//! What every cluster has from its first moment: namespaces, the `kubernetes` Service, the priority
//! classes of the system, roles and bindings, flow control, and a record of each API.
//!
//! Made where it is missing; what the server keeps up to date by itself (roles, flow control) is
//! brought up to date at every start, unless its annotation says not to.

mod api_services;
mod flow;
mod rbac;

pub(crate) use api_services::follow_definitions;
#[cfg(test)]
pub(crate) use flow::objects as flow_objects;
pub(crate) use rbac::rules_of;

use std::sync::Arc;

use futures::StreamExt as _;
use model::{GroupVersionKind, Status, object};
use serde_json::{Value, json};

use crate::envelope;
use crate::identity::User;
use crate::server::{Error, State};

/// Says since when the use of tokens in Secrets is noted.
const TOKEN_TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";

/// Objects made at a time: enough that their writes share few flushes to the disk.
const AT_A_TIME: usize = 64;

/// Makes what is missing.
pub(crate) async fn run(state: &Arc<State>) -> Result<(), Error> {
    // All others live in these, or do not care.
    ensure_all(state, namespaces()).await?;
    let mut rest = objects(state);
    rest.extend(rbac::objects());
    rest.extend(flow::objects());
    rest.extend(api_services::built_in());
    ensure_all(state, rest).await?;
    for object in config_maps(state) {
        if let Err(error) = ensure(state, object).await {
            tracing::warn!(%error, "an object the server keeps for others");
        }
    }
    // Clients that ask for revisions from before the server was ready are told they are too old.
    state.store.compact(state.store.revision());
    Ok(())
}

async fn ensure_all(state: &Arc<State>, objects: Vec<Value>) -> Result<(), Error> {
    let mut pending = futures::stream::iter(objects)
        .map(|object| ensure(state, object))
        .buffer_unordered(AT_A_TIME);
    while let Some(outcome) = pending.next().await {
        outcome?;
    }
    Ok(())
}

fn namespaces() -> Vec<Value> {
    ["default", "kube-node-lease", "kube-public", "kube-system"]
        .into_iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect()
}

fn objects(state: &State) -> Vec<Value> {
    let mut objects = Vec::new();
    for (name, value, description) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        objects.push(json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        }));
    }
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": state.allocator.first_address(),
            "clusterIPs": [state.allocator.first_address()],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    }));
    objects
}

/// What others read. Whoever refuses these, a webhook that was registered before say, does not keep the server from
/// starting; they are made at the next start then.
fn config_maps(state: &State) -> Vec<Value> {
    // Since when it is known which tokens in Secrets are used: those who clean up after a year must know.
    let since = (state.options.clock)().strftime("%Y-%m-%d").to_string();
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": TOKEN_TRACKING, "namespace": "kube-system"},
        "data": {"since": since},
    })];
    // How servers that extend this one know its clients.
    let mut data = serde_json::Map::new();
    if let Some(authority) = &state.options.authority {
        data.insert("client-ca-file".to_owned(), json!(authority));
    }
    if let Some(settings) = &state.options.authentication.request_header {
        data.extend(settings.config_map_data());
    }
    if !data.is_empty() {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": data,
        }));
    }
    objects
}

async fn ensure(state: &Arc<State>, object: Value) -> Result<(), Error> {
    let what = format!(
        "{} {}",
        object::text(&object, &["kind"]),
        object::name(&object)
    );
    let failed = |source: Status| Error::Bootstrap {
        what: what.clone(),
        source: Box::new(source),
    };
    let kind = GroupVersionKind::of(&object)
        .ok_or_else(|| failed(Status::internal("an object of the server has no kind")))?;
    let catalog = state.catalog.load_full();
    let definition = catalog.by_kind(&kind).ok_or_else(|| {
        failed(Status::internal(
            "an object of the server has an unknown kind",
        ))
    })?;
    let (name, namespace) = (object::name(&object), object::namespace(&object));
    let namespace = (!namespace.is_empty()).then_some(namespace);
    let path = definition.gvr.collection_path(namespace);
    let (method, path, body) = match state.store.get(&definition.key(namespace, name)) {
        None => ("POST", path, object),
        Some(entry) => {
            let live = envelope::decode(&entry).map_err(failed)?;
            let Some(new) = updated(&live, &object) else {
                return Ok(());
            };
            ("PUT", format!("{path}/{name}"), new)
        }
    };
    let (code, answer) = crate::dispatch::internal(state, method, &path, &body).await;
    if code < 300 || code == 409 {
        return Ok(());
    }
    Err(failed(Status::internal(answer)))
}

/// What an object that is there should be changed to.
fn updated(live: &Value, wanted: &Value) -> Option<Value> {
    let new = match object::text(wanted, &["kind"]) {
        "ClusterRole" | "Role" | "ClusterRoleBinding" | "RoleBinding" => {
            rbac::reconciled(live, wanted)
        }
        "FlowSchema" | "PriorityLevelConfiguration" => flow::reconciled(live, wanted),
        "ConfigMap" if object::name(wanted) == TOKEN_TRACKING => {
            let since: Result<jiff::civil::Date, _> =
                object::text(live, &["data", "since"]).parse();
            if since.is_ok() {
                return None;
            }
            let mut new = live.clone();
            new["data"] = wanted["data"].clone();
            new
        }
        "ConfigMap" => {
            let mut new = live.clone();
            new["data"] = wanted["data"].clone();
            new
        }
        _ => return None,
    };
    (new != *live).then_some(new)
}

/// Adds labels or annotations that an object lacks.
fn add_missing(live: &mut Value, wanted: &Value, field: &str) {
    let Some(wanted) = object::at(wanted, &["metadata", field]).and_then(Value::as_object) else {
        return;
    };
    let metadata = object::metadata_mut(live);
    let own = metadata.entry(field).or_insert_with(|| json!({}));
    if let Some(own) = own.as_object_mut() {
        for (key, value) in wanted {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Who the server itself is when it writes.
pub fn itself() -> User {
    User::new("system:apiserver", &[crate::identity::MASTERS])
}
