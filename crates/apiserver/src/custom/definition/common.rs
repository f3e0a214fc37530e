//! What the versions of a definition have in common, as upstream keeps it.

use model::object;
use serde_json::{Value, json};

/// A definition with what is the same in all versions taken out of them.
pub struct Common<'a> {
    /// `spec.versions`.
    pub versions: Vec<Version<'a>>,
    /// What stands in for every version's.
    pub shared: Parts<'a>,
}

/// One version, with what is its own.
pub struct Version<'a> {
    /// As it was written.
    pub written: &'a Value,
    /// Its name.
    pub name: &'a str,
    /// What it does not share.
    pub own: Parts<'a>,
}

/// The parts of a version that may be shared.
#[derive(Default, Clone, Copy)]
pub struct Parts<'a> {
    /// `schema`.
    pub schema: Option<&'a Value>,
    /// `subresources`.
    pub subresources: Option<&'a Value>,
    /// `additionalPrinterColumns`.
    pub columns: &'a [Value],
    /// `selectableFields`.
    pub selectable: &'a [Value],
}

impl<'a> Parts<'a> {
    fn of(version: &'a Value) -> Self {
        let set = |name: &str| version.get(name).filter(|found| !found.is_null());
        Self {
            schema: set("schema"),
            subresources: set("subresources"),
            columns: object::list(version, &["additionalPrinterColumns"]),
            selectable: object::list(version, &["selectableFields"]),
        }
    }

    /// The schema itself.
    pub fn document(&self) -> Option<&'a Value> {
        self.schema?.get("openAPIV3Schema")
    }

    /// Whether objects have a status of their own.
    pub fn has_status(&self) -> bool {
        self.subresources
            .is_some_and(|found| found.get("status").is_some())
    }
}

impl<'a> Common<'a> {
    /// Takes what is the same out of the versions.
    pub fn of(crd: &'a Value) -> Self {
        let written = object::list(crd, &["spec", "versions"]);
        let parts: Vec<Parts<'a>> = written.iter().map(Parts::of).collect();
        let first = parts.first().copied().unwrap_or_default();
        let same_schema = parts.iter().all(|own| own.schema == first.schema);
        let same_subresources = parts
            .iter()
            .all(|own| own.subresources == first.subresources);
        let same_columns = parts.iter().all(|own| own.columns == first.columns);
        let same_selectable = parts.iter().all(|own| own.selectable == first.selectable);
        let pick = |shared: bool, own: &Parts<'a>| Parts {
            schema: own.schema.filter(|_| same_schema == shared),
            subresources: own.subresources.filter(|_| same_subresources == shared),
            columns: if same_columns == shared {
                own.columns
            } else {
                &[]
            },
            selectable: if same_selectable == shared {
                own.selectable
            } else {
                &[]
            },
        };
        Self {
            versions: written
                .iter()
                .zip(&parts)
                .map(|(written, own)| Version {
                    written,
                    name: object::text(written, &["name"]),
                    own: pick(false, own),
                })
                .collect(),
            shared: pick(true, &first),
        }
    }

    /// The versions as upstream prints them in messages.
    pub fn print(&self) -> String {
        let versions: Vec<String> = self.versions.iter().map(Version::print).collect();
        format!("[{}]", versions.join(","))
    }

    /// The versions as they were written.
    pub fn written(&self) -> Vec<Value> {
        let written = self.versions.iter();
        written.map(|version| version.written.clone()).collect()
    }
}

impl Version<'_> {
    fn print(&self) -> String {
        let flag = |name: &str| self.written.get(name) == Some(&Value::Bool(true));
        let member = |name: &str| self.written.get(name).cloned().unwrap_or_default();
        let subresources = self.own.subresources.map(|found| {
            format!(
                "{{\"Status\":{},\"Scale\":{}}}",
                found.get("status").cloned().unwrap_or_default(),
                found
                    .get("scale")
                    .map_or_else(|| "null".to_owned(), print_scale),
            )
        });
        let schema = self
            .own
            .document()
            .map(|document| json!({"OpenAPIV3Schema": document}));
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            json!(self.name),
            flag("served"),
            flag("storage"),
            flag("deprecated"),
            member("deprecationWarning"),
            schema.unwrap_or_default(),
            subresources.as_deref().unwrap_or("null"),
            print_list(self.own.columns, print_column),
            print_list(self.own.selectable, |field| {
                format!(
                    "{{\"JSONPath\":{}}}",
                    json!(object::text(field, &["jsonPath"]))
                )
            }),
        )
    }
}

fn print_list(items: &[Value], print: impl Fn(&Value) -> String) -> String {
    if items.is_empty() {
        return "null".to_owned();
    }
    let items: Vec<String> = items.iter().map(print).collect();
    format!("[{}]", items.join(","))
}

fn print_scale(scale: &Value) -> String {
    format!(
        "{{\"SpecReplicasPath\":{},\"StatusReplicasPath\":{},\"LabelSelectorPath\":{}}}",
        json!(object::text(scale, &["specReplicasPath"])),
        json!(object::text(scale, &["statusReplicasPath"])),
        scale.get("labelSelectorPath").cloned().unwrap_or_default(),
    )
}

fn print_column(column: &Value) -> String {
    let text = |name: &str| json!(object::text(column, &[name]));
    format!(
        "{{\"Name\":{},\"Type\":{},\"Format\":{},\"Description\":{},\"Priority\":{},\"JSONPath\":{}}}",
        text("name"),
        text("type"),
        text("format"),
        text("description"),
        object::number(column, &["priority"]).unwrap_or(0),
        text("jsonPath"),
    )
}
