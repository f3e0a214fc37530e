//! FlowSchemas: which requests belong to which level, and to which flow in it.

use std::sync::Arc;

use serde::Deserialize;

use crate::identity::{Attributes, User, service_account_name};

/// A schema, parsed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schema {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub level: String,
    pub precedence: i64,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Distinguisher {
    #[default]
    None,
    ByUser,
    ByNamespace,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    priority_level_configuration: Named,
    matching_precedence: Option<i64>,
    distinguisher_method: Option<Method>,
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Method {
    r#type: String,
}

#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    subjects: Vec<Subject>,
    resource_rules: Option<Vec<ResourceRule>>,
    non_resource_rules: Option<Vec<PathRule>>,
}

#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Subject {
    kind: String,
    user: Named,
    group: Named,
    service_account: Account,
}

#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default)]
struct Account {
    name: String,
    namespace: String,
}

#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize, Default, PartialEq)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
}

impl Schema {
    /// The schema in a stored object.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let Object { metadata, spec } = serde_json::from_slice(bytes).ok()?;
        let method = spec.distinguisher_method.unwrap_or_default();
        Some(Self {
            name: metadata.name.into(),
            uid: metadata.uid.into(),
            level: spec.priority_level_configuration.name,
            precedence: spec.matching_precedence.unwrap_or(1_000),
            distinguisher: match method.r#type.as_str() {
                "ByUser" => Distinguisher::ByUser,
                "ByNamespace" => Distinguisher::ByNamespace,
                _ => Distinguisher::None,
            },
            rules: spec.rules.unwrap_or_default(),
        })
    }

    /// Whether a request is of this schema.
    pub fn matches(&self, user: &User, wanted: &Attributes) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, wanted))
    }

    /// The flow a request is of.
    pub fn flow(&self, user: &User, wanted: &Attributes) -> String {
        let by = match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::ByUser => &user.name,
            Distinguisher::ByNamespace => &wanted.namespace,
        };
        format!("{}/{by}", self.name)
    }
}

fn has(words: &[String], wanted: &str) -> bool {
    words.iter().any(|word| word == "*" || word == wanted)
}

impl Rule {
    fn matches(&self, user: &User, wanted: &Attributes) -> bool {
        // What is asked for is cheaper to compare than who asks.
        let about = if wanted.is_resource() {
            let mut rules = self.resource_rules.iter().flatten();
            rules.any(|rule| rule.matches(wanted))
        } else {
            let mut rules = self.non_resource_rules.iter().flatten();
            rules.any(|rule| rule.matches(wanted))
        };
        about && self.subjects.iter().any(|subject| subject.is(user))
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => self.user.name == "*" || self.user.name == user.name,
            "Group" => self.group.name == "*" || user.is_in(&self.group.name),
            "ServiceAccount" => {
                service_account_name(&user.name).is_some_and(|(namespace, name)| {
                    let account = &self.service_account;
                    account.namespace == namespace && (account.name == "*" || account.name == name)
                })
            }
            _ => false,
        }
    }
}

impl ResourceRule {
    fn matches(&self, wanted: &Attributes) -> bool {
        has(&self.verbs, &wanted.verb)
            && has(&self.api_groups, &wanted.group)
            && has(&self.resources, &wanted.full_resource())
            && if wanted.namespace.is_empty() {
                self.cluster_scope
            } else {
                let namespaces = self.namespaces.as_deref().unwrap_or_default();
                has(namespaces, &wanted.namespace)
            }
    }
}

impl PathRule {
    fn matches(&self, wanted: &Attributes) -> bool {
        has(&self.verbs, &wanted.verb)
            && self.paths.iter().any(|pattern| {
                pattern == "*"
                    || *pattern == wanted.path
                    || pattern.strip_suffix('*').is_some_and(|prefix| {
                        prefix.ends_with('/') && wanted.path.starts_with(prefix)
                    })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(rule: Value, user: &User, verb: &str, what: &str, expect: bool) {
        let object = json!({"metadata": {"name": "s"}, "spec": {"rules": [rule]}});
        let schema = Schema::parse(object.to_string().as_bytes()).expect("a schema");
        let mut wanted = Attributes {
            verb: verb.to_owned(),
            ..Attributes::default()
        };
        if what.starts_with('/') {
            what.clone_into(&mut wanted.path);
        } else {
            let (namespace, resource) = what.split_once(':').unwrap_or(("", what));
            namespace.clone_into(&mut wanted.namespace);
            resource.clone_into(&mut wanted.resource);
        }
        assert_eq!(schema.matches(user, &wanted), expect, "{verb} {what}");
    }

    #[test]
    fn schemas_match_who_and_what() {
        let jane = User::new("jane", &["ops"]);
        let robot = User::new("system:serviceaccount:a:robot", &[]);
        let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
            "clusterScope": true, "namespaces": ["*"]}]);
        let group = |name: &str| {
            json!({"subjects": [{"kind": "Group", "group": {"name": name}}],
                "resourceRules": everything,
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/a/*"]}]})
        };
        check(group("ops"), &jane, "get", "a:pods", true);
        check(group("ops"), &jane, "get", "pods", true);
        check(group("dev"), &jane, "get", "pods", false);
        check(group("ops"), &jane, "get", "/healthz", true);
        check(group("ops"), &jane, "get", "/a/b", true);
        check(group("ops"), &jane, "get", "/healthz/x", false);
        let account = |name: &str| {
            json!({"subjects": [{"kind": "ServiceAccount",
                "serviceAccount": {"namespace": "a", "name": name}}],
                "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"],
                    "namespaces": ["a"]}]})
        };
        check(account("*"), &robot, "get", "a:pods", true);
        check(account("robot"), &robot, "get", "b:pods", false);
        check(account("robot"), &robot, "get", "pods", false);
        check(account("other"), &robot, "get", "a:pods", false);
        check(account("*"), &jane, "get", "a:pods", false);
    }
}
