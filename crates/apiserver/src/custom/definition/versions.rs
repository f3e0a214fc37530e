//! The versions of a custom resource: schemas, subresources, columns, selectable fields.

use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use super::common::{Common, Parts};
use crate::custom::rules::{self, Known};

/// Most fields a version may let field selectors name.
const SELECTABLE_MAX: usize = 8;
/// Longest warning of a deprecated version.
const WARNING_BYTES_MAX: usize = 256;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

/// What is wrong with the versions, each for itself and all together.
pub fn check(
    common: &Common<'_>,
    old: Option<&Value>,
    spec: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let path = spec.child("versions");
    if common.shared.document().is_none() {
        for (index, version) in common.versions.iter().enumerate() {
            if version.own.document().is_none() {
                let path = path.index(index).child("schema").child("openAPIV3Schema");
                errors.push(FieldError::required(&path, ""));
            }
        }
    }
    for (index, version) in common.versions.iter().enumerate() {
        let path = path.index(index);
        let malformed = names::dns1035_label(version.name);
        if !malformed.is_empty() {
            let path = path.child("name");
            errors.push(FieldError::invalid(
                &path,
                version.name,
                malformed.join(","),
            ));
        }
        check_deprecation(version.written, &path, errors);
        let has_status = version.own.has_status() || common.shared.has_status();
        let known = known(old, version.name, version.own.document());
        check_schema(
            &version.own,
            has_status,
            known,
            &path.child("schema"),
            errors,
        );
        check_rest(&version.own, &path, errors);
    }
    let listed =
        |why: &str| FieldError::invalid(&path, common.written(), why).printed_as(common.print());
    let is_repeated = |index: usize| {
        let name = common.versions[index].name;
        common.versions[..index]
            .iter()
            .any(|other| other.name == name)
    };
    if (0..common.versions.len()).any(is_repeated) {
        errors.push(listed("must contain unique version names"));
    }
    let is_storage = |version: &Value| version.get("storage") == Some(&Value::Bool(true));
    let storages = common.versions.iter();
    if storages
        .filter(|version| is_storage(version.written))
        .count()
        != 1
    {
        errors.push(listed(
            "must have exactly one version marked as storage version",
        ));
    }
    // Upstream keeps the name of the first version a second time, and checks it there too.
    if let Some(first) = common
        .versions
        .first()
        .filter(|first| !first.name.is_empty())
    {
        let malformed = names::dns1035_label(first.name);
        if !malformed.is_empty() {
            let path = spec.child("version");
            errors.push(FieldError::invalid(&path, first.name, malformed.join(",")));
        }
    }
}

/// What is wrong with what all versions share.
pub fn check_common(
    common: &Common<'_>,
    old: Option<&Value>,
    spec: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let has_status = common.shared.has_status()
        || common
            .versions
            .iter()
            .any(|version| version.own.has_status());
    let first = common.versions.first().map_or("", |version| version.name);
    let known = known(old, first, common.shared.document());
    let path = spec.child("validation");
    check_schema(&common.shared, has_status, known, &path, errors);
    check_rest(&common.shared, spec, errors);
}

/// What the old definition says of a version with the same schema.
fn known(old: Option<&Value>, name: &str, document: Option<&Value>) -> Known {
    let versions = old.map_or(&[][..], |old| object::list(old, &["spec", "versions"]));
    let is_unchanged = versions
        .iter()
        .find(|version| object::text(version, &["name"]) == name)
        .is_some_and(|version| object::at(version, &["schema", "openAPIV3Schema"]) == document);
    Known {
        costs_are_accepted: is_unchanged,
    }
}

fn check_deprecation(version: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return;
    };
    let path = path.child("deprecationWarning");
    let mut refuse = |why: String| errors.push(FieldError::invalid(&path, warning, why));
    if version.get("deprecated") != Some(&Value::Bool(true)) {
        return refuse("can only be set for deprecated versions".to_owned());
    }
    if warning.len() > WARNING_BYTES_MAX {
        refuse(format!("must be <= {WARNING_BYTES_MAX} characters long"));
    }
    if warning.is_empty() {
        refuse("must not be an empty string".to_owned());
    }
    let is_odd = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    if let Some(at) = warning.find(is_odd) {
        refuse(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

fn check_schema(
    parts: &Parts<'_>,
    has_status: bool,
    known: Known,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let Some(document) = parts.document() else {
        return;
    };
    let path = path.child("openAPIV3Schema");
    let judgement = schema::judge(document, path.as_str(), has_status);
    let sound = if judgement.is_structural {
        rules::check_definition(document, &path, &judgement.errors, known)
    } else {
        Vec::new()
    };
    errors.extend(judgement.errors);
    errors.extend(sound);
}

fn check_rest(parts: &Parts<'_>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(scale) = parts.subresources.and_then(|found| found.get("scale")) {
        check_scale(scale, &path.child("subresources"), errors);
    }
    for (index, column) in parts.columns.iter().enumerate() {
        let path = path.child("additionalPrinterColumns").index(index);
        check_column(column, &path, errors);
    }
    if let Some(document) = parts.document().filter(|_| !parts.selectable.is_empty()) {
        let path = path.child("selectableFields");
        check_selectable(parts.selectable, document, &path, errors);
    } else if !parts.selectable.is_empty() {
        let why = "may only be set when validations.schema is included";
        errors.push(FieldError::invalid(
            &path.child("selectableFields"),
            "",
            why,
        ));
    }
}

fn check_scale(scale: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let fields: [(&str, &[&str], &str, bool); 3] = [
        (
            "specReplicasPath",
            &[".spec."],
            "should be a json path under .spec",
            true,
        ),
        (
            "statusReplicasPath",
            &[".status."],
            "should be a json path under .status",
            true,
        ),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
            false,
        ),
    ];
    for (field, roots, why, is_required) in fields {
        let value = object::text(scale, &[field]);
        let path = path.child("scale").child(field);
        if value.is_empty() {
            if is_required {
                errors.push(FieldError::required(&path, ""));
            }
        } else if !value.starts_with('.') {
            errors.push(no_path(value, &path));
        } else if !roots.iter().any(|root| value.starts_with(root)) {
            errors.push(FieldError::invalid(&path, value, why));
        }
    }
}

fn no_path(value: &str, path: &FieldPath) -> FieldError {
    FieldError::invalid(path, value, "must be a simple json path starting with .")
}

fn check_column(column: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let text = |field: &str| object::text(column, &[field]);
    if text("name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let kinds = format!("must be one of {}", COLUMN_TYPES.join(","));
    if text("type").is_empty() {
        errors.push(FieldError::required(&path.child("type"), kinds));
    } else if !COLUMN_TYPES.contains(&text("type")) {
        errors.push(FieldError::invalid(
            &path.child("type"),
            text("type"),
            kinds,
        ));
    }
    let format = text("format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(FieldError::invalid(&path.child("format"), format, why));
    }
    let path = path.child("JSONPath");
    if text("jsonPath").is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if !text("jsonPath").starts_with('.') {
        errors.push(no_path(text("jsonPath"), &path));
    }
}

fn check_selectable(
    fields: &[Value],
    document: &Value,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let mut seen: Vec<Vec<String>> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let value = object::text(field, &["jsonPath"]);
        let path = path.index(index).child("jsonPath");
        if value.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let (names, found) = match schema::field_path(document, value, false) {
            Ok(found) => found,
            Err(why) => {
                let why = format!("is an invalid path: {why}");
                errors.push(FieldError::invalid(&path, value, why));
                continue;
            }
        };
        if names.first().is_some_and(|root| root == "metadata") {
            let why = "must not point to fields in metadata";
            errors.push(FieldError::invalid(&path, value, why));
        }
        if !matches!(
            object::text(found, &["type"]),
            "string" | "boolean" | "integer"
        ) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&path, value, why));
        }
        if seen.contains(&names) {
            errors.push(FieldError::duplicate(&path, value));
        } else {
            seen.push(names);
        }
    }
    if seen.len() > SELECTABLE_MAX {
        let mut error = FieldError::too_many(path, seen.len(), SELECTABLE_MAX);
        error.value = Some(json!(seen.len()));
        errors.push(error);
    }
}
