//! The names of a custom resource.

use model::{FieldError, FieldPath, names, object};
use serde_json::Value;

/// The names a definition must have.
pub fn check_present(found: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["plural", "singular", "kind", "listKind"] {
        if object::text(found, &[field]).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
}

/// What is wrong with the names that are there.
pub fn check(found: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let text = |field: &str| object::text(found, &[field]);
    for field in ["plural", "singular", "kind", "listKind"] {
        let value = text(field);
        if value.is_empty() {
            continue;
        }
        let is_kind = field == "kind" || field == "listKind";
        let lower = value.to_lowercase();
        let malformed = names::dns1035_label(if is_kind { &lower } else { value });
        if !malformed.is_empty() {
            let mut why = malformed.join(",");
            if is_kind {
                why = format!("may have mixed case, but should otherwise match: {why}");
            }
            errors.push(FieldError::invalid(&path.child(field), value, why));
        }
    }
    check_list(found, "shortNames", path, errors);
    if !text("kind").is_empty() && text("kind") == text("listKind") {
        let why = "kind and listKind may not be the same";
        let path = path.child("listKind");
        errors.push(FieldError::invalid(&path, text("listKind"), why));
    }
    check_list(found, "categories", path, errors);
}

fn check_list(found: &Value, field: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, name) in object::list(found, &[field]).iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        let malformed = names::dns1035_label(name);
        if !malformed.is_empty() {
            let path = path.child(field).index(index);
            errors.push(FieldError::invalid(&path, name, malformed.join(",")));
        }
    }
}
