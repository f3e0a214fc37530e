//! The paths of resources and the operations on them.

use serde_json::{Map, Value, json};

use super::components::{Components, Form};
use super::descriptions;
use super::{Resource, group_path};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A query parameter: name, type, and what it is for, in a few words.
type Parameter = (&'static str, &'static str, &'static str);

const LIST: [Parameter; 11] = [
    (
        "allowWatchBookmarks",
        "boolean",
        "Ask a watch for bookmarks.",
    ),
    ("continue", "string", "The token to go on with a list."),
    ("fieldSelector", "string", "Select objects by their fields."),
    ("labelSelector", "string", "Select objects by their labels."),
    ("limit", "integer", "The most objects to answer with."),
    ("resourceVersion", "string", "The revision to read at."),
    (
        "resourceVersionMatch",
        "string",
        "How the revision is meant.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Begin a watch with the objects there are.",
    ),
    (
        "shardSelector",
        "string",
        "Not served: sharded lists are off.",
    ),
    ("timeoutSeconds", "integer", "How long the call may take."),
    ("watch", "boolean", "Stream changes instead of a list."),
];
const DRY_RUN: Parameter = ("dryRun", "string", "With `All`, change nothing.");
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "Who makes the change.");
const FIELD_VALIDATION: Parameter = ("fieldValidation", "string", "`Ignore`, `Warn` or `Strict`.");
const FORCE: Parameter = ("force", "boolean", "Take over fields that others own.");
const DELETE: [Parameter; 5] = [
    DRY_RUN,
    (
        "gracePeriodSeconds",
        "integer",
        "How long the object may take to end.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Delete what cannot be read.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Leave dependents alone (deprecated).",
    ),
    ("propagationPolicy", "string", "What becomes of dependents."),
];
const PRETTY: Parameter = ("pretty", "string", "Indent the answer.");

/// Adds the paths of a resource, and the schemas they speak of.
pub(super) fn add(
    resource: &Resource,
    components: &mut Components,
    paths: &mut Map<String, Value>,
) {
    let base = group_path(&resource.group, &resource.version);
    let plural = &resource.plural;
    let collection = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{base}/{plural}")
    };
    let (object, list) = components.kind(resource);
    let scope = if resource.namespaced {
        "Namespaced"
    } else {
        ""
    };
    let mut writer = Writer {
        resource,
        components,
        scope,
        suffix: String::new(),
        kind: None,
    };

    let mut on_collection = Map::new();
    for verb in ["list", "create", "deletecollection"] {
        if resource.verbs.iter().any(|found| found == verb) {
            writer.operation(verb, &object, &list, &mut on_collection);
        }
    }
    put(
        paths,
        collection.clone(),
        on_collection,
        resource.namespaced,
        false,
    );

    let mut on_object = Map::new();
    for verb in ["get", "update", "patch", "delete"] {
        if resource.verbs.iter().any(|found| found == verb) {
            writer.operation(verb, &object, &list, &mut on_object);
        }
    }
    let item = format!("{collection}/{{name}}");
    put(paths, item.clone(), on_object, resource.namespaced, true);

    for subresource in &resource.subresources {
        let speaks = (
            subresource.group.clone(),
            subresource.version.clone(),
            subresource.kind.clone(),
        );
        let own = (
            resource.group.clone(),
            resource.version.clone(),
            resource.kind.clone(),
        );
        let is_own = speaks == own || subresource.kind.is_empty();
        let schema = if is_own {
            object.clone()
        } else {
            writer
                .components
                .built_in_kind(&speaks.0, &speaks.1, &speaks.2)
        };
        writer.suffix = capitalised(&subresource.name);
        writer.kind = (!is_own).then_some(speaks);
        let mut operations = Map::new();
        for verb in &subresource.verbs {
            writer.operation(verb, &schema, &list, &mut operations);
        }
        put(
            paths,
            format!("{item}/{}", subresource.name),
            operations,
            resource.namespaced,
            true,
        );
    }
    if resource.namespaced && resource.verbs.iter().any(|verb| verb == "list") {
        writer.scope = "";
        "ForAllNamespaces".clone_into(&mut writer.suffix);
        writer.kind = None;
        let mut operations = Map::new();
        writer.operation("list", &object, &list, &mut operations);
        put(paths, format!("{base}/{plural}"), operations, false, false);
    }
}

fn put(
    paths: &mut Map<String, Value>,
    path: String,
    mut operations: Map<String, Value>,
    namespaced: bool,
    named: bool,
) {
    if operations.is_empty() {
        return;
    }
    let is_v2 = operations
        .values()
        .any(|operation| operation.get("produces").is_some());
    let in_path = |name: &str| {
        let mut parameter =
            json!({"name": name, "in": "path", "required": true, "uniqueItems": true});
        if is_v2 {
            parameter["type"] = Value::from("string");
        } else {
            parameter["schema"] = json!({"type": "string", "uniqueItems": true});
            parameter
                .as_object_mut()
                .map(|members| members.remove("uniqueItems"));
        }
        parameter
    };
    let mut parameters = Vec::new();
    if named {
        parameters.push(in_path("name"));
    }
    if namespaced {
        parameters.push(in_path("namespace"));
    }
    if !parameters.is_empty() {
        operations.insert("parameters".to_owned(), Value::Array(parameters));
    }
    paths.insert(path, Value::Object(operations));
}

/// Adds a path that tells what is served.
pub(super) fn add_discovery(
    path: &str,
    components: &mut Components,
    paths: &mut Map<String, Value>,
) {
    let name = if path == "/version/" {
        "io.k8s.apimachinery.pkg.version.Info".to_owned()
    } else {
        let list = match path.trim_matches('/').split('/').count() {
            1 if path.starts_with("/apis") => "APIGroupList",
            1 => "APIVersions",
            2 if path.starts_with("/apis") => "APIGroup",
            _ => "APIResourceList",
        };
        format!("{META}.{list}")
    };
    let answer = components.reference(&name);
    let path = format!("{}/", path.trim_end_matches('/'));
    let content = json!({"application/json": {"schema": answer}});
    let operation = json!({"responses": {"200": {"description": "OK", "content": content}}});
    paths.insert(path, json!({"get": operation}));
}

struct Writer<'a> {
    resource: &'a Resource,
    components: &'a mut Components,
    scope: &'a str,
    suffix: String,
    /// The kind of a subresource that speaks in another one.
    kind: Option<(String, String, String)>,
}

impl Writer<'_> {
    fn operation(
        &mut self,
        verb: &str,
        object: &Value,
        list: &Value,
        operations: &mut Map<String, Value>,
    ) {
        let status = |components: &mut Components| components.reference(&format!("{META}.Status"));
        let (method, action, id) = match verb {
            "list" => ("get", "list", "list"),
            "get" => ("get", "get", "read"),
            "create" => ("post", "post", "create"),
            "update" => ("put", "put", "replace"),
            "patch" => ("patch", "patch", "patch"),
            "delete" => ("delete", "delete", "delete"),
            "deletecollection" => ("delete", "deletecollection", "deleteCollection"),
            _ => return,
        };
        let answer = match verb {
            "list" => list.clone(),
            "delete" | "deletecollection" => status(self.components),
            _ => object.clone(),
        };
        let body = match verb {
            "create" | "update" => Some(object.clone()),
            "patch" => Some(self.components.reference(&format!("{META}.Patch"))),
            "delete" | "deletecollection" => {
                Some(self.components.reference(&format!("{META}.DeleteOptions")))
            }
            _ => None,
        };
        let parameters = parameters_of(verb);
        let (group, version, kind) = self.kind.clone().unwrap_or_else(|| {
            let Resource {
                group,
                version,
                kind,
                ..
            } = self.resource;
            (group.clone(), version.clone(), kind.clone())
        });
        let mut operation = json!({
            "operationId": self.operation_id(id),
            "tags": [self.tag()],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        match self.components.form {
            Form::V3 => self.fill_v3(&mut operation, verb, &parameters, body, answer),
            Form::V2 => {
                let is_custom = self.resource.custom_schema.is_some();
                fill_v2(&mut operation, verb, is_custom, &parameters, body, answer);
            }
        }
        operations.insert(method.to_owned(), operation);
    }

    fn fill_v3(
        &self,
        operation: &mut Value,
        verb: &str,
        parameters: &[Parameter],
        body: Option<Value>,
        answer: Value,
    ) {
        let with = |types: &[&str], schema: &Value| -> Value {
            types
                .iter()
                .map(|name| ((*name).to_owned(), json!({"schema": schema})))
                .collect::<Map<_, _>>()
                .into()
        };
        let is_custom = self.resource.custom_schema.is_some();
        let mut types = vec!["application/json", "application/yaml"];
        if !is_custom {
            types.push(PROTOBUF);
        }
        let described: Vec<Value> = parameters
            .iter()
            .map(|(name, kind, words)| {
                json!({"name": name, "in": "query", "description": descriptions::parameter(name, words), "schema": {"type": kind, "uniqueItems": true}})
            })
            .collect();
        operation["parameters"] = Value::Array(described);
        if let Some(body) = body {
            let accepted = match verb {
                "patch" => patch_types(is_custom),
                _ => vec!["*/*"],
            };
            operation["requestBody"] = json!({"content": with(&accepted, &body)});
            if verb == "create" || verb == "update" || verb == "patch" {
                operation["requestBody"]["required"] = Value::Bool(true);
            }
        }
        let mut responses = Map::new();
        for (code, words) in codes(verb) {
            let answer = json!({"description": words, "content": with(&types, &answer)});
            responses.insert((*code).to_owned(), answer);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        operation["responses"] = Value::Object(responses);
    }

    /// `core_v1`, `apps_v1`, `rbacAuthorization_v1`.
    fn tag(&self) -> String {
        let group = camel(&self.resource.group);
        let mut letters = group.chars();
        let first = letters.next().map(|c| c.to_ascii_lowercase());
        format!(
            "{}{}_{}",
            first.map(String::from).unwrap_or_default(),
            letters.as_str(),
            self.resource.version
        )
    }

    /// `listCoreV1NamespacedConfigMap`, `readAppsV1NamespacedDeploymentStatus`.
    fn operation_id(&self, id: &str) -> String {
        let (verb, collection) = match id {
            "deleteCollection" => ("delete", "Collection"),
            id => (id, ""),
        };
        let Resource {
            group,
            version,
            kind,
            ..
        } = self.resource;
        let (group, version) = (camel(group), capitalised(version));
        format!(
            "{verb}{group}{version}{collection}{}{kind}{}",
            self.scope, self.suffix
        )
    }
}

fn fill_v2(
    operation: &mut Value,
    verb: &str,
    is_custom: bool,
    parameters: &[Parameter],
    body: Option<Value>,
    answer: Value,
) {
    let mut described: Vec<Value> = body
        .map(|schema| json!({"name": "body", "in": "body", "required": !verb.starts_with("delete"), "schema": schema}))
        .into_iter()
        .collect();
    described.extend(parameters.iter().map(|(name, kind, words)| {
        json!({"name": name, "in": "query", "description": descriptions::parameter(name, words), "type": kind, "uniqueItems": true})
    }));
    operation["parameters"] = Value::Array(described);
    operation["consumes"] = match verb {
        // The older format does not know of CBOR.
        "patch" => json!(patch_types(is_custom).split_last().map(|(_, types)| types)),
        _ => json!(["*/*"]),
    };
    operation["produces"] = json!(["application/json", "application/yaml", PROTOBUF]);
    operation["schemes"] = json!(["https"]);
    let mut responses = Map::new();
    for (code, words) in codes(verb) {
        responses.insert(
            (*code).to_owned(),
            json!({"description": words, "schema": answer}),
        );
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    operation["responses"] = Value::Object(responses);
}

fn parameters_of(verb: &str) -> Vec<Parameter> {
    let mut parameters = match verb {
        "list" => LIST.to_vec(),
        "create" | "update" => vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
        "patch" => vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE],
        "delete" => DELETE.to_vec(),
        "deletecollection" => {
            let selecting = LIST
                .into_iter()
                .filter(|(name, ..)| !matches!(*name, "allowWatchBookmarks" | "watch"));
            selecting.chain(DELETE).collect()
        }
        _ => Vec::new(),
    };
    parameters.push(PRETTY);
    parameters
}

/// Custom resources know no strategic merge patch.
fn patch_types(is_custom: bool) -> Vec<&'static str> {
    let mut types = vec![
        "application/json-patch+json",
        "application/merge-patch+json",
    ];
    if !is_custom {
        types.push("application/strategic-merge-patch+json");
    }
    types.extend([
        "application/apply-patch+yaml",
        "application/apply-patch+cbor",
    ]);
    types
}

fn codes(verb: &str) -> &'static [(&'static str, &'static str)] {
    match verb {
        "create" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
        "update" | "patch" => &[("200", "OK"), ("201", "Created")],
        "delete" => &[("200", "OK"), ("202", "Accepted")],
        _ => &[("200", "OK")],
    }
}

/// `Core` for the core group, `RbacAuthorization` for `rbac.authorization.k8s.io`.
fn camel(group: &str) -> String {
    if group.is_empty() {
        return "Core".to_owned();
    }
    let short = group.strip_suffix(".k8s.io").unwrap_or(group);
    short.split(['.', '-']).map(capitalised).collect()
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
