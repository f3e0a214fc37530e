//! `ServiceAccount`: every Pod runs as a service account that exists, and has its token mounted.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Plugin, Request, Validate};
use crate::write::random_suffix;

pub const PLUGIN: Plugin = Plugin {
    name: "ServiceAccount",
    default: true,
    mutate: Mutate::Later(mutate),
    validate: Validate::Never,
};

/// How long a Pod waits for its service account: the controller that makes `default` in a new
/// namespace runs behind. As upstream.
const WAIT_ATTEMPTS: u32 = 20;
const WAIT_STEP: Duration = Duration::from_millis(25);

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn mutate<'a>(request: &'a Request<'a>, pod: &'a mut Value) -> BoxFuture<'a, Result<(), Status>> {
    if request.creates("", "pods") {
        set(request, pod).boxed()
    } else {
        futures::future::ok(()).boxed()
    }
}

/// Sets the service account and mounts its token.
async fn set(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if object::annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Ok(());
    }
    let spec = object::child_mut(pod, "spec");
    let name = match spec.get("serviceAccountName").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "default".to_owned(),
    };
    spec.insert("serviceAccountName".to_owned(), json!(name));
    spec.insert("serviceAccount".to_owned(), json!(name));
    let account = wait_for(request, &name).await.ok_or_else(|| {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
            request.namespace()
        );
        request.refuse(pod, &why)
    })?;
    if object::list(pod, &["spec", "imagePullSecrets"]).is_empty()
        && let Some(secrets) = account.get("imagePullSecrets")
    {
        object::child_mut(pod, "spec").insert("imagePullSecrets".to_owned(), secrets.clone());
    }
    let wanted = object::at(pod, &["spec", "automountServiceAccountToken"])
        .or_else(|| account.get("automountServiceAccountToken"))
        != Some(&json!(false));
    if wanted {
        mount(pod);
    }
    Ok(())
}

async fn wait_for(request: &Request<'_>, name: &str) -> Option<Value> {
    for _ in 0..WAIT_ATTEMPTS {
        let account = request.find("", "serviceaccounts", Some(request.namespace()), name);
        if account.is_some() {
            return account;
        }
        // Only the account every namespace gets may still be on its way.
        if name != "default" {
            return None;
        }
        tokio::time::sleep(WAIT_STEP).await;
    }
    None
}

/// Adds the token's volume, and mounts it in every container that has nothing there.
fn mount(pod: &mut Value) {
    let mounted = |container: &Value| {
        object::list(container, &["volumeMounts"])
            .iter()
            .any(|mount| object::text(mount, &["mountPath"]) == MOUNT_PATH)
    };
    let volume = random_suffix("kube-api-access-");
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        let containers = pod
            .pointer_mut(&format!("/spec/{kind}"))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if mounted(container) {
                continue;
            }
            used = true;
            let mount = json!({"name": volume, "mountPath": MOUNT_PATH, "readOnly": true});
            push(container, "volumeMounts", mount);
        }
    }
    if used && let Some(spec) = pod.get_mut("spec") {
        push(spec, "volumes", token_volume(&volume));
    }
}

fn push(value: &mut Value, field: &str, item: Value) {
    if let Some(members) = value.as_object_mut() {
        let list = members.entry(field).or_insert_with(|| json!([]));
        if !list.is_array() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut() {
            list.push(item);
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_where_nothing_is() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
        ]}});
        mount(&mut pod);
        let name = object::text(&pod["spec"]["volumes"][0], &["name"]).to_owned();
        assert!(name.starts_with("kube-api-access-"), "{name}");
        assert_eq!(
            pod["spec"]["containers"][0]["volumeMounts"][0]["name"],
            name
        );
        assert_eq!(
            pod["spec"]["containers"][1]["volumeMounts"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
    }
}
