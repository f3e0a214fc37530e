//! Defaults and validation of CustomResourceDefinitions themselves.
//!
//! Upstream keeps what all versions have in common once, outside of the versions, and its messages say
//! so: `spec.validation` where `spec.versions[0].schema` was written. [`common`] brings that about.

mod common;
mod names;
mod versions;

use model::{FieldError, FieldPath, names as rules, object};
use serde_json::{Value, json};

use self::common::Common;

/// Fills in what the author left out.
pub fn default(crd: &mut Value) {
    let kind = object::text(crd, &["spec", "names", "kind"]).to_owned();
    let spec = object::child_mut(crd, "spec");
    let conversion = spec
        .entry("conversion")
        .or_insert_with(|| json!({"strategy": "None"}));
    if let Some(service) = conversion
        .pointer_mut("/webhook/clientConfig/service")
        .and_then(Value::as_object_mut)
    {
        service.entry("port").or_insert_with(|| json!(443));
    }
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

/// The name of the first version objects are stored in.
fn storage(crd: &Value) -> Option<&str> {
    object::list(crd, &["spec", "versions"])
        .iter()
        .find(|version| version.get("storage") == Some(&Value::Bool(true)))
        .map(|version| object::text(version, &["name"]))
}

/// What a new definition starts with.
pub fn initial_status(crd: &Value) -> Value {
    json!({
        "acceptedNames": {"kind": "", "plural": ""},
        "conditions": null,
        "storedVersions": storage(crd).map(|name| vec![name]),
    })
}

/// Notes in the status that objects may be stored in another version from now on.
pub fn note_storage(crd: &mut Value) {
    let Some(name) = storage(crd).map(|name| json!(name)) else {
        return;
    };
    let status = object::child_mut(crd, "status");
    let stored = status.entry("storedVersions").or_insert(Value::Null);
    match stored.as_array_mut() {
        Some(stored) if stored.contains(&name) => {}
        Some(stored) => stored.push(name),
        None => *stored = json!([name]),
    }
}

/// What the author is warned of: formats nothing checks, where the old definition did not have them.
pub fn warnings(crd: &Value, old: Option<&Value>) -> Vec<String> {
    let formats = |crd: &Value| -> Vec<String> {
        object::list(crd, &["spec", "versions"])
            .iter()
            .filter_map(|version| object::at(version, &["schema", "openAPIV3Schema"]))
            .flat_map(schema::unknown_formats)
            .collect()
    };
    let known = old.map(formats).unwrap_or_default();
    formats(crd)
        .into_iter()
        .filter(|format| !known.contains(format))
        .map(|format| format!("unrecognized format {format:?}"))
        .collect()
}

/// Everything that is wrong with a definition's status.
pub fn check_status(crd: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let accepted = object::at(crd, &["status", "acceptedNames"]);
    names::check(
        accepted.unwrap_or(&Value::Null),
        &FieldPath::new("status.acceptedNames"),
        &mut errors,
    );
    errors
}

/// Everything that is wrong with a definition; `old` for a changed one.
pub fn check(crd: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.is_none() {
        check_name(crd, &mut errors);
    }
    check_spec(crd, old, &mut errors);
    if let Some(old) = old {
        check_unchanged(crd, old, &mut errors);
    }
    errors.extend(check_status(crd));
    check_stored(crd, &mut errors);
    check_approval(crd, old, &mut errors);
    let preserves = |crd: &Value| {
        object::at(crd, &["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true))
    };
    if preserves(crd) && !old.is_some_and(preserves) {
        let path = FieldPath::new("spec.preserveUnknownFields");
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&path, true, why));
    }
    errors
}

fn check_name(crd: &Value, errors: &mut Vec<FieldError>) {
    let text = |path: &[&str]| object::text(crd, path).to_owned();
    let plural = text(&["spec", "names", "plural"]);
    let group = text(&["spec", "group"]);
    let name = object::name(crd);
    if name != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        let path = FieldPath::new("metadata.name");
        errors.push(FieldError::invalid(&path, name, why));
    }
}

fn check_spec(crd: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = FieldPath::new("spec");
    let group = object::text(crd, &["spec", "group"]);
    let path = spec.child("group");
    let malformed = rules::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if !malformed.is_empty() {
        errors.push(FieldError::invalid(&path, group, malformed.join(",")));
    } else if !group.contains('.') {
        let why = "should be a domain with at least one dot";
        errors.push(FieldError::invalid(&path, group, why));
    }
    let path = spec.child("scope");
    match object::text(crd, &["spec", "scope"]) {
        "" => errors.push(FieldError::required(&path, "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(
            &path,
            other,
            &["Cluster", "Namespaced"],
        )),
    }
    let common = Common::of(crd);
    versions::check(&common, old, &spec, errors);
    let names = object::at(crd, &["spec", "names"]).unwrap_or(&Value::Null);
    names::check_present(names, &spec.child("names"), errors);
    names::check(names, &spec.child("names"), errors);
    versions::check_common(&common, old, &spec, errors);
    check_conversion(crd, old, &spec.child("conversion"), errors);
}

fn check_conversion(
    crd: &Value,
    old: Option<&Value>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let Some(conversion) = object::at(crd, &["spec", "conversion"]) else {
        return;
    };
    let strategy = object::text(conversion, &["strategy"]);
    let strategies = ["None", "Webhook"];
    if strategy.is_empty() {
        errors.push(FieldError::required(&path.child("strategy"), ""));
    } else if !strategies.contains(&strategy) {
        let path = path.child("strategy");
        errors.push(FieldError::not_supported(&path, strategy, &strategies));
    }
    let client = object::at(conversion, &["webhook", "clientConfig"]);
    let reviews = object::list(conversion, &["webhook", "conversionReviewVersions"]);
    let (client_path, reviews_path) = (
        path.child("webhookClientConfig"),
        path.child("conversionReviewVersions"),
    );
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(FieldError::forbidden(&client_path, why));
        }
        if !reviews.is_empty() {
            errors.push(FieldError::forbidden(&reviews_path, why));
        }
        return;
    }
    match client {
        None => errors.push(FieldError::required(
            &client_path,
            "required when strategy is set to Webhook",
        )),
        Some(client) => {
            let found = kinds::check_webhook_client(client, client_path);
            errors.extend(found.into_iter().map(swap_service_fields));
        }
    }
    let old_reviews = old.map_or(&[][..], |old| {
        object::list(
            old,
            &["spec", "conversion", "webhook", "conversionReviewVersions"],
        )
    });
    check_reviews(reviews, old_reviews, &reviews_path, errors);
}

/// As upstream: of the Service of a conversion webhook, name and namespace are taken for each other.
fn swap_service_fields(error: FieldError) -> FieldError {
    let path = error.path.as_str();
    let swapped = match path.rsplit_once(".service.") {
        Some((start, "name")) => format!("{start}.service.namespace"),
        Some((start, "namespace")) => format!("{start}.service.name"),
        _ => return error,
    };
    FieldError::required(&FieldPath::new(swapped), "")
}

fn check_reviews(reviews: &[Value], old: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    if reviews.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let is_known = |version: &Value| *version == "v1" || *version == "v1beta1";
    for (index, version) in reviews.iter().enumerate() {
        let path = path.index(index);
        if reviews[..index].contains(version) {
            errors.push(FieldError::invalid(
                &path,
                version.clone(),
                "duplicate version",
            ));
            continue;
        }
        for why in rules::dns1035_label(version.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(&path, version.clone(), why));
        }
    }
    let must_be_known = old.is_empty() || old.iter().any(is_known);
    if must_be_known && !reviews.iter().any(is_known) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(path, reviews.to_vec(), why));
    }
}

/// The versions objects may be stored in must be versions that are there.
fn check_stored(crd: &Value, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("status.storedVersions");
    let stored = object::list(crd, &["status", "storedVersions"]);
    if stored.is_empty() {
        let why = "must have at least one stored version";
        errors.push(FieldError::invalid(&path, Value::Null, why));
        return;
    }
    let versions = object::list(crd, &["spec", "versions"]);
    for version in versions {
        let name = object::text(version, &["name"]);
        let is_storage = version.get("storage") == Some(&Value::Bool(true));
        if is_storage && !stored.iter().any(|stored| stored == name) {
            let why = format!("must have the storage version {name}");
            errors.push(FieldError::invalid(&path, stored.to_vec(), why));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        let is_there = versions
            .iter()
            .any(|version| object::text(version, &["name"]) == name);
        if !is_there {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(index), name, why));
        }
    }
}

const APPROVED: &str = "api-approved.kubernetes.io";

/// What an annotation says of the approval of an API in one of Kubernetes' own groups.
#[derive(PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Given,
    Malformed,
}

fn approval(crd: &Value) -> (Approval, &str) {
    let text = object::text(crd, &["metadata", "annotations", APPROVED]);
    let is_url = text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.split('/').next().unwrap_or_default().is_empty()
    });
    let approval = if text.is_empty() {
        Approval::Missing
    } else if text.starts_with("unapproved") {
        Approval::Bypassed
    } else if is_url {
        Approval::Given
    } else {
        Approval::Malformed
    };
    (approval, text)
}

/// Groups of Kubernetes itself are only for what its community approved.
fn check_approval(crd: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let group = object::text(crd, &["spec", "group"]);
    let is_protected = ["k8s.io", "kubernetes.io"].iter().any(|own| {
        group
            .strip_suffix(own)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    let (new, text) = approval(crd);
    if !is_protected || old.is_some_and(|old| approval(old).0 == new) {
        return;
    }
    let path = FieldPath::new("metadata.annotations").key(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match new {
        Approval::Missing => {
            let why =
                format!("protected groups must have approval annotation \"{APPROVED}\", {see}");
            errors.push(FieldError::required(&path, why));
        }
        Approval::Malformed => {
            let why = format!(
                "protected groups must have approval annotation \"{APPROVED}\" with either a URL or a reason starting with \"unapproved\", {see}"
            );
            errors.push(FieldError::invalid(&path, text, why));
        }
        Approval::Bypassed | Approval::Given => {}
    }
}

/// What a definition, and an established one, may not change.
fn check_unchanged(crd: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let established = object::list(old, &["status", "conditions"])
        .iter()
        .any(|condition| {
            object::text(condition, &["type"]) == "Established"
                && object::text(condition, &["status"]) == "True"
        });
    let mut fixed: Vec<&[&str]> = Vec::new();
    if established {
        fixed.extend([&["spec", "scope"] as &[&str], &["spec", "names", "kind"]]);
    }
    fixed.extend([&["spec", "group"] as &[&str], &["spec", "names", "plural"]]);
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
}
