//! The checks of the pod security standards, one function each.
//!
//! A check looks at a Pod and says what is forbidden, or nothing. Which checks a standard has depends on its
//! level and version: a check may begin with a version, change with another, and a restricted one may
//! stand for a baseline one.

mod restricted;

use std::collections::BTreeSet;

use model::object;
use serde_json::Value;

use super::level::{Level, Standard};

/// The version in which a check changed last: later ones ask for nothing new.
const MINOR_LATEST: u32 = 35;

/// What is forbidden about a Pod: short reasons, each with what it is about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<(String, String)>);

impl Violations {
    /// Whether nothing is forbidden.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The reasons alone.
    pub fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.0.iter().map(|(reason, _)| reason.as_str()).collect();
        reasons.join(", ")
    }

    /// The reasons with their details.
    pub fn details(&self) -> String {
        let texts: Vec<String> = self
            .0
            .iter()
            .map(|(reason, detail)| match detail.as_str() {
                "" => reason.clone(),
                detail => format!("{reason} ({detail})"),
            })
            .collect();
        texts.join(", ")
    }
}

/// What a check says.
type Finding = Option<(String, String)>;
type Check = fn(&Pod<'_>, u32) -> Finding;

/// Checks of the baseline level, each with the version it begins with and the one in which a restricted
/// check takes its place, in the order in which they are told.
const BASELINE: &[(u32, u32, Check)] = &[
    (0, u32::MAX, app_armor),
    (0, 22, added_capabilities),
    (0, u32::MAX, host_namespaces),
    (0, 0, host_paths),
    (0, u32::MAX, host_ports),
    (34, u32::MAX, probe_hosts),
    (0, u32::MAX, privileged),
    (0, 35, proc_mount),
    (0, u32::MAX, selinux),
    (0, 19, seccomp),
    (0, u32::MAX, sysctls),
    (0, u32::MAX, host_process),
];

/// Checks of the restricted level, each with the version it begins with.
const RESTRICTED: &[(u32, Check)] = &[
    (8, restricted::privilege_escalation),
    (22, restricted::dropped_capabilities),
    (35, restricted::proc_mount_always),
    (0, restricted::volume_types),
    (0, restricted::non_root),
    (23, restricted::user),
    (19, restricted::seccomp_required),
];

/// Runs the checks of a standard on a Pod, or on the template of one.
pub fn run(standard: Standard, pod: &Value) -> Violations {
    let restricted = match standard.level {
        Level::Privileged => return Violations::default(),
        Level::Baseline => false,
        Level::Restricted => true,
    };
    let minor = standard.version.unwrap_or(MINOR_LATEST).min(MINOR_LATEST);
    let pod = Pod::of(pod);
    let baseline = BASELINE
        .iter()
        .filter(|(from, replaced, _)| minor >= *from && !(restricted && minor >= *replaced))
        .map(|(_, _, check)| *check);
    let more = RESTRICTED
        .iter()
        .filter(|(from, _)| restricted && minor >= *from)
        .map(|(_, check)| *check);
    Violations(
        baseline
            .chain(more)
            .filter_map(|check| check(&pod, minor))
            .collect(),
    )
}

/// A Pod, as checks look at it.
struct Pod<'a> {
    value: &'a Value,
    spec: &'a Value,
    containers: Vec<&'a Value>,
}

impl<'a> Pod<'a> {
    fn of(value: &'a Value) -> Self {
        static NONE: Value = Value::Null;
        let spec = value.get("spec").unwrap_or(&NONE);
        let containers = ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|kind| object::list(spec, &[kind]))
            .collect();
        Self {
            value,
            spec,
            containers,
        }
    }

    fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = object::at(self.value, &["metadata", "annotations"]).and_then(Value::as_object);
        own.into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// The names of the containers of which something holds.
    fn containers_where(&self, mut holds: impl FnMut(&Value) -> bool) -> Vec<&'a str> {
        self.containers
            .iter()
            .filter(|container| holds(container))
            .map(|container| object::text(container, &["name"]))
            .collect()
    }

    /// The Pod itself and its containers, as those who set something that is forbidden.
    fn setters(&self, mut holds: impl FnMut(&Value) -> bool) -> Vec<String> {
        let mut setters = Vec::new();
        if holds(self.spec) {
            setters.push("pod".to_owned());
        }
        let containers = self.containers_where(holds);
        if !containers.is_empty() {
            setters.push(named("container", &containers));
        }
        setters
    }

    fn is_windows(&self) -> bool {
        object::text(self.spec, &["os", "name"]) == "windows"
    }

    /// Whether root in the Pod is nobody outside.
    fn has_user_namespace(&self) -> bool {
        self.spec.get("hostUsers") == Some(&Value::Bool(false))
    }
}

/// A field of the security context of a Pod's spec or of a container.
fn context<'a>(owner: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let found = path
        .iter()
        .try_fold(owner.get("securityContext")?, |value, name| {
            value.get(*name)
        })?;
    (!found.is_null()).then_some(found)
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items
        .into_iter()
        .map(|item| format!("\"{}\"", item.as_ref()))
        .collect();
    items.join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn named(word: &str, names: &[&str]) -> String {
    format!("{} {}", plural(word, names.len()), quoted(names))
}

fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

fn found(reason: &str, detail: String) -> Finding {
    Some((reason.to_owned(), detail))
}

fn app_armor(pod: &Pod<'_>, _: u32) -> Finding {
    let mut values = BTreeSet::new();
    let mut setters = pod.setters(|owner| {
        let kind = context(owner, &["appArmorProfile", "type"]).and_then(Value::as_str);
        let bad = kind.filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"));
        bad.map(|kind| values.insert(kind.to_owned())).is_some()
    });
    let mut annotations: Vec<String> = pod
        .annotations()
        .filter(|(key, value)| {
            let allowed =
                value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !allowed
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    annotations.sort();
    if !annotations.is_empty() {
        setters.push(plural("annotation", annotations.len()));
    }
    if setters.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", values.len());
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        setters.join(" and "),
        quoted(&values)
    );
    found(&reason, detail)
}

const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Containers that add capabilities beyond some, and which.
fn adding<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<String>) {
    let mut forbidden = BTreeSet::new();
    let containers = pod.containers_where(|container| {
        let added = context(container, &["capabilities", "add"]).and_then(Value::as_array);
        let bad: Vec<&str> = added
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| !allowed.contains(name))
            .collect();
        forbidden.extend(bad.iter().map(|name| (*name).to_owned()));
        !bad.is_empty()
    });
    (containers, forbidden)
}

fn added_capabilities(pod: &Pod<'_>, _: u32) -> Finding {
    let (containers, forbidden) = adding(pod, DEFAULT_CAPABILITIES);
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        named("container", &containers),
        quoted(&forbidden)
    );
    found("non-default capabilities", detail)
}

fn host_namespaces(pod: &Pod<'_>, _: u32) -> Finding {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod.spec.get(**field) == Some(&Value::Bool(true)))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() {
        return None;
    }
    found("host namespaces", shared.join(", "))
}

fn host_paths(pod: &Pod<'_>, _: u32) -> Finding {
    let volumes: Vec<&str> = object::list(pod.spec, &["volumes"])
        .iter()
        .filter(|volume| volume.get("hostPath").is_some())
        .map(|volume| object::text(volume, &["name"]))
        .collect();
    if volumes.is_empty() {
        return None;
    }
    found("hostPath volumes", named("volume", &volumes))
}

fn host_ports(pod: &Pod<'_>, _: u32) -> Finding {
    let mut ports = BTreeSet::new();
    let containers = pod.containers_where(|container| {
        let own = object::list(container, &["ports"]).iter();
        let bad: Vec<String> = own
            .filter_map(|port| object::number(port, &["hostPort"]))
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        let any = !bad.is_empty();
        ports.extend(bad);
        any
    });
    if containers.is_empty() {
        return None;
    }
    let list: Vec<&str> = ports.iter().map(String::as_str).collect();
    let detail = format!(
        "{} {} {} {}",
        named("container", &containers),
        uses(containers.len()),
        plural("hostPort", list.len()),
        list.join(", ")
    );
    found("hostPort", detail)
}

fn probe_hosts(pod: &Pod<'_>, _: u32) -> Finding {
    let mut hosts = BTreeSet::new();
    let containers: BTreeSet<&str> = pod
        .containers_where(|container| {
            let handlers = ["livenessProbe", "readinessProbe", "startupProbe"]
                .iter()
                .map(|name| container.get(*name))
                .chain(
                    ["postStart", "preStop"]
                        .iter()
                        .map(|name| object::at(container, &["lifecycle", name])),
                );
            let bad: Vec<String> = handlers
                .flatten()
                .flat_map(|handler| {
                    ["httpGet", "tcpSocket"].map(|kind| object::text(handler, &[kind, "host"]))
                })
                .filter(|host| !host.is_empty())
                .map(str::to_owned)
                .collect();
            let any = !bad.is_empty();
            hosts.extend(bad);
            any
        })
        .into_iter()
        .collect();
    if containers.is_empty() {
        return None;
    }
    let names: Vec<&str> = containers.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        named("container", &names),
        uses(names.len()),
        plural("probe or lifecycle host", hosts.len()),
        quoted(&hosts)
    );
    found("probe or lifecycle host", detail)
}

fn privileged(pod: &Pod<'_>, _: u32) -> Finding {
    let containers =
        pod.containers_where(|own| context(own, &["privileged"]) == Some(&Value::Bool(true)));
    if containers.is_empty() {
        return None;
    }
    let who = named("container", &containers);
    found(
        "privileged",
        format!("{who} must not set securityContext.privileged=true"),
    )
}

fn proc_mount(pod: &Pod<'_>, minor: u32) -> Finding {
    if minor >= 35 && pod.has_user_namespace() {
        return None;
    }
    restricted::proc_mount_always(pod, minor)
}

fn selinux(pod: &Pod<'_>, minor: u32) -> Finding {
    let allowed = |kind: &str| {
        matches!(
            kind,
            "" | "container_t" | "container_init_t" | "container_kvm_t"
        ) || (minor >= 31 && kind == "container_engine_t")
    };
    let (mut kinds, mut with_user, mut with_role) = (BTreeSet::new(), false, false);
    let setters = pod.setters(|owner| {
        let Some(options) = context(owner, &["seLinuxOptions"]) else {
            return false;
        };
        let text = |field| object::text(options, &[field]);
        let bad_kind = !allowed(text("type"));
        if bad_kind {
            kinds.insert(text("type").to_owned());
        }
        with_user |= !text("user").is_empty();
        with_role |= !text("role").is_empty();
        bad_kind || !text("user").is_empty() || !text("role").is_empty()
    });
    if setters.is_empty() {
        return None;
    }
    let mut data = Vec::new();
    if !kinds.is_empty() {
        data.push(format!(
            "{} {}",
            plural("type", kinds.len()),
            quoted(&kinds)
        ));
    }
    if with_user {
        data.push("user may not be set".to_owned());
    }
    if with_role {
        data.push("role may not be set".to_owned());
    }
    let detail = format!(
        "{} set forbidden securityContext.seLinuxOptions: {}",
        setters.join(" and "),
        data.join("; ")
    );
    found("seLinuxOptions", detail)
}

/// Those who set a seccomp profile that is none of the allowed ones.
fn bad_seccomp(pod: &Pod<'_>) -> Finding {
    let mut kinds = BTreeSet::new();
    let setters = pod.setters(|owner| {
        let kind = context(owner, &["seccompProfile"]).map(|own| object::text(own, &["type"]));
        let bad = kind.filter(|kind| !matches!(*kind, "Localhost" | "RuntimeDefault"));
        bad.map(|kind| kinds.insert(kind.to_owned())).is_some()
    });
    if setters.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        setters.join(" and "),
        quoted(&kinds)
    );
    found("seccompProfile", detail)
}

fn seccomp(pod: &Pod<'_>, minor: u32) -> Finding {
    if minor >= 19 {
        return bad_seccomp(pod);
    }
    let own = "seccomp.security.alpha.kubernetes.io/pod";
    let prefix = "container.seccomp.security.alpha.kubernetes.io/";
    let names = pod.containers_where(|_| true);
    let forbidden: BTreeSet<String> = pod
        .annotations()
        .filter(|(key, value)| {
            let concerned = *key == own
                || key
                    .strip_prefix(prefix)
                    .is_some_and(|name| names.contains(&name));
            let allowed = matches!(*value, "runtime/default" | "docker/default")
                || value.starts_with("localhost/");
            concerned && !allowed
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let list: Vec<&str> = forbidden.iter().map(String::as_str).collect();
    let word = plural("annotation", list.len());
    found(
        "seccompProfile",
        format!("forbidden {word} {}", list.join(", ")),
    )
}

fn sysctls(pod: &Pod<'_>, minor: u32) -> Finding {
    let allowed = |name: &str| match name {
        "kernel.shm_rmid_forced"
        | "net.ipv4.ip_local_port_range"
        | "net.ipv4.tcp_syncookies"
        | "net.ipv4.ping_group_range"
        | "net.ipv4.ip_unprivileged_port_start" => true,
        "net.ipv4.ip_local_reserved_ports" => minor >= 27,
        "net.ipv4.tcp_keepalive_time"
        | "net.ipv4.tcp_fin_timeout"
        | "net.ipv4.tcp_keepalive_intvl"
        | "net.ipv4.tcp_keepalive_probes" => minor >= 29,
        "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => minor >= 32,
        _ => false,
    };
    let own = context(pod.spec, &["sysctls"]).and_then(Value::as_array);
    let forbidden: Vec<&str> = own
        .into_iter()
        .flatten()
        .map(|sysctl| object::text(sysctl, &["name"]))
        .filter(|name| !allowed(name))
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    found("forbidden sysctls", forbidden.join(", "))
}

fn host_process(pod: &Pod<'_>, _: u32) -> Finding {
    let setters = pod.setters(|owner| {
        context(owner, &["windowsOptions", "hostProcess"]) == Some(&Value::Bool(true))
    });
    if setters.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.windowsOptions.hostProcess=true",
        setters.join(" and ")
    );
    found("hostProcess", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(level: Level, version: Option<u32>, spec: Value, expect: &str) {
        let found = run(Standard { level, version }, &json!({"spec": spec}));
        assert_eq!(found.details(), expect, "{spec}");
    }

    #[test]
    fn baseline_forbids_known_ways_out() {
        let baseline = |spec, expect| check(Level::Baseline, None, spec, expect);
        baseline(json!({"containers": [{"name": "a"}]}), "");
        baseline(
            json!({"hostNetwork": true, "hostPID": true}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        );
        baseline(
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volume \"v\")",
        );
        baseline(
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 443}]}, {"name": "b"}]}),
            "hostPort (container \"a\" uses hostPorts 443, 80)",
        );
        baseline(
            json!({"containers": [
                {"name": "a", "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}},
                {"name": "b", "securityContext": {"privileged": true}},
            ]}),
            "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add), privileged (containers \"a\", \"b\" must not set securityContext.privileged=true)",
        );
        baseline(
            json!({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}, "sysctls": [{"name": "kernel.msgmax"}]}}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set), forbidden sysctls (kernel.msgmax)",
        );
        baseline(
            json!({"containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "Unconfined"}, "procMount": "Unmasked"}}]}),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\"), seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        );
        baseline(
            json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "x"}}}]}),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"x\")",
        );
    }

    #[test]
    fn restricted_asks_for_good_practice() {
        check(
            Level::Restricted,
            None,
            json!({"containers": [{"name": "a"}]}),
            "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        );
        check(
            Level::Restricted,
            None,
            json!({
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": "a", "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }),
            "",
        );
        check(
            Level::Restricted,
            Some(7),
            json!({
                "securityContext": {"runAsNonRoot": true, "runAsUser": 0},
                "volumes": [{"name": "v", "nfs": {}}, {"name": "w", "hostPath": {}}],
            }),
            "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
        );
    }

    #[test]
    fn versions_matter() {
        let spec = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
        check(
            Level::Baseline,
            Some(31),
            spec.clone(),
            "forbidden sysctls (net.ipv4.tcp_rmem)",
        );
        check(Level::Baseline, Some(32), spec.clone(), "");
        check(Level::Baseline, Some(99), spec, "");
    }
}
