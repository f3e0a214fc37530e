//! Checks of security contexts, and of what the operating system of a Pod rules out.

use std::collections::HashSet;

use model::{FieldError, names};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::check;

const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const PROFILE_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const PROFILE_LENGTH_MAX: usize = 4_095;
const NOT_FOR_WINDOWS: &str = "cannot be set for a windows pod";
const SYSCTL: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// The lists of containers, in the order they are visited.
pub const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn id(at: &At<'_>, errors: &mut Errors) {
    if at
        .number()
        .is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id))
    {
        errors.push(at.invalid(ID_RANGE));
    }
}

/// The security context of a Pod spec.
pub fn of_pod(spec: &At<'_>, errors: &mut Errors) {
    let at = spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&at.get(field), errors);
    }
    at.get("supplementalGroups")
        .items()
        .for_each(|group| id(&group, errors));
    if spec.get("shareProcessNamespace").is_true() && spec.get("hostPID").is_true() {
        let said = at.path().child("shareProcessNamespace");
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&said, true, why));
    }
    sysctls(spec, &at.get("sysctls"), errors);
    check::optional_one_of(
        &at.get("fsGroupChangePolicy"),
        &["Always", "OnRootMismatch"],
        errors,
    );
    seccomp(&at.get("seccompProfile"), errors);
    windows_options(&at.get("windowsOptions"), errors);
    app_armor(&at.get("appArmorProfile"), errors);
    check::optional_one_of(
        &at.get("supplementalGroupsPolicy"),
        &["Merge", "Strict"],
        errors,
    );
    let policy = at.get("seLinuxChangePolicy");
    check::optional_one_of(&policy, &["MountOption", "Recursive"], errors);
}

/// The security context of a container.
pub fn of_container(at: &At<'_>, host_users: bool, errors: &mut Errors) {
    if !at.is_set() {
        return;
    }
    id(&at.get("runAsUser"), errors);
    id(&at.get("runAsGroup"), errors);
    let mount = at.get("procMount");
    check::optional_one_of(&mount, &["Default", "Unmasked"], errors);
    if host_users && mount.text() == "Unmasked" {
        errors.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(&at.get("seccompProfile"), errors);
    if at.get("allowPrivilegeEscalation").value() == &json!(false) {
        if at.get("privileged").is_true() {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(at.invalid(why).printed_as(print_context(at.value())));
        }
        if at
            .at("capabilities.add")
            .texts()
            .any(|added| added == "CAP_SYS_ADMIN")
        {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(at.invalid(why).printed_as(print_context(at.value())));
        }
    }
    windows_options(&at.get("windowsOptions"), errors);
    app_armor(&at.get("appArmorProfile"), errors);
}

/// How upstream prints a container's security context.
fn print_context(context: &Value) -> String {
    let null = Value::Null;
    let get = |name: &str| context.get(name).unwrap_or(&null);
    let capabilities = context.get("capabilities").map_or(
        Value::Null,
        |own| json!({"Add": own.get("add"), "Drop": own.get("drop")}),
    );
    check::print_struct(&[
        ("Capabilities", &capabilities),
        ("Privileged", get("privileged")),
        ("SELinuxOptions", get("seLinuxOptions")),
        ("WindowsOptions", get("windowsOptions")),
        ("RunAsUser", get("runAsUser")),
        ("RunAsGroup", get("runAsGroup")),
        ("RunAsNonRoot", get("runAsNonRoot")),
        ("ReadOnlyRootFilesystem", get("readOnlyRootFilesystem")),
        ("AllowPrivilegeEscalation", get("allowPrivilegeEscalation")),
        ("ProcMount", get("procMount")),
        ("SeccompProfile", get("seccompProfile")),
        ("AppArmorProfile", get("appArmorProfile")),
    ])
}

fn sysctls(spec: &At<'_>, at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for sysctl in at.items() {
        let name = sysctl.get("name");
        if name.is_empty() {
            errors.push(name.required(""));
        } else if !is_sysctl(name.text()) {
            errors.push(name.invalid(SYSCTL));
        } else if seen.contains(name.text()) {
            errors.push(name.duplicate());
        }
        seen.insert(name.text());
        let dotted = name.text().replace('/', ".");
        let of_ipc = dotted.starts_with("kernel.shm")
            || dotted.starts_with("kernel.msg")
            || dotted.starts_with("fs.mqueue.")
            || dotted == "kernel.sem";
        if spec.get("hostNetwork").is_true() && dotted.starts_with("net.") {
            errors.push(name.invalid("may not be specified when 'hostNetwork' is true"));
        } else if spec.get("hostIPC").is_true() && of_ipc {
            errors.push(name.invalid("may not be specified when 'hostIPC' is true"));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            edge(bytes.first()) && edge(bytes.last()) && part.bytes().all(inner)
        })
}

fn seccomp(at: &At<'_>, errors: &mut Errors) {
    if !at.is_set() {
        return;
    }
    let (kind, local) = (at.get("type"), at.get("localhostProfile"));
    if kind.is_empty() {
        errors.push(kind.required("type is required when seccompProfile is set"));
    } else {
        check::one_of(&kind, PROFILE_TYPES, errors);
    }
    match (kind.text() == "Localhost", local.is_set()) {
        (true, false) => {
            errors.push(local.required("must be set when seccomp type is Localhost"));
        }
        (true, true) => check::descending_path(&local, errors),
        (false, true) => {
            let printed =
                check::print_struct(&[("Type", kind.value()), ("LocalhostProfile", local.value())]);
            let why = "can only be set when seccomp type is Localhost";
            errors.push(local.invalid(why).printed_as(printed));
        }
        (false, false) => {}
    }
}

fn app_armor(at: &At<'_>, errors: &mut Errors) {
    if !at.is_set() {
        return;
    }
    let (kind, local) = (at.get("type"), at.get("localhostProfile"));
    match kind.text() {
        "Localhost" => {
            let why = "must be set when AppArmor type is Localhost";
            if local.is_set() && local.text().trim() != local.text() {
                errors.push(local.invalid("must not be padded with whitespace"));
            } else if local.is_empty() {
                errors.push(local.required(why));
            }
            if local.text().len() > PROFILE_LENGTH_MAX {
                errors.push(local.too_long(PROFILE_LENGTH_MAX));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.is_set() {
                errors.push(local.invalid("can only be set when AppArmor type is Localhost"));
            }
        }
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        _ => errors.push(kind.not_supported(PROFILE_TYPES)),
    }
}

fn windows_options(at: &At<'_>, errors: &mut Errors) {
    let name = at.get("gmsaCredentialSpecName");
    if name.is_set() {
        check::messages(&name, names::dns1123_subdomain(name.text()), errors);
    }
    let spec = at.get("gmsaCredentialSpec");
    if spec.is_set() && spec.is_empty() {
        errors.push(spec.invalid("gmsaCredentialSpec cannot be an empty string"));
    } else if spec.text().len() > 64 << 10 {
        errors.push(spec.invalid("gmsaCredentialSpec size must be under 64 KiB"));
    }
    let user = at.get("runAsUserName");
    if user.is_set() {
        errors.extend(
            windows_user(user.text())
                .into_iter()
                .map(|why| user.invalid(why)),
        );
    }
}

/// What is wrong with the name of a user of Windows, `DOMAIN\user`.
fn windows_user(text: &str) -> Vec<&'static str> {
    if text.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let parts: Vec<&str> = text.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut found = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            found.push("runAsUserName's Domain length must be under 256 characters");
        }
        let net_bios = (1..=15).contains(&domain.chars().count())
            && !domain.starts_with('.')
            && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|']);
        let dns = names::dns1123_subdomain(&domain.to_lowercase()).is_empty();
        if !net_bios && !dns {
            found.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        found.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        found.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        found.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains([
        '"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']',
    ]) {
        found.push(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
        );
    }
    found
}

/// Containers that run as processes of the host must all do so.
pub fn host_process(spec: &At<'_>, errors: &mut Errors) {
    let pod = spec.at("securityContext.windowsOptions.hostProcess");
    let (mut count, mut of_host) = (0, 0);
    for list in CONTAINERS {
        for container in spec.get(list).items() {
            count += 1;
            let own = container.at("securityContext.windowsOptions.hostProcess");
            if pod.is_set() && own.is_set() && pod.value() != own.value() {
                let why = format!(
                    "pod hostProcess value must be identical if both are specified, was {}",
                    pod.value()
                );
                errors.push(own.invalid(why));
            }
            let effective = if own.is_set() { &own } else { &pod };
            of_host += usize::from(effective.is_true());
        }
    }
    if of_host == 0 {
        return;
    }
    if of_host != count {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(spec.path(), "", why));
    }
    if !spec.get("hostNetwork").is_true() {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(
            spec.get("hostNetwork").path(),
            false,
            why,
        ));
    }
}

/// Users of a Pod's own cannot be combined with namespaces of the host.
pub fn host_users(spec: &At<'_>, errors: &mut Errors) {
    if spec.get("hostUsers").value() != &json!(false) {
        return;
    }
    for (field, said) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.get(field).is_true() {
            let path = spec.path().child(said);
            errors.push(FieldError::forbidden(
                &path,
                "when `pod.Spec.HostUsers` is false",
            ));
        }
    }
}

/// The operating system, and what it rules out.
pub fn operating_system(spec: &At<'_>, errors: &mut Errors) {
    let os = spec.get("os");
    if !os.is_set() {
        return;
    }
    match os.get("name").text() {
        "" => errors.push(os.get("name").required("cannot be empty")),
        "linux" => {
            let why = "windows options cannot be set for a linux pod";
            let pod = spec.at("securityContext.windowsOptions");
            let containers = each_container(spec, "securityContext.windowsOptions");
            let all = std::iter::once(pod).chain(containers);
            errors.extend(all.filter(At::is_set).map(|at| at.forbidden(why)));
        }
        "windows" => windows(spec, errors),
        other => errors.push(FieldError::not_supported(
            os.path(),
            other,
            &["linux", "windows"],
        )),
    }
}

fn each_container<'a>(spec: &At<'a>, path: &str) -> Vec<At<'a>> {
    CONTAINERS
        .iter()
        .flat_map(|list| {
            spec.get(list)
                .items()
                .map(|c| c.at(path))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn windows(spec: &At<'_>, errors: &mut Errors) {
    const OF_POD: &[&str] = &[
        "securityContext.appArmorProfile",
        "securityContext.seLinuxOptions",
        "hostUsers",
        "hostPID",
        "hostIPC",
        "securityContext.seccompProfile",
        "securityContext.fsGroup",
        "securityContext.fsGroupChangePolicy",
        "securityContext.sysctls",
        "shareProcessNamespace",
        "securityContext.runAsUser",
        "securityContext.runAsGroup",
        "securityContext.supplementalGroups",
        "securityContext.supplementalGroupsPolicy",
        "securityContext.seLinuxChangePolicy",
    ];
    const OF_CONTAINER: &[&str] = &[
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for path in OF_POD {
        if spec.at(path).is_set() {
            errors.push(spec.at(path).forbidden(NOT_FOR_WINDOWS));
        }
    }
    for context in each_container(spec, "securityContext") {
        for field in OF_CONTAINER {
            if context.get(field).is_set() {
                errors.push(context.get(field).forbidden(NOT_FOR_WINDOWS));
            }
        }
    }
}
