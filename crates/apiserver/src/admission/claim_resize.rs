//! `PersistentVolumeClaimResize`: a claim grows only where its storage class lets volumes grow.

use kinds::demand;
use model::{Quantity, Status, object};
use serde_json::Value;

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "PersistentVolumeClaimResize",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Now(validate),
};

fn size(claim: &Value) -> Quantity {
    object::at(claim, &["spec", "resources", "requests", "storage"])
        .and_then(demand::quantity)
        .unwrap_or_else(|| Quantity::from_units(0))
}

/// The class of a claim; an annotation was the way to name it once.
fn class(claim: &Value) -> &str {
    object::annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object::text(claim, &["spec", "storageClassName"]))
}

fn validate(request: &Request<'_>, claim: &Value) -> Result<(), Status> {
    let Some(old) = request.old else {
        return Ok(());
    };
    let grows = request.operation == Operation::Update
        && request.is_object("", "persistentvolumeclaims")
        && size(claim) > size(old);
    if !grows {
        return Ok(());
    }
    if object::text(old, &["status", "phase"]) != "Bound" {
        let why = "Only bound persistent volume claims can be expanded";
        return Err(request.refuse(claim, why));
    }
    let name = class(claim);
    let resizable = !name.is_empty()
        && name == class(old)
        && request
            .find("storage.k8s.io", "storageclasses", None, name)
            .is_some_and(|class| class.get("allowVolumeExpansion") == Some(&Value::Bool(true)));
    if resizable {
        return Ok(());
    }
    Err(request.refuse(
        claim,
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
