//! Hints that keep traffic close, as a Service's `trafficDistribution` asks. Pure.

use controller::Object;
use model::object;
use serde_json::{Value, json};

/// Where traffic should stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// It may go anywhere.
    Anywhere,
    /// In the zone it comes from.
    SameZone,
    /// On the node it comes from, or else in its zone.
    SameNode,
}

impl Distribution {
    /// What a Service asks for.
    pub fn of(service: &Object) -> Self {
        match object::text(service.value(), &["spec", "trafficDistribution"]) {
            "PreferClose" | "PreferSameZone" => Self::SameZone,
            "PreferSameNode" => Self::SameNode,
            _ => Self::Anywhere,
        }
    }

    /// Gives an endpoint the hints it should have.
    pub fn hint(self, endpoint: &mut Value) {
        let ready = endpoint.pointer("/conditions/ready") == Some(&Value::Bool(true));
        let named = |field: &str| endpoint.get(field).filter(|v| v.is_string()).cloned();
        let mut hints = json!({});
        if self != Self::Anywhere
            && ready
            && let Some(zone) = named("zone")
        {
            hints["forZones"] = json!([{"name": zone}]);
        }
        if self == Self::SameNode
            && ready
            && let Some(node) = named("nodeName")
        {
            hints["forNodes"] = json!([{"name": node}]);
        }
        if let Some(fields) = endpoint.as_object_mut() {
            if hints == json!({}) {
                fields.remove("hints");
            } else {
                fields.insert("hints".to_owned(), hints);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_endpoints_are_for_their_own_zone_and_node() {
        let check = |distribution: &str, ready: bool, expect: Value| {
            let service = Object::new(json!({"spec": {"trafficDistribution": distribution}}));
            let mut endpoint =
                json!({"conditions": {"ready": ready}, "zone": "z", "nodeName": "n"});
            Distribution::of(&service).hint(&mut endpoint);
            assert_eq!(endpoint.get("hints").cloned().unwrap_or_default(), expect);
        };
        let zone = json!({"forZones": [{"name": "z"}]});
        check("PreferClose", true, zone.clone());
        check("PreferSameZone", true, zone);
        let both = json!({"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]});
        check("PreferSameNode", true, both);
        check("PreferSameNode", false, Value::Null);
        check("", true, Value::Null);
    }
}
