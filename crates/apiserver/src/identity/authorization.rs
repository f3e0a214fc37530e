//! Authorization: role based, read from the Role, ClusterRole and binding objects in the store.
//!
//! Members of `system:masters` may do everything. Health and version are open to all, discovery to
//! whoever is authenticated, as upstream's default bindings have it.

use model::object;
use serde_json::Value;
use store::{ListOptions, Store};

use super::{AUTHENTICATED, MASTERS, User};
use crate::envelope;

/// What a request wants to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The verb: `get`, `list`... for resources, the lower-case method for other paths.
    pub verb: String,
    /// The group.
    pub group: String,
    /// The resource, empty for other paths.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace, empty for all or none.
    pub namespace: String,
    /// The name, empty for collections.
    pub name: String,
    /// The path, for requests that are not about resources.
    pub path: String,
}

/// Whether a request may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No rule allows it.
    NoOpinion,
}

const RBAC: &str = "rbac.authorization.k8s.io";

/// Paths everyone may read.
const OPEN_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
/// Paths everyone who is authenticated may read.
const DISCOVERY_PATHS: &[&str] = &["/api", "/apis", "/openapi", "/healthz", "/livez", "/readyz"];

/// Decides.
pub fn authorize(store: &dyn Store, user: &User, attributes: &Attributes) -> Decision {
    if user.is_in(MASTERS) {
        return Decision::Allow(String::new());
    }
    if attributes.resource.is_empty() && open_path(user, attributes) {
        return Decision::Allow(String::new());
    }
    if user.is_in(AUTHENTICATED) && is_self_review(attributes) {
        return Decision::Allow(String::new());
    }
    if bound(store, user, attributes) {
        Decision::Allow("RBAC: allowed".to_owned())
    } else {
        Decision::NoOpinion
    }
}

fn open_path(user: &User, attributes: &Attributes) -> bool {
    if attributes.verb != "get" {
        return false;
    }
    let path = attributes.path.as_str();
    let below = |root: &&&str| path == **root || path.starts_with(&format!("{root}/"));
    OPEN_PATHS.contains(&path)
        || user.is_in(AUTHENTICATED) && DISCOVERY_PATHS.iter().any(|root| below(&root))
}

/// Everyone may ask what they themselves may do.
fn is_self_review(attributes: &Attributes) -> bool {
    attributes.verb == "create"
        && matches!(
            (attributes.group.as_str(), attributes.resource.as_str()),
            (
                "authorization.k8s.io",
                "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
            ) | ("authentication.k8s.io", "selfsubjectreviews")
        )
}

fn bound(store: &dyn Store, user: &User, attributes: &Attributes) -> bool {
    let all = |prefix: &str| -> Vec<Value> {
        store
            .list(prefix, &ListOptions::default())
            .map(|listing| {
                listing
                    .entries
                    .iter()
                    .filter_map(|e| envelope::decode(e).ok())
                    .collect()
            })
            .unwrap_or_default()
    };
    let clusterwide = all(&envelope::key_prefix(RBAC, "clusterrolebindings", None));
    let namespaced = if attributes.namespace.is_empty() {
        Vec::new()
    } else {
        all(&envelope::key_prefix(
            RBAC,
            "rolebindings",
            Some(&attributes.namespace),
        ))
    };
    clusterwide.iter().chain(&namespaced).any(|binding| {
        let namespace = object::namespace(binding);
        object::list(binding, &["subjects"])
            .iter()
            .any(|s| is_subject(user, s, namespace))
            && role(store, binding, namespace).is_some_and(|role| {
                object::list(&role, &["rules"])
                    .iter()
                    .any(|rule| covers(rule, attributes))
            })
    })
}

fn role(store: &dyn Store, binding: &Value, namespace: &str) -> Option<Value> {
    let name = object::text(binding, &["roleRef", "name"]);
    let key = match object::text(binding, &["roleRef", "kind"]) {
        "ClusterRole" => envelope::key(RBAC, "clusterroles", None, name),
        _ => envelope::key(RBAC, "roles", Some(namespace), name),
    };
    envelope::decode(store.get(&key)?.as_ref()).ok()
}

fn is_subject(user: &User, subject: &Value, namespace: &str) -> bool {
    let name = object::text(subject, &["name"]);
    match object::text(subject, &["kind"]) {
        "User" => user.name == name,
        "Group" => user.is_in(name),
        "ServiceAccount" => {
            let own = object::text(subject, &["namespace"]);
            let namespace = if own.is_empty() { namespace } else { own };
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

/// Whether a rule covers a request.
fn covers(rule: &Value, attributes: &Attributes) -> bool {
    let words = |field: &str| {
        object::list(rule, &[field])
            .iter()
            .filter_map(Value::as_str)
    };
    let has = |field: &str, wanted: &str| words(field).any(|word| word == "*" || word == wanted);
    if !has("verbs", &attributes.verb) {
        return false;
    }
    if attributes.resource.is_empty() {
        return words("nonResourceURLs").any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => attributes.path.starts_with(prefix),
            None => attributes.path == pattern,
        });
    }
    let wanted = if attributes.subresource.is_empty() {
        attributes.resource.clone()
    } else {
        format!("{}/{}", attributes.resource, attributes.subresource)
    };
    let any_of = format!("*/{}", attributes.subresource);
    let names: Vec<&str> = words("resourceNames").collect();
    has("apiGroups", &attributes.group)
        && words("resources").any(|word| {
            word == "*" || word == wanted || (!attributes.subresource.is_empty() && word == any_of)
        })
        && (names.is_empty() || names.contains(&attributes.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(rule: Value, verb: &str, resource: &str, expect: bool) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = Attributes {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: "a".to_owned(),
            ..Attributes::default()
        };
        assert_eq!(covers(&rule, &attributes), expect, "{rule}");
    }

    #[test]
    fn rules_cover_what_they_name() {
        let rule = |resources: &[&str]| json!({"apiGroups": [""], "verbs": ["get"], "resources": resources});
        check(rule(&["pods"]), "get", "pods", true);
        check(rule(&["pods"]), "list", "pods", false);
        check(rule(&["pods"]), "get", "pods/log", false);
        check(rule(&["*/log"]), "get", "pods/log", true);
        check(rule(&["*"]), "get", "pods/log", true);
        let mut named = rule(&["pods"]);
        named["resourceNames"] = json!(["b"]);
        check(named, "get", "pods", false);
    }

    #[test]
    fn strangers_may_see_health_and_version_only() {
        let store = store::memory();
        let see = |user: &User, path: &str| {
            let attributes = Attributes {
                verb: "get".to_owned(),
                path: path.to_owned(),
                ..Attributes::default()
            };
            authorize(&store, user, &attributes) != Decision::NoOpinion
        };
        let stranger = User::anonymous();
        assert!(see(&stranger, "/healthz") && see(&stranger, "/version"));
        assert!(!see(&stranger, "/apis") && !see(&stranger, "/metrics"));
        assert!(see(&User::new("jane", &[]), "/apis/apps/v1"));
    }
}
