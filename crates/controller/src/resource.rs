//! One served resource and the URLs it is reached at.

use std::fmt;
use std::sync::Arc;

use model::{GroupKind, GroupVersionKind, GroupVersionResource};

use crate::object::ObjectKey;

/// A resource as the API server serves it: enough to build its URLs and to name its objects.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// The group, empty for the core group.
    pub group: Arc<str>,
    /// The version.
    pub version: Arc<str>,
    /// The plural name used in paths.
    pub plural: Arc<str>,
    /// The kind of its objects.
    pub kind: Arc<str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// A namespaced resource: `Resource::namespaced("apps/v1", "deployments", "Deployment")`.
    pub fn namespaced(api_version: &str, plural: &str, kind: &str) -> Self {
        Self::build(api_version, plural, kind, true)
    }

    /// A cluster-scoped resource: `Resource::cluster("v1", "nodes", "Node")`.
    pub fn cluster(api_version: &str, plural: &str, kind: &str) -> Self {
        Self::build(api_version, plural, kind, false)
    }

    fn build(api_version: &str, plural: &str, kind: &str, namespaced: bool) -> Self {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        Self {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
            kind: kind.into(),
            namespaced,
        }
    }

    /// `group/version`, or just the version for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Group, version and kind of its objects.
    pub fn group_version_kind(&self) -> GroupVersionKind {
        GroupVersionKind::new(&*self.group, &*self.version, &*self.kind)
    }

    /// Group and kind of its objects.
    pub fn group_kind(&self) -> GroupKind {
        self.group_version_kind().group_kind()
    }

    /// Group, version and plural name.
    pub fn group_version_resource(&self) -> GroupVersionResource {
        GroupVersionResource::new(&*self.group, &*self.version, &*self.plural)
    }

    /// The path of the collection, within a namespace or across all of them.
    pub fn collection_path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        let api_version = self.api_version();
        match namespace.filter(|namespace| self.namespaced && !namespace.is_empty()) {
            Some(namespace) => {
                format!(
                    "{root}/{api_version}/namespaces/{}/{}",
                    escape(namespace),
                    self.plural
                )
            }
            None => format!("{root}/{api_version}/{}", self.plural),
        }
    }

    /// The path of one object, or of one of its subresources.
    pub fn path(&self, key: &ObjectKey, subresource: Option<&str>) -> String {
        let collection = self.collection_path(key.namespace());
        let name = escape(&key.name);
        match subresource {
            Some(subresource) => format!("{collection}/{name}/{subresource}"),
            None => format!("{collection}/{name}"),
        }
    }
}

impl From<&model::resources::Resource> for Resource {
    fn from(built_in: &model::resources::Resource) -> Self {
        Self {
            group: built_in.group.into(),
            version: built_in.version.into(),
            plural: built_in.resource.into(),
            kind: built_in.kind.into(),
            namespaced: built_in.scope == model::resources::Scope::Namespaced,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.plural)
    }
}

/// Percent-encodes everything but the characters that need no escape in a path segment or a query value.
pub fn escape(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push(char::from(HEX[usize::from(byte >> 4)]));
            escaped.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |resource: &Resource, namespace, name, subresource, expect: &str| {
            assert_eq!(
                resource.path(&ObjectKey::new(namespace, name), subresource),
                expect
            );
        };
        let deployments = Resource::namespaced("apps/v1", "deployments", "Deployment");
        let nodes = Resource::cluster("v1", "nodes", "Node");
        check(
            &deployments,
            "a",
            "b",
            None,
            "/apis/apps/v1/namespaces/a/deployments/b",
        );
        check(
            &deployments,
            "a",
            "b",
            Some("scale"),
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
        );
        check(&nodes, "", "n", Some("status"), "/api/v1/nodes/n/status");
        check(
            &nodes,
            "",
            "system:a/b",
            None,
            "/api/v1/nodes/system%3Aa%2Fb",
        );
        assert_eq!(
            deployments.collection_path(None),
            "/apis/apps/v1/deployments"
        );
    }
}
