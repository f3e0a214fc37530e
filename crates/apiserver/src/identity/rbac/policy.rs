//! The index of roles and bindings: for each user and group, what they are bound to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use store::Entry;

use super::GROUP;
use super::rule::Rule;
use crate::envelope;
use crate::follow::Follower;
use crate::identity::{Attributes, User};

/// A binding of a role to subjects.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Binding {
    metadata: Metadata,
    role_ref: RoleRef,
    subjects: Option<Vec<Subject>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Role {
    rules: Option<Vec<Rule>>,
}

impl Subject {
    /// What the index calls the subject; `None` for kinds no user is of.
    fn key(&self, binding_namespace: &str) -> Option<String> {
        match self.kind.as_str() {
            "User" => Some(user_key(&self.name)),
            "Group" => Some(group_key(&self.name)),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() {
                    binding_namespace
                } else {
                    &self.namespace
                };
                (!namespace.is_empty())
                    .then(|| user_key(&format!("system:serviceaccount:{namespace}:{}", self.name)))
            }
            _ => None,
        }
    }

    fn describe(&self, binding_namespace: &str) -> String {
        let name = match (self.kind.as_str(), self.namespace.as_str()) {
            ("ServiceAccount", "") => format!("{}/{binding_namespace}", self.name),
            ("ServiceAccount", namespace) => format!("{}/{namespace}", self.name),
            _ => self.name.clone(),
        };
        format!("{} {name:?}", self.kind)
    }
}

fn user_key(name: &str) -> String {
    format!("u:{name}")
}

fn group_key(name: &str) -> String {
    format!("g:{name}")
}

/// The bindings of one scope: of one namespace, or of the whole cluster.
#[derive(Debug, Default)]
struct Bindings {
    all: HashMap<Arc<str>, Binding>,
    of_subject: HashMap<String, BTreeSet<Arc<str>>>,
}

impl Bindings {
    fn remove(&mut self, name: &str) {
        let Some(old) = self.all.remove(name) else {
            return;
        };
        for subject in old.subjects.iter().flatten() {
            let Some(key) = subject.key(&old.metadata.namespace) else {
                continue;
            };
            if let Some(names) = self.of_subject.get_mut(&key) {
                names.remove(name);
                if names.is_empty() {
                    self.of_subject.remove(&key);
                }
            }
        }
    }

    fn insert(&mut self, binding: Binding) {
        let name: Arc<str> = binding.metadata.name.as_str().into();
        self.remove(&name);
        for subject in binding.subjects.iter().flatten() {
            if let Some(key) = subject.key(&binding.metadata.namespace) {
                self.of_subject.entry(key).or_default().insert(name.clone());
            }
        }
        self.all.insert(name, binding);
    }

    /// The bindings of any of these subjects, each once, by name.
    fn of(&self, subjects: &[String]) -> Vec<&Binding> {
        let names: BTreeSet<&Arc<str>> = subjects
            .iter()
            .filter_map(|subject| self.of_subject.get(subject))
            .flatten()
            .collect();
        names
            .into_iter()
            .filter_map(|name| self.all.get(name))
            .collect()
    }
}

/// A role that a binding names and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRole {
    /// `Role` or `ClusterRole`, or nonsense.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl MissingRole {
    /// The resource of the kind.
    pub fn resource(&self) -> &'static str {
        if self.kind == "ClusterRole" {
            "clusterroles"
        } else {
            "roles"
        }
    }
}

impl std::fmt::Display for MissingRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind.as_str() {
            "Role" | "ClusterRole" => write!(
                f,
                "{}.{GROUP} {:?} not found",
                self.kind.to_lowercase(),
                self.name
            ),
            other => write!(f, "unsupported role reference kind: {other:?}"),
        }
    }
}

/// The rules a user has by one binding.
pub struct Grant<'a> {
    binding: &'a Binding,
    subjects: &'a [String],
    /// The rules, or the role that is missing.
    pub rules: Result<&'a [Rule], MissingRole>,
}

impl Grant<'_> {
    /// Which binding to whom.
    pub fn describe(&self) -> String {
        let Binding {
            metadata, role_ref, ..
        } = self.binding;
        let subject = self
            .binding
            .subjects
            .iter()
            .flatten()
            .find(|subject| {
                subject
                    .key(&metadata.namespace)
                    .is_some_and(|key| self.subjects.contains(&key))
            })
            .map(|subject| subject.describe(&metadata.namespace))
            .unwrap_or_default();
        let (kind, name) = if metadata.namespace.is_empty() {
            ("ClusterRoleBinding", metadata.name.clone())
        } else {
            let name = format!("{}/{}", metadata.name, metadata.namespace);
            ("RoleBinding", name)
        };
        format!(
            "{kind} {name:?} of {} {:?} to {subject}",
            role_ref.kind, role_ref.name
        )
    }
}

/// All roles and bindings.
#[derive(Debug, Default)]
pub struct Policy {
    /// By namespace and name.
    roles: HashMap<(String, String), Arc<[Rule]>>,
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    cluster_bindings: Bindings,
    bindings: HashMap<String, Bindings>,
}

/// What a user is called in the index: by name, and by each group.
pub fn subjects_of(user: &User) -> Vec<String> {
    std::iter::once(user_key(&user.name))
        .chain(user.groups.iter().map(|group| group_key(group)))
        .collect()
}

impl Policy {
    /// What subjects have been given in a namespace (empty: in the whole cluster), by binding.
    pub fn grants<'a>(&'a self, subjects: &'a [String], namespace: &str) -> Vec<Grant<'a>> {
        let within = self.bindings.get(namespace);
        let clusterwide = self.cluster_bindings.of(subjects).into_iter();
        let within = within.map(|b| b.of(subjects)).unwrap_or_default();
        clusterwide
            .chain(within)
            .map(|binding| Grant {
                binding,
                subjects,
                rules: self.role(
                    &binding.role_ref.kind,
                    &binding.role_ref.name,
                    &binding.metadata.namespace,
                ),
            })
            .collect()
    }

    /// The rules of a role, referred to from a namespace.
    pub fn role(&self, kind: &str, name: &str, namespace: &str) -> Result<&[Rule], MissingRole> {
        let found = match kind {
            "ClusterRole" => self.cluster_roles.get(name),
            "Role" => self.roles.get(&(namespace.to_owned(), name.to_owned())),
            _ => None,
        };
        found.map(AsRef::as_ref).ok_or_else(|| MissingRole {
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Whether a user may do something: by which binding, or what was in the way of knowing.
    pub fn decide(&self, user: &User, wanted: &Attributes) -> Result<String, String> {
        let subjects = subjects_of(user);
        let mut missing: Vec<String> = Vec::new();
        for grant in self.grants(&subjects, &wanted.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(wanted)) => {
                    return Ok(grant.describe());
                }
                Ok(_) => {}
                Err(role) => {
                    let text = role.to_string();
                    if !missing.contains(&text) {
                        missing.push(text);
                    }
                }
            }
        }
        Err(aggregate(&missing))
    }
}

/// Errors as Go joins them.
pub fn aggregate(errors: &[String]) -> String {
    match errors {
        [] => String::new(),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

impl Follower for Policy {
    const TOPICS: &'static [(&'static str, &'static str)] = &[
        (GROUP, "clusterroles"),
        (GROUP, "roles"),
        (GROUP, "clusterrolebindings"),
        (GROUP, "rolebindings"),
    ];

    fn apply(&mut self, topic: usize, key: &str, entry: Option<&Entry>) {
        let (namespace, name) = envelope::name_of(key);
        let (namespace, name) = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        let bytes = entry.map(|entry| entry.bytes().as_ref());
        let rules = || -> Option<Arc<[Rule]>> {
            let role: Role = serde_json::from_slice(bytes?).ok()?;
            Some(role.rules.unwrap_or_default().into())
        };
        let binding = || bytes.and_then(|bytes| serde_json::from_slice::<Binding>(bytes).ok());
        match topic {
            0 => match rules() {
                Some(rules) => drop(self.cluster_roles.insert(name, rules)),
                None => drop(self.cluster_roles.remove(&name)),
            },
            1 => match rules() {
                Some(rules) => drop(self.roles.insert((namespace, name), rules)),
                None => drop(self.roles.remove(&(namespace, name))),
            },
            2 => match binding() {
                Some(binding) => self.cluster_bindings.insert(binding),
                None => self.cluster_bindings.remove(&name),
            },
            _ => {
                let within = self.bindings.entry(namespace.clone()).or_default();
                match binding() {
                    Some(binding) => within.insert(binding),
                    None => within.remove(&name),
                }
                if within.all.is_empty() {
                    self.bindings.remove(&namespace);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use store::Revision;

    fn put(policy: &mut Policy, topic: usize, namespace: &str, object: &Value) {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let (group, resource) = Policy::TOPICS[topic];
        let key = envelope::key(group, resource, namespace, name);
        let bytes = serde_json::to_vec(object).expect("JSON");
        let entry = Entry::new(key.clone(), Revision(1), Revision(1), bytes.into());
        policy.apply(topic, &key, Some(&entry));
    }

    fn binding(name: &str, namespace: &str, kind: &str, role: &str, subjects: Value) -> Value {
        json!({
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"kind": kind, "name": role},
            "subjects": subjects,
        })
    }

    #[test]
    fn users_may_do_what_they_are_bound_to() {
        let mut policy = Policy::default();
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
        put(
            &mut policy,
            0,
            "",
            &json!({"metadata": {"name": "reader"}, "rules": rules}),
        );
        put(
            &mut policy,
            1,
            "a",
            &json!({"metadata": {"name": "r"}, "rules": rules}),
        );
        put(
            &mut policy,
            2,
            "",
            &binding(
                "all",
                "",
                "ClusterRole",
                "reader",
                json!([{"kind": "Group", "name": "ops"}]),
            ),
        );
        put(
            &mut policy,
            3,
            "a",
            &binding(
                "some",
                "a",
                "Role",
                "r",
                json!([{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "robot"}]),
            ),
        );
        put(
            &mut policy,
            3,
            "b",
            &binding(
                "lost",
                "b",
                "ClusterRole",
                "none",
                json!([{"kind": "User", "name": "jane"}]),
            ),
        );
        let ask = |policy: &Policy, user: &User, namespace: &str| {
            let wanted = Attributes {
                verb: "get".to_owned(),
                resource: "pods".to_owned(),
                namespace: namespace.to_owned(),
                ..Attributes::default()
            };
            policy.decide(user, &wanted)
        };
        let jane = User::new("jane", &[]);
        let robot = User::new("system:serviceaccount:a:robot", &[]);
        assert_eq!(
            ask(&policy, &jane, "a"),
            Ok("RoleBinding \"some/a\" of Role \"r\" to User \"jane\"".to_owned())
        );
        assert_eq!(
            ask(&policy, &robot, "a"),
            Ok("RoleBinding \"some/a\" of Role \"r\" to ServiceAccount \"robot/a\"".to_owned())
        );
        assert_eq!(
            ask(&policy, &User::new("joe", &["ops"]), "b"),
            Ok("ClusterRoleBinding \"all\" of ClusterRole \"reader\" to Group \"ops\"".to_owned())
        );
        assert_eq!(ask(&policy, &jane, ""), Err(String::new()));
        assert_eq!(
            ask(&policy, &jane, "b"),
            Err("clusterrole.rbac.authorization.k8s.io \"none\" not found".to_owned())
        );
        let key = envelope::key(GROUP, "rolebindings", Some("a"), "some");
        policy.apply(3, &key, None);
        assert_eq!(ask(&policy, &jane, "a"), Err(String::new()));
        assert!(!policy.bindings.contains_key("a"));
    }
}
