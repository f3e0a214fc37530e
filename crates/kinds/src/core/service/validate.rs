//! Checks of Services.

use std::collections::HashSet;

use model::{FieldError, object};
use serde_json::{Value, json};

use super::{is_external, is_headless, needs_health_check};
use crate::at::{At, Errors};
use crate::check;

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["Cluster", "Local"];
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
const FIXED: &str = "may not change once set";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// A new Service. Upstream hands out addresses before it checks the rest, so what stands in the way
/// of that comes alone.
pub fn create(service: &Value) -> Errors {
    let root = At::root(service);
    let early = addresses(&root, None);
    if !early.is_empty() {
        return early;
    }
    check(service, None)
}

/// A changed Service.
pub fn update(service: &Value, old: &Value) -> Errors {
    let (root, before) = (At::root(service), At::root(old));
    let mut errors = addresses(&root, Some(&before));
    if !errors.is_empty() {
        return errors;
    }
    let external = |at: &At<'_>| at.at("spec.type").text() == "ExternalName";
    if !external(&root) && !external(&before) {
        changed_addresses(&root, &before, &mut errors);
        changed_families(&root, &before, &mut errors);
    }
    let (class, old_class) = (
        root.at("spec.loadBalancerClass"),
        before.at("spec.loadBalancerClass"),
    );
    let balances = |at: &At<'_>| at.at("spec.type").text() == "LoadBalancer";
    if balances(&root) && balances(&before) && class.value() != old_class.value() {
        errors.push(class.invalid(FIXED));
    }
    let (port, old_port) = (
        root.at("spec.healthCheckNodePort"),
        before.at("spec.healthCheckNodePort"),
    );
    if needs_health_check(service) && needs_health_check(old) && port.count() != old_port.count() {
        errors.push(port.forbidden(check::IMMUTABLE));
    }
    errors.extend(check(service, Some(old)));
    errors
}

fn check(service: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(service);
    let spec = root.get("spec");
    let kind = spec.get("type").text();
    let (ports, headless) = (spec.get("ports"), is_headless(service));
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(ports.required(""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(spec.get("clusterIPs").index(0).invalid(why));
        }
        "ExternalName" => external_name(&spec, &mut errors),
        _ => {}
    }
    let mut names = HashSet::new();
    for port in ports.items() {
        check_port(&port, ports.len() > 1, &mut names, &mut errors);
    }
    check::labels(&spec.get("selector"), &mut errors);
    affinity(&spec, &mut errors);
    let known: Vec<&str> = old
        .map(|old| At::root(old).at("spec.externalIPs").texts().collect())
        .unwrap_or_default();
    for ip in spec.get("externalIPs").items() {
        if check::check_ip(&ip, &known, &mut errors) {
            check::check_non_special_ip(&ip, &mut errors);
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    check::required_one_of(&spec.get("type"), &kinds, &mut errors);
    if kind == "ClusterIP" {
        for port in ports
            .items()
            .filter(|port| port.get("nodePort").count() != 0)
        {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(port.get("nodePort").forbidden(why));
        }
    }
    duplicates(&ports, &mut errors);
    load_balancer(&root, old, &mut errors);
    traffic(service, &spec, &mut errors);
    errors
}

fn external_name(spec: &At<'_>, errors: &mut Errors) {
    let why = "may not be set for ExternalName services";
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec.get(field).is_empty() {
            errors.push(spec.get(field).forbidden(why));
        }
    }
    let name = spec.get("externalName");
    let text = name.text().strip_suffix('.').unwrap_or(name.text());
    if text.is_empty() {
        errors.push(name.required(""));
    } else {
        let value = json!(text);
        check::subdomain(&At::new(&value, name.path().clone()), errors);
    }
}

fn check_port<'a>(port: &At<'a>, named: bool, names: &mut HashSet<&'a str>, errors: &mut Errors) {
    let name = port.get("name");
    if name.is_empty() {
        if named {
            errors.push(name.required(""));
        }
    } else {
        check::dns_label(&name, errors);
        if !names.insert(name.text()) {
            errors.push(name.duplicate());
        }
    }
    check::port_number(&port.get("port"), errors);
    check::required_one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"], errors);
    check::port(&port.get("targetPort"), errors);
    if port.get("appProtocol").is_set() {
        check::qualified_name(&port.get("appProtocol"), errors);
    }
}

fn duplicates(ports: &At<'_>, errors: &mut Errors) {
    let mut node_ports = HashSet::new();
    for port in ports.items() {
        let (number, protocol) = (port.get("nodePort"), port.get("protocol").text());
        if number.count() != 0 && !node_ports.insert((protocol, number.count())) {
            errors.push(number.duplicate());
        }
    }
    let mut seen = HashSet::new();
    for port in ports.items() {
        let (number, protocol) = (port.get("port"), port.get("protocol"));
        if !seen.insert((protocol.text(), number.count())) {
            let (empty, zero) = (json!(""), json!(0));
            let printed = check::print_struct(&[
                ("Name", &empty),
                ("Protocol", protocol.value()),
                ("AppProtocol", &Value::Null),
                ("Port", number.value()),
                ("TargetPort", &zero),
                ("NodePort", &zero),
            ]);
            errors.push(port.duplicate().printed_as(printed));
        }
    }
}

fn affinity(spec: &At<'_>, errors: &mut Errors) {
    let kind = spec.get("sessionAffinity");
    check::required_one_of(&kind, &["ClientIP", "None"], errors);
    let config = spec.get("sessionAffinityConfig");
    if kind.text() == "ClientIP" {
        let seconds = config.at("clientIP.timeoutSeconds");
        if !(1..=86_400).contains(&seconds.count()) {
            errors.push(seconds.invalid_count("must be greater than 0 and less than 86400"));
        }
    } else if kind.text() == "None" && config.is_set() {
        errors.push(config.forbidden("must not be set when session affinity is None"));
    }
}

fn load_balancer(root: &At<'_>, old: Option<&Value>, errors: &mut Errors) {
    let spec = root.get("spec");
    let balances = spec.get("type").text() == "LoadBalancer";
    // As upstream: the field is said to begin with a capital.
    let ranges = spec
        .get("loadBalancerSourceRanges")
        .said_at(spec.path().child("LoadBalancerSourceRanges"));
    if !ranges.is_empty() {
        if !balances {
            errors.push(ranges.forbidden(ONLY_LOAD_BALANCER));
        }
        let known: Vec<&str> = old
            .map(|old| At::root(old).at("spec.loadBalancerSourceRanges"))
            .map(|ranges| ranges.texts().map(str::trim).collect())
            .unwrap_or_default();
        for range in ranges.items() {
            let trimmed = json!(range.text().trim());
            check::check_cidr(&At::new(&trimmed, range.path().clone()), &known, errors);
        }
    } else if let Some(text) = object::annotation(root.value(), SOURCE_RANGES) {
        let path = model::FieldPath::new("metadata.annotations").key(SOURCE_RANGES);
        if !balances {
            errors.push(FieldError::forbidden(&path, ONLY_LOAD_BALANCER));
        }
        let unchanged = old.is_some_and(|old| object::annotation(old, SOURCE_RANGES) == Some(text));
        for range in text
            .split(',')
            .map(str::trim)
            .filter(|_| !text.trim().is_empty() && !unchanged)
        {
            let range = json!(range);
            check::check_cidr(&At::new(&range, path.clone()), &[], errors);
        }
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !balances {
        errors.push(allocate.forbidden(ONLY_LOAD_BALANCER));
    }
    let class = spec.get("loadBalancerClass");
    if class.is_set() {
        if balances {
            check::qualified_name(&class, errors);
        } else {
            errors.push(class.forbidden(ONLY_LOAD_BALANCER));
        }
    }
}

fn traffic(service: &Value, spec: &At<'_>, errors: &mut Errors) {
    let external = spec.get("externalTrafficPolicy");
    if is_external(service) {
        check::required_one_of(&external, POLICIES, errors);
    } else if !external.is_empty() {
        errors.push(external.invalid("may only be set for externally-accessible services"));
    }
    // A missing port is handed out afterwards.
    let port = spec.get("healthCheckNodePort");
    if !needs_health_check(service) && port.count() != 0 {
        let why =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(port.invalid(why));
    } else if port.count() != 0 {
        check::port_number(&port, errors);
    }
    check::optional_one_of(&spec.get("internalTrafficPolicy"), POLICIES, errors);
    let distribution = spec.get("trafficDistribution");
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    check::optional_one_of(&distribution, &known, errors);
}

/// Addresses, families and their policy by themselves.
fn addresses(root: &At<'_>, old: Option<&At<'_>>) -> Errors {
    let known: Vec<&str> = old
        .map(|old| old.at("spec.clusterIPs").texts().collect())
        .unwrap_or_default();
    let mut errors = Vec::new();
    let spec = root.get("spec");
    if spec.get("type").text() == "ExternalName" {
        return errors;
    }
    let (one, all) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    if one.is_empty() {
        if !all.is_empty() {
            errors.push(all.invalid("must be empty when `clusterIP` is not specified"));
        }
    } else if all.is_empty() {
        errors.push(all.required(""));
    } else if all.index(0).text() != one.text() {
        errors.push(all.invalid("first value must match `clusterIP`"));
    }
    let mut seen = HashSet::new();
    for family in spec.get("ipFamilies").items() {
        check::one_of(&family, FAMILIES, &mut errors);
        if !seen.insert(family.text()) {
            errors.push(family.duplicate());
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    check::optional_one_of(&spec.get("ipFamilyPolicy"), &policies, &mut errors);
    let mut broken = false;
    for (index, address) in all.items().enumerate() {
        if index == 0 && address.text() == "None" {
            if all.len() > 1 {
                broken = true;
                errors.push(all.invalid("'None' must be the first and only value"));
            }
            continue;
        }
        broken |= !check::check_ip(&address, &known, &mut errors);
    }
    if all.len() > 2 {
        errors.push(all.invalid("may only hold up to 2 values"));
    }
    if !broken {
        families_match(&all, &spec.get("ipFamilies"), &mut errors);
    }
    errors
}

fn families_match(all: &At<'_>, families: &At<'_>, errors: &mut Errors) {
    if all.len() > 1 {
        let kinds: HashSet<bool> = all.texts().map(check::is_ipv6).collect();
        if kinds.len() < 2 {
            errors.push(all.invalid("may specify no more than one IP for each IP family"));
        }
    }
    if all.index(0).text() == "None" {
        return;
    }
    for (index, (address, family)) in all.items().zip(families.texts()).enumerate() {
        if check::is_ipv6(address.text()) != (family == "IPv6") {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(address.invalid(why));
        }
    }
}

fn changed_addresses(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    if is_headless(new.value()) && is_headless(old.value()) {
        return;
    }
    let (all, before) = (new.at("spec.clusterIPs"), old.at("spec.clusterIPs"));
    let first_changed =
        || !all.is_empty() && !before.is_empty() && all.list()[0] != before.list()[0];
    if all.len() == before.len() {
        for index in 0..all.len() {
            if all.list()[index] != before.list()[index] {
                errors.push(FieldError::invalid(
                    all.index(index).path(),
                    all.value().clone(),
                    FIXED,
                ));
            }
        }
        return;
    }
    if before.len() > all.len() && all.is_empty() {
        let why = "primary clusterIP can not be unset";
        errors.push(FieldError::invalid(
            all.index(0).path(),
            all.value().clone(),
            why,
        ));
    }
    if first_changed() {
        errors.push(FieldError::invalid(
            all.index(0).path(),
            all.value().clone(),
            FIXED,
        ));
    }
    let policy = new.at("spec.ipFamilyPolicy");
    if before.len() > all.len() && all.len() == 1 && policy.text() != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        errors.push(policy.invalid(why));
    }
}

fn changed_families(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    if is_headless(new.value()) || is_headless(old.value()) {
        return;
    }
    let (all, before) = (new.at("spec.ipFamilies"), old.at("spec.ipFamilies"));
    let pairs = all.list().iter().zip(before.list());
    if pairs.into_iter().any(|(new, old)| new != old) {
        errors.push(FieldError::invalid(
            all.index(0).path(),
            all.value().clone(),
            FIXED,
        ));
    }
    let policy = new.at("spec.ipFamilyPolicy");
    if before.len() > all.len() && all.len() == 1 && policy.text() != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        errors.push(policy.invalid(why));
    }
}
