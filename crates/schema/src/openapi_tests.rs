//! Cases of published documents.

use serde_json::json;

use super::*;

fn all_verbs() -> Vec<String> {
    [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn deployment() -> Resource {
    Resource {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: "Deployment".to_owned(),
        plural: "deployments".to_owned(),
        namespaced: true,
        verbs: all_verbs(),
        subresources: vec![Subresource {
            name: "scale".to_owned(),
            group: "autoscaling".to_owned(),
            version: "v1".to_owned(),
            kind: "Scale".to_owned(),
            verbs: vec!["get".to_owned(), "patch".to_owned(), "update".to_owned()],
        }],
        selectable: Vec::new(),
        custom_schema: None,
    }
}

fn widget() -> Resource {
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "default": 1}, "any": {"nullable": true, "type": "string"}}});
    Resource {
        group: "shop.example.com".to_owned(),
        version: "v1".to_owned(),
        kind: "Widget".to_owned(),
        plural: "widgets".to_owned(),
        verbs: all_verbs(),
        selectable: Vec::new(),
        custom_schema: Some(json!({"type": "object", "properties": {"spec": spec}})),
        ..Resource::default()
    }
}

/// Every reference in the document leads to a schema of the document.
fn check_references(document: &Value) {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, member)| match member {
                Value::String(target) if name == "$ref" => {
                    let pointer = target.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{target}");
                }
                other => walk(other, document),
            }),
            Value::Array(items) => items.iter().for_each(|item| walk(item, document)),
            _ => {}
        }
    }
    walk(document, document);
}

#[test]
fn a_group_versions_document_has_paths_and_all_schemas() {
    let document = v3_document("apps", "v1", &[deployment(), widget()]);
    check_references(&document);
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"));
    let scale =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
    assert_eq!(scale["operationId"], "readAppsV1NamespacedDeploymentScale");
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    let spec = &document["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"];
    assert_eq!(spec["required"], json!(["selector", "template"]));
    assert_eq!(
        spec["properties"]["selector"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"
    );
    assert!(
        document["components"]["schemas"]
            .get("io.k8s.api.core.v1.Container")
            .is_some()
    );
}

#[test]
fn custom_resources_are_published_under_their_groups_name() {
    let document = v3_document("shop.example.com", "v1", &[widget()]);
    check_references(&document);
    let schema = &document["components"]["schemas"]["com.example.shop.v1.Widget"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["size"],
        json!({"type": "integer", "default": 1})
    );
    assert!(schema["properties"].get("metadata").is_some());
    assert!(
        document["components"]["schemas"]
            .get("com.example.shop.v1.WidgetList")
            .is_some()
    );
    assert_eq!(
        document["paths"]["/apis/shop.example.com/v1/widgets"]["get"]["operationId"],
        "listShopExampleComV1Widget"
    );
}

#[test]
fn the_older_format_refers_plainly() {
    let document = v2_document(&[deployment(), widget()]);
    check_references(&document);
    let spec = &document["definitions"]["io.k8s.api.apps.v1.DeploymentSpec"];
    let strategy = &spec["properties"]["strategy"];
    assert_eq!(
        strategy["$ref"],
        "#/definitions/io.k8s.api.apps.v1.DeploymentStrategy"
    );
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    assert!(strategy.get("allOf").is_none());
    let widget =
        &document["definitions"]["com.example.shop.v1.Widget"]["properties"]["spec"]["properties"];
    assert_eq!(*widget, json!({"size": {"type": "integer"}, "any": {}}));
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["consumes"],
        json!([
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml"
        ])
    );
    // kubectl takes these words for it.
    let widgets = &document["paths"]["/apis/shop.example.com/v1/widgets/{name}"];
    assert_eq!(
        widgets["patch"]["consumes"],
        json!([
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml"
        ])
    );
}

#[test]
fn the_index_names_documents_with_their_hash() {
    let index = v3_index(&[("apis/apps/v1".to_owned(), "ABC".to_owned())]);
    assert_eq!(
        index,
        json!({"paths": {"apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=ABC"}}})
    );
    check_references(&v3_discovery_document("apis"));
    check_references(&v3_discovery_document("version"));
}
