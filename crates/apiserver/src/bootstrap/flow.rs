//! The FlowSchemas and PriorityLevelConfigurations every cluster has.

use model::object;
use serde_json::{Value, json};

use super::add_missing;

const TABLE: &str = include_str!("../../data/flow-control.txt");
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Those that stay as they are whatever their annotation says.
const MANDATORY: &[&str] = &["exempt", "catch-all"];

/// All of them.
pub fn objects() -> Vec<Value> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|row: Value| {
            let mut object = json!({
                "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
                "kind": row["kind"],
                "metadata": {"name": row["name"], "annotations": {AUTO_UPDATE: "true"}},
                "spec": row["spec"],
            });
            if row["kind"] == "FlowSchema" {
                object["status"] = json!({});
            }
            object
        })
        .collect()
}

/// An object that is there, with the wanted spec where it is the server's to set.
pub fn reconciled(live: &Value, wanted: &Value) -> Value {
    let mut new = live.clone();
    let mandatory = MANDATORY.contains(&object::name(wanted));
    if !mandatory && object::annotation(live, AUTO_UPDATE) == Some("false") {
        return new;
    }
    // Without the annotation, an object changed by users has a generation beyond its first.
    if !mandatory && object::annotation(live, AUTO_UPDATE).is_none() && object::generation(live) > 1
    {
        return new;
    }
    add_missing(&mut new, wanted, "annotations");
    // How much an exempt level borrows is for users to say.
    let exempt = new["spec"].get("exempt").cloned();
    new["spec"] = wanted["spec"].clone();
    if let Some(exempt) = exempt
        && new["spec"].get("exempt").is_some()
    {
        new["spec"]["exempt"] = exempt;
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mandatory_objects_come_back() {
        let all = objects();
        assert_eq!(all.len(), 8 + 11);
        let exempt = all
            .iter()
            .find(|o| o["kind"] == "FlowSchema" && o["metadata"]["name"] == "exempt")
            .expect("there");
        let mut changed = exempt.clone();
        changed["spec"]["matchingPrecedence"] = json!(5);
        changed["metadata"]["annotations"] = json!({AUTO_UPDATE: "false"});
        assert_eq!(reconciled(&changed, exempt)["spec"], exempt["spec"]);
        let probes = all
            .iter()
            .find(|o| o["metadata"]["name"] == "probes")
            .expect("there");
        let mut changed = probes.clone();
        changed["spec"]["matchingPrecedence"] = json!(5);
        assert_eq!(reconciled(&changed, probes), *probes);
        changed["metadata"]["annotations"] = json!({AUTO_UPDATE: "false"});
        assert_eq!(reconciled(&changed, probes), changed);
    }
}
