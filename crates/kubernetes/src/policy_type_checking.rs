//! Types of admission policies: a policy's expressions are checked against the kinds it is about, and
//! what does not fit is told in the policy's status.
//!
//! A policy is admitted with `object` of any type; a field that no matching kind has shows only here. A
//! rule with a wildcard is not checked, as upstream has it.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel_kube::admission::{Compiler, Declarations, Expect};
use controller::{
    Api, Backoff, Error as ApiError, Informer, ObjectKey, Outcome, Reconciler, WorkQueue, enqueue,
};
use model::{GroupVersion, GroupVersionKind, object};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// Most kinds one policy is checked against, as upstream.
const KINDS_MAX: usize = 10;

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let name = "validatingadmissionpolicystatus";
    let queue: WorkQueue = WorkQueue::new(name, Backoff::default());
    let policies = cluster.informer(&resources::validating_admission_policies());
    let _handler = policies.add_handler(enqueue::object(&queue));
    let reconciler = Policies {
        cluster: cluster.clone(),
        policies: policies.clone(),
    };
    cluster.drive(name, queue, reconciler, vec![policies]).await;
}

struct Policies {
    cluster: Cluster,
    policies: Informer,
}

impl Reconciler for Policies {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(policy) = self.policies.get(key) else {
            return Ok(Outcome::Done);
        };
        let observed = object::number(policy.status(), &["observedGeneration"]).unwrap_or(0);
        if observed >= policy.generation() {
            return Ok(Outcome::Done);
        }
        let warnings = self.check(policy.spec()).await?;
        let mut checking = json!({});
        if !warnings.is_empty() {
            checking["expressionWarnings"] = json!(warnings);
        }
        let mut updated = policy.value().clone();
        let status = object::child_mut(&mut updated, "status");
        status.insert("observedGeneration".to_owned(), policy.generation().into());
        status.insert("typeChecking".to_owned(), checking);
        let resource = resources::validating_admission_policies();
        match self.cluster.api().update_status(&resource, &updated).await {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}

impl Policies {
    /// A warning for each expression that does not fit some kind.
    async fn check(&self, spec: &Value) -> Result<Vec<Value>, Error> {
        let api = self.cluster.api();
        let mut types = Vec::new();
        for kind in kinds(api, spec).await? {
            if let Some(ty) = type_of(api, &kind).await? {
                types.push((kind, ty));
            }
        }
        let params = match spec.get("paramKind").filter(|kind| kind.is_object()) {
            Some(kind) => {
                let version = object::text(kind, &["apiVersion"]);
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                let kind = GroupVersionKind::new(group, version, object::text(kind, &["kind"]));
                Some(type_of(api, &kind).await?)
            }
            None => None,
        };
        Ok(warnings(spec, &types, params.as_ref()))
    }
}

type Types = [(GroupVersionKind, cel::Type)];

/// The warnings for a policy about these types. Pure.
fn warnings(spec: &Value, types: &Types, params: Option<&Option<cel::Type>>) -> Vec<Value> {
    let declarations = Declarations {
        params: params.is_some(),
        authorizer: true,
        patch_types: false,
    };
    let compilers: Vec<(String, Compiler)> = types
        .iter()
        .map(|(kind, ty)| {
            let params = params.cloned().flatten();
            let mut compiler = Compiler::with_types(ty.clone(), params);
            for variable in object::list(spec, &["variables"]) {
                let text = |field| object::text(variable, &[field]);
                // A variable that does not fit is told where it is read.
                let _ = compiler.add_variable(text("name"), text("expression"), declarations);
            }
            let name = format!("{}, Kind={}", kind.api_version(), kind.kind);
            let name = if kind.group.is_empty() {
                format!("/{name}")
            } else {
                name
            };
            (name, compiler)
        })
        .collect();
    let mut warnings = Vec::new();
    for (index, validation) in object::list(spec, &["validations"]).iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = object::text(validation, &[field]);
            if source.is_empty() {
                continue;
            }
            let found: Vec<String> = compilers
                .iter()
                .filter_map(|(name, compiler)| {
                    let error = compiler
                        .compile(source, declarations, Expect::Anything)
                        .err()?;
                    Some(format!("{name}: {error}\n"))
                })
                .collect();
            if !found.is_empty() {
                warnings.push(json!({
                    "fieldRef": format!("spec.validations[{index}].{field}"),
                    "warning": found.join("\n"),
                }));
            }
        }
    }
    warnings
}

/// The kinds a policy is about, as far as its rules name them.
async fn kinds(api: &Api, spec: &Value) -> Result<BTreeSet<GroupVersionKind>, Error> {
    let mut kinds = BTreeSet::new();
    for rule in object::list(spec, &["matchConstraints", "resourceRules"]) {
        let texts = |field: &str| -> BTreeSet<&str> {
            let list = object::list(rule, &[field]);
            list.iter().filter_map(Value::as_str).collect()
        };
        let (groups, versions) = (texts("apiGroups"), texts("apiVersions"));
        if groups
            .iter()
            .chain(&versions)
            .any(|word| word.contains('*'))
        {
            continue;
        }
        let wanted: Vec<&str> = texts("resources")
            .into_iter()
            .filter(|resource| !resource.contains(['*', '/']))
            .collect();
        for group in &groups {
            for version in &versions {
                let served = of_version(api, group, version).await?;
                for resource in &wanted {
                    let found = object::list(&served, &["resources"])
                        .iter()
                        .find(|own| object::text(own, &["name"]) == *resource);
                    if let Some(found) = found
                        && kinds.len() < KINDS_MAX
                    {
                        let kind = object::text(found, &["kind"]);
                        kinds.insert(GroupVersionKind::new(*group, *version, kind));
                    }
                }
            }
        }
    }
    Ok(kinds)
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// The resources of a group and version; none where it is not served.
async fn of_version(api: &Api, group: &str, version: &str) -> Result<Value, Error> {
    found(api.get_path(&path_of(group, version)).await)
}

fn found(outcome: Result<Value, ApiError>) -> Result<Value, Error> {
    match outcome {
        Ok(value) => Ok(value),
        Err(error) if error.is_not_found() => Ok(Value::Null),
        Err(error) => Err(error.into()),
    }
}

/// The type of a kind, from the schema the server publishes.
async fn type_of(api: &Api, kind: &GroupVersionKind) -> Result<Option<cel::Type>, Error> {
    let version = GroupVersion {
        group: kind.group.clone(),
        version: kind.version.clone(),
    };
    let path = format!("/openapi/v3{}", path_of(&version.group, &version.version));
    let document = found(api.get_path(&path).await)?;
    Ok(declared(&document, kind))
}

fn declared(document: &Value, kind: &GroupVersionKind) -> Option<cel::Type> {
    let schemas = object::at(document, &["components", "schemas"])?.as_object()?;
    let is_kind = |schema: &&Value| {
        object::list(schema, &["x-kubernetes-group-version-kind"])
            .iter()
            .any(|own| {
                object::text(own, &["group"]) == kind.group
                    && object::text(own, &["version"]) == kind.version
                    && object::text(own, &["kind"]) == kind.kind
            })
    };
    let schema = schemas.values().find(is_kind)?;
    let resolve = |reference: &str| {
        let name = reference.rsplit('/').next()?;
        schemas.get(name).cloned().map(Arc::new)
    };
    cel_kube::declare(&kind.kind, schema, &resolve).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({"components": {"schemas": {
            "Widget": {
                "type": "object",
                "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Widget"}],
                "properties": {"spec": {"$ref": "#/components/schemas/Spec"}},
            },
            "Spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
        }}})
    }

    #[test]
    fn fields_no_kind_has_are_told() {
        let kind = GroupVersionKind::new("example.com", "v1", "Widget");
        let ty = declared(&document(), &kind).expect("a type");
        let spec = json!({
            "variables": [{"name": "size", "expression": "object.spec.size"}],
            "validations": [
                {"expression": "variables.size > 1"},
                {"expression": "object.spec.sise > 1", "messageExpression": "string(object.spec.size)"},
            ],
        });
        let found = warnings(&spec, &[(kind, ty)], None);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["fieldRef"], "spec.validations[1].expression");
        let warning = found[0]["warning"].as_str().unwrap_or_default();
        assert!(
            warning.starts_with("example.com/v1, Kind=Widget: compilation failed: ERROR: <input>:1:12: undefined field 'sise'"),
            "{warning}"
        );
    }
}
