//! Checks of the metadata every object has.

use model::{FieldError, FieldPath, names, object};
use rand::Rng as _;
use serde_json::{Map, Value};

use crate::catalog::Definition;

/// Most bytes of all annotations together, as upstream.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// Letters of a generated name: no vowels, so no words come out; as upstream.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// What a generated name keeps of its base.
const GENERATED_BASE_LENGTH_MAX: usize = 63 - SUFFIX_LENGTH;

/// A name made from `generateName`.
pub fn random_suffix(base: &str) -> String {
    let mut random = rand::rng();
    let kept: String = base.chars().take(GENERATED_BASE_LENGTH_MAX).collect();
    let suffix: String = (0..SUFFIX_LENGTH)
        .map(|_| char::from(SUFFIX_LETTERS[random.random_range(0..SUFFIX_LETTERS.len())]))
        .collect();
    format!("{kept}{suffix}")
}

/// What is wrong with the metadata of a new object.
pub fn check_metadata(definition: &Definition, value: &Value) -> Vec<FieldError> {
    let path = FieldPath::new("metadata");
    let behaviour = definition.behaviour();
    let mut errors = Vec::new();
    let base = object::text(value, &["metadata", "generateName"]);
    if !base.is_empty() {
        // As upstream: a trailing dash is fine, the suffix follows it.
        let probe = base
            .strip_suffix('-')
            .map_or_else(|| base.to_owned(), |b| format!("{b}a"));
        for message in behaviour.check_name(&probe) {
            errors.push(FieldError::invalid(
                &path.child("generateName"),
                base,
                message,
            ));
        }
    }
    let name = object::name(value);
    if name.is_empty() {
        let why = "name or generateName is required";
        errors.push(FieldError::required(&path.child("name"), why));
    } else {
        for message in behaviour.check_name(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, message));
        }
    }
    let namespace = object::namespace(value);
    if definition.namespaced() {
        if namespace.is_empty() {
            errors.push(FieldError::required(&path.child("namespace"), ""));
        } else {
            for message in names::dns1123_label(namespace) {
                errors.push(FieldError::invalid(
                    &path.child("namespace"),
                    namespace,
                    message,
                ));
            }
        }
    } else if !namespace.is_empty() {
        let why = "not allowed on this type";
        errors.push(FieldError::forbidden(&path.child("namespace"), why));
    }
    check_common(definition, value, &path, &mut errors);
    errors
}

/// What is checked of a new and of a changed object alike.
fn check_common(
    definition: &Definition,
    value: &Value,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let map = |name: &str| object::at(value, &["metadata", name]).and_then(Value::as_object);
    check_labels(map("labels"), &path.child("labels"), errors);
    check_annotations(map("annotations"), &path.child("annotations"), errors);
    check_owners(
        object::owner_references(value),
        &path.child("ownerReferences"),
        errors,
    );
    // As upstream: only built-in kinds ask for more than a qualified name.
    let strict = definition.custom.is_none() && definition.gvr.group != "apiextensions.k8s.io";
    check_finalizers(value, strict, &path.child("finalizers"), errors);
}

/// What is wrong with a map of labels.
pub fn check_labels(
    labels: Option<&Map<String, Value>>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (key, value) in labels.into_iter().flatten() {
        for message in names::qualified_name(key) {
            errors.push(FieldError::invalid(path, key.as_str(), message));
        }
        let value = value.as_str().unwrap_or_default();
        for message in names::label_value(value) {
            errors.push(FieldError::invalid(path, value, message));
        }
    }
}

fn check_annotations(
    annotations: Option<&Map<String, Value>>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        for message in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(path, key.as_str(), message));
        }
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
}

fn check_owners(owners: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut controllers = Vec::new();
    for (index, owner) in owners.iter().enumerate() {
        let path = path.index(index);
        let text = |name: &str| object::text(owner, &[name]);
        let version = text("apiVersion");
        if version.is_empty() || version.starts_with('/') {
            let why = "version must not be empty";
            errors.push(FieldError::invalid(&path.child("apiVersion"), version, why));
        }
        for name in ["kind", "name", "uid"] {
            if text(name).is_empty() {
                let why = format!("{name} must not be empty");
                errors.push(FieldError::invalid(&path.child(name), "", why));
            }
        }
        if version == "v1" && text("kind") == "Event" {
            let why = format!("{version}, Kind=Event is disallowed from being an owner");
            errors.push(FieldError::invalid(&path, owner.clone(), why));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            controllers.push(text("name").to_owned());
        }
    }
    if controllers.len() > 1 {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            controllers[0], controllers[1]
        );
        errors.push(FieldError::invalid(path, owners.to_vec(), why));
    }
}

fn check_finalizers(value: &Value, strict: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let finalizers: Vec<&str> = object::finalizers(value).collect();
    for (index, finalizer) in finalizers.iter().enumerate() {
        for message in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid(path, *finalizer, message));
        }
        let known = ["orphan", "foregroundDeletion", "kubernetes"].contains(finalizer);
        if strict && !known && !finalizer.contains('/') {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path.index(index), *finalizer, why));
        }
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(
            path,
            finalizers
                .iter()
                .map(|f| Value::from(*f))
                .collect::<Vec<_>>(),
            why,
        ));
    }
}

/// What is wrong with the metadata of a changed object.
pub fn check_metadata_update(
    definition: &Definition,
    value: &Value,
    old: &Value,
) -> Vec<FieldError> {
    let path = FieldPath::new("metadata");
    let mut errors = Vec::new();
    check_common(definition, value, &path, &mut errors);
    if object::is_deleting(old) {
        let before: Vec<&str> = object::finalizers(old).collect();
        let added: Vec<&str> = object::finalizers(value)
            .filter(|finalizer| !before.contains(finalizer))
            .collect();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), why));
        }
    }
    for name in ["name", "namespace", "uid", "creationTimestamp"] {
        let at = |value: &Value| object::at(value, &["metadata", name]).cloned();
        let new = at(value);
        if new != at(old) {
            let why = "field is immutable";
            errors.push(FieldError::invalid(
                &path.child(name),
                new.unwrap_or(Value::Null),
                why,
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use serde_json::json;

    fn check(metadata: Value, expect: &[&str]) {
        let catalog = Catalog::built_in();
        let definition = catalog.get("", "v1", "configmaps").expect("built in");
        let errors = check_metadata(definition, &json!({"metadata": metadata}));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expect);
    }

    #[test]
    fn metadata_is_checked() {
        check(json!({"name": "a", "namespace": "b"}), &[]);
        check(
            json!({"namespace": "b"}),
            &["metadata.name: Required value: name or generateName is required"],
        );
        check(
            json!({"name": "a", "namespace": "b", "finalizers": ["x"]}),
            &[
                "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        );
        check(
            json!({"name": "a", "namespace": "b", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
            &["metadata.ownerReferences[0].uid: Invalid value: \"\": uid must not be empty"],
        );
    }

    #[test]
    fn generated_names_keep_within_a_label() {
        let name = random_suffix(&"a".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(names::dns1123_label(&name).is_empty());
    }
}
