//! What happens to the objects of a resource when they come and go: adopted or made, changed or left alone, deleted or
//! kept.
//!
//! Two fields say so. `deletionPolicy: Delete | Orphaned` is kro's. `lifecycle` is the broader one of its proposal KREP-014: a
//! map, or an expression over `schema` that gives one, put together by `policy()`:
//!
//! ```text
//! lifecycle: "${schema.spec.env == 'prod' ? policy().withRetain() : policy()}"
//! lifecycle: {deletePolicy: retain, adoptPolicy: adoptOnly, updatePolicy: never}
//! ```
//!
//! Objects that are to be kept carry an annotation, so that they are kept also when the graph is gone or has changed.
//! Left out: sharing an object between instances.

use cel::{EvalError, Function, Library, Map, MapBuilder, Type, Value as CelValue};
use serde_json::Value;

use crate::build::BuildError;
use crate::expression::{EvalFailure, Evaluated, Expression};
use crate::features::{Feature, Features};
use crate::rgd::ResourceSpec;
use crate::template::Template;

/// What `deletionPolicy` and the annotation call objects that are kept.
pub const ORPHANED: &str = "Orphaned";
/// What `deletionPolicy` calls objects that are deleted.
const DELETE: &str = "Delete";

/// What becomes of objects that are not asked for any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// They are deleted.
    #[default]
    Delete,
    /// They stay, without the marks of a child.
    Retain,
}

/// What is done about objects that exist already, or do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adoption {
    /// They are taken over or made.
    #[default]
    AdoptOrCreate,
    /// They are taken over; it is an error if they do not exist.
    AdoptOnly,
    /// They are made; it is an error if they exist.
    CreateOnly,
}

/// What is done about objects that are not as the template says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// They are changed.
    #[default]
    Always,
    /// They stay as they are.
    Never,
}

/// The life of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Its end.
    pub deletion: Deletion,
    /// Its beginning.
    pub adoption: Adoption,
    /// What is between.
    pub update: Update,
}

impl Policy {
    /// Reads `{deletePolicy, adoptPolicy, updatePolicy}`; what is not said is as ever.
    fn read(value: &Value) -> Result<Self, String> {
        let mut policy = Self::default();
        let Some(fields) = value.as_object() else {
            let found = crate::simple_schema::json_kind(value);
            return Err(format!(
                "expected a map such as policy() gives, got {found}"
            ));
        };
        for (name, value) in fields {
            match (name.as_str(), value.as_str().unwrap_or_default()) {
                ("deletePolicy", "delete") => policy.deletion = Deletion::Delete,
                ("deletePolicy", "retain") => policy.deletion = Deletion::Retain,
                ("adoptPolicy", "adoptOrCreate") => policy.adoption = Adoption::AdoptOrCreate,
                ("adoptPolicy", "adoptOnly") => policy.adoption = Adoption::AdoptOnly,
                ("adoptPolicy", "createOnly") => policy.adoption = Adoption::CreateOnly,
                ("updatePolicy", "always") => policy.update = Update::Always,
                ("updatePolicy", "never") => policy.update = Update::Never,
                ("deletePolicy", _) => return Err(expected(name, "delete or retain", value)),
                ("adoptPolicy", _) => {
                    let known = "adoptOrCreate, adoptOnly or createOnly";
                    return Err(expected(name, known, value));
                }
                ("updatePolicy", _) => return Err(expected(name, "always or never", value)),
                _ => {
                    let known = "deletePolicy, adoptPolicy, updatePolicy";
                    return Err(format!("unknown field {name:?}; known are {known}"));
                }
            }
        }
        Ok(policy)
    }
}

fn expected(name: &str, known: &str, found: &Value) -> String {
    format!("{name}: expected {known}, got {found}")
}

/// The lives of a resource's objects, as a definition says them.
#[derive(Clone, Debug)]
pub enum Lifecycle {
    /// The same for all instances.
    Always(Policy),
    /// By what the instance says.
    Computed(Expression),
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::Always(Policy::default())
    }
}

impl Lifecycle {
    /// Reads what a resource says; `instance` is the type of `schema`.
    pub(crate) fn build(
        resource: &ResourceSpec,
        instance: &Type,
        features: Features,
    ) -> Result<Self, BuildError> {
        let id = resource.id.as_str();
        let lifecycle = resource.lifecycle.as_ref().filter(|it| !it.is_null());
        let (field, feature) = match (&resource.deletion_policy, lifecycle) {
            (None, None) => return Ok(Self::default()),
            (Some(_), Some(_)) => {
                let message = "deletionPolicy and lifecycle exclude each other: write lifecycle: {deletePolicy: retain}";
                return Err(BuildError::of(id, message).at("lifecycle"));
            }
            (Some(_), None) => ("deletionPolicy", Feature::DeletionPolicy),
            (None, Some(_)) => ("lifecycle", Feature::ResourceLifecycles),
        };
        let fail = |message: String| BuildError::of(id, message).at(field);
        features.require(feature, field).map_err(fail)?;
        if resource.template.is_none() {
            return Err(fail(format!(
                "{field} needs a template: what externalRef names is never made or deleted"
            )));
        }
        match (resource.deletion_policy.as_deref(), lifecycle) {
            (Some(ORPHANED), _) => Ok(Self::Always(Policy {
                deletion: Deletion::Retain,
                ..Policy::default()
            })),
            (Some(DELETE), _) => Ok(Self::default()),
            (Some(other), _) => Err(fail(format!("expected Delete or Orphaned, got {other:?}"))),
            (None, Some(Value::String(text))) => computed(id, text, instance),
            (None, other) => Policy::read(other.unwrap_or(&Value::Null))
                .map(Self::Always)
                .map_err(fail),
        }
    }

    /// What is not as ever, in words.
    pub(crate) fn notes(&self) -> Vec<String> {
        let policy = match self {
            Self::Always(policy) => policy,
            Self::Computed(expression) => {
                return vec![format!("lifecycle: {}", expression.source())];
            }
        };
        let notes = [
            (
                policy.adoption == Adoption::AdoptOnly,
                "is taken over, never created",
            ),
            (
                policy.adoption == Adoption::CreateOnly,
                "is created, never taken over",
            ),
            (
                policy.update == Update::Never,
                "is not changed once it exists",
            ),
            (
                policy.deletion == Deletion::Retain,
                "stays when it is not asked for any more",
            ),
        ];
        let holds = notes.into_iter().filter(|(holds, _)| *holds);
        holds.map(|(_, note)| note.to_owned()).collect()
    }

    /// What holds for an instance; `evaluate` knows it.
    pub(crate) fn policy(
        &self,
        evaluate: impl FnOnce(&Expression) -> Result<Evaluated, EvalFailure>,
    ) -> Result<Policy, String> {
        match self {
            Self::Always(policy) => Ok(*policy),
            Self::Computed(expression) => match evaluate(expression) {
                Ok(Evaluated::Value(value)) => Policy::read(&value)
                    .map_err(|message| format!("expression {:?}: {message}", expression.source())),
                Ok(Evaluated::Omit) => Ok(Policy::default()),
                Err(failure) => Err(failure.to_string()),
            },
        }
    }
}

fn computed(id: &str, text: &str, instance: &Type) -> Result<Lifecycle, BuildError> {
    let fail = |message: String| BuildError::of(id, message).at("lifecycle");
    let source =
        Template::standalone(text).map_err(|error| fail(format!("{error}, got {text:?}")))?;
    let env = crate::build::ENVIRONMENT
        .extend()
        .library(library())
        .variable(crate::build::SCHEMA_VARIABLE, instance.clone())
        .build()
        .map_err(|error| fail(error.to_string()))?;
    let expression = Expression::compile(&env, &source).map_err(|error| {
        fail(format!("{error} (lifecycle sees only \"schema\")")).in_expression(&source)
    })?;
    let ty = expression.result_type();
    if !ty.is_dyn() && ty.key_value().is_none() {
        let message = format!("must give a map such as policy() does, got \"{ty}\"");
        return Err(fail(message).in_expression(&source));
    }
    Ok(Lifecycle::Computed(expression))
}

/// `policy()` and what refines it.
fn library() -> Library {
    let policy = || Type::map(Type::String, Type::String);
    let start = Function::new("policy").global("policy", [], policy(), |_, _| {
        Ok(CelValue::Map(MapBuilder::with_capacity(0).build()))
    });
    let refinements = [
        ("withRetain", "deletePolicy", "retain"),
        ("withDelete", "deletePolicy", "delete"),
        ("withAdoptOnly", "adoptPolicy", "adoptOnly"),
        ("withCreateOnly", "adoptPolicy", "createOnly"),
        ("withUpdateNever", "updatePolicy", "never"),
    ];
    refinements.into_iter().fold(
        Library::new("kro.policy").function(start),
        |library, (name, key, value)| {
            let id = format!("policy_{name}");
            let refine =
                Function::new(name).member(&id, [policy()], policy(), move |_, arguments| {
                    refined(&arguments[0], key, value)
                });
            library.function(refine)
        },
    )
}

fn refined<'a>(policy: &CelValue<'a>, key: &str, value: &str) -> Result<CelValue<'a>, EvalError> {
    let CelValue::Map(policy) = policy else {
        return Err(EvalError::no_such_overload());
    };
    Ok(CelValue::Map(with(policy, key, value)?))
}

fn with<'a>(policy: &Map<'a>, key: &str, value: &str) -> Result<Map<'a>, EvalError> {
    let mut map = MapBuilder::with_capacity(policy.len() + 1);
    for (name, value) in policy.entries() {
        map.put(name, value?)?;
    }
    map.put(CelValue::string(key), CelValue::string(value))?;
    Ok(map.build())
}

#[cfg(test)]
mod tests {
    use cel::Activation;
    use serde_json::json;

    use super::*;

    fn built(resource: &Value, features: Features) -> Result<Lifecycle, String> {
        let resource =
            serde_json::from_value::<ResourceSpec>(resource.clone()).expect("a resource");
        Lifecycle::build(&resource, &Type::Dyn, features).map_err(|error| error.to_string())
    }

    fn policy(resource: &Value, schema: &Value) -> Result<Policy, String> {
        built(resource, Features::all())?.policy(|expression| {
            let mut variables = Activation::new();
            variables.bind_json("schema", schema);
            expression.evaluate_json(&variables)
        })
    }

    #[test]
    fn policies_are_read_from_fields_and_expressions() {
        let retain = Policy {
            deletion: Deletion::Retain,
            ..Policy::default()
        };
        let careful = Policy {
            deletion: Deletion::Retain,
            adoption: Adoption::AdoptOnly,
            update: Update::Never,
        };
        let check = |fields: Value, expect: Result<Policy, &str>| {
            let mut resource = json!({"id": "it", "template": {}});
            for (key, value) in fields.as_object().into_iter().flatten() {
                resource[key] = value.clone();
            }
            let schema = json!({"spec": {"prod": true}});
            match (policy(&resource, &schema), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{fields}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                (found, _) => panic!("{fields}: {found:?}"),
            }
        };
        check(json!({}), Ok(Policy::default()));
        check(json!({"deletionPolicy": "Delete"}), Ok(Policy::default()));
        check(json!({"deletionPolicy": "Orphaned"}), Ok(retain));
        check(
            json!({"deletionPolicy": "Keep"}),
            Err("expected Delete or Orphaned, got \"Keep\""),
        );
        check(json!({"lifecycle": {"deletePolicy": "retain"}}), Ok(retain));
        check(
            json!({"lifecycle": {"deletePolicy": "no"}}),
            Err("deletePolicy: expected delete or retain, got \"no\""),
        );
        check(
            json!({"lifecycle": {"adopt": "no"}}),
            Err("unknown field \"adopt\""),
        );
        check(json!({"lifecycle": ["x"]}), Err("got array"));
        check(json!({"lifecycle": "${policy()}"}), Ok(Policy::default()));
        let computed = "${schema.spec.prod ? policy().withDelete().withRetain() : policy()}";
        check(json!({"lifecycle": computed}), Ok(retain));
        let all = "${policy().withRetain().withAdoptOnly().withUpdateNever()}";
        check(json!({"lifecycle": all}), Ok(careful));
        check(
            json!({"lifecycle": "${1}"}),
            Err("must give a map such as policy() does, got \"int\""),
        );
        check(json!({"lifecycle": "retain"}), Err("got \"retain\""));
        check(
            json!({"lifecycle": "${other.x}"}),
            Err("undeclared reference to 'other'"),
        );
        check(
            json!({"lifecycle": "${{'deletePolicy': 'x'}}"}),
            Err("expected delete or retain"),
        );
        let both = json!({"lifecycle": {}, "deletionPolicy": "Delete"});
        check(both, Err("deletionPolicy and lifecycle exclude each other"));
    }

    #[test]
    fn gates_and_external_references_refuse_them() {
        let check = |resource: Value, features: Features, part: &str| {
            let error = built(&resource, features).expect_err(part);
            assert!(error.contains(part), "{error}");
        };
        let (none, all) = (Features::default(), Features::all());
        let kept = json!({"id": "it", "template": {}, "deletionPolicy": "Orphaned"});
        check(
            kept,
            none,
            "deletionPolicy requires the DeletionPolicy feature gate",
        );
        let kept = json!({"id": "it", "template": {}, "lifecycle": {}});
        check(
            kept,
            none,
            "lifecycle requires the ResourceLifecycles feature gate",
        );
        let external = json!({"id": "it", "deletionPolicy": "Orphaned"});
        check(external, all, "deletionPolicy needs a template");
    }
}
