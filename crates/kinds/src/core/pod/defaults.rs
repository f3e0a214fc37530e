//! Defaults of Pods and of the templates they are made from.
//!
//! A template gets what every Pod spec gets; some defaults only a real Pod gets, so that they do not
//! show up in every workload.

use model::object;
use serde_json::{Value, json};

use super::image;
use crate::edit::{each, fill, fill_zero, remove, set, with, within};
use crate::resources::{self, Amounts};

const GRACE_PERIOD_SECONDS: i64 = 30;
const FILE_MODE: i64 = 0o644;
const TOKEN_SECONDS: i64 = 3_600;
const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Annotations of a time before init containers, which are dropped.
const DROPPED_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// The defaults of a Pod.
pub fn pod(pod: &mut Value) {
    drop_annotations(pod);
    with(pod, "status", addresses);
    within(pod, "spec", |spec| {
        pod_spec(spec);
        for list in ["containers", "initContainers"] {
            each(spec, list, |container| {
                with(container, "resources", limits_to_requests);
            });
        }
        pod_level_resources(spec);
        fill(spec, "enableServiceLinks", true);
        if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
            host_ports(spec);
        }
    });
}

/// The defaults of a Pod template.
pub fn template(template: &mut Value) {
    drop_annotations(template);
    within(template, "spec", pod_spec);
}

fn drop_annotations(object: &mut Value) {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations") {
        for name in DROPPED_ANNOTATIONS {
            remove(annotations, name);
        }
    }
}

fn pod_spec(spec: &mut Value) {
    fill_zero(spec, "dnsPolicy", "ClusterFirst");
    fill_zero(spec, "restartPolicy", "Always");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", GRACE_PERIOD_SECONDS);
    fill_zero(spec, "schedulerName", "default-scheduler");
    if object::number(spec, &["terminationGracePeriodSeconds"]).is_some_and(|seconds| seconds < 0) {
        set(spec, "terminationGracePeriodSeconds", 1);
    }
    service_account(spec);
    each(spec, "volumes", volume);
    for list in CONTAINER_LISTS {
        each(spec, list, container);
    }
    with(spec, "overhead", resources::round_up);
    with(spec, "resources", requirements);
}

/// `podIP` is the first of `podIPs`; whoever writes one means both.
fn addresses(status: &mut Value) {
    let one = object::text(status, &["podIP"]).to_owned();
    let first = object::list(status, &["podIPs"])
        .first()
        .map(|ip| object::text(ip, &["ip"]));
    match first.map(str::to_owned) {
        None if !one.is_empty() => set(status, "podIPs", json!([{"ip": one}])),
        Some(first) if !one.is_empty() && one != first => {
            set(status, "podIPs", json!([{"ip": one}]));
        }
        Some(first) if one.is_empty() => set(status, "podIP", first),
        _ => {}
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are written.
fn service_account(spec: &mut Value) {
    let name = match object::text(spec, &["serviceAccountName"]) {
        "" => object::text(spec, &["serviceAccount"]),
        name => name,
    };
    let name = name.to_owned();
    if name.is_empty() {
        remove(spec, "serviceAccount");
    } else {
        set(spec, "serviceAccountName", name.as_str());
        set(spec, "serviceAccount", name);
    }
}

fn requirements(resources: &mut Value) {
    for list in ["limits", "requests"] {
        with(resources, list, resources::round_up);
    }
}

fn container(container: &mut Value) {
    let policy = image::pull_policy(object::text(container, &["image"]));
    fill_zero(container, "imagePullPolicy", policy);
    fill_zero(container, "terminationMessagePath", "/dev/termination-log");
    fill_zero(container, "terminationMessagePolicy", "File");
    with(container, "resources", requirements);
    each(container, "ports", |port| {
        fill_zero(port, "protocol", "TCP");
    });
    each(container, "env", |variable| {
        with(variable, "valueFrom", |source| {
            with(source, "fieldRef", |field| {
                fill_zero(field, "apiVersion", "v1");
            });
            with(source, "fileKeyRef", |file| fill(file, "optional", false));
        });
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container, probe, |probe| {
            fill_zero(probe, "timeoutSeconds", 1);
            fill_zero(probe, "periodSeconds", 10);
            fill_zero(probe, "successThreshold", 1);
            fill_zero(probe, "failureThreshold", 3);
            handler(probe);
        });
    }
    with(container, "lifecycle", |lifecycle| {
        with(lifecycle, "postStart", handler);
        with(lifecycle, "preStop", handler);
    });
}

fn handler(handler: &mut Value) {
    with(handler, "httpGet", |get| {
        fill_zero(get, "path", "/");
        fill_zero(get, "scheme", "HTTP");
    });
    with(handler, "grpc", |grpc| fill(grpc, "service", ""));
}

/// Whether a volume names any source besides its name.
fn has_source(volume: &Value) -> bool {
    let members = volume.as_object().into_iter().flatten();
    members
        .filter(|(name, _)| *name != "name")
        .any(|(_, value)| !value.is_null())
}

/// The defaults of one volume.
fn volume(volume: &mut Value) {
    if !has_source(volume) {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        with(volume, source, |source| {
            fill(source, "defaultMode", FILE_MODE);
        });
    }
    with(volume, "downwardAPI", downward_items);
    with(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            with(source, "downwardAPI", downward_items);
            with(source, "serviceAccountToken", |token| {
                fill(token, "expirationSeconds", TOKEN_SECONDS);
            });
        });
    });
    with(volume, "ephemeral", |ephemeral| {
        with(ephemeral, "volumeClaimTemplate", |template| {
            within(
                template,
                "spec",
                crate::core::persistent_volume_claim::default_spec,
            );
        });
    });
    with(volume, "image", |image| {
        let policy = image::pull_policy(object::text(image, &["reference"]));
        fill_zero(image, "pullPolicy", policy);
    });
    volume_source(volume);
}

/// The defaults of sources that volumes of Pods and persistent volumes share.
pub fn volume_source(volume: &mut Value) {
    with(volume, "hostPath", |path| fill(path, "type", ""));
    with(volume, "iscsi", |iscsi| {
        fill_zero(iscsi, "iscsiInterface", "default");
    });
    with(volume, "rbd", |rbd| {
        fill_zero(rbd, "pool", "rbd");
        fill_zero(rbd, "user", "admin");
        fill_zero(rbd, "keyring", "/etc/ceph/keyring");
    });
    with(volume, "azureDisk", |disk| {
        fill(disk, "cachingMode", "ReadWrite");
        fill(disk, "kind", "Shared");
        fill(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
    });
    with(volume, "scaleIO", |source| {
        fill_zero(source, "storageMode", "ThinProvisioned");
        fill_zero(source, "fsType", "xfs");
    });
}

fn downward_items(source: &mut Value) {
    each(source, "items", |item| {
        with(item, "fieldRef", |field| {
            fill_zero(field, "apiVersion", "v1");
        });
    });
}

/// Requests a container does not name are its limits.
fn limits_to_requests(resources: &mut Value) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    within(resources, "requests", |requests| {
        for (name, limit) in limits {
            fill(requests, &name, limit);
        }
    });
}

/// What a Pod as a whole asks for, completed from its containers once it asks for anything.
fn pod_level_resources(spec: &mut Value) {
    let has = |spec: &Value, list: &str| {
        let pointer = format!("/resources/{list}");
        spec.pointer(&pointer)
            .and_then(Value::as_object)
            .is_some_and(|list| !list.is_empty())
    };
    if !has(spec, "limits") && !has(spec, "requests") {
        return;
    }
    let (limits, requests) = (
        resources::of_all_containers(spec, "limits"),
        resources::of_all_containers(spec, "requests"),
    );
    let everywhere = |name: &str| all_limit(spec, name);
    let shared_limits: Amounts = limits
        .iter()
        .filter(|(name, _)| everywhere(name))
        .map(|(n, a)| (n.clone(), *a))
        .collect();
    let (had_limits, has_requests) = (has(spec, "limits"), has(spec, "requests"));
    with(spec, "resources", |own| {
        let asked = own.get("requests").cloned().unwrap_or_default();
        let huge = |name: &str| resources::is_huge_page(name) && asked.get(name).is_none();
        complete(own, "limits", &limits, huge);
        if own
            .get("limits")
            .and_then(Value::as_object)
            .is_some_and(|list| !list.is_empty())
        {
            complete(own, "requests", &requests, |name| {
                resources::is_supported_for_pods(name) && resources::may_overcommit(name)
            });
            let limits = resources::amounts(own.get("limits"));
            complete(own, "requests", &limits, resources::is_supported_for_pods);
        }
        if !had_limits && has_requests {
            complete(own, "limits", &shared_limits, |name| {
                resources::is_supported_for_pods(name) && resources::may_overcommit(name)
            });
        }
    });
}

fn all_limit(spec: &Value, name: &str) -> bool {
    let lists = [spec.get("containers"), spec.get("initContainers")];
    lists
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .all(|container| {
            container
                .pointer("/resources/limits")
                .is_some_and(|l| l.get(name).is_some())
        })
}

fn complete(resources: &mut Value, list: &str, from: &Amounts, wanted: impl Fn(&str) -> bool) {
    for (name, amount) in from.iter().filter(|(name, _)| wanted(name)) {
        within(resources, list, |list| fill(list, name, amount.to_string()));
    }
}

/// On the host's network a container's ports are the host's.
fn host_ports(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| {
            each(container, "ports", |port| {
                let number = port.get("containerPort").cloned().unwrap_or_default();
                fill_zero(port, "hostPort", number);
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_more_defaults_than_a_template() {
        let spec = json!({"containers": [{"name": "c", "image": "img:1",
            "resources": {"limits": {"cpu": "1"}}}], "volumes": [{"name": "v"}]});
        let mut made = json!({"spec": spec});
        pod(&mut made);
        assert_eq!(
            made["spec"]["containers"][0]["resources"]["requests"]["cpu"],
            "1"
        );
        assert_eq!(
            made["spec"]["containers"][0]["imagePullPolicy"],
            "IfNotPresent"
        );
        assert_eq!(made["spec"]["enableServiceLinks"], true);
        assert_eq!(made["spec"]["volumes"][0]["emptyDir"], json!({}));
        let mut made = json!({"spec": spec});
        template(&mut made);
        assert_eq!(
            made["spec"]["containers"][0]["resources"].get("requests"),
            None
        );
        assert_eq!(made["spec"].get("enableServiceLinks"), None);
        assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 30);
    }

    #[test]
    fn a_pod_as_a_whole_asks_for_its_limits() {
        let mut made = json!({"spec": {"containers": [{"name": "c"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}});
        pod(&mut made);
        assert_eq!(
            made["spec"]["resources"]["requests"],
            json!({"cpu": "1", "memory": "1Gi"})
        );
    }
}
