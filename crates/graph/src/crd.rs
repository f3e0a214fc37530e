//! The CustomResourceDefinition that a graph's schema becomes.

use serde_json::{Map, Value, json};

use crate::keys;
use crate::rgd::{SchemaSpec, Scope};

/// Builds the CustomResourceDefinition from the built schemas of `spec` and `status`.
///
/// Labels that name the ResourceGraphDefinition are added by whoever installs it.
pub fn instance_crd(schema: &SchemaSpec, spec: &Value, status: &Value) -> Value {
    let plural = crate::plural(&schema.kind);
    let mut validation = instance_schema(spec, status);
    leave_out_empty(&mut validation);
    let mut names = json!({
        "kind": schema.kind,
        "listKind": format!("{}List", schema.kind),
        "plural": plural,
        "singular": schema.kind.to_lowercase(),
    });
    if !schema.short_names.is_empty() {
        names["shortNames"] = json!(schema.short_names);
    }
    if !schema.categories.is_empty() {
        names["categories"] = json!(schema.categories);
    }
    let mut metadata = json!({"name": schema.crd_name()});
    if !schema.metadata.labels.is_empty() {
        metadata["labels"] = json!(schema.metadata.labels);
    }
    if !schema.metadata.annotations.is_empty() {
        metadata["annotations"] = json!(schema.metadata.annotations);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": schema.group,
            "names": names,
            "scope": match schema.scope { Scope::Namespaced => "Namespaced", Scope::Cluster => "Cluster" },
            "versions": [{
                "name": schema.api_version,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": validation},
                "subresources": {"status": {}},
                "additionalPrinterColumns": printer_columns(schema),
            }],
        },
    })
}

/// The whole instance: what expressions see as `schema` and the API server validates.
pub fn instance_schema(spec: &Value, status: &Value) -> Value {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": with_builtin_status(status),
        },
    })
}

/// Takes away what says nothing, as upstream and API servers do, so that what is stored is what was written. Built schemas
/// nest no deeper than their limits.
fn leave_out_empty(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    fields.retain(|name, value| match name.as_str() {
        "properties" => value.as_object().is_none_or(|all| !all.is_empty()),
        "description" => value != "",
        _ => true,
    });
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(leave_out_empty);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(below) = fields.get_mut(below) {
            leave_out_empty(below);
        }
    }
}

/// Adds `state` and `conditions` unless the author declared them.
fn with_builtin_status(status: &Value) -> Value {
    let mut status = if status.is_object() {
        status.clone()
    } else {
        json!({"type": "object"})
    };
    if !status["properties"].is_object() {
        status["properties"] = Value::Object(Map::new());
    }
    if let Some(properties) = status["properties"].as_object_mut() {
        properties
            .entry("state")
            .or_insert_with(|| json!({"type": "string"}));
        properties.entry("conditions").or_insert_with(|| {
            let text = || json!({"type": "string"});
            json!({"type": "array", "items": {"type": "object", "properties": {
                "type": text(), "status": text(), "reason": text(), "message": text(),
                "lastTransitionTime": text(), "observedGeneration": {"type": "integer"},
            }}})
        });
    }
    status
}

fn printer_columns(schema: &SchemaSpec) -> Value {
    if !schema.additional_printer_columns.is_empty() {
        return json!(schema.additional_printer_columns);
    }
    json!([
        {"name": "State", "type": "string", "jsonPath": ".status.state",
         "description": "The state of a ResourceGraphDefinition instance"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status",
         "description": "Whether a ResourceGraphDefinition instance is ready"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
         "description": "Age of the resource"},
    ])
}

/// Labels the definition as that of a ResourceGraphDefinition.
pub fn label(crd: &mut Value, rgd_name: &str, rgd_uid: &str) {
    let labels = &mut crd["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[keys::OWNED] = "true".into();
    labels[keys::KRO_VERSION] = keys::TOOL_VERSION.into();
    labels[keys::RGD_ID] = rgd_uid.into();
    labels[keys::RGD_NAME] = rgd_name.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rgd::GraphSpec;

    #[test]
    fn a_definition() {
        let spec = GraphSpec::read(
            &json!({"schema": {"kind": "NetworkPolicy", "apiVersion": "v1", "shortNames": ["np"]}}),
        )
        .unwrap();
        let mut crd = instance_crd(
            &spec.schema,
            &json!({"type": "object"}),
            &json!({"type": "object", "properties": {"state": {"type": "integer"}}}),
        );
        label(&mut crd, "rgd", "uid");
        assert_eq!(crd["metadata"]["name"], "networkpolicies.kro.run");
        assert_eq!(
            crd["spec"]["names"],
            json!({"kind": "NetworkPolicy", "listKind": "NetworkPolicyList",
            "plural": "networkpolicies", "singular": "networkpolicy", "shortNames": ["np"]})
        );
        let version = &crd["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        assert_eq!(
            schema["properties"]["status"]["properties"]["state"]["type"],
            "integer"
        );
        assert_eq!(
            schema["properties"]["status"]["properties"]["conditions"]["type"],
            "array"
        );
        assert_eq!(version["additionalPrinterColumns"][0]["name"], "State");
        assert_eq!(crd["metadata"]["labels"][keys::RGD_NAME], "rgd");
    }
}
