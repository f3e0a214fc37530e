//! `AlwaysPullImages`: whoever may run a Pod must be able to pull its images, also where the node has
//! them already. Off by default.

use std::collections::BTreeSet;

use model::{FieldError, FieldPath, Status, object};
use serde_json::{Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "AlwaysPullImages",
    default: false,
    mutate: Mutate::Now(mutate),
    validate: Validate::Now(validate),
};

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn applies(request: &Request<'_>, pod: &Value) -> bool {
    if !request.is_object("", "pods") {
        return false;
    }
    match (request.operation, request.old) {
        (Operation::Create, _) => true,
        (Operation::Update, Some(old)) => !images(pod).is_subset(&images(old)),
        _ => false,
    }
}

fn images(pod: &Value) -> BTreeSet<&str> {
    CONTAINERS
        .iter()
        .flat_map(|kind| object::list(pod, &["spec", kind]))
        .map(|container| object::text(container, &["image"]))
        .collect()
}

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !applies(request, pod) {
        return Ok(());
    }
    for kind in CONTAINERS {
        let containers = pod.pointer_mut(&format!("/spec/{kind}"));
        for container in containers
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            container["imagePullPolicy"] = json!("Always");
        }
    }
    let volumes = pod.pointer_mut("/spec/volumes");
    for volume in volumes.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
            image["pullPolicy"] = json!("Always");
        }
    }
    Ok(())
}

fn validate(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    if !applies(request, pod) {
        return Ok(());
    }
    let spec = FieldPath::new("spec");
    let mut places = Vec::new();
    for kind in CONTAINERS {
        for (index, container) in object::list(pod, &["spec", kind]).iter().enumerate() {
            let path = spec.child(kind).index(index).child("imagePullPolicy");
            places.push((path, object::text(container, &["imagePullPolicy"])));
        }
    }
    for (index, volume) in object::list(pod, &["spec", "volumes"]).iter().enumerate() {
        if volume.get("image").is_some() {
            let path = spec.child("volumes").index(index).child("image");
            let policy = object::text(volume, &["image", "pullPolicy"]);
            places.push((path.child("pullPolicy"), policy));
        }
    }
    match places.iter().find(|(_, policy)| *policy != "Always") {
        Some((path, policy)) => {
            let error = FieldError::not_supported(path, *policy, &["Always"]);
            Err(request.refuse(pod, &error.to_string()))
        }
        None => Ok(()),
    }
}
