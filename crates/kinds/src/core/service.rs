//! Services. Addresses and ports are handed out by the API server; here is what a client may ask for.

mod cells;
mod validate;

use model::object;
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, NameRule, StatusRule};
use crate::check;
use crate::edit::{each, fill, fill_zero, remove, restore, set, with, within};

const AFFINITY_SECONDS: i64 = 10_800;

/// Whether a Service has a use for a field.
type Needed = fn(&Value) -> bool;

/// Services.
pub const BEHAVIOUR: Behaviour = Behaviour {
    name: NameRule::Label,
    status: StatusRule::Separate,
    create_on_update: true,
    delete_returns_object: true,
    default,
    prepare_create,
    prepare_update,
    validate_create: validate::create,
    validate_update: validate::update,
    validate_status,
    cells: Some(cells::cells),
    selectable_fields: &["spec.clusterIP", "spec.type"],
    ..Behaviour::DEFAULT
};

fn text<'a>(service: &'a Value, field: &str) -> &'a str {
    object::text(service, &["spec", field])
}

/// Whether a Service has an address of its own in the cluster.
fn needs_address(service: &Value) -> bool {
    matches!(
        text(service, "type"),
        "ClusterIP" | "NodePort" | "LoadBalancer"
    )
}

/// Whether a Service is reached through ports of nodes.
fn needs_node_ports(service: &Value) -> bool {
    matches!(text(service, "type"), "NodePort" | "LoadBalancer")
}

/// Whether a Service is reached from outside.
fn is_external(service: &Value) -> bool {
    needs_node_ports(service)
        || (text(service, "type") == "ClusterIP"
            && !object::list(service, &["spec", "externalIPs"]).is_empty())
}

/// Whether a load balancer asks nodes whether they are healthy.
fn needs_health_check(service: &Value) -> bool {
    text(service, "type") == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

fn is_headless(service: &Value) -> bool {
    object::list(service, &["spec", "clusterIPs"]) == [json!("None")]
}

fn default(service: &mut Value) {
    let external = {
        // The type decides, so it is filled in first.
        within(service, "spec", |spec| {
            fill_zero(spec, "sessionAffinity", "None");
            fill_zero(spec, "type", "ClusterIP");
        });
        is_external(service)
    };
    within(service, "spec", |spec| {
        match object::text(spec, &["sessionAffinity"]) {
            "None" => remove(spec, "sessionAffinityConfig"),
            "ClientIP" => {
                let path = ["sessionAffinityConfig", "clientIP", "timeoutSeconds"];
                if object::number(spec, &path).is_none() {
                    let config = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
                    set(spec, "sessionAffinityConfig", config);
                }
            }
            _ => {}
        }
        each(spec, "ports", |port| {
            fill_zero(port, "protocol", "TCP");
            let number = port.get("port").cloned().unwrap_or_else(|| json!(0));
            fill_zero(port, "targetPort", number);
        });
        if external {
            fill_zero(spec, "externalTrafficPolicy", "Cluster");
        }
        let kind = object::text(spec, &["type"]).to_owned();
        if kind != "ExternalName"
            && matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer")
        {
            fill(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            fill(spec, "allocateLoadBalancerNodePorts", true);
        }
    });
    if text(service, "type") == "LoadBalancer"
        && let Some(balancer) = service.pointer_mut("/status/loadBalancer")
    {
        each(balancer, "ingress", |ingress| {
            if !object::text(ingress, &["ip"]).is_empty() {
                fill(ingress, "ipMode", "VIP");
            }
        });
    }
}

/// `clusterIP` and `clusterIPs` say the same; whoever sends one gets both.
fn prepare_create(service: &mut Value) {
    set(service, "status", json!({"loadBalancer": {}}));
    let address = text(service, "clusterIP").to_owned();
    with(service, "spec", |spec| {
        if !address.is_empty() && object::list(spec, &["clusterIPs"]).is_empty() {
            set(spec, "clusterIPs", json!([address]));
        }
    });
    default_families(service);
}

/// The families of the addresses a Service asks for, or the first one there is; the server adds what the policy asks for.
fn default_families(service: &mut Value) {
    if !needs_address(service) {
        return;
    }
    let open = is_headless(service)
        && object::at(service, &["spec", "selector"])
            .and_then(Value::as_object)
            .is_none_or(serde_json::Map::is_empty);
    with(service, "spec", |spec| {
        if open && spec.get("ipFamilyPolicy").is_none() {
            let families = object::list(spec, &["ipFamilies"]).len();
            let policy = if families == 1 {
                "SingleStack"
            } else {
                "RequireDualStack"
            };
            set(spec, "ipFamilyPolicy", policy);
        }
        fill(spec, "ipFamilyPolicy", "SingleStack");
        if object::list(spec, &["ipFamilies"]).is_empty() {
            let both = open && object::text(spec, &["ipFamilyPolicy"]) != "SingleStack";
            let asked = families_of_addresses(spec);
            let families = match (both, asked.is_empty()) {
                (true, _) => json!(["IPv4", "IPv6"]),
                (false, true) => json!(["IPv4"]),
                (false, false) => json!(asked),
            };
            set(spec, "ipFamilies", families);
        }
    });
}

fn families_of_addresses(spec: &Value) -> Vec<&'static str> {
    let addresses = object::list(spec, &["clusterIPs"]).iter();
    let texts = addresses.filter_map(Value::as_str);
    texts
        .filter(|text| !text.is_empty() && *text != "None")
        .map(|text| if text.contains(':') { "IPv6" } else { "IPv4" })
        .collect()
}

/// Whoever asks for one family means the first of two.
fn drop_second_family(service: &mut Value, old: &Value) {
    if object::text(service, &["spec", "ipFamilyPolicy"]) != "SingleStack" {
        return;
    }
    for field in ["clusterIPs", "ipFamilies"] {
        let list = object::list(service, &["spec", field]).to_vec();
        if list.len() > 1 && list == object::list(old, &["spec", field]) {
            let first = json!([list[0]]);
            with(service, "spec", |spec| set(spec, field, first));
        }
    }
}

fn prepare_update(service: &mut Value, old: &Value) {
    normalize_addresses(service, old);
    keep_allocated(service, old);
    drop_what_the_type_rules_out(service, old);
    drop_second_family(service, old);
    default_families(service);
}

/// Whoever changes `clusterIP` alone means both, and who clears it clears both.
fn normalize_addresses(service: &mut Value, old: &Value) {
    let (one, before) = (
        text(service, "clusterIP").to_owned(),
        text(old, "clusterIP"),
    );
    let list = |service: &Value| object::list(service, &["spec", "clusterIPs"]).to_vec();
    let same_list = list(service) == list(old);
    with(service, "spec", |spec| {
        if one == before {
            return;
        }
        if one.is_empty() && same_list {
            remove(spec, "clusterIPs");
        } else if !one.is_empty() && (same_list || object::list(spec, &["clusterIPs"]).is_empty()) {
            set(spec, "clusterIPs", json!([one]));
        }
    });
}

/// What the server has handed out stays where the client does not mention it.
fn keep_allocated(service: &mut Value, old: &Value) {
    if needs_address(service) && needs_address(old) {
        let old_spec = old.get("spec").cloned().unwrap_or_default();
        with(service, "spec", |spec| {
            if object::text(spec, &["clusterIP"]).is_empty() {
                restore(spec, &old_spec, "clusterIP");
            }
            let same = spec.get("clusterIP") == old_spec.get("clusterIP");
            if same && object::list(spec, &["clusterIPs"]).is_empty() {
                restore(spec, &old_spec, "clusterIPs");
            }
            for field in ["ipFamilies", "ipFamilyPolicy"] {
                if spec
                    .get(field)
                    .is_none_or(|value| value.as_array().is_some_and(Vec::is_empty))
                {
                    restore(spec, &old_spec, field);
                }
            }
        });
    }
    if needs_node_ports(service) && needs_node_ports(old) {
        keep_node_ports(service, old);
    }
    if needs_health_check(service) && needs_health_check(old) {
        let port = object::number(old, &["spec", "healthCheckNodePort"]).unwrap_or(0);
        with(service, "spec", |spec| {
            fill_zero(spec, "healthCheckNodePort", port);
        });
    }
}

fn keep_node_ports(service: &mut Value, old: &Value) {
    let numbers = |service: &Value| -> Vec<i64> {
        let ports = object::list(service, &["spec", "ports"]);
        ports
            .iter()
            .filter_map(|port| object::number(port, &["nodePort"]))
            .filter(|n| *n != 0)
            .collect()
    };
    let (new_numbers, old_numbers) = (numbers(service), numbers(old));
    let mut used: Vec<i64> = old_numbers
        .into_iter()
        .filter(|number| new_numbers.contains(number))
        .collect();
    let before = object::list(old, &["spec", "ports"]).to_vec();
    with(service, "spec", |spec| {
        each(spec, "ports", |port| {
            if object::number(port, &["nodePort"]).unwrap_or(0) != 0 {
                return;
            }
            let name = object::text(port, &["name"]);
            let known = before
                .iter()
                .find(|port| object::text(port, &["name"]) == name)
                .and_then(|port| object::number(port, &["nodePort"]));
            if let Some(number) = known.filter(|number| !used.contains(number)) {
                set(port, "nodePort", number);
                used.push(number);
            }
        });
    });
}

/// A field the new type has no use for goes with the old type, unless the client changed it too.
fn drop_what_the_type_rules_out(service: &mut Value, old: &Value) {
    let same = |service: &Value, field: &str| {
        object::at(service, &["spec", field]) == object::at(old, &["spec", field])
    };
    if needs_address(old) && !needs_address(service) {
        let kept = text(service, "clusterIP").is_empty() || same(service, "clusterIP");
        if kept
            && (same(service, "clusterIPs")
                || object::list(service, &["spec", "clusterIPs"]).is_empty())
        {
            with(service, "spec", |spec| {
                for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                    remove(spec, field);
                }
            });
        }
    }
    if needs_node_ports(old) && !needs_node_ports(service) {
        let ports = |service: &Value| -> Vec<i64> {
            object::list(service, &["spec", "ports"])
                .iter()
                .map(|port| object::number(port, &["nodePort"]).unwrap_or(0))
                .collect()
        };
        if ports(service) == ports(old) {
            with(service, "spec", |spec| {
                each(spec, "ports", |port| remove(port, "nodePort"));
            });
        }
    }
    let rules: [(&str, Needed); 5] = [
        ("healthCheckNodePort", needs_health_check),
        ("allocateLoadBalancerNodePorts", |s| {
            text(s, "type") == "LoadBalancer"
        }),
        ("loadBalancerClass", |s| text(s, "type") == "LoadBalancer"),
        ("externalTrafficPolicy", is_external),
        ("internalTrafficPolicy", needs_address),
    ];
    for (field, needed) in rules {
        if needed(old) && !needed(service) && same(service, field) {
            with(service, "spec", |spec| remove(spec, field));
        }
    }
}

fn validate_status(service: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let known = check::balancer_ips(old);
    let root = At::root(service);
    let ingress = root.at("status.loadBalancer.ingress");
    if text(service, "type") != "LoadBalancer" && !ingress.is_empty() {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(ingress.forbidden(why));
        return errors;
    }
    for entry in ingress.items() {
        let (ip, mode) = (entry.get("ip"), entry.get("ipMode"));
        if !ip.is_empty() {
            check::check_ip(&ip, &known, &mut errors);
        }
        if !mode.is_set() {
            if !ip.is_empty() {
                errors.push(mode.required("must be specified when `ip` is set"));
            }
        } else if ip.is_empty() {
            errors.push(mode.forbidden("may not be specified when `ip` is not set"));
        } else {
            check::one_of(&mode, &["Proxy", "VIP"], &mut errors);
        }
        check_hostname(&entry.get("hostname"), &mut errors);
    }
    errors
}

/// A name of a load balancer: a DNS name, no address.
pub fn check_hostname(at: &At<'_>, errors: &mut Errors) {
    if at.is_empty() {
        return;
    }
    check::subdomain(at, errors);
    if check::parse_ip(at.text()).is_some() {
        errors.push(at.invalid("must be a DNS name, not an IP address"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_what_was_handed_out() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "a", "port": 1, "nodePort": 30_001}], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"name": "a", "port": 2}]}});
        prepare_update(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30_001);
        let mut new = old.clone();
        new["spec"]["type"] = json!("ClusterIP");
        prepare_update(&mut new, &old);
        assert_eq!(new["spec"]["ports"][0].get("nodePort"), None);
        assert_eq!(new["spec"]["clusterIP"], "10.0.0.1");
    }

    #[test]
    fn defaults_depend_on_the_type() {
        let mut service = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
        default(&mut service);
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 80);
    }
}
