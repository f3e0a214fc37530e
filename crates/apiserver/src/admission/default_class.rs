//! `DefaultStorageClass` and `DefaultIngressClass`: what names no class gets the one that is marked as
//! the default, the newest where several are.

use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Plugin, Request, Validate};

/// `DefaultStorageClass`.
pub const STORAGE: Plugin = Plugin {
    name: "DefaultStorageClass",
    default: true,
    mutate: Mutate::Now(claim),
    validate: Validate::Never,
};

/// `DefaultIngressClass`.
pub const INGRESS: Plugin = Plugin {
    name: "DefaultIngressClass",
    default: true,
    mutate: Mutate::Now(ingress),
    validate: Validate::Never,
};

fn claim(request: &Request<'_>, claim: &mut Value) -> Result<(), Status> {
    let asks = !request.creates("", "persistentvolumeclaims")
        || object::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some()
        || object::at(claim, &["spec", "storageClassName"]).is_some_and(|name| !name.is_null());
    if asks {
        return Ok(());
    }
    let marks = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    let classes = request.list("storage.k8s.io", "storageclasses", None);
    if let Some(name) = newest_default(&classes, &marks) {
        object::child_mut(claim, "spec").insert("storageClassName".to_owned(), json!(name));
    }
    Ok(())
}

fn ingress(request: &Request<'_>, ingress: &mut Value) -> Result<(), Status> {
    let asks = !request.creates("networking.k8s.io", "ingresses")
        || object::annotation(ingress, "kubernetes.io/ingress.class").is_some()
        || object::at(ingress, &["spec", "ingressClassName"]).is_some_and(|name| !name.is_null());
    if asks {
        return Ok(());
    }
    let marks = ["ingressclass.kubernetes.io/is-default-class"];
    let classes = request.list("networking.k8s.io", "ingressclasses", None);
    if let Some(name) = newest_default(&classes, &marks) {
        object::child_mut(ingress, "spec").insert("ingressClassName".to_owned(), json!(name));
    }
    Ok(())
}

fn newest_default<'a>(classes: &'a [Value], marks: &[&str]) -> Option<&'a str> {
    let is_default = |class: &&Value| {
        marks
            .iter()
            .any(|mark| object::annotation(class, mark) == Some("true"))
    };
    let made = |class: &Value| object::text(class, &["metadata", "creationTimestamp"]).to_owned();
    classes
        .iter()
        .filter(is_default)
        // The newest first, then by name.
        .min_by(|a, b| {
            made(b)
                .cmp(&made(a))
                .then_with(|| object::name(a).cmp(object::name(b)))
        })
        .map(object::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_default_is_taken() {
        let class = |name: &str, made: &str, mark: &str| json!({"metadata": {"name": name, "creationTimestamp": made, "annotations": {"default": mark}}});
        let classes = [
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("z", "2026-01-02T00:00:00Z", "true"),
            class("a", "2026-01-02T00:00:00Z", "true"),
            class("no", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(newest_default(&classes, &["default"]), Some("a"));
        assert_eq!(newest_default(&classes[3..], &["default"]), None);
    }
}
