//! Aggregated ClusterRoles: a role with selectors has the rules of the roles these select.

use std::sync::Arc;

use controller::{
    ApplyOptions, Backoff, Object, ObjectKey, Outcome, Reconciler, WorkQueue, enqueue,
};
use model::{LabelSelector, object};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

const MANAGER: &str = "clusterrole-aggregation-controller";

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("clusterroleaggregation", Backoff::default());
    let roles = cluster.informer(&resources::cluster_roles());
    // Any role may be part of any aggregated one, before and after its change.
    let cache = roles.clone();
    let _handler = roles.add_handler(enqueue::mapped(&queue, move |_| {
        let roles = cache.list();
        let aggregated = roles
            .iter()
            .filter(|role| !selectors(role.value()).is_empty());
        aggregated.map(|role| role.key()).collect()
    }));
    let reconciler = Aggregation {
        cluster: cluster.clone(),
    };
    cluster
        .drive("clusterroleaggregation", queue, reconciler, vec![roles])
        .await;
}

struct Aggregation {
    cluster: Cluster,
}

impl Reconciler for Aggregation {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let roles = self.cluster.informer(&resources::cluster_roles());
        let Some(role) = roles.get(key) else {
            return Ok(Outcome::Done);
        };
        let Some(rules) = aggregate(role.value(), &roles.list()) else {
            return Ok(Outcome::Done);
        };
        let wanted = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role.name()},
            "rules": rules,
        });
        let applied = self
            .cluster
            .api()
            .apply(
                &resources::cluster_roles(),
                &wanted,
                &ApplyOptions::force(MANAGER),
            )
            .await;
        match applied {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Outcome::Done),
        }
    }
}

fn selectors(role: &Value) -> &[Value] {
    object::list(role, &["aggregationRule", "clusterRoleSelectors"])
}

/// The rules a role should have; `None` where it aggregates none, or has them.
fn aggregate(role: &Value, all: &[Arc<Object>]) -> Option<Vec<Value>> {
    if selectors(role).is_empty() {
        return None;
    }
    let mut sorted: Vec<&Object> = all.iter().map(AsRef::as_ref).collect();
    sorted.sort_by_key(|role| role.name());
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors(role) {
        // The server refuses selectors that cannot be read.
        let selector = LabelSelector::from_object(Some(selector)).ok()?;
        for part in &sorted {
            let part = part.value();
            if object::name(part) == object::name(role) || !selector.matches(object::labels(part)) {
                continue;
            }
            for rule in object::list(part, &["rules"]) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    (object::list(role, &["rules"]) != rules).then_some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, labels: Value, verbs: &[&str]) -> Arc<Object> {
        let rules: Vec<Value> = verbs.iter().map(|verb| json!({"verbs": [verb]})).collect();
        Arc::new(Object::new(json!({
            "metadata": {"name": name, "labels": labels},
            "rules": rules,
        })))
    }

    #[test]
    fn rules_are_gathered_by_label() {
        let mut total = role("total", json!({"x": "1"}), &["old"]).value().clone();
        total["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"x": "1"}}, {"matchLabels": {"y": "1"}}]});
        let all = vec![
            role("c", json!({"y": "1"}), &["list", "get"]),
            role("b", json!({"x": "1"}), &["get"]),
            role("a", json!({}), &["no"]),
            role("total", json!({"x": "1"}), &["old"]),
        ];
        let verbs = |rules: Vec<Value>| -> Vec<String> {
            let verb = |rule: &Value| rule["verbs"][0].as_str().map(str::to_owned);
            rules.iter().filter_map(verb).collect()
        };
        let rules = aggregate(&total, &all).expect("to change");
        total["rules"] = json!(rules);
        assert_eq!(verbs(rules), ["get", "list"]);
        assert_eq!(aggregate(&total, &all), None);
        assert_eq!(aggregate(all[0].value(), &all), None);
    }
}
