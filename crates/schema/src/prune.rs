//! Structural pruning: what a custom resource's schema does not know is dropped.

use serde_json::Value;

use crate::MAX_DEPTH;
use crate::decode::{push_index, push_name};
use crate::node::{Additional, Node, Schema};

const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes the fields of a custom resource that its schema does not know and returns their paths,
/// sorted. Metadata, the root's and that of embedded resources, is left to `coerce_metadata`.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut pruner = Pruner {
        path: String::new(),
        pruned: Vec::new(),
    };
    pruner.prune(Some(schema), object, 0);
    pruner.pruned.sort();
    pruner.pruned
}

struct Pruner {
    path: String,
    pruned: Vec<String>,
}

impl Pruner {
    fn prune(&mut self, node: Option<&Node>, value: &mut Value, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let length = self.path.len();
        let preserve = node.is_some_and(|node| node.preserve_unknown);
        match value {
            Value::Object(members) => members.retain(|name, member| {
                if node.is_some_and(|node| node.embedded) && META_FIELDS.contains(&name.as_str()) {
                    return true;
                }
                push_name(&mut self.path, name);
                let keep = match node.map(|node| (node.properties.get(name), &node.additional)) {
                    Some((Some(field), _)) => {
                        self.prune(Some(&field.schema), member, depth + 1);
                        true
                    }
                    Some((None, Additional::Schema(schema))) => {
                        self.prune(Some(schema), member, depth + 1);
                        true
                    }
                    Some((None, Additional::Any)) => {
                        // Upstream allows any value here, yet knows no field inside it.
                        if !preserve {
                            self.prune(None, member, depth + 1);
                        }
                        true
                    }
                    _ if preserve => true,
                    _ => {
                        self.pruned.push(self.path.clone());
                        false
                    }
                };
                self.path.truncate(length);
                keep
            }),
            Value::Array(items) => {
                let schema = node.and_then(|node| node.items.as_deref());
                if preserve && schema.is_none() {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    push_index(&mut self.path, index);
                    self.prune(schema, item, depth + 1);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_go_and_are_reported() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "known": {"type": "string"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"type": "object", "properties": {"k": {"type": "string"}}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "string"}}}},
            "list": {"type": "array", "items": {"type": "object"}},
            "emb": {"type": "object", "x-kubernetes-embedded-resource": true}}}}});
        let schema = Schema::custom_resource(&schema, false).expect("structural");
        let mut object = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "other": 1}, "top": 1,
            "spec": {"known": "x", "u": 1, "free": {"any": {"a": 1}, "known": {"k": "1", "u": 2}},
                "map": {"m": {"k": "1", "u": 2}}, "list": [{"u": 1}, 1],
                "emb": {"apiVersion": "v1", "kind": "X", "metadata": {"x": 1}, "data": 1}}});
        let pruned = prune(&schema, &mut object);
        assert_eq!(
            pruned,
            [
                "spec.emb.data",
                "spec.free.known.u",
                "spec.list[0].u",
                "spec.map.m.u",
                "spec.u",
                "top"
            ]
        );
        let expect = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "other": 1},
            "spec": {"known": "x", "free": {"any": {"a": 1}, "known": {"k": "1"}},
                "map": {"m": {"k": "1"}}, "list": [{}, 1],
                "emb": {"apiVersion": "v1", "kind": "X", "metadata": {"x": 1}}}});
        assert_eq!(object, expect);
    }
}
