//! References from a Pod to its own fields and resources, as environment variables and files.

use model::{FieldError, names};

use crate::at::{At, Errors};
use crate::check;
use crate::resources::quantity;

/// Fields a variable may show.
pub const OF_VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields a file may show.
pub const OF_VOLUMES: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Fields that are known at all; only some may be shown.
const KNOWN: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.host",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const SIZES: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// A reference to a field of the Pod.
pub fn check_field_ref(at: &At<'_>, shown: &[&str], errors: &mut Errors) {
    let (version, field) = (at.get("apiVersion"), at.get("fieldPath"));
    if !check::required(&version, errors) || !check::required(&field, errors) {
        return;
    }
    let refuse = |why: String| field.invalid(format!("error converting fieldPath: {why}"));
    if version.text() != "v1" {
        errors.push(refuse(format!(
            "unsupported pod version: {}",
            version.text()
        )));
        return;
    }
    if let Some((path, key)) = subscript(field.text()) {
        match path {
            "metadata.annotations" => named(at, &key.to_lowercase(), errors),
            "metadata.labels" => named(at, key, errors),
            _ => errors.push(refuse(format!(
                "field label does not support subscript: {}",
                field.text()
            ))),
        }
        return;
    }
    // The old name of a node's name is turned into the new one.
    let text = if field.text() == "spec.host" {
        "spec.nodeName"
    } else {
        field.text()
    };
    if !KNOWN.contains(&text) {
        errors.push(refuse(format!("field label not supported: {text}")));
    } else if !shown.contains(&text) {
        errors.push(FieldError::not_supported(field.path(), text, shown));
    }
}

fn named(at: &At<'_>, name: &str, errors: &mut Errors) {
    for message in names::qualified_name(name) {
        errors.push(FieldError::invalid(at.path(), name, message));
    }
}

/// `metadata.labels['key']` as path and key.
fn subscript(text: &str) -> Option<(&str, &str)> {
    let (path, rest) = text.split_once("['")?;
    Some((path, rest.strip_suffix("']")?))
}

/// A reference to what a container asks for; files must name the container.
pub fn check_resource_ref(at: &At<'_>, is_file: bool, errors: &mut Errors) {
    let resource = at.get("resource");
    let huge = |text: &str| {
        text.starts_with("limits.hugepages-") || text.starts_with("requests.hugepages-")
    };
    if is_file && at.get("containerName").is_empty() {
        errors.push(at.get("containerName").required(""));
    } else if resource.is_empty() {
        errors.push(resource.required(""));
    } else if !RESOURCES.contains(&resource.text()) && !huge(resource.text()) {
        errors.push(resource.not_supported(RESOURCES));
    }
    let Some(divisor) = quantity(at.get("divisor").value()).filter(|divisor| divisor.sign() != 0)
    else {
        return;
    };
    let text = divisor.to_string();
    let name = resource.text();
    let (allowed, what): (&[&str], &str) = match name.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (&["1m", "1"], "cpu"),
        "memory" => (SIZES, "memory"),
        "ephemeral-storage" => (SIZES, "local ephemeral storage"),
        _ if huge(name) => (SIZES, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&text.as_str()) {
        let list = if what == "cpu" {
            "1m and 1".to_owned()
        } else {
            SIZES.join(", ")
        };
        let why = format!("only divisor's values {list} are supported with the {what} resource");
        errors.push(FieldError::invalid(at.get("divisor").path(), name, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_name_known_fields() {
        let check = |field: &str, expect: &str| {
            let object = json!({"apiVersion": "v1", "fieldPath": field});
            let mut errors = Vec::new();
            check_field_ref(&At::root(&object), OF_VOLUMES, &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found.join(";"), expect);
        };
        check("metadata.labels", "");
        check("metadata.labels['a']", "");
        check(
            "nonsense",
            "fieldPath: Invalid value: \"nonsense\": error converting fieldPath: field label not supported: nonsense",
        );
        check(
            "spec.nodeName",
            "fieldPath: Unsupported value: \"spec.nodeName\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
        );
    }
}
