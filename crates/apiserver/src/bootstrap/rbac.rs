//! The roles and bindings every cluster has, read from a table.

use std::sync::LazyLock;

use model::object;
use serde_json::{Map, Value, json};

use super::add_missing;
use crate::identity::{Rule, uncovered};

const TABLE: &str = include_str!("../../data/rbac-policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| aggregated(parse(TABLE)));

/// All of them.
pub fn objects() -> Vec<Value> {
    OBJECTS.clone()
}

/// The rules of one of the ClusterRoles.
pub fn rules_of(name: &str) -> Vec<Rule> {
    let found = OBJECTS
        .iter()
        .find(|role| role["kind"] == "ClusterRole" && object::name(role) == name);
    found.map(rules).unwrap_or_default()
}

fn rules(role: &Value) -> Vec<Rule> {
    object::list(role, &["rules"])
        .iter()
        .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
        .collect()
}

/// Words between commas; `""` stands for the empty one.
fn words(text: &str) -> Vec<String> {
    text.split(',')
        .map(|word| word.trim_matches('"').to_owned())
        .collect()
}

fn parse(table: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    for line in table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match (line.strip_prefix("  "), objects.last_mut()) {
            (Some(part), Some(object)) => add_part(object, part),
            _ => objects.push(head(line)),
        }
    }
    objects
}

fn head(line: &str) -> Value {
    let mut parts = line.split(' ');
    let kind = parts.next().unwrap_or_default();
    let name = parts.next().unwrap_or_default();
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, name),
    };
    let mut labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    let mut object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind});
    if kind.ends_with("Role") {
        object["rules"] = json!([]);
    }
    let mut selectors = Vec::new();
    while let Some(part) = parts.next() {
        if let Some(label) = part.strip_prefix('+') {
            labels[format!("{GROUP}/aggregate-to-{label}")] = json!("true");
        } else if let Some(label) = part.strip_prefix('<') {
            let label = format!("{GROUP}/aggregate-to-{label}");
            selectors.push(json!({"matchLabels": {label: "true"}}));
        } else if part == "=" {
            object["roleRef"] =
                json!({"apiGroup": GROUP, "kind": parts.next(), "name": parts.next()});
        }
    }
    if !selectors.is_empty() {
        object["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
    }
    let mut metadata = json!({
        "name": name,
        "labels": labels,
        "annotations": {AUTO_UPDATE: "true"},
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    object["metadata"] = metadata;
    object
}

fn add_part(object: &mut Value, part: &str) {
    let fields: Vec<&str> = part.split(' ').collect();
    let is_role = object.get("rules").is_some();
    let (list, item) = match fields.as_slice() {
        [verbs, paths] if is_role => (
            "rules",
            json!({"verbs": words(verbs), "nonResourceURLs": words(paths)}),
        ),
        [verbs, groups, resources, names @ ..] => {
            let mut rule = json!({
                "verbs": words(verbs),
                "apiGroups": words(groups),
                "resources": words(resources),
            });
            if let Some(names) = names.first() {
                rule["resourceNames"] = json!(words(names));
            }
            ("rules", rule)
        }
        [kind, name] => ("subjects", subject(kind, name)),
        _ => return,
    };
    if let Some(members) = object.as_object_mut() {
        let items = members.entry(list).or_insert_with(|| json!([]));
        if let Some(items) = items.as_array_mut() {
            items.push(item);
        }
    }
}

fn subject(kind: &str, name: &str) -> Value {
    match name.split_once('/') {
        Some((namespace, name)) => json!({"kind": kind, "name": name, "namespace": namespace}),
        None => json!({"apiGroup": GROUP, "kind": kind, "name": name}),
    }
}

/// Fills in the rules of roles that aggregate others, as the controller would a moment later.
fn aggregated(mut objects: Vec<Value>) -> Vec<Value> {
    // Each round carries rules one step further; `view` reaches `admin` in two.
    for _ in 0..3 {
        let snapshot = objects.clone();
        for role in &mut objects {
            let selectors = object::list(role, &["aggregationRule", "clusterRoleSelectors"]);
            if selectors.is_empty() {
                continue;
            }
            let labels: Vec<&Map<String, Value>> = selectors
                .iter()
                .filter_map(|selector| selector["matchLabels"].as_object())
                .collect();
            let mut rules: Vec<Value> = Vec::new();
            for part in &snapshot {
                let selected = labels.iter().any(|wanted| {
                    wanted
                        .iter()
                        .all(|(key, value)| object::label(part, key) == value.as_str())
                });
                if selected && object::name(part) != object::name(role) {
                    for rule in object::list(part, &["rules"]) {
                        if !rules.contains(rule) {
                            rules.push(rule.clone());
                        }
                    }
                }
            }
            role["rules"] = json!(rules);
        }
    }
    objects
}

/// An object that is there, with what it lacks of the wanted one.
pub fn reconciled(live: &Value, wanted: &Value) -> Value {
    let mut new = live.clone();
    if object::annotation(live, AUTO_UPDATE) == Some("false") {
        return new;
    }
    add_missing(&mut new, wanted, "labels");
    add_missing(&mut new, wanted, "annotations");
    if wanted.get("roleRef").is_some() {
        let subjects = missing_items(live, wanted, "subjects");
        append(&mut new, "subjects", subjects);
    } else if wanted.get("aggregationRule").is_some() {
        if live.get("aggregationRule").is_none_or(Value::is_null) {
            new["aggregationRule"] = wanted["aggregationRule"].clone();
        }
    } else {
        let held = rules(live);
        let missing = uncovered(&held.iter().collect::<Vec<_>>(), &rules(wanted));
        let missing = missing
            .iter()
            .filter_map(|rule| serde_json::to_value(rule).ok());
        append(&mut new, "rules", missing.collect());
    }
    new
}

fn missing_items(live: &Value, wanted: &Value, field: &str) -> Vec<Value> {
    let own = object::list(live, &[field]);
    let wanted = object::list(wanted, &[field]).iter();
    wanted.filter(|item| !own.contains(item)).cloned().collect()
}

fn append(object: &mut Value, field: &str, items: Vec<Value>) {
    if items.is_empty() {
        return;
    }
    match object.get_mut(field).and_then(Value::as_array_mut) {
        Some(list) => list.extend(items),
        None => object[field] = json!(items),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(kind: &str, name: &str) -> Value {
        let all = objects();
        let found = all
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("{kind} {name}")).clone()
    }

    #[test]
    fn the_table_holds_every_object() {
        let objects = objects();
        let count = |kind: &str| {
            objects
                .iter()
                .filter(|object| object["kind"] == kind)
                .count()
        };
        assert_eq!(count("ClusterRole"), 70);
        assert!(count("ClusterRoleBinding") > 50);
        assert_eq!((count("Role"), count("RoleBinding")), (7, 7));
        let admin = find("ClusterRole", "cluster-admin");
        assert_eq!(admin["rules"][0]["verbs"], json!(["*"]));
        assert_eq!(admin["rules"][1]["nonResourceURLs"], json!(["*"]));
        let bound = find("ClusterRoleBinding", "cluster-admin");
        assert_eq!(bound["subjects"][0]["name"], "system:masters");
        let view = find("ClusterRole", "view");
        assert_eq!(view["rules"][0]["apiGroups"], json!([""]));
        let edit = find("ClusterRole", "edit");
        assert_eq!(edit["rules"][0]["resources"][0], "pods/attach");
        let has_view = |role: &str| {
            let role = find("ClusterRole", role);
            object::list(&role, &["rules"]).contains(&view["rules"][0])
        };
        assert!(has_view("edit") && has_view("admin"));
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let wanted = find("ClusterRole", "system:basic-user");
        assert_eq!(reconciled(&wanted, &wanted), wanted);
        let mut changed = wanted.clone();
        changed["rules"] =
            json!([wanted["rules"][0], {"verbs": ["get"], "nonResourceURLs": ["/x"]}]);
        changed["metadata"]["labels"] = json!({"own": "1"});
        let new = reconciled(&changed, &wanted);
        assert_eq!(object::list(&new, &["rules"]).len(), 3);
        assert_eq!(new["metadata"]["labels"]["own"], "1");
        assert_eq!(
            new["metadata"]["labels"]["kubernetes.io/bootstrapping"],
            "rbac-defaults"
        );
        changed["metadata"]["annotations"] = json!({AUTO_UPDATE: "false"});
        assert_eq!(reconciled(&changed, &wanted), changed);
        let wanted = find("ClusterRoleBinding", "cluster-admin");
        let mut emptied = wanted.clone();
        emptied["subjects"] = json!([]);
        assert_eq!(reconciled(&emptied, &wanted), wanted);
    }
}
