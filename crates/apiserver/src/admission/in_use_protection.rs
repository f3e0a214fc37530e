//! `StorageObjectInUseProtection`: volumes, claims and volume attributes get the finalizer that holds
//! them while they are in use. A controller takes it off.

use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "StorageObjectInUseProtection",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Never,
};

fn mutate(request: &Request<'_>, new: &mut Value) -> Result<(), Status> {
    let finalizer = if request.creates("", "persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else if request.creates("", "persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if request.creates("storage.k8s.io", "volumeattributesclasses") {
        "kubernetes.io/vac-protection"
    } else {
        return Ok(());
    };
    if object::finalizers(new).any(|own| own == finalizer) {
        return Ok(());
    }
    let finalizers = object::metadata_mut(new)
        .entry("finalizers")
        .or_insert_with(|| json!([]));
    match finalizers.as_array_mut() {
        Some(list) => list.push(json!(finalizer)),
        None => *finalizers = json!([finalizer]),
    }
    Ok(())
}
