//! What every cluster has from its first moment: namespaces, the `kubernetes` Service, and the
//! priority classes of the system.

use std::sync::Arc;

use model::{GroupVersionKind, Status};
use serde_json::{Value, json};

use crate::identity::User;
use crate::server::{Error, State};

/// Makes what is missing.
pub(crate) async fn run(state: &Arc<State>) -> Result<(), Error> {
    for object in objects(state) {
        ensure(state, object).await?;
    }
    // Clients that ask for revisions from before the server was ready are told they are too old.
    state.store.compact(state.store.revision());
    Ok(())
}

fn objects(state: &State) -> Vec<Value> {
    let mut objects = Vec::new();
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
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

async fn ensure(state: &Arc<State>, object: Value) -> Result<(), Error> {
    let what = format!(
        "{} {}",
        model::object::text(&object, &["kind"]),
        model::object::name(&object)
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
    let namespace = model::object::namespace(&object);
    let namespace = (!namespace.is_empty()).then_some(namespace);
    if state
        .store
        .get(&definition.key(namespace, model::object::name(&object)))
        .is_some()
    {
        return Ok(());
    }
    let path = definition.gvr.collection_path(namespace);
    let (code, answer) = crate::dispatch::internal(state, "POST", &path, &object).await;
    if code < 300 || code == 409 {
        return Ok(());
    }
    Err(failed(Status::internal(answer)))
}

/// Who the server itself is when it writes.
pub fn itself() -> User {
    User::new("system:apiserver", &[crate::identity::MASTERS])
}
