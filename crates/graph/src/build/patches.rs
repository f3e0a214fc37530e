//! What a `patch` may say (gate `Decorators`, kro's KREP-016): fields of an object that exists without us, and never
//! anything that would make the object ours.

use serde_json::Value;

use super::error::BuildError;
use crate::rgd::ResourceSpec;

/// The parts of `metadata` that name the object, or may be given to it.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];

/// Checks a patch.
pub(super) fn check(resource: &ResourceSpec, patch: &Value) -> Result<(), BuildError> {
    let fail = |message: &str, path: &str| Err(BuildError::of(&resource.id, message).at(path));
    if !resource.ready_when.is_empty() {
        return fail(
            "a patch has no readyWhen: it is done when its fields are there",
            "readyWhen",
        );
    }
    let metadata = patch["metadata"].as_object().into_iter().flatten();
    let keys: Vec<&str> = metadata.map(|(key, _)| key.as_str()).collect();
    if let Some(key) = keys.iter().find(|key| !METADATA.contains(key)) {
        let message = format!(
            "a patch gives labels, annotations and fields below metadata, not metadata.{key}: the object belongs to others"
        );
        return fail(&message, &format!("metadata.{key}"));
    }
    let identity = ["apiVersion", "kind", "metadata"];
    let mut fields = patch.as_object().into_iter().flatten();
    let gives = fields.any(|(key, _)| !identity.contains(&key.as_str()))
        || keys
            .iter()
            .any(|key| ["labels", "annotations"].contains(key));
    if gives {
        Ok(())
    } else {
        fail("a patch must give at least one field", "patch")
    }
}
