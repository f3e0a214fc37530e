//! Claims of persistent volumes, and the templates others make them from.

use jiff::Timestamp;
use model::{FieldError, FieldPath, names, object};
use serde_json::{Map, Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::{fill, fill_zero, set, with, within};
use crate::resources;

/// The annotation that named the class before there was a field.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const SPEC_FIXED: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// Claims of persistent volumes.
pub const BEHAVIOUR: Behaviour = Behaviour {
    status: StatusRule::Separate,
    delete_returns_object: true,
    default,
    prepare_create,
    validate_create,
    validate_update,
    validate_status,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn default(claim: &mut Value) {
    within(claim, "spec", default_spec);
    with(claim, "status", |status| {
        fill_zero(status, "phase", "Pending");
        for list in ["capacity", "allocatedResources"] {
            with(status, list, resources::round_up);
        }
    });
}

/// The defaults of a claim's spec, in a claim or in a template.
pub fn default_spec(spec: &mut Value) {
    fill(spec, "volumeMode", "Filesystem");
    with(spec, "resources", |own| {
        with(own, "limits", resources::round_up);
        with(own, "requests", resources::round_up);
    });
}

/// `dataSource` and `dataSourceRef` say the same unless a namespace is named.
fn prepare_create(claim: &mut Value) {
    set(claim, "status", json!({"phase": "Pending"}));
    with(claim, "spec", |spec| {
        let (source, reference) = (
            spec.get("dataSource").cloned(),
            spec.get("dataSourceRef").cloned(),
        );
        match (source, reference) {
            (Some(source), None) => set(spec, "dataSourceRef", source),
            (None, Some(reference)) if object::text(&reference, &["namespace"]).is_empty() => {
                let mut source = reference;
                crate::edit::remove(&mut source, "namespace");
                set(spec, "dataSource", source);
            }
            _ => {}
        }
    });
}

/// Access modes: known ones, and a single-Pod one stands alone.
pub fn check_access_modes(at: &At<'_>, errors: &mut Errors) {
    for mode in at.texts().filter(|mode| !MODES.contains(mode)) {
        errors.push(FieldError::not_supported(at.path(), mode, MODES));
    }
    let single = at.texts().any(|mode| mode == "ReadWriteOncePod");
    if single
        && at
            .texts()
            .any(|mode| mode != "ReadWriteOncePod" && MODES.contains(&mode))
    {
        errors.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// Checks a template of claims.
pub fn check_template(at: &At<'_>, errors: &mut Errors) {
    let metadata = at.get("metadata");
    check::annotations(&metadata.get("annotations"), errors);
    check::labels(&metadata.get("labels"), errors);
    for (field, value) in metadata.map().into_iter().flatten() {
        let allowed = matches!(
            field.as_str(),
            "labels" | "annotations" | "creationTimestamp"
        );
        if !allowed && !value.is_null() {
            errors.push(metadata.get(field).forbidden("cannot be set"));
        }
    }
    check_spec(&at.get("spec"), errors);
}

fn check_spec(spec: &At<'_>, errors: &mut Errors) {
    let modes = spec.get("accessModes");
    if modes.is_empty() {
        errors.push(modes.required("at least 1 access mode is required"));
    }
    check::label_selector(&spec.get("selector"), errors);
    check_access_modes(&modes, errors);
    let storage = spec
        .at("resources.requests.storage")
        .said_at(spec.get("resources").path().key("storage"));
    if !storage.is_set() {
        errors.push(storage.required(""));
    } else if resources::check_positive(&storage, errors) {
        resources::check_amount("storage", &storage, errors);
    }
    if !spec.get("storageClassName").is_empty() {
        check::subdomain(&spec.get("storageClassName"), errors);
    }
    check::optional_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"], errors);
    data_sources(spec, errors);
    if !spec.get("volumeAttributesClassName").is_empty() {
        check::subdomain(&spec.get("volumeAttributesClassName"), errors);
    }
}

fn data_sources(spec: &At<'_>, errors: &mut Errors) {
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for at in [&source, &reference] {
        if !at.is_set() {
            continue;
        }
        check::required(&at.get("name"), errors);
        check::required(&at.get("kind"), errors);
        let (group, kind) = (at.get("apiGroup"), at.get("kind").text());
        if group.is_empty() {
            if kind != "PersistentVolumeClaim" {
                let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
                errors.push(FieldError::invalid(at.path(), kind, why));
            }
        } else {
            check::subdomain(&group, errors);
        }
    }
    let namespace = reference.get("namespace");
    if !namespace.is_empty() {
        check::messages(&namespace, names::dns1123_label(namespace.text()), errors);
    }
    if !source.is_set() || !reference.is_set() {
        return;
    }
    let same = ["apiGroup", "kind", "name"]
        .iter()
        .all(|field| source.get(field).value() == reference.get(field).value());
    let why = match (namespace.is_empty(), same) {
        (false, _) => "may not be specified when dataSourceRef.namespace is specified",
        (true, false) => "must match dataSourceRef",
        _ => return,
    };
    // As upstream: the value printed is the path of the field, which has no public members.
    errors.push(FieldError::invalid(spec.path(), json!({}), why));
}

fn validate_create(claim: &Value) -> Errors {
    let mut errors = Vec::new();
    check_spec(&At::root(claim).get("spec"), &mut errors);
    errors
}

fn validate_update(claim: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(claim);
    let (root, before) = (At::root(claim), At::root(old));
    let (spec, old_spec) = (root.get("spec"), before.get("spec"));
    annotation(claim, old, &mut errors);
    if comparable(claim, old) != *old_spec.value() {
        let fields: Vec<&String> = spec
            .map()
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .filter(|name| spec.get(name).value() != old_spec.get(name).value())
            .collect();
        let why = format!("{SPEC_FIXED}\nfields that differ: {fields:?}\n");
        errors.push(spec.forbidden(&why));
    }
    let size = |at: &At<'_>, path: &str| resources::quantity(at.at(path).value());
    let storage = spec.at("resources.requests.storage");
    let new_size = resources::quantity(storage.value());
    let capacity = size(&before, "status.capacity.storage");
    if new_size < size(&old_spec, "resources.requests.storage")
        && new_size.is_none_or(|new| {
            capacity.is_none_or(|have| new <= have) && (capacity.is_some() || new.sign() <= 0)
        })
    {
        errors.push(storage.forbidden("field can not be less than status.capacity"));
    }
    let mode = spec.get("volumeMode").said_at(FieldPath::new("volumeMode"));
    check::immutable(&mode, &old_spec.get("volumeMode"), &mut errors);
    let (class, old_class) = (
        spec.get("volumeAttributesClassName"),
        old_spec.get("volumeAttributesClassName"),
    );
    if class.value() != old_class.value() && old_class.is_set() {
        if !class.is_set() {
            errors.push(class.forbidden("update from non-nil value to nil is forbidden"));
        } else if class.is_empty() {
            let why = "update from non-nil value to an empty string is forbidden";
            errors.push(class.forbidden(why));
        }
    }
    errors
}

/// The new spec with what may change put back.
fn comparable(claim: &Value, old: &Value) -> Value {
    let old_spec = old.get("spec").cloned().unwrap_or_default();
    let mut spec = claim.get("spec").cloned().unwrap_or_default();
    if object::text(&old_spec, &["volumeName"]).is_empty() {
        crate::edit::restore(&mut spec, &old_spec, "volumeName");
    }
    // A class may be named once, and must then fit the old annotation.
    let named = object::annotation(old, CLASS_ANNOTATION);
    let class = spec.get("storageClassName").and_then(Value::as_str);
    if old_spec.get("storageClassName").is_none()
        && class.is_some_and(|class| named.is_none_or(|named| named == class))
    {
        crate::edit::remove(&mut spec, "storageClassName");
    }
    if object::text(claim, &["status", "phase"]) == "Bound" {
        let before = object::at(&old_spec, &["resources", "requests", "storage"]).cloned();
        if let (Some(requests), Some(before)) = (spec.pointer_mut("/resources/requests"), before) {
            set(requests, "storage", before);
        }
        if spec.get("volumeAttributesClassName").is_some() {
            crate::edit::restore(&mut spec, &old_spec, "volumeAttributesClassName");
        }
    }
    spec
}

fn annotation(claim: &Value, old: &Value, errors: &mut Errors) {
    let class = |value: &Value| object::annotation(value, CLASS_ANNOTATION).map(str::to_owned);
    let (new, before) = (class(claim), class(old));
    let upgraded = before.is_some()
        && new.is_none()
        && object::text(claim, &["spec", "storageClassName"]) == before.as_deref().unwrap_or("");
    if new.as_deref().unwrap_or("") != before.as_deref().unwrap_or("") && !upgraded {
        let path = FieldPath::new("metadata.annotations").child(CLASS_ANNOTATION);
        errors.push(FieldError::invalid(
            &path,
            new.unwrap_or_default(),
            check::IMMUTABLE,
        ));
    }
}

fn validate_status(claim: &Value, _: &Value) -> Errors {
    let mut errors = Vec::new();
    let status = At::root(claim).get("status");
    for (_, amount) in status.get("capacity").entries() {
        resources::check_basic(&amount, &mut errors);
    }
    for (name, amount) in status.get("allocatedResources").entries() {
        let list = status.get("allocatedResources");
        let messages = names::qualified_name(name);
        let foreign = messages.is_empty() && resources::is_native(name) && name != "storage";
        errors.extend(
            messages
                .into_iter()
                .map(|m| FieldError::invalid(list.path(), name, m)),
        );
        if foreign {
            errors.push(FieldError::not_supported(list.path(), name, &["storage"]));
        }
        resources::check_basic(&amount, &mut errors);
    }
    errors
}

/// The class of a volume or claim.
pub fn class(object: &Value) -> &str {
    object::annotation(object, CLASS_ANNOTATION)
        .unwrap_or_else(|| object::text(object, &["spec", "storageClassName"]))
}

fn cells(claim: &Value, now: Timestamp) -> Vec<Value> {
    let text = |path: &[&str]| object::text(claim, path);
    let phase = if object::is_deleting(claim) {
        "Terminating"
    } else {
        text(&["status", "phase"])
    };
    let bound = !text(&["spec", "volumeName"]).is_empty();
    let empty = Map::new();
    let capacity = object::at(claim, &["status", "capacity"]).and_then(Value::as_object);
    let capacity = capacity
        .unwrap_or(&empty)
        .get("storage")
        .and_then(Value::as_str);
    vec![
        json!(object::name(claim)),
        json!(phase),
        json!(text(&["spec", "volumeName"])),
        json!(capacity.filter(|_| bound).unwrap_or_default()),
        if bound {
            cell::access_modes(object::list(claim, &["status", "accessModes"]))
        } else {
            json!("")
        },
        json!(class(claim)),
        cell::or_unset(text(&["spec", "volumeAttributesClassName"])),
        cell::age_of(claim, now),
        cell::or_unset(text(&["spec", "volumeMode"])),
    ]
}
