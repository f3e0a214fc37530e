//! APIServices: the record of each group and version that is served.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::object;
use serde_json::{Value, json};
use store::ListOptions;

use crate::server::State;
use crate::{dispatch, envelope};

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
const COLLECTION: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// Where the groups and versions of custom resources stand.
const CUSTOM: (i64, i64) = (1_000, 100);

/// Group, version, and how they are ordered among others.
const BUILT_IN: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("apps", "v1", 17800, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("networking.k8s.io", "v1", 17200, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("autoscaling", "v2", 17500, 30),
];

fn api_service(group: &str, version: &str, priority: (i64, i64), managed: &str) -> Value {
    let mut spec = json!({
        "version": version,
        "groupPriorityMinimum": priority.0,
        "versionPriority": priority.1,
    });
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {LABEL: managed}},
        "spec": spec,
    })
}

/// Those of the built-in resources.
pub fn built_in() -> Vec<Value> {
    BUILT_IN
        .iter()
        .map(|(group, version, group_minimum, version_priority)| {
            api_service(
                group,
                version,
                (*group_minimum, *version_priority),
                "onstart",
            )
        })
        .collect()
}

/// Keeps one for each group and version of custom resources, until the server stops.
pub async fn follow_definitions(state: Arc<State>) {
    let shutdown = state.shutdown.clone();
    tokio::select! {
        () = follow(&state) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn follow(state: &Arc<State>) {
    let prefix = envelope::key_prefix("apiextensions.k8s.io", "customresourcedefinitions", None);
    loop {
        let Ok(listing) = state.store.list(&prefix, &ListOptions::default()) else {
            return;
        };
        let definitions = listing
            .entries
            .iter()
            .filter_map(|e| envelope::decode(e).ok());
        sync(state, wanted(definitions)).await;
        let Ok(mut changes) = state.store.watch(&prefix, listing.revision) else {
            continue;
        };
        // One pass covers all that has changed meanwhile, and any history that was lost.
        if let Err(store::Error::Closed) = changes.next().await {
            return;
        }
    }
}

/// The names of the wanted ones, with group and version.
fn wanted(definitions: impl Iterator<Item = Value>) -> BTreeMap<String, (String, String)> {
    let mut wanted = BTreeMap::new();
    for definition in definitions {
        let group = object::text(&definition, &["spec", "group"]);
        for version in object::list(&definition, &["spec", "versions"]) {
            let name = object::text(version, &["name"]);
            let built_in = BUILT_IN.iter().any(|(g, v, ..)| *g == group && *v == name);
            if version["served"] == true && !built_in {
                let value = (group.to_owned(), name.to_owned());
                wanted.insert(format!("{name}.{group}"), value);
            }
        }
    }
    wanted
}

async fn sync(state: &Arc<State>, wanted: BTreeMap<String, (String, String)>) {
    let prefix = envelope::key_prefix("apiregistration.k8s.io", "apiservices", None);
    let Ok(listing) = state.store.list(&prefix, &ListOptions::default()) else {
        return;
    };
    for entry in &listing.entries {
        let (_, name) = envelope::name_of(entry.key());
        if wanted.contains_key(name) {
            continue;
        }
        let Ok(object) = envelope::decode(entry) else {
            continue;
        };
        if object::label(&object, LABEL) == Some("true") {
            request(
                state,
                "DELETE",
                &format!("{COLLECTION}/{name}"),
                &Value::Null,
            )
            .await;
        }
    }
    for (name, (group, version)) in &wanted {
        let key = envelope::key("apiregistration.k8s.io", "apiservices", None, name);
        if state.store.get(&key).is_none() {
            let object = api_service(group, version, CUSTOM, "true");
            request(state, "POST", COLLECTION, &object).await;
        }
    }
}

async fn request(state: &Arc<State>, method: &str, path: &str, body: &Value) {
    let (code, answer) = dispatch::internal(state, method, path, body).await;
    if code >= 300 && code != 404 && code != 409 {
        tracing::warn!(method, path, code, %answer, "recording an API");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn served_versions_are_recorded() {
        let definition = json!({"spec": {"group": "a.io", "versions": [
            {"name": "v1", "served": true}, {"name": "v2", "served": false},
        ]}});
        let found: Vec<String> = wanted([definition].into_iter()).into_keys().collect();
        assert_eq!(found, ["v1.a.io"]);
        let core = &built_in()[0];
        assert_eq!(
            (&core["metadata"]["name"], core["spec"].get("group")),
            (&json!("v1."), None)
        );
    }
}
