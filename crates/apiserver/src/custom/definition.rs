//! Defaults and validation of CustomResourceDefinitions themselves.

use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use super::rules::Rules;
use crate::jsonpath::JsonPath;

/// Fills in what the author left out.
pub fn default(crd: &mut Value) {
    let kind = object::text(crd, &["spec", "names", "kind"]).to_owned();
    let spec = object::child_mut(crd, "spec");
    spec.entry("conversion")
        .or_insert_with(|| json!({"strategy": "None"}));
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(false)) {
        spec.remove("preserveUnknownFields");
    }
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut)
        && !kind.is_empty()
    {
        names
            .entry("singular")
            .or_insert_with(|| json!(kind.to_lowercase()));
        names
            .entry("listKind")
            .or_insert_with(|| json!(format!("{kind}List")));
    }
}

/// What a new definition starts with.
pub fn initial_status(crd: &Value) -> Value {
    let storage = object::list(crd, &["spec", "versions"])
        .iter()
        .find(|version| version.get("storage") == Some(&Value::Bool(true)))
        .map(|version| object::text(version, &["name"]))
        .unwrap_or_default();
    json!({
        "acceptedNames": {"kind": "", "plural": ""},
        "conditions": null,
        "storedVersions": [storage],
    })
}

/// Everything that is wrong with a definition; `old` for a changed one.
pub fn check(crd: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = FieldPath::new("spec");
    let group = object::text(crd, &["spec", "group"]);
    check_name(crd, group, &mut errors);
    if group.is_empty() {
        errors.push(FieldError::required(&spec.child("group"), ""));
    } else {
        for message in names::dns1123_subdomain(group) {
            errors.push(FieldError::invalid(&spec.child("group"), group, message));
        }
        if !group.contains('.') {
            let why = "should be a domain with at least one dot";
            errors.push(FieldError::invalid(&spec.child("group"), group, why));
        }
    }
    match object::text(crd, &["spec", "scope"]) {
        "" => errors.push(FieldError::required(&spec.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(
            &spec.child("scope"),
            other,
            &["Cluster", "Namespaced"],
        )),
    }
    check_names(crd, &spec.child("names"), &mut errors);
    check_versions(crd, &spec.child("versions"), &mut errors);
    if let Some(old) = old {
        check_unchanged(crd, old, &mut errors);
    }
    errors
}

fn check_name(crd: &Value, group: &str, errors: &mut Vec<FieldError>) {
    let wanted = format!(
        "{}.{group}",
        object::text(crd, &["spec", "names", "plural"])
    );
    let name = object::name(crd);
    if name != wanted {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata.name"),
            name,
            why,
        ));
    }
}

fn check_names(crd: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let text = |field: &str| object::text(crd, &["spec", "names", field]).to_owned();
    for field in ["plural", "singular", "kind", "listKind"] {
        let value = text(field);
        let path = path.child(field);
        if value.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        for message in names::dns1035_label(&value.to_lowercase()) {
            let message = if field == "kind" || field == "listKind" {
                format!("may have mixed case, but should otherwise match: {message}")
            } else {
                message
            };
            errors.push(FieldError::invalid(&path, value.clone(), message));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in object::list(crd, &["spec", "names", field])
            .iter()
            .enumerate()
        {
            let name = name.as_str().unwrap_or_default();
            for message in names::dns1035_label(name) {
                let path = path.child(field).index(index);
                errors.push(FieldError::invalid(&path, name, message));
            }
        }
    }
    if text("kind") == text("listKind") && !text("kind").is_empty() {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(
            &path.child("listKind"),
            text("listKind"),
            why,
        ));
    }
}

fn check_versions(crd: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let versions = object::list(crd, &["spec", "versions"]);
    if versions.is_empty() {
        errors.push(FieldError::required(path, "must have at least one version"));
    }
    let mut seen = Vec::new();
    let mut storages = 0;
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        let name = object::text(version, &["name"]);
        if seen.contains(&name) {
            errors.push(FieldError::invalid(
                &FieldPath::new("spec.versions"),
                json!(
                    versions
                        .iter()
                        .map(|v| object::text(v, &["name"]))
                        .collect::<Vec<_>>()
                ),
                "must contain unique version names",
            ));
        }
        seen.push(name);
        for message in names::dns1035_label(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, message));
        }
        storages += usize::from(version.get("storage") == Some(&Value::Bool(true)));
        check_version(version, versions.len() == 1, &path, errors);
    }
    if storages != 1 && !versions.is_empty() {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(
            path,
            json!(
                versions
                    .iter()
                    .map(|v| object::text(v, &["name"]))
                    .collect::<Vec<_>>()
            ),
            why,
        ));
    }
}

fn check_version(version: &Value, alone: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let schema_path = if alone {
        // As upstream: a schema that all versions share is reported as the definition's own.
        FieldPath::new("spec.validation.openAPIV3Schema")
    } else {
        path.child("schema").child("openAPIV3Schema")
    };
    match object::at(version, &["schema", "openAPIV3Schema"]) {
        None => errors.push(FieldError::required(&schema_path, "schemas are required")),
        Some(document) => {
            let problems = schema::check_structural(document, schema_path.as_str());
            let sound = problems.is_empty();
            errors.extend(problems);
            if sound {
                errors.extend(Rules::check_definition(document, &schema_path));
            }
        }
    }
    for (index, column) in object::list(version, &["additionalPrinterColumns"])
        .iter()
        .enumerate()
    {
        let path = path.child("additionalPrinterColumns").index(index);
        let text = |field: &str| object::text(column, &[field]);
        if text("name").is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        let kinds = ["boolean", "date", "integer", "number", "string"];
        if text("type").is_empty() {
            let why = format!("must be one of {}", kinds.join(","));
            errors.push(FieldError::required(&path.child("type"), why));
        } else if !kinds.contains(&text("type")) {
            let why = format!("must be one of {}", kinds.join(","));
            errors.push(FieldError::invalid(&path.child("type"), text("type"), why));
        }
        if text("jsonPath").is_empty() {
            errors.push(FieldError::required(&path.child("jsonPath"), ""));
        } else if let Err(why) = JsonPath::parse(text("jsonPath")) {
            errors.push(FieldError::invalid(
                &path.child("jsonPath"),
                text("jsonPath"),
                why,
            ));
        }
    }
    if let Some(scale) = object::at(version, &["subresources", "scale"]) {
        let path = path.child("subresources").child("scale");
        for (field, root) in [
            ("specReplicasPath", ".spec."),
            ("statusReplicasPath", ".status."),
        ] {
            let value = object::text(scale, &[field]);
            if value.is_empty() {
                errors.push(FieldError::required(&path.child(field), ""));
            } else if !value.starts_with(root) {
                let why = format!("should be a json path under {}", root.trim_end_matches('.'));
                errors.push(FieldError::invalid(&path.child(field), value, why));
            }
        }
    }
}

/// What an established definition may not change.
fn check_unchanged(crd: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let established = object::list(old, &["status", "conditions"])
        .iter()
        .any(|condition| {
            object::text(condition, &["type"]) == "Established"
                && object::text(condition, &["status"]) == "True"
        });
    let mut fixed: Vec<&[&str]> = vec![&["spec", "group"], &["spec", "names", "plural"]];
    if established {
        fixed.extend([&["spec", "scope"] as &[&str], &["spec", "names", "kind"]]);
    }
    for path in fixed {
        let new = object::at(crd, path);
        if new != object::at(old, path) {
            errors.push(FieldError::invalid(
                &FieldPath::new(path.join(".")),
                new.cloned().unwrap_or_default(),
                "field is immutable",
            ));
        }
    }
    let names: Vec<&str> = object::list(crd, &["spec", "versions"])
        .iter()
        .map(|version| object::text(version, &["name"]))
        .collect();
    for (index, stored) in object::list(crd, &["status", "storedVersions"])
        .iter()
        .enumerate()
    {
        let stored = stored.as_str().unwrap_or_default();
        if !names.contains(&stored) {
            let path = FieldPath::new("status.storedVersions").index(index);
            let why = format!(
                "missing from spec.versions; {stored} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {stored} and removes {stored} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path, stored, why));
        }
    }
}
