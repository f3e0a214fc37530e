//! The catalog: every resource the server serves, built-in and custom.
//!
//! A snapshot that is replaced as a whole when a CustomResourceDefinition changes; requests look at
//! one snapshot from beginning to end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::resources::{RESOURCES, Resource, Scope};
use model::{GroupVersionKind, GroupVersionResource};
use schema::Schema;

use crate::custom::CustomVersion;

/// A subresource of a served resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// The last part of the path.
    pub name: String,
    /// The kind it takes and gives.
    pub kind: GroupVersionKind,
    /// Verbs, sorted.
    pub verbs: Vec<String>,
    /// Whether discovery shows the group and version of its kind.
    pub foreign: bool,
}

/// One served resource in one version.
pub struct Definition {
    /// Where it is served.
    pub gvr: GroupVersionResource,
    /// The kind of its objects.
    pub kind: GroupVersionKind,
    /// The kind of its lists.
    pub list_kind: String,
    /// The singular name.
    pub singular: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Whether its objects live in a namespace.
    pub scope: Scope,
    /// Verbs, sorted.
    pub verbs: Vec<String>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// The shape of its objects.
    pub schema: Schema,
    /// The group and resource under which objects are stored.
    pub storage: (String, String),
    /// The `apiVersion` in which objects are stored.
    pub storage_version: String,
    /// What a custom resource has beyond a built-in one.
    pub custom: Option<Arc<CustomVersion>>,
}

impl Definition {
    /// Whether objects live in a namespace.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether `verb` is served.
    pub fn serves(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The subresource called `name`.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The behaviour of the kind; custom resources have the default one.
    pub fn behaviour(&self) -> kinds::Behaviour {
        match &self.custom {
            Some(custom) => custom.behaviour(),
            None => *kinds::behaviour(&self.gvr.group, &self.gvr.resource),
        }
    }

    /// How upstream's messages name the type of an object, or of a list of them.
    pub fn go_type(&self, list: bool) -> String {
        if self.custom.is_some() {
            let list = if list { "List" } else { "" };
            return format!("*unstructured.Unstructured{list}");
        }
        let package = match self.gvr.group.split('.').next() {
            None | Some("" | "events") => "core",
            Some(package) => package,
        };
        let kind = if list {
            &self.list_kind
        } else {
            &self.kind.kind
        };
        format!("*{package}.{kind}")
    }

    /// What every client of the resource is warned of.
    pub fn deprecation(&self) -> Option<&str> {
        match &self.custom {
            Some(custom) => custom.deprecation.as_deref(),
            None => kinds::deprecation(&self.gvr.group, &self.gvr.version, &self.gvr.resource),
        }
    }

    /// Whether objects are stored in this version.
    pub fn is_stored_version(&self) -> bool {
        self.storage_version == self.kind.api_version()
    }

    /// Whether the bytes of a stored object are what this definition serves.
    pub fn serves_as_stored(&self, entry: &store::Entry) -> bool {
        self.is_stored_version()
            && self
                .custom
                .as_ref()
                .is_none_or(|custom| entry.revision() > custom.since)
    }

    /// The key of an object of this resource.
    pub fn key(&self, namespace: Option<&str>, name: &str) -> Arc<str> {
        let namespace = if self.namespaced() { namespace } else { None };
        crate::envelope::key(&self.storage.0, &self.storage.1, namespace, name)
    }

    /// The prefix of the keys of all objects, or of those in one namespace.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        crate::envelope::key_prefix(&self.storage.0, &self.storage.1, namespace)
    }

    fn built_in(resource: &'static Resource) -> Self {
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let kind = GroupVersionKind::new(resource.group, resource.version, resource.kind);
        let subresources = resource
            .subresources
            .iter()
            .map(|sub| Subresource {
                name: sub.name.to_owned(),
                kind: GroupVersionKind::new(
                    sub.group.unwrap_or(resource.group),
                    sub.version.unwrap_or(resource.version),
                    sub.kind,
                ),
                verbs: text(sub.verbs),
                foreign: sub.version.is_some(),
            })
            .collect();
        let (group, version) = match (resource.group, resource.resource) {
            // Kinds served in two places are stored in one.
            ("events.k8s.io", "events") => ("", "v1".to_owned()),
            ("autoscaling", _) => ("autoscaling", "autoscaling/v2".to_owned()),
            (group, _) => (group, kind.api_version()),
        };
        Self {
            gvr: GroupVersionResource::new(resource.group, resource.version, resource.resource),
            list_kind: format!("{}List", resource.kind),
            singular: resource.singular.to_owned(),
            short_names: text(resource.short_names),
            categories: text(resource.categories),
            scope: resource.scope,
            verbs: text(resource.verbs),
            subresources,
            schema: Schema::built_in(resource.group, resource.version, resource.kind)
                .unwrap_or_else(Schema::any),
            storage: (group.to_owned(), resource.resource.to_owned()),
            storage_version: version,
            custom: None,
            kind,
        }
    }
}

/// A snapshot of all served resources.
#[derive(Clone, Default)]
pub struct Catalog {
    definitions: HashMap<GroupVersionResource, Arc<Definition>>,
    /// Group to versions, preferred first; each with its resources in the order of discovery.
    groups: BTreeMap<String, Vec<String>>,
    /// Counts the changes.
    pub generation: u64,
}

impl Catalog {
    /// The built-in resources.
    pub fn built_in() -> Self {
        let mut catalog = Self::default();
        for resource in RESOURCES {
            catalog.insert(Definition::built_in(resource));
        }
        catalog
    }

    /// Adds or replaces a definition.
    pub fn insert(&mut self, definition: Definition) {
        let gvr = definition.gvr.clone();
        let versions = self.groups.entry(gvr.group.clone()).or_default();
        if !versions.contains(&gvr.version) {
            versions.push(gvr.version.clone());
            versions.sort_by(|a, b| compare_versions(b, a));
        }
        self.definitions.insert(gvr, Arc::new(definition));
    }

    /// Removes every definition of a custom resource.
    pub fn remove_custom(&mut self, group: &str, resource: &str) {
        self.definitions.retain(|gvr, definition| {
            gvr.group != group || gvr.resource != resource || definition.custom.is_none()
        });
        let left: Vec<(String, String)> = self
            .definitions
            .keys()
            .map(|gvr| (gvr.group.clone(), gvr.version.clone()))
            .collect();
        for (group, versions) in &mut self.groups {
            versions.retain(|version| left.iter().any(|(g, v)| g == group && v == version));
        }
        self.groups.retain(|_, versions| !versions.is_empty());
    }

    /// The definition of a resource.
    pub fn get(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Definition>> {
        self.definitions
            .get(&GroupVersionResource::new(group, version, resource))
    }

    /// The definition that serves a kind.
    pub fn by_kind(&self, kind: &GroupVersionKind) -> Option<&Arc<Definition>> {
        self.definitions
            .values()
            .find(|definition| definition.kind == *kind)
    }

    /// Groups with their versions, the preferred version first; the core group first, then the
    /// built-in ones in upstream's order of priority, then the rest by name.
    pub fn groups(&self) -> Vec<(&str, &[String])> {
        let mut groups: Vec<(&str, &[String])> = self
            .groups
            .iter()
            .map(|(name, versions)| (name.as_str(), versions.as_slice()))
            .collect();
        groups.sort_by_key(|(name, _)| (group_rank(name), *name));
        groups
    }

    /// Whether a group and version is served.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        self.groups
            .get(group)
            .is_some_and(|versions| versions.iter().any(|v| v == version))
    }

    /// Whether a group has built-in resources.
    pub fn has_built_in(&self, group: &str) -> bool {
        self.definitions
            .values()
            .any(|definition| definition.gvr.group == group && definition.custom.is_none())
    }

    /// The resources of a group and version, by name.
    pub fn resources(&self, group: &str, version: &str) -> Vec<&Arc<Definition>> {
        let mut resources: Vec<&Arc<Definition>> = self
            .definitions
            .values()
            .filter(|d| d.gvr.group == group && d.gvr.version == version)
            .collect();
        resources.sort_by(|a, b| a.gvr.resource.cmp(&b.gvr.resource));
        resources
    }

    /// Every definition.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.definitions.values()
    }
}

/// Upstream's order of the built-in groups in discovery.
fn group_rank(group: &str) -> usize {
    const ORDER: &[&str] = &[
        "",
        "apiregistration.k8s.io",
        "apps",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "scheduling.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
        "discovery.k8s.io",
        "resource.k8s.io",
        "flowcontrol.apiserver.k8s.io",
    ];
    ORDER
        .iter()
        .position(|known| *known == group)
        .unwrap_or(ORDER.len())
}

/// Kubernetes' order of versions: stable over beta over alpha, higher over lower, then by text.
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    fn rank(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (2, ""),
            tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                (Some(minor), _) => (1, minor),
                (_, Some(minor)) => (0, minor),
                _ => return None,
            },
        };
        let minor = if stage == 2 { 0 } else { minor.parse().ok()? };
        Some((stage, major, minor))
    }
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => std::cmp::Ordering::Greater,
        (None, Some(_)) => std::cmp::Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_kubernetes_sorts_them() {
        let mut versions = [
            "v1",
            "v10",
            "v2beta1",
            "v2",
            "foo1",
            "v11alpha2",
            "v3beta1",
            "v12alpha1",
            "foo10",
        ];
        versions.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v3beta1",
                "v2beta1",
                "v12alpha1",
                "v11alpha2",
                "foo1",
                "foo10"
            ]
        );
    }

    #[test]
    fn built_in_resources_are_there() {
        let catalog = Catalog::built_in();
        let pods = catalog.get("", "v1", "pods").expect("pods");
        assert_eq!(pods.kind.kind, "Pod");
        assert_eq!(pods.prefix(Some("a")), "//pods/a/");
        assert_eq!(catalog.groups()[0].0, "");
        assert!(catalog.serves("apps", "v1"));
        let old = catalog
            .get("autoscaling", "v1", "horizontalpodautoscalers")
            .expect("v1");
        assert_eq!(old.storage_version, "autoscaling/v2");
    }
}
