//! `externalFields`: fields that are handed over once somebody else writes them.
//!
//! Such a field is written like any other until another field manager owns it, or something in it; from then on it is left
//! out, and keeps the value the other gave it. Waiting for the other is what keeps the first value: a field that is left out while nobody
//! else owns it is removed by the server. Paths go through maps only.

use serde_json::Value;

use crate::build::BuildError;
use crate::features::{Feature, Features};
use crate::keys;
use crate::nearest::suggestion;
use crate::rgd::ResourceSpec;
use crate::simple_schema::json_kind;

const FIELD: &str = "externalFields";
/// What an object is told from others by, and what holds the marks of a child.
const NEVER_EXTERNAL: [&str; 7] = [
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.labels",
    "metadata.annotations",
];

/// The names on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalField(Vec<String>);

impl ExternalField {
    /// As authored.
    pub fn path(&self) -> String {
        self.0.join(".")
    }

    /// Removes the field from an object.
    pub(crate) fn remove_from(&self, object: &mut Value) {
        let Some((last, parents)) = self.0.split_last() else {
            return;
        };
        let parent = parents
            .iter()
            .try_fold(object, |value, name| value.get_mut(name));
        if let Some(Value::Object(parent)) = parent {
            parent.remove(last);
        }
    }

    /// Whether a manager other than us owns the field, something in it, or all that holds it.
    pub(crate) fn is_claimed(&self, managed_fields: &Value) -> bool {
        let entries = managed_fields.as_array();
        let mut others = entries.into_iter().flatten().filter(|entry| {
            let manager = entry["manager"].as_str().unwrap_or_default();
            !manager.starts_with(OUR_MANAGERS)
        });
        others.any(|entry| self.is_in(&entry["fieldsV1"]))
    }

    fn is_in(&self, fields: &Value) -> bool {
        let mut fields = fields;
        for name in &self.0 {
            match fields.get(format!("f:{name}")) {
                Some(below) => fields = below,
                // A leaf stands for everything below it.
                None => return fields.as_object().is_some_and(serde_json::Map::is_empty),
            }
        }
        // `.` alone is the map itself, without anything in it.
        let owned = fields.as_object();
        owned.is_some_and(|owned| owned.is_empty() || owned.keys().any(|key| key != "."))
    }
}

/// Our field managers begin so.
const OUR_MANAGERS: &str = "kro.run/";

/// Reads what a resource says.
pub(crate) fn build(
    resource: &ResourceSpec,
    features: Features,
) -> Result<Vec<ExternalField>, BuildError> {
    if resource.external_fields.is_empty() {
        return Ok(Vec::new());
    }
    let id = resource.id.as_str();
    let fail = |message: String| BuildError::of(id, message).at(FIELD);
    features
        .require(Feature::ExternalFields, FIELD)
        .map_err(fail)?;
    let Some(template) = &resource.template else {
        let message = format!("{FIELD} needs a template: nothing else is written");
        return Err(fail(message));
    };
    let one = |(index, path): (usize, &String)| {
        read(template, path).map_err(|message| {
            BuildError::of(id, format!("{message}, got {path:?}")).at(format!("{FIELD}[{index}]"))
        })
    };
    resource
        .external_fields
        .iter()
        .enumerate()
        .map(one)
        .collect()
}

fn read(template: &Value, path: &str) -> Result<ExternalField, String> {
    if NEVER_EXTERNAL.contains(&path) {
        return Err("this field cannot be handed over".to_owned());
    }
    for prefix in ["metadata.labels.", "metadata.annotations."] {
        let key = path.strip_prefix(prefix).unwrap_or_default();
        if keys::CHILD_MARKS.contains(&key) {
            return Err("this mark of a child cannot be handed over".to_owned());
        }
    }
    let names: Vec<String> = path.split('.').map(str::to_owned).collect();
    let mut value = template;
    for (depth, name) in names.iter().enumerate() {
        let above = names[..depth].join(".");
        let Value::Object(fields) = value else {
            let kind = json_kind(value);
            return Err(match value {
                Value::Array(_) => format!(
                    "{above:?} is a list: paths lead through maps only, a list is handed over as a whole"
                ),
                Value::String(text) if text.contains("${") => format!(
                    "{above:?} is an expression: only what is written out in the template can be named"
                ),
                _ => format!("{above:?} is no map but a {kind}"),
            });
        };
        let hint = || suggestion(name, fields.keys().map(String::as_str));
        value = fields
            .get(name)
            .ok_or_else(|| format!("there is no {name:?} in the template{}", hint()))?;
    }
    Ok(ExternalField(names))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(path: &str) -> ExternalField {
        ExternalField(path.split('.').map(str::to_owned).collect())
    }

    #[test]
    fn a_claim_is_a_field_of_another_manager() {
        let entry =
            |manager: &str, fields: Value| json!([{"manager": manager, "fieldsV1": fields}]);
        let check = |path: &str, managed: Value, expect: bool| {
            assert_eq!(field(path).is_claimed(&managed), expect, "{path} {managed}");
        };
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        check("spec.replicas", entry("hpa", replicas.clone()), true);
        check(
            "spec.replicas",
            entry("kro.run/applyset", replicas.clone()),
            false,
        );
        check("spec.selector", entry("hpa", replicas.clone()), false);
        check("spec", entry("hpa", replicas), true);
        check(
            "spec.selector",
            entry("x", json!({"f:spec": {"f:selector": {"f:app": {}}}})),
            true,
        );
        check(
            "spec.selector",
            entry("x", json!({"f:spec": {"f:selector": {".": {}}}})),
            false,
        );
        check(
            "spec.selector.app",
            entry("x", json!({"f:spec": {"f:selector": {}}})),
            true,
        );
        check(
            "spec.ports",
            entry("x", json!({"f:spec": {"f:ports": {"k:{\"port\":1}": {}}}})),
            true,
        );
        check("spec.ports", Value::Null, false);
    }

    #[test]
    fn paths_must_be_in_the_template() {
        let template = json!({"metadata": {"name": "x", "annotations": {"mine": "y"}},
            "spec": {"replicas": 1, "containers": [{"image": "x"}], "all": "${schema.spec}"}});
        let check = |path: &str, expect: Result<(), &str>| match (read(&template, path), expect) {
            (Ok(_), Ok(())) => {}
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            (found, _) => panic!("{path}: {found:?}"),
        };
        check("spec.replicas", Ok(()));
        check("spec.containers", Ok(()));
        check("metadata.annotations.mine", Ok(()));
        check(
            "spec.replica",
            Err("there is no \"replica\" in the template (did you mean \"replicas\"?)"),
        );
        check(
            "spec.containers.image",
            Err("\"spec.containers\" is a list"),
        );
        check("spec.all.x", Err("\"spec.all\" is an expression"));
        check("spec.replicas.x", Err("\"spec.replicas\" is no map but a"));
        check("metadata.labels", Err("cannot be handed over"));
        check("metadata.name", Err("cannot be handed over"));
        check("", Err("there is no \"\""));
    }

    #[test]
    fn a_field_is_removed_alone() {
        let mut object = json!({"spec": {"replicas": 1, "paused": true}});
        field("spec.replicas").remove_from(&mut object);
        field("spec.none.x").remove_from(&mut object);
        assert_eq!(object, json!({"spec": {"paused": true}}));
    }
}
