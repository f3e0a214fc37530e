//! Whether a changed schema breaks those who use it: kro's rules, kept so that the same changes pass and are refused.

mod conservative;

use std::fmt;

use serde_json::Value;

use crate::features::{Feature, Features};

/// Changes named in the summary before the rest is counted.
const SUMMARY_LENGTH: usize = 3;
const DEPTH_LIMIT: usize = 128;

/// One difference between two schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where: `spec.replicas`.
    pub path: String,
    /// What, in words.
    pub description: String,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// What kro looks at.
    #[default]
    Usual,
    /// Everything (gate `ConservativeCRDComparison`).
    Conservative,
}

impl Rules {
    /// Those that the gates ask for.
    pub fn of(features: Features) -> Self {
        if features.has(Feature::ConservativeCrdComparison) {
            Self::Conservative
        } else {
            Self::Usual
        }
    }
}

/// All differences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    rules: Rules,
    /// Those that break users.
    pub breaking: Vec<Change>,
    /// Those that do not.
    pub compatible: Vec<Change>,
}

impl Report {
    /// Whether there is any difference that counts.
    pub fn has_changes(&self) -> bool {
        !self.breaking.is_empty() || !self.compatible.is_empty()
    }

    fn breaking(&mut self, path: &str, description: impl Into<String>) {
        self.breaking.push(Change {
            path: path.to_owned(),
            description: description.into(),
        });
    }

    fn compatible(&mut self, path: &str, description: impl Into<String>) {
        self.compatible.push(Change {
            path: path.to_owned(),
            description: description.into(),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.breaking.is_empty() {
            return f.write_str("no breaking changes");
        }
        for (position, change) in self.breaking.iter().take(SUMMARY_LENGTH).enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{} ({})", change.description, change.path)?;
        }
        match self.breaking.len().checked_sub(SUMMARY_LENGTH) {
            Some(more) if more > 0 => write!(f, "; and {more} more changes"),
            _ => Ok(()),
        }
    }
}

/// Compares two CustomResourceDefinitions with one version each.
pub fn compare(old: &Value, new: &Value, rules: Rules) -> Report {
    let mut report = Report {
        rules,
        ..Report::default()
    };
    let (old_version, new_version) = match (versions(old), versions(new)) {
        ([old], [new]) => (old, new),
        (old, new) => {
            let message = format!(
                "expected exactly one version in each CRD, got {} old and {} new versions",
                old.len(),
                new.len()
            );
            report.breaking("spec.versions", message);
            return report;
        }
    };
    if old_version["name"] != new_version["name"] {
        let message = format!(
            "Version changed from {} to {}",
            text(&old_version["name"]),
            text(&new_version["name"])
        );
        report.breaking("spec.versions", message);
    }
    if old_version["served"] == true && new_version["served"] != true {
        report.breaking("spec.versions", "Version is no longer served");
    }
    let status = "/subresources/status";
    if old_version.pointer(status).is_some() && new_version.pointer(status).is_none() {
        report.breaking("spec.versions", "Status subresource was removed");
    }
    compare_scale(&mut report, old_version, new_version);
    let columns = "additionalPrinterColumns";
    if rules == Rules::Conservative && old_version[columns] != new_version[columns] {
        report.compatible("spec.versions", "Printer columns were changed");
    }
    let schema = |version: &Value| version.pointer("/schema/openAPIV3Schema").cloned();
    compare_optional(
        &mut report,
        "",
        schema(old_version).as_ref(),
        schema(new_version).as_ref(),
        0,
    );
    report
}

/// Whoever scales by it is broken when it goes, and only then.
fn compare_scale(report: &mut Report, old: &Value, new: &Value) {
    let scale = |version: &Value| version.pointer("/subresources/scale").cloned();
    match (scale(old), scale(new)) {
        (Some(_), None) => report.breaking("spec.versions", "Scale subresource was removed"),
        (None, Some(_)) => report.compatible("spec.versions", "Scale subresource was added"),
        (Some(old), Some(new)) if old != new => {
            report.compatible(
                "spec.versions",
                "Paths of the scale subresource were changed",
            );
        }
        _ => {}
    }
}

fn versions(crd: &Value) -> &[Value] {
    crd.pointer("/spec/versions")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn compare_optional(
    report: &mut Report,
    path: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    depth: usize,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(_)) => report.compatible(path, "Schema was added"),
        (Some(_), None) => report.breaking(path, "Schema was removed"),
        (Some(old), Some(new)) => compare_schemas(report, path, old, new, depth),
    }
}

fn compare_schemas(report: &mut Report, path: &str, old: &Value, new: &Value, depth: usize) {
    if old == new || depth > DEPTH_LIMIT {
        return;
    }
    let old_type = text(&old["type"]);
    let new_type = text(&new["type"]);
    if old_type != new_type {
        report.breaking(path, format!("Type changed from {old_type} to {new_type}"));
        return;
    }
    if old["description"] != new["description"] {
        let (old, new) = (text(&old["description"]), text(&new["description"]));
        report.compatible(
            path,
            format!("Description field was changed from {old} to {new}"),
        );
    }
    if old["default"] != new["default"] {
        let (old, new) = (&old["default"], &new["default"]);
        report.compatible(
            path,
            format!("Default value was changed from {old} to {new}"),
        );
    }
    pattern(report, path, old, new);
    for (key, higher_is_tighter) in BOUNDS {
        bound(report, path, key, higher_is_tighter, old, new);
    }
    properties(report, path, old, new, depth);
    required(report, path, old, new);
    enumeration(report, path, old, new);
    match (old.get("items"), new.get("items")) {
        (None, Some(_)) => report.compatible(path, "Items schema was added"),
        (Some(_), None) => report.breaking(path, "Items schema was removed"),
        (Some(old), Some(new)) => {
            compare_schemas(report, &format!("{path}.items"), old, new, depth + 1);
        }
        (None, None) => {}
    }
    if report.rules == Rules::Conservative {
        conservative::facets(report, path, old, new, depth);
    }
}

const BOUNDS: [(&str, bool); 6] = [
    ("minimum", true),
    ("maximum", false),
    ("minLength", true),
    ("maxLength", false),
    ("minItems", true),
    ("maxItems", false),
];

fn bound(
    report: &mut Report,
    path: &str,
    key: &str,
    higher_is_tighter: bool,
    old: &Value,
    new: &Value,
) {
    match (old[key].as_f64(), new[key].as_f64()) {
        (None, Some(value)) => report.breaking(path, format!("Constraint {key} {value} was added")),
        (Some(value), None) => {
            report.compatible(path, format!("Constraint {key} {value} was removed"));
        }
        (Some(before), Some(after)) if before != after => {
            let message = format!("Constraint {key} was changed from {before} to {after}");
            if (after > before) == higher_is_tighter {
                report.breaking(path, message);
            } else {
                report.compatible(path, message);
            }
        }
        _ => {}
    }
}

fn pattern(report: &mut Report, path: &str, old: &Value, new: &Value) {
    match (old["pattern"].as_str(), new["pattern"].as_str()) {
        (None, Some(new)) => report.breaking(path, format!("Validation pattern {new} was added")),
        (Some(old), None) => {
            report.compatible(path, format!("Validation pattern {old} was removed"));
        }
        (Some(old), Some(new)) if old != new => {
            report.breaking(
                path,
                format!("Validation pattern changed from {old} to {new}"),
            );
        }
        _ => {}
    }
}

fn properties(report: &mut Report, path: &str, old: &Value, new: &Value, depth: usize) {
    let old_properties = old["properties"].as_object();
    let new_properties = new["properties"].as_object();
    for (name, old) in old_properties.into_iter().flatten() {
        let path = join(path, name);
        match new["properties"].get(name) {
            None => report.breaking(&path, format!("Property {name} was removed")),
            Some(new) => compare_schemas(report, &path, old, new, depth + 1),
        }
    }
    for (name, property) in new_properties.into_iter().flatten() {
        if old["properties"].get(name).is_some() {
            continue;
        }
        let path = join(path, name);
        if requires(new, name) && property.get("default").is_none() {
            report.breaking(&path, format!("Required property {name} was added"));
        } else {
            report.compatible(&path, format!("Optional property {name} was added"));
        }
    }
}

fn required(report: &mut Report, path: &str, old: &Value, new: &Value) {
    for name in old["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
    {
        if new["properties"].get(name).is_none() {
            continue;
        }
        let place = join(path, name);
        let has_default = |schema: &Value| schema["properties"][name].get("default").is_some();
        match (requires(old, name), requires(new, name)) {
            (false, true) => report.breaking(&place, format!("Field {name} is newly required")),
            (true, false) => {
                report.compatible(&place, format!("Field {name} is no longer required"));
            }
            (true, true) if has_default(old) && !has_default(new) => {
                report.breaking(
                    &place,
                    format!("Default value removed from required field {name}"),
                );
            }
            _ => {}
        }
    }
}

fn requires(schema: &Value, name: &str) -> bool {
    schema["required"]
        .as_array()
        .is_some_and(|required| required.iter().any(|field| field == name))
}

fn enumeration(report: &mut Report, path: &str, old: &Value, new: &Value) {
    let (Some(old), Some(new)) = (old["enum"].as_array(), new["enum"].as_array()) else {
        return;
    };
    for value in old.iter().filter(|value| !new.contains(value)) {
        report.breaking(path, format!("Enum value {} was removed", text(value)));
    }
    for value in new.iter().filter(|value| !old.contains(value)) {
        report.compatible(path, format!("Enum value {} was added", text(value)));
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(
        || {
            if value.is_null() {
                String::new()
            } else {
                value.to_string()
            }
        },
        str::to_owned,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crd(spec: Value) -> Value {
        json!({"spec": {"versions": [{"name": "v1", "served": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
    }

    fn check(old: Value, new: Value, breaking: &[&str], compatible: &[&str]) {
        let report = compare(&crd(old), &crd(new), Rules::Usual);
        let texts = |changes: &[Change]| -> Vec<String> {
            changes
                .iter()
                .map(|change| change.description.clone())
                .collect()
        };
        assert_eq!(texts(&report.breaking), breaking);
        assert_eq!(texts(&report.compatible), compatible);
    }

    #[test]
    fn properties_and_required() {
        let of = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required});
        let (a, ab) = (
            json!({"a": {"type": "string"}}),
            json!({"a": {"type": "string"}, "b": {"type": "string"}}),
        );
        let b_default = json!({"a": {"type": "string"}, "b": {"type": "string", "default": "x"}});
        check(
            of(ab.clone(), json!([])),
            of(a.clone(), json!([])),
            &["Property b was removed"],
            &[],
        );
        check(
            of(a.clone(), json!([])),
            of(ab.clone(), json!([])),
            &[],
            &["Optional property b was added"],
        );
        check(
            of(a.clone(), json!([])),
            of(ab.clone(), json!(["b"])),
            &["Required property b was added"],
            &[],
        );
        check(
            of(a.clone(), json!([])),
            of(b_default.clone(), json!(["b"])),
            &[],
            &["Optional property b was added"],
        );
        check(
            of(a.clone(), json!([])),
            of(a.clone(), json!(["a"])),
            &["Field a is newly required"],
            &[],
        );
        check(
            of(a.clone(), json!(["a"])),
            of(a, json!([])),
            &[],
            &["Field a is no longer required"],
        );
        check(
            of(b_default, json!(["b"])),
            of(ab, json!(["b"])),
            &["Default value removed from required field b"],
            &["Default value was changed from \"x\" to null"],
        );
    }

    #[test]
    fn values() {
        check(
            json!({"type": "string"}),
            json!({"type": "integer"}),
            &["Type changed from string to integer"],
            &[],
        );
        check(
            json!({"enum": ["a", "b"]}),
            json!({"enum": ["b", "c"]}),
            &["Enum value a was removed"],
            &["Enum value c was added"],
        );
        check(json!({}), json!({"enum": ["b"]}), &[], &[]);
        check(
            json!({"pattern": "a"}),
            json!({"pattern": "b"}),
            &["Validation pattern changed from a to b"],
            &[],
        );
        check(
            json!({"minimum": 1, "maxLength": 5}),
            json!({"minimum": 2, "maxLength": 6}),
            &["Constraint minimum was changed from 1 to 2"],
            &["Constraint maxLength was changed from 5 to 6"],
        );
        check(
            json!({"maxItems": 3}),
            json!({}),
            &[],
            &["Constraint maxItems 3 was removed"],
        );
        check(
            json!({"items": {"type": "string"}}),
            json!({"items": {"type": "object"}}),
            &["Type changed from string to object"],
            &[],
        );
        check(
            json!({"additionalProperties": {"type": "string"}}),
            json!({"additionalProperties": {"type": "integer"}}),
            &[],
            &[],
        );
    }

    #[test]
    fn the_summary_names_three() {
        let properties = |names: &str| {
            let map: serde_json::Map<String, Value> = names
                .chars()
                .map(|name| (name.to_string(), json!({})))
                .collect();
            json!({"properties": map})
        };
        let report = compare(
            &crd(properties("abcde")),
            &crd(properties("")),
            Rules::Usual,
        );
        assert_eq!(
            report.to_string(),
            "Property a was removed (spec.a); Property b was removed (spec.b); Property c was removed (spec.c); and 2 more changes"
        );
    }
}
