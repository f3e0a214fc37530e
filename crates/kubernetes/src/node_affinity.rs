//! Which nodes a Pod selects: `nodeSelector` and node affinity. Pure.

use std::collections::BTreeSet;

use controller::Object;
use model::object;
use serde_json::Value;

/// One requirement on a label or a field of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

impl Requirement {
    fn of(value: &Value) -> Self {
        let values = object::list(value, &["values"]);
        Self {
            key: object::text(value, &["key"]).to_owned(),
            operator: object::text(value, &["operator"]).to_owned(),
            values: values
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect(),
        }
    }

    fn matches(&self, found: Option<&str>) -> bool {
        let listed = |found: &str| self.values.iter().any(|value| value == found);
        let compare = |holds: fn(i64, i64) -> bool| {
            let limit = self.values.first().and_then(|limit| limit.parse().ok());
            match (found.and_then(|found| found.parse().ok()), limit) {
                (Some(found), Some(limit)) => holds(found, limit),
                _ => false,
            }
        };
        match self.operator.as_str() {
            "In" => found.is_some_and(listed),
            "NotIn" => !found.is_some_and(listed),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            "Gt" => compare(|found, limit| found > limit),
            "Lt" => compare(|found, limit| found < limit),
            _ => false,
        }
    }
}

/// A conjunction of requirements on one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl NodeTerm {
    /// Reads a term.
    pub fn of(value: &Value) -> Self {
        let read = |name: &str| {
            let list = object::list(value, &[name]);
            list.iter().map(Requirement::of).collect()
        };
        Self {
            labels: read("matchExpressions"),
            fields: read("matchFields"),
        }
    }

    /// Whether it selects a node. The empty term selects none.
    pub fn matches(&self, node: &Object) -> bool {
        if self.labels.is_empty() && self.fields.is_empty() {
            return false;
        }
        let label = |one: &Requirement| one.matches(node.label(&one.key));
        // `metadata.name` is the only field there is.
        let field = |one: &Requirement| one.matches(Some(node.name()));
        self.labels.iter().all(label) && self.fields.iter().all(field)
    }

    /// The names a node must have one of, where the term says so.
    fn names(&self) -> Option<BTreeSet<&str>> {
        let mut names: Option<BTreeSet<&str>> = None;
        for field in &self.fields {
            if field.key == "metadata.name" && field.operator == "In" {
                let own: BTreeSet<&str> = field.values.iter().map(String::as_str).collect();
                names = Some(match names {
                    Some(names) => names.intersection(&own).copied().collect(),
                    None => own,
                });
            }
        }
        names
    }
}

/// The terms of a node selector, of which one must match.
pub fn terms(selector: &Value) -> Vec<NodeTerm> {
    let list = object::list(selector, &["nodeSelectorTerms"]);
    list.iter().map(NodeTerm::of).collect()
}

/// Which nodes a Pod may run on, by labels and names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RequiredNodes {
    labels: Vec<(String, String)>,
    terms: Option<Vec<NodeTerm>>,
}

impl RequiredNodes {
    /// Reads `nodeSelector` and the required node affinity of a Pod's spec.
    pub fn of_spec(spec: &Value) -> Self {
        let labels = object::at(spec, &["nodeSelector"]).and_then(Value::as_object);
        let path = [
            "affinity",
            "nodeAffinity",
            "requiredDuringSchedulingIgnoredDuringExecution",
        ];
        let selector = object::at(spec, &path).filter(|selector| selector.is_object());
        Self {
            labels: labels
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            terms: selector.map(terms),
        }
    }

    /// Whether every node will do.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.terms.is_none()
    }

    /// Whether a node will do.
    pub fn matches(&self, node: &Object) -> bool {
        let has = |(key, value): &(String, String)| node.label(key) == Some(value);
        self.labels.iter().all(has)
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// The names of the only nodes that may do, where every term names nodes.
    pub fn names(&self) -> Option<BTreeSet<&str>> {
        let mut all = BTreeSet::new();
        for term in self.terms.as_deref().filter(|terms| !terms.is_empty())? {
            all.extend(term.names()?);
        }
        Some(all)
    }
}

/// A wish for nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PreferredNodes {
    weight: i64,
    term: NodeTerm,
}

impl PreferredNodes {
    /// Reads a list of weighted terms.
    pub fn of_list(list: &[Value]) -> Vec<Self> {
        let read = |value: &Value| Self {
            weight: object::number(value, &["weight"]).unwrap_or(0),
            term: NodeTerm::of(value.get("preference").unwrap_or(&Value::Null)),
        };
        list.iter().map(read).collect()
    }

    /// Reads the preferred node affinity of a Pod's spec.
    pub fn of_spec(spec: &Value) -> Vec<Self> {
        let path = [
            "affinity",
            "nodeAffinity",
            "preferredDuringSchedulingIgnoredDuringExecution",
        ];
        Self::of_list(object::list(spec, &path))
    }

    /// What a node is worth to it.
    pub fn score(&self, node: &Object) -> i64 {
        if self.term.matches(node) {
            self.weight
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, expect: bool) {
        let node = Object::new(json!({"metadata": {
            "name": "n", "labels": {"zone": "a", "size": "5"}}}));
        assert_eq!(
            RequiredNodes::of_spec(&spec).matches(&node),
            expect,
            "{spec}"
        );
    }

    fn required(terms: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    fn expression(key: &str, operator: &str, values: Value) -> Value {
        required(json!([{"matchExpressions": [
            {"key": key, "operator": operator, "values": values}]}]))
    }

    #[test]
    fn nodes_are_selected_by_labels() {
        check(json!({}), true);
        check(json!({"nodeSelector": {"zone": "a"}}), true);
        check(json!({"nodeSelector": {"zone": "b"}}), false);
        check(expression("zone", "In", json!(["b", "a"])), true);
        check(expression("zone", "NotIn", json!(["a"])), false);
        check(expression("none", "NotIn", json!(["a"])), true);
        check(expression("zone", "Exists", json!(null)), true);
        check(expression("zone", "DoesNotExist", json!(null)), false);
        check(expression("size", "Gt", json!(["4"])), true);
        check(expression("size", "Lt", json!(["5"])), false);
        check(expression("zone", "Gt", json!(["4"])), false);
        check(required(json!([{}])), false);
    }

    #[test]
    fn nodes_are_selected_by_name() {
        let name = |name: &str| {
            json!({"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [name]}]})
        };
        check(required(json!([name("n")])), true);
        check(required(json!([name("m")])), false);
        let both = RequiredNodes::of_spec(&required(json!([name("n"), name("m")])));
        assert_eq!(both.names(), Some(BTreeSet::from(["m", "n"])));
        let open = RequiredNodes::of_spec(&required(json!([name("n"), {"matchExpressions": []}])));
        assert_eq!(open.names(), None);
    }
}
