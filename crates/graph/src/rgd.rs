//! A ResourceGraphDefinition's spec as a value to work with.

use serde::Deserialize;
use serde_json::Value;

use crate::keys;

/// What a ResourceGraphDefinition says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct GraphSpec {
    /// The API it defines.
    pub schema: SchemaSpec,
    /// The resources behind an instance.
    #[serde(default, deserialize_with = "null_is_default")]
    pub resources: Vec<ResourceSpec>,
    /// When an instance may move to a new revision.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        rename = "propagateWhen"
    )]
    pub propagate_when: Vec<String>,
    /// How instances move to a new revision.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rollout: RolloutSpec,
}

/// How instances move to a new revision.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct RolloutSpec {
    /// `Latest`: at once, as far as `propagateWhen` lets them; `Manual`: when told to.
    #[serde(default)]
    pub strategy: Option<String>,
}

/// Where instances live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Scope {
    /// In namespaces.
    #[default]
    Namespaced,
    /// In the cluster as a whole.
    Cluster,
}

/// The API a graph defines.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaSpec {
    /// Kind of the instances.
    pub kind: String,
    /// Version, without group.
    pub api_version: String,
    /// Group.
    #[serde(default = "default_group")]
    pub group: String,
    /// Where instances live.
    #[serde(default)]
    pub scope: Scope,
    /// SimpleSchema of the instances' `spec`.
    #[serde(default)]
    pub spec: Value,
    /// Custom types.
    #[serde(default)]
    pub types: Value,
    /// Projections that make the instances' `status`.
    #[serde(default)]
    pub status: Value,
    /// Printer columns instead of the default ones.
    #[serde(default, deserialize_with = "null_is_default")]
    pub additional_printer_columns: Vec<Value>,
    /// Short names of the resource.
    #[serde(default, deserialize_with = "null_is_default")]
    pub short_names: Vec<String>,
    /// Categories of the resource.
    #[serde(default, deserialize_with = "null_is_default")]
    pub categories: Vec<String>,
    /// Labels and annotations of the generated CustomResourceDefinition.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: SchemaMetadata,
}

/// Labels and annotations of the generated CustomResourceDefinition.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SchemaMetadata {
    /// Labels.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// One resource of a graph.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceSpec {
    /// What expressions call it.
    pub id: String,
    /// The object, with expressions in it.
    #[serde(default)]
    pub template: Option<Value>,
    /// An object or a set of objects that exists without us.
    #[serde(default)]
    pub external_ref: Option<ExternalRef>,
    /// Values without an object (feature `Variables`); `def`, as `Graph`s spell it, means the same.
    #[serde(default, alias = "def")]
    pub variable: Option<Value>,
    /// Fields for an object that exists without us (feature `Decorators`).
    #[serde(default)]
    pub patch: Option<Value>,
    /// When it counts as ready.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ready_when: Vec<String>,
    /// Whether it exists at all.
    #[serde(default, deserialize_with = "null_is_default")]
    pub include_when: Vec<String>,
    /// Dimensions it is repeated over: maps of one iterator each.
    #[serde(default, deserialize_with = "null_is_default")]
    pub for_each: Vec<serde_json::Map<String, Value>>,
    /// Fields that are handed over once somebody else writes them.
    #[serde(default, deserialize_with = "null_is_default")]
    pub external_fields: Vec<String>,
    /// When its objects may be changed.
    #[serde(default, deserialize_with = "null_is_default")]
    pub propagate_when: Vec<String>,
    /// What becomes of its objects when they are not asked for any more: `Delete` or `Orphaned`.
    #[serde(default)]
    pub deletion_policy: Option<String>,
    /// How its objects come and go: a map, or an expression that gives one.
    #[serde(default)]
    pub lifecycle: Option<Value>,
}

/// A reference to what exists without us.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRef {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Which objects.
    pub metadata: ExternalMetadata,
}

/// Which objects an external reference means.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ExternalMetadata {
    /// One object.
    #[serde(default)]
    pub name: Option<String>,
    /// All objects with certain labels.
    #[serde(default)]
    pub selector: Option<Value>,
    /// Where; the instance's namespace (or all) when left out.
    #[serde(default)]
    pub namespace: Option<String>,
}

fn default_group() -> String {
    keys::GROUP.to_owned()
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl GraphSpec {
    /// Reads the spec of a ResourceGraphDefinition.
    pub fn read(spec: &Value) -> Result<Self, serde_json::Error> {
        let mut this = Self::deserialize(spec)?;
        if this.schema.group.is_empty() {
            this.schema.group = default_group();
        }
        Ok(this)
    }
}

impl SchemaSpec {
    /// `group/version` of the instances.
    pub fn group_version(&self) -> String {
        format!("{}/{}", self.group, self.api_version)
    }

    /// The resource that serves the instances.
    pub fn resource(&self) -> controller::Resource {
        let plural = crate::plural(&self.kind);
        match self.scope {
            Scope::Namespaced => {
                controller::Resource::namespaced(&self.group_version(), &plural, &self.kind)
            }
            Scope::Cluster => {
                controller::Resource::cluster(&self.group_version(), &plural, &self.kind)
            }
        }
    }

    /// The name of the generated CustomResourceDefinition.
    pub fn crd_name(&self) -> String {
        format!("{}.{}", crate::plural(&self.kind), self.group)
    }
}
