//! Checks of containers: running, init and ephemeral ones.

use std::collections::HashSet;

use model::{FieldError, names};
use serde_json::{Value, json};

use super::fields;
use super::handlers::{lifecycle, probes};
use super::security;
use super::volumes::Volumes;
use crate::at::{At, Errors};
use crate::check;
use crate::resources;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Fields ephemeral containers may not have.
const NOT_FOR_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// What checks of containers need to know of their Pod.
pub struct Surroundings<'a> {
    /// The Pod's spec.
    pub spec: At<'a>,
    /// Its volumes that are fine.
    pub volumes: Volumes<'a>,
    /// The names of its resource claims.
    pub claims: Vec<&'a str>,
}

/// Checks all containers of a Pod spec.
pub fn check(pod: &Surroundings<'_>, errors: &mut Errors) {
    regular(pod, errors);
    init(pod, errors);
    ephemeral(pod, errors);
}

fn regular(pod: &Surroundings<'_>, errors: &mut Errors) {
    let containers = pod.spec.get("containers");
    if containers.is_empty() {
        errors.push(containers.required(""));
        return;
    }
    let grace = pod.spec.get("terminationGracePeriodSeconds").number();
    let mut seen = HashSet::new();
    for container in containers.items() {
        common(pod, &container, errors);
        let name = container.get("name");
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(name.path(), name.text()));
        }
        lifecycle(&container.get("lifecycle"), grace, errors);
        probes(&container, grace, errors);
        restart_policy(&container, errors);
    }
    host_ports(&containers.items().collect::<Vec<_>>(), errors);
}

fn init(pod: &Surroundings<'_>, errors: &mut Errors) {
    let grace = pod.spec.get("terminationGracePeriodSeconds").number();
    let mut seen: HashSet<&str> = pod
        .spec
        .get("containers")
        .items()
        .map(|container| container.get("name").text())
        .collect();
    let containers = pod.spec.get("initContainers");
    for container in containers.items() {
        common(pod, &container, errors);
        restart_policy(&container, errors);
        let name = container.get("name");
        if seen.contains(name.text()) {
            errors.push(FieldError::duplicate(name.path(), name.text()));
        } else if !name.is_empty() {
            seen.insert(name.text());
        }
        // As upstream: a conflict within one init container is said to be the first one's.
        let said = container.said_at(containers.path().index(0));
        host_ports(&[said], errors);
        if container.get("restartPolicy").text() == "Always" {
            lifecycle(&container.get("lifecycle"), grace, errors);
            probes(&container, grace, errors);
        } else {
            let why = "may not be set for init containers without restartPolicy=Always";
            for field in [
                "lifecycle",
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
            ] {
                if container.get(field).is_set() {
                    errors.push(container.get(field).forbidden(why));
                }
            }
        }
    }
}

fn ephemeral(pod: &Surroundings<'_>, errors: &mut Errors) {
    let others: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| {
            pod.spec
                .get(list)
                .items()
                .map(|c| c.get("name").text())
                .collect::<Vec<_>>()
        })
        .collect();
    let mut seen = others.clone();
    for container in pod.spec.get("ephemeralContainers").items() {
        common(pod, &container, errors);
        only_in_pods(&container, errors);
        let (name, target) = (container.get("name"), container.get("targetContainerName"));
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(name.path(), name.text()));
        }
        if !target.is_empty() && !others.contains(target.text()) {
            errors.push(target.not_found());
        }
        let why = "cannot be set for an Ephemeral Container";
        for field in NOT_FOR_EPHEMERAL {
            if !container.get(field).is_empty() {
                errors.push(container.get(field).forbidden(why));
            }
        }
        for mount in container.get("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.get(field).is_empty() {
                    errors.push(mount.get(field).forbidden(why));
                }
            }
        }
    }
}

/// What only containers of a Pod are checked for, not those of a template.
pub fn only_in_pods(container: &At<'_>, errors: &mut Errors) {
    let image = container.get("image");
    if image.text().trim().len() != image.text().len() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

fn common(pod: &Surroundings<'_>, container: &At<'_>, errors: &mut Errors) {
    let name = container.get("name");
    if check::required(&name, errors) {
        check::dns_label(&name, errors);
    }
    check::required(&container.get("image"), errors);
    let message_policy = container.get("terminationMessagePolicy");
    check::required_one_of(&message_policy, &["File", "FallbackToLogsOnError"], errors);
    ports(&container.get("ports"), errors);
    container
        .get("env")
        .items()
        .for_each(|variable| env(&variable, errors));
    env_from(&container.get("envFrom"), errors);
    mounts(pod, container, errors);
    devices(pod, container, errors);
    check::required_one_of(&container.get("imagePullPolicy"), PULL_POLICIES, errors);
    resources::container_requirements(&container.get("resources"), &pod.claims, errors);
    resize_policy(pod, &container.get("resizePolicy"), errors);
    let host_users = pod.spec.get("hostUsers").value() != &json!(false);
    security::of_container(&container.get("securityContext"), host_users, errors);
}

fn ports(at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for port in at.items() {
        let name = port.get("name");
        if !name.is_empty() {
            let messages = names::port_name(name.text());
            if messages.is_empty() && !seen.insert(name.text()) {
                errors.push(name.duplicate());
            }
            check::messages(&name, messages, errors);
        }
        let number = port.get("containerPort");
        if number.count() == 0 {
            errors.push(number.required(""));
        } else {
            check::port_number(&number, errors);
        }
        if port.get("hostPort").count() != 0 {
            check::port_number(&port.get("hostPort"), errors);
        }
        check::required_one_of(&port.get("protocol"), PROTOCOLS, errors);
    }
}

/// No two containers may have the same port of the host.
fn host_ports(containers: &[At<'_>], errors: &mut Errors) {
    let mut seen = HashSet::new();
    for container in containers {
        for port in container.get("ports").items() {
            let number = port.get("hostPort");
            if number.count() == 0 {
                continue;
            }
            let (protocol, ip) = (port.get("protocol").text(), port.get("hostIP").text());
            let key = format!("{protocol}/{ip}/{}", number.count());
            if !seen.insert(key.clone()) {
                errors.push(FieldError::duplicate(number.path(), key));
            }
        }
    }
}

/// The name of an environment variable: any printable ASCII but `=`.
fn variable_name(at: &At<'_>, errors: &mut Errors) {
    let allowed = |c: char| (' '..='~').contains(&c) && c != '=';
    if !at.text().chars().all(allowed) {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(at.invalid(why));
    }
}

fn env(at: &At<'_>, errors: &mut Errors) {
    if check::required(&at.get("name"), errors) {
        variable_name(&at.get("name"), errors);
    }
    let from = at.get("valueFrom");
    if !from.is_set() {
        return;
    }
    let mut count = 0;
    let mut found = |at: &At<'_>| {
        count += usize::from(at.is_set());
        at.is_set()
    };
    let (field, resource) = (from.get("fieldRef"), from.get("resourceFieldRef"));
    if found(&field) {
        fields::check_field_ref(&field, fields::OF_VARIABLES, errors);
    }
    if found(&resource) {
        fields::check_resource_ref(&resource, false, errors);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let key = from.get(kind);
        if found(&key) {
            key_ref(&key, errors);
        }
    }
    let file = from.get("fileKeyRef");
    if found(&file) {
        file_ref(&file, errors);
    }
    let mut refuse = |why: &str| errors.push(FieldError::invalid(from.path(), "", why));
    if count == 0 {
        refuse(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !at.get("value").is_empty() {
        refuse("may not be specified when `value` is not empty");
    } else if count > 1 {
        refuse("may not have more than one field specified at a time");
    }
}

fn key_ref(at: &At<'_>, errors: &mut Errors) {
    check::subdomain(&at.get("name"), errors);
    if check::required(&at.get("key"), errors) {
        check::messages(
            &at.get("key"),
            names::config_map_key(at.get("key").text()),
            errors,
        );
    }
}

fn file_ref(at: &At<'_>, errors: &mut Errors) {
    if check::required(&at.get("key"), errors) {
        variable_name(&at.get("key"), errors);
    }
    check::required(&at.get("volumeName"), errors);
    if check::required(&at.get("path"), errors) {
        check::local_path(&at.get("path"), errors);
    }
}

fn env_from(at: &At<'_>, errors: &mut Errors) {
    for source in at.items() {
        if !source.get("prefix").is_empty() {
            variable_name(&source.get("prefix"), errors);
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let reference = source.get(kind);
            if reference.is_set() {
                count += 1;
                if check::required(&reference.get("name"), errors) {
                    check::subdomain(&reference.get("name"), errors);
                }
            }
        }
        let mut refuse = |why: &str| errors.push(FieldError::invalid(at.path(), "", why));
        match count {
            0 => refuse("must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => refuse("may not have more than one field specified at a time"),
        }
    }
}

fn mounts(pod: &Surroundings<'_>, container: &At<'_>, errors: &mut Errors) {
    let devices = container.get("volumeDevices");
    let list = container.get("volumeMounts");
    let mut paths = HashSet::new();
    for mount in list.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        check::required(&name, errors);
        let volume = pod.volumes.iter().find(|(known, _)| *known == name.text());
        if volume.is_none() {
            errors.push(name.not_found());
        }
        check::required(&path, errors);
        if !paths.insert(path.text()) {
            errors.push(path.invalid_text("must be unique"));
        }
        if devices
            .items()
            .any(|device| device.get("name").text() == name.text())
        {
            errors.push(name.invalid_text("must not already exist in volumeDevices"));
        }
        if devices
            .items()
            .any(|device| device.get("devicePath").text() == path.text())
        {
            errors.push(path.invalid_text("must not already exist as a path in volumeDevices"));
        }
        // As upstream: errors of what follows name the list, not the mount.
        let of_list = |field: &str| mount.get(field).said_at(list.path().child(field));
        let (sub, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        if volume.is_some_and(|(_, volume)| volume.get("image").is_some()) {
            for field in [&sub, &expression]
                .into_iter()
                .filter(|field| !field.is_empty())
            {
                errors.push(field.invalid("not allowed in image volume sources"));
            }
        }
        if !sub.is_empty() {
            check::descending_path(&of_list("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                errors.push(expression.invalid("subPathExpr and subPath are mutually exclusive"));
            }
            check::descending_path(&of_list("subPathExpr"), errors);
        }
        propagation(container, &of_list("mountPropagation"), errors);
        recursive_read_only(&mount, &of_list("recursiveReadOnly"), errors);
    }
}

fn propagation(container: &At<'_>, at: &At<'_>, errors: &mut Errors) {
    check::optional_one_of(at, &["Bidirectional", "HostToContainer", "None"], errors);
    if at.text() == "Bidirectional" && !container.at("securityContext.privileged").is_true() {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(at.forbidden(why));
    }
}

fn recursive_read_only(mount: &At<'_>, at: &At<'_>, errors: &mut Errors) {
    check::optional_one_of(at, &["Disabled", "Enabled", "IfPossible"], errors);
    if !matches!(at.text(), "Enabled" | "IfPossible") {
        return;
    }
    if !mount.get("readOnly").is_true() {
        errors.push(at.forbidden("may only be specified when readOnly is true"));
    }
    if !matches!(mount.get("mountPropagation").text(), "" | "None") {
        let why = "may only be specified when mountPropagation is None or not specified";
        errors.push(at.forbidden(why));
    }
}

fn devices(pod: &Surroundings<'_>, container: &At<'_>, errors: &mut Errors) {
    let mounts = container.get("volumeMounts");
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        check::required(&name, errors);
        if names.contains(name.text()) {
            errors.push(name.invalid_text("must be unique"));
        }
        let is_claim = |volume: &Value| {
            volume.get("persistentVolumeClaim").is_some() || volume.get("ephemeral").is_some()
        };
        match pod.volumes.iter().find(|(known, _)| *known == name.text()) {
            Some((_, volume)) if !is_claim(volume) => errors.push(name.invalid(
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            )),
            Some(_) => {}
            None => errors.push(name.not_found()),
        }
        check::required(&path, errors);
        if paths.contains(path.text()) {
            errors.push(path.invalid_text("must be unique"));
        }
        if path.text().split('/').any(|part| part == "..") {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        } else {
            paths.insert(path.text());
        }
        if mounts
            .items()
            .any(|mount| mount.get("name").text() == name.text())
        {
            errors.push(name.invalid_text("must not already exist in volumeMounts"));
        }
        if mounts
            .items()
            .any(|mount| mount.get("mountPath").text() == path.text())
        {
            errors.push(path.invalid_text("must not already exist as a path in volumeMounts"));
        }
        if !name.is_empty() {
            names.insert(name.text());
        }
    }
}

fn resize_policy(pod: &Surroundings<'_>, at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for policy in at.items() {
        let resource = policy.get("resourceName").said_at(at.path().clone());
        let restart = policy.get("restartPolicy").said_at(at.path().clone());
        if !seen.insert(resource.text()) {
            errors.push(FieldError::duplicate(policy.path(), resource.text()));
        }
        check::required_one_of(&resource, &["cpu", "memory"], errors);
        check::required_one_of(&restart, &["NotRequired", "RestartContainer"], errors);
        if pod.spec.get("restartPolicy").text() == "Never" && restart.text() != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(restart.invalid_text(why));
        }
    }
}

/// A container's own policy for being started again, and its rules by exit code.
fn restart_policy(container: &At<'_>, errors: &mut Errors) {
    let (policy, rules) = (
        container.get("restartPolicy"),
        container.get("restartPolicyRules"),
    );
    check::optional_one_of(&policy, &["Always", "Never", "OnFailure"], errors);
    if !policy.is_set() && !rules.is_empty() {
        errors.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    if rules.len() > 20 {
        errors.push(FieldError::too_many(rules.path(), rules.len(), 20));
    }
    for rule in rules.items() {
        check::required_one_of(
            &rule.get("action"),
            &["Restart", "RestartAllContainers"],
            errors,
        );
        let codes = rule.get("exitCodes");
        if !codes.is_set() {
            errors.push(codes.required("must be specified"));
            continue;
        }
        check::required_one_of(&codes.get("operator"), &["In", "NotIn"], errors);
        let values = codes.get("values");
        if values.len() > 255 {
            errors.push(FieldError::too_many(values.path(), values.len(), 255));
        }
    }
}
