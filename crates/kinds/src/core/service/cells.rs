//! The row of a Service in a table.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::cell;

/// The cells of a Service.
pub fn cells(service: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |name: &str| object::text(service, &["spec", name]);
    let address = object::list(service, &["spec", "clusterIPs"])
        .first()
        .and_then(Value::as_str);
    vec![
        json!(object::name(service)),
        json!(spec("type")),
        cell::or_none(address.unwrap_or_default()),
        json!(outside(service)),
        json!(ports(service)),
        cell::age_of(service, now),
        cell::labels(object::at(service, &["spec", "selector"]).and_then(Value::as_object)),
    ]
}

/// Where a Service is reached from outside.
fn outside(service: &Value) -> String {
    let own: Vec<&str> = object::list(service, &["spec", "externalIPs"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let none = || "<none>".to_owned();
    match object::text(service, &["spec", "type"]) {
        "ClusterIP" | "NodePort" if own.is_empty() => none(),
        "ClusterIP" | "NodePort" => own.join(","),
        "LoadBalancer" => {
            let mut found: Vec<&str> =
                object::list(service, &["status", "loadBalancer", "ingress"])
                    .iter()
                    .map(|ingress| match object::text(ingress, &["ip"]) {
                        "" => object::text(ingress, &["hostname"]),
                        ip => ip,
                    })
                    .filter(|text| !text.is_empty())
                    .collect();
            found.extend(own);
            if found.is_empty() {
                "<pending>".to_owned()
            } else {
                found.join(",")
            }
        }
        "ExternalName" => object::text(service, &["spec", "externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let texts: Vec<String> = object::list(service, &["spec", "ports"])
        .iter()
        .map(|port| {
            let number = object::number(port, &["port"]).unwrap_or(0);
            let protocol = object::text(port, &["protocol"]);
            match object::number(port, &["nodePort"]) {
                Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    if texts.is_empty() {
        "<none>".to_owned()
    } else {
        texts.join(",")
    }
}
