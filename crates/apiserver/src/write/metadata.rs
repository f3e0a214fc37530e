//! Checks of the metadata every object has.

use model::{FieldError, FieldPath, Status, names, object};
use rand::Rng as _;
use serde_json::{Map, Value};

use crate::catalog::Definition;
use crate::context::Context;

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

/// The name of an object that is sent to a path must be the path's.
pub fn check_name(context: &Context, object: &Value) -> Result<(), Status> {
    let (own, wanted) = (object::name(object), context.name());
    if own.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )));
    }
    if own != wanted {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({wanted})"
        )));
    }
    Ok(())
}

/// Drops owner references that stand twice, and tells the client.
pub fn drop_equal_owners(context: &Context, object: &mut Value) {
    let owners = object::owner_references(object);
    let (mut kept, mut twice): (Vec<&Value>, Vec<&str>) = (Vec::new(), Vec::new());
    for owner in owners {
        if kept.contains(&owner) {
            twice.push(object::text(owner, &["uid"]));
        } else {
            kept.push(owner);
        }
    }
    if twice.is_empty() {
        return;
    }
    context.warn(format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in \
         1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate \
         UID(s) observed: {}",
        twice.join(", ")
    ));
    let kept: Vec<Value> = kept.into_iter().cloned().collect();
    object::metadata_mut(object).insert("ownerReferences".to_owned(), kept.into());
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
    let generation = object::generation(value);
    if generation < 0 {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            &path.child("generation"),
            generation,
            why,
        ));
    }
    check_common(value, &path, &mut errors);
    let fully = definition.custom.is_none() && definition.gvr.group != "apiextensions.k8s.io";
    check_finalizers(value, fully, &path.child("finalizers"), &mut errors);
    errors
}

/// What is wrong with the metadata of a resource embedded in another.
pub fn check_embedded_metadata(resource: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = object::name(resource);
    for message in names::path_segment(name) {
        errors.push(FieldError::invalid(&path.child("name"), name, message));
    }
    let namespace = object::namespace(resource);
    if !namespace.is_empty() {
        for message in names::dns1123_label(namespace) {
            let path = path.child("namespace");
            errors.push(FieldError::invalid(&path, namespace, message));
        }
    }
    let generation = object::generation(resource);
    if generation < 0 {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            &path.child("generation"),
            generation,
            why,
        ));
    }
    check_common(resource, path, &mut errors);
    check_finalizers(resource, false, &path.child("finalizers"), &mut errors);
    errors
}

/// What is checked of a new and of a changed object alike.
fn check_common(value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let map = |name: &str| object::at(value, &["metadata", name]).and_then(Value::as_object);
    check_labels(map("labels"), &path.child("labels"), errors);
    check_annotations(map("annotations"), &path.child("annotations"), errors);
    check_owners(
        object::owner_references(value),
        &path.child("ownerReferences"),
        errors,
    );
}

/// What is wrong with a map of labels.
pub fn check_labels(
    labels: Option<&Map<String, Value>>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (key, value) in labels.into_iter().flatten() {
        for message in names::label_key(key) {
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
    let mut controller: Option<String> = None;
    for owner in owners {
        // As upstream: the path does not say which owner.
        let text = |name: &str| object::text(owner, &[name]);
        let (group, version) = match text("apiVersion").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", text("apiVersion")),
        };
        if version.is_empty() {
            let why = "version must not be empty";
            errors.push(FieldError::invalid(
                &path.child("apiVersion"),
                text("apiVersion"),
                why,
            ));
        }
        for name in ["kind", "name", "uid"] {
            if text(name).is_empty() {
                errors.push(FieldError::invalid(
                    &path.child(name),
                    "",
                    "must not be empty",
                ));
            }
        }
        if (group, version, text("kind")) == ("", "v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            let shown = owner_in_order(owner);
            errors.push(FieldError::invalid(path, owner.clone(), why).printed_as(shown));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", text("kind"), text("name"));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                let shown: Vec<String> = owners.iter().map(owner_in_order).collect();
                let shown = format!("[{}]", shown.join(","));
                errors.push(FieldError::invalid(path, owners.to_vec(), why).printed_as(shown));
            } else {
                controller = Some(this);
            }
        }
    }
}

/// An owner reference with its members in the order Go prints them.
fn owner_in_order(owner: &Value) -> String {
    let members: Vec<String> = [
        "apiVersion",
        "kind",
        "name",
        "uid",
        "controller",
        "blockOwnerDeletion",
    ]
    .iter()
    .filter_map(|name| Some(format!("\"{name}\":{}", owner.get(*name)?)))
    .collect();
    format!("{{{}}}", members.join(","))
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
///
/// As upstream, which checks it in general and then again where the kind is checked, so that one
/// mistake has several causes.
pub fn check_metadata_update(
    definition: &Definition,
    subresource: &str,
    value: &Value,
    old: &Value,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = FieldPath::new("metadata");
    check_common(value, &path, &mut errors);
    check_finalizers(value, false, &path.child("finalizers"), &mut errors);
    check_against(value, old, &path, &mut errors);
    for again in checked_again(definition, subresource) {
        match again {
            Again::Whole => errors.extend(check_metadata(definition, value)),
            Again::Change => check_against(value, old, &path, &mut errors),
        }
    }
    errors
}

/// How the checks of a kind look at the metadata of a changed object once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// As if it were new.
    Whole,
    /// Against what it was.
    Change,
}

fn checked_again(definition: &Definition, subresource: &str) -> &'static [Again] {
    use Again::{Change, Whole};
    if definition.custom.is_some() || !subresource.is_empty() {
        return &[Change];
    }
    match definition.gvr.resource.as_str() {
        "poddisruptionbudgets" => &[],
        "endpointslices"
        | "volumeattachments"
        | "csinodes"
        | "flowschemas"
        | "prioritylevelconfigurations"
        | "limitranges"
        | "validatingwebhookconfigurations"
        | "mutatingwebhookconfigurations"
        | "validatingadmissionpolicies"
        | "validatingadmissionpolicybindings"
        | "mutatingadmissionpolicies"
        | "mutatingadmissionpolicybindings" => &[Whole],
        "persistentvolumes" => &[Whole, Whole],
        "jobs"
        | "namespaces"
        | "ipaddresses"
        | "runtimeclasses"
        | "resourceclaimtemplates"
        | "csistoragecapacities"
        | "storageclasses" => &[Whole, Change],
        "nodes" => &[Whole, Change, Whole],
        "certificatesigningrequests"
        | "clustertrustbundles"
        | "ingresses"
        | "ingressclasses"
        | "storageversionmigrations"
        | "volumeattributesclasses"
        | "roles"
        | "clusterroles"
        | "rolebindings"
        | "clusterrolebindings"
        | "statefulsets"
        | "controllerrevisions"
        | "persistentvolumeclaims"
        | "pods"
        | "serviceaccounts"
        | "secrets"
        | "configmaps"
        | "endpoints"
        | "services"
        | "apiservices" => &[Change, Whole],
        _ => &[Change],
    }
}

/// What a change may not do to the metadata.
fn check_against(value: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if object::is_deleting(old) {
        let before: Vec<&str> = object::finalizers(old).collect();
        let mut added: Vec<&str> = object::finalizers(value)
            .filter(|finalizer| !before.contains(finalizer))
            .collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), why));
        }
    }
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
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
    check_common(value, path, errors);
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
            &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
        );
    }

    #[test]
    fn generated_names_keep_within_a_label() {
        let name = random_suffix(&"a".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(names::dns1123_label(&name).is_empty());
    }
}
