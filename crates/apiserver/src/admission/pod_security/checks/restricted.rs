//! The checks of the restricted level: what good practice asks for.

use std::collections::BTreeSet;

use model::object;
use serde_json::Value;

use super::{Finding, Pod, adding, bad_seccomp, context, found, named, plural, quoted, uses};

pub fn dropped_capabilities(pod: &Pod<'_>, minor: u32) -> Finding {
    if minor >= 25 && pod.is_windows() {
        return None;
    }
    let missing = pod.containers_where(|container| {
        let dropped = context(container, &["capabilities", "drop"]).and_then(Value::as_array);
        !dropped.is_some_and(|dropped| dropped.iter().any(|name| name == "ALL"))
    });
    let (containers, forbidden) = adding(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !missing.is_empty() {
        let who = named("container", &missing);
        details.push(format!(
            "{who} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    if !containers.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named("container", &containers),
            quoted(&forbidden)
        ));
    }
    if details.is_empty() {
        return None;
    }
    found("unrestricted capabilities", details.join("; "))
}

pub fn proc_mount_always(pod: &Pod<'_>, _: u32) -> Finding {
    let mut kinds = BTreeSet::new();
    let containers = pod.containers_where(|container| {
        let kind = context(container, &["procMount"]).and_then(Value::as_str);
        let bad = kind.filter(|kind| *kind != "Default");
        bad.map(|kind| kinds.insert(kind.to_owned())).is_some()
    });
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        named("container", &containers),
        quoted(&kinds)
    );
    found("procMount", detail)
}

pub fn seccomp_required(pod: &Pod<'_>, minor: u32) -> Finding {
    if minor >= 25 && pod.is_windows() {
        return None;
    }
    if let Some(bad) = bad_seccomp(pod) {
        return Some(bad);
    }
    if context(pod.spec, &["seccompProfile"]).is_some() {
        return None;
    }
    let missing = pod.containers_where(|own| context(own, &["seccompProfile"]).is_none());
    if missing.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named("container", &missing)
    );
    found("seccompProfile", detail)
}

pub fn privilege_escalation(pod: &Pod<'_>, minor: u32) -> Finding {
    if minor >= 25 && pod.is_windows() {
        return None;
    }
    let containers = pod.containers_where(|own| {
        context(own, &["allowPrivilegeEscalation"]) != Some(&Value::Bool(false))
    });
    if containers.is_empty() {
        return None;
    }
    let who = named("container", &containers);
    found(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

/// Volume types that are told by name.
const RESTRICTED_VOLUMES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];
const ALLOWED_VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub fn volume_types(pod: &Pod<'_>, _: u32) -> Finding {
    let mut types = BTreeSet::new();
    let mut volumes = Vec::new();
    for volume in object::list(pod.spec, &["volumes"]) {
        let has = |kind: &&&str| volume.get(**kind).is_some();
        if ALLOWED_VOLUMES.iter().any(|kind| has(&kind)) {
            continue;
        }
        volumes.push(object::text(volume, &["name"]));
        let kind = RESTRICTED_VOLUMES.iter().find(has).copied();
        types.insert(kind.unwrap_or("unknown"));
    }
    if volumes.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        named("volume", &volumes),
        uses(volumes.len()),
        plural("restricted volume type", types.len()),
        quoted(&types)
    );
    found("restricted volume types", detail)
}

pub fn non_root(pod: &Pod<'_>, minor: u32) -> Finding {
    if minor >= 35 && pod.has_user_namespace() {
        return None;
    }
    let reason = "runAsNonRoot != true";
    let says = |owner: &Value| context(owner, &["runAsNonRoot"]).cloned();
    let setters = pod.setters(|owner| says(owner) == Some(Value::Bool(false)));
    if !setters.is_empty() {
        let who = setters.join(" and ");
        return found(
            reason,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    if says(pod.spec) == Some(Value::Bool(true)) {
        return None;
    }
    let missing = pod.containers_where(|own| says(own).is_none());
    if missing.is_empty() {
        return None;
    }
    let who = named("container", &missing);
    found(
        reason,
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

pub fn user(pod: &Pod<'_>, minor: u32) -> Finding {
    if minor >= 35 && pod.has_user_namespace() {
        return None;
    }
    let setters =
        pod.setters(|owner| context(owner, &["runAsUser"]).and_then(Value::as_i64) == Some(0));
    if setters.is_empty() {
        return None;
    }
    let who = setters.join(" and ");
    found("runAsUser=0", format!("{who} must not set runAsUser=0"))
}
