//! The CustomResourceDefinitions of ResourceGraphDefinition and GraphRevision.

mod descriptions;

use serde_json::{Value, json};

use crate::keys;

/// The definition of ResourceGraphDefinition.
pub fn resource_graph_definition_crd() -> Value {
    let columns = json!([
        {"name": "APIVERSION", "type": "string", "jsonPath": ".spec.schema.apiVersion", "priority": 0,
         "description": "The API version of the ResourceGraphDefinition"},
        {"name": "KIND", "type": "string", "jsonPath": ".spec.schema.kind", "priority": 0,
         "description": "The kind of the ResourceGraphDefinition"},
        {"name": "STATE", "type": "string", "jsonPath": ".status.state", "priority": 0,
         "description": "The state of the ResourceGraphDefinition"},
        {"name": "READY", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status",
         "priority": 0, "description": "Whether the ResourceGraphDefinition is ready"},
        {"name": "TOPOLOGICALORDER", "type": "string", "jsonPath": ".status.topologicalOrder", "priority": 1,
         "description": "The order in which resources are created"},
        {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp", "priority": 0},
    ]);
    let status = json!({"type": "object", "properties": {
        "state": {"type": "string"},
        "lastIssuedRevision": {"type": "integer", "format": "int64"},
        "topologicalOrder": {"type": "array", "items": {"type": "string"}},
        "resources": resources_status(),
        "conditions": conditions(),
    }});
    crd(&Definition {
        group: keys::GROUP,
        kind: "ResourceGraphDefinition",
        plural: "resourcegraphdefinitions",
        short_name: "rgd",
        columns,
        selectable: json!([]),
        spec: graph_spec(),
        status,
        describe: descriptions::definition,
    })
}

/// The definition of GraphRevision.
pub fn graph_revision_crd() -> Value {
    let columns = json!([
        {"name": "RGD", "type": "string", "jsonPath": ".spec.snapshot.name", "priority": 1},
        {"name": "REVISION", "type": "integer", "jsonPath": ".spec.revision"},
        {"name": "HASH", "type": "string", "jsonPath": ".metadata.labels.kro\\.run/graph-revision-hash", "priority": 1},
        {"name": "READY", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    let mut spec = json!({
        "type": "object",
        "required": ["revision", "snapshot"],
        "properties": {
            "revision": {"type": "integer", "format": "int64", "minimum": 1},
            "snapshot": {
                "type": "object",
                "required": ["name", "generation", "spec"],
                "properties": {
                    "name": {"type": "string"},
                    "generation": {"type": "integer", "format": "int64"},
                    "spec": snapshot_spec(),
                },
            },
        },
    });
    spec["x-kubernetes-validations"] = immutable("spec is immutable");
    let status = json!({"type": "object", "properties": {
        "topologicalOrder": {"type": "array", "items": {"type": "string"}},
        "resources": resources_status(),
        "conditions": conditions(),
    }});
    crd(&Definition {
        group: keys::INTERNAL_GROUP,
        kind: "GraphRevision",
        plural: "graphrevisions",
        short_name: "gr",
        columns,
        selectable: json!([{"jsonPath": ".spec.snapshot.name"}]),
        spec,
        status,
        describe: descriptions::revision,
    })
}

struct Definition {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short_name: &'static str,
    columns: Value,
    selectable: Value,
    spec: Value,
    status: Value,
    /// Puts in what the fields are about.
    describe: fn(&mut Value),
}

fn crd(definition: &Definition) -> Value {
    let mut version = json!({
        "name": keys::VERSION,
        "served": true,
        "storage": true,
        "subresources": {"status": {}},
        "additionalPrinterColumns": definition.columns,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": definition.spec,
            "status": definition.status,
        }}},
    });
    (definition.describe)(&mut version["schema"]["openAPIV3Schema"]);
    if definition
        .selectable
        .as_array()
        .is_some_and(|fields| !fields.is_empty())
    {
        version["selectableFields"] = definition.selectable.clone();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{}", definition.plural, definition.group)},
        "spec": {
            "group": definition.group,
            "scope": "Cluster",
            "names": {
                "kind": definition.kind,
                "listKind": format!("{}List", definition.kind),
                "plural": definition.plural,
                "singular": definition.kind.to_lowercase(),
                "shortNames": [definition.short_name],
            },
            "versions": [version],
        },
    })
}

fn text() -> Value {
    json!({"type": "string"})
}

fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn string_map() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn strings() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

fn immutable(message: &str) -> Value {
    json!([{"rule": "self == oldSelf", "message": message}])
}

fn immutable_text(mut schema: Value, message: &str) -> Value {
    schema["x-kubernetes-validations"] = immutable(message);
    schema
}

/// Short names and categories.
fn names() -> Value {
    json!({"type": "array", "maxItems": 32, "x-kubernetes-list-type": "set", "items": {
        "type": "string", "maxLength": 63, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$",
    }})
}

fn graph_spec() -> Value {
    json!({
        "type": "object",
        "required": ["schema"],
        "properties": {
            "schema": {
                "type": "object",
                "required": ["apiVersion", "kind"],
                "properties": {
                    "kind": immutable_text(
                        json!({"type": "string", "pattern": "^[A-Z][a-zA-Z0-9]{0,62}$"}), "kind is immutable"),
                    "apiVersion": immutable_text(
                        json!({"type": "string", "pattern": "^v[0-9]+(alpha[0-9]+|beta[0-9]+)?$"}),
                        "apiVersion is immutable"),
                    "group": immutable_text(json!({"type": "string", "default": keys::GROUP}), "group is immutable"),
                    "scope": immutable_text(
                        json!({"type": "string", "enum": ["Namespaced", "Cluster"], "default": "Namespaced"}),
                        "scope is immutable"),
                    "spec": open(),
                    "types": open(),
                    "status": open(),
                    "additionalPrinterColumns": printer_columns(),
                    "shortNames": names(),
                    "categories": names(),
                    "metadata": {"type": "object", "properties": {
                        "labels": string_map(), "annotations": string_map(),
                    }},
                },
            },
            "resources": {"type": "array", "items": resource()},
            "propagateWhen": strings(),
            "rollout": {"type": "object", "properties": {
                "strategy": {"type": "string", "enum": ["Latest", "Manual"]},
            }},
        },
    })
}

/// The spec within a revision: the whole is immutable, so its parts need no rules of their own.
fn snapshot_spec() -> Value {
    let mut spec = graph_spec();
    for field in ["kind", "apiVersion", "group", "scope"] {
        if let Some(schema) = spec["properties"]["schema"]["properties"][field].as_object_mut() {
            schema.remove("x-kubernetes-validations");
        }
    }
    spec
}

fn printer_columns() -> Value {
    json!({"type": "array", "items": {
        "type": "object",
        "required": ["jsonPath", "name", "type"],
        "properties": {
            "name": text(), "type": text(), "jsonPath": text(), "description": text(), "format": text(),
            "priority": {"type": "integer", "format": "int32"},
        },
    }})
}

fn resource() -> Value {
    let selector = json!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": string_map(),
            "matchExpressions": {"type": "array", "x-kubernetes-list-type": "atomic", "items": {
                "type": "object",
                "required": ["key", "operator"],
                "properties": {"key": text(), "operator": text(),
                    "values": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"}},
            }},
        },
    });
    json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": text(),
            "template": open(),
            "variable": open(),
            "def": open(),
            "patch": open(),
            "externalRef": {
                "type": "object",
                "required": ["apiVersion", "kind", "metadata"],
                "properties": {
                    "apiVersion": text(),
                    "kind": text(),
                    "metadata": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "minLength": 1},
                            "namespace": text(),
                            "selector": selector,
                        },
                        "x-kubernetes-validations": [{
                            "rule": "has(self.name) != has(self.selector)",
                            "message": "exactly one of name or selector must be provided",
                        }],
                    },
                },
            },
            "readyWhen": strings(),
            "includeWhen": strings(),
            "forEach": {"type": "array", "items": {
                "type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1, "maxProperties": 1,
            }},
            "propagateWhen": strings(),
            "externalFields": strings(),
            "deletionPolicy": {"type": "string", "enum": ["Delete", "Orphaned"]},
            "lifecycle": {"x-kubernetes-preserve-unknown-fields": true},
        },
        "x-kubernetes-validations": [{
            "rule": "has(self.template) ? !(has(self.externalRef) || has(self.variable) || has(self.def) || has(self.patch)) \
                : has(self.externalRef) ? !(has(self.variable) || has(self.def) || has(self.patch)) \
                : has(self.variable) ? !(has(self.def) || has(self.patch)) : has(self.def) != has(self.patch)",
            "message": "exactly one of template or externalRef must be provided (or, with their feature gates, variable, def or \
                patch)",
        }],
    })
}

fn resources_status() -> Value {
    let ids = json!({"type": "array", "items": {"type": "object", "properties": {"id": text()}}});
    json!({"type": "array", "items": {"type": "object", "properties": {"id": text(), "dependencies": ids}}})
}

fn conditions() -> Value {
    json!({"type": "array", "items": {
        "type": "object",
        "required": ["type", "status"],
        "properties": {
            "type": text(),
            "status": text(),
            "reason": text(),
            "message": text(),
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        },
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_structural() {
        for definition in [resource_graph_definition_crd(), graph_revision_crd()] {
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            schema::Schema::from_structural(schema).unwrap();
        }
    }
}
