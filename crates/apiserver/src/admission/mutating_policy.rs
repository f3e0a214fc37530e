//! `MutatingAdmissionPolicy`: changes in CEL, as apply configurations or JSON patches.

use std::sync::Arc;

use cel::{JsonOptions, Object, Value as Cel};
use cel_kube::RUNTIME_COST_BUDGET;
use cel_kube::admission::{Compiler, Declarations, Evaluation, Expect};
use model::{Status, StatusCause, object};
use patch::JsonPatch;
use serde_json::{Map, Value, json};

use super::matching::is_exempt;
use super::policy::{
    Compiled, Invocation, Policy, compile, converted, inputs, namespace_object, run,
};
use super::snapshot::Snapshot;
use super::{Mutate, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "MutatingAdmissionPolicy",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Never,
};

/// The policies that are in force.
pub type Policies = Snapshot<Vec<Policy<Mutations>>>;

/// Where they come from.
pub const RESOURCES: &[&str] = &[
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// What a policy changes.
pub struct Mutations {
    list: Vec<(Sort, Compiled)>,
    /// Whether it is asked again when others change the object after it.
    reinvoked: bool,
}

#[derive(Clone, Copy)]
enum Sort {
    ApplyConfiguration,
    JsonPatch,
}

impl Mutations {
    fn compile(spec: &Value, compiler: &Compiler, declarations: Declarations) -> Self {
        let declarations = Declarations {
            patch_types: true,
            ..declarations
        };
        let mutation = |own: &Value| {
            let (sort, field, expect) = match object::text(own, &["patchType"]) {
                "JSONPatch" => (Sort::JsonPatch, "jsonPatch", Expect::JsonPatch),
                _ => (
                    Sort::ApplyConfiguration,
                    "applyConfiguration",
                    Expect::ApplyConfiguration,
                ),
            };
            let source = object::text(own, &[field, "expression"]);
            (sort, compiler.compile(source, declarations, expect))
        };
        Self {
            list: object::list(spec, &["mutations"])
                .iter()
                .map(mutation)
                .collect(),
            reinvoked: object::text(spec, &["reinvocationPolicy"]) == "IfNeeded",
        }
    }
}

/// Something that went wrong, as it is told.
struct Problem {
    message: String,
    /// Whether it is the policy's own doing, not its configuration's.
    invalid: bool,
}

fn mutate(request: &Request<'_>, new: &mut Value) -> Result<(), Status> {
    let state = &request.context.state;
    if is_exempt(request) {
        return Ok(());
    }
    let policies = state
        .admission
        .mutating_policies
        .get(state.store.as_ref(), |objects| {
            compile(&objects[0], &objects[1], Mutations::compile)
        });
    let Some(policies) = policies else {
        return Ok(());
    };
    let (mut errors, mut invocations) = (Vec::new(), Vec::new());
    for policy in policies.iter() {
        invocations.extend(policy.invocations(request, new, &mut errors));
    }
    let mut problems: Vec<Problem> = errors
        .iter()
        .filter(|error| error.policy.fail)
        .map(|error| {
            let what = if error.binding.is_some() {
                "binding"
            } else {
                "policy"
            };
            let binding = error.binding.map(|binding| binding.name.as_str());
            let why = format!("failed to configure {what}: {}", error.why);
            Problem {
                message: said(&error.policy.name, binding, &why),
                invalid: false,
            }
        })
        .collect();
    if !invocations.is_empty() {
        invoke(request, &invocations, new, &mut problems)?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(refusal(request, new, &problems))
}

fn said(policy: &str, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => {
            format!("policy '{policy}' with binding '{binding}' denied request: {why}")
        }
        None => format!("policy \"{policy}\" denied request: {why}"),
    }
}

/// Lets every policy that applies change the object, one after the other.
fn invoke(
    request: &Request<'_>,
    invocations: &[Invocation<'_, Mutations>],
    new: &mut Value,
    problems: &mut Vec<Problem>,
) -> Result<(), Status> {
    let namespace = namespace_object(request)?;
    let again = request.reinvocation.begin_policies(new);
    for invocation in invocations {
        let policy = invocation.policy;
        let before = converted(request, &invocation.matched, new);
        let mut problem = |why: String| {
            if policy.fail {
                problems.push(Problem {
                    message: said(&policy.name, Some(&invocation.binding.name), &why),
                    invalid: true,
                });
            }
        };
        let null = Value::Null;
        let old = converted(request, &invocation.matched, request.old.unwrap_or(&null));
        let mut inputs = inputs(
            request,
            invocation,
            Arc::new(before.clone()),
            Arc::new(old),
            namespace.clone(),
        );
        let evaluation = Evaluation::new(&policy.compiler, inputs.clone(), RUNTIME_COST_BUDGET);
        match policy.conditions.hold(&evaluation) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                problem(why);
                continue;
            }
        }
        let key = key_of(invocation);
        if again && !request.reinvocation.wants_policy(&key) {
            continue;
        }
        let mut object = before.clone();
        for mutation in &policy.rules.list {
            if !object.is_object() {
                break;
            }
            // Each mutation sees what those before it have made.
            inputs.object = Arc::new(object.clone());
            let evaluation = Evaluation::new(&policy.compiler, inputs.clone(), RUNTIME_COST_BUDGET);
            match apply(invocation, mutation, evaluation, &object) {
                Ok(changed) => object = changed,
                Err(why) => problem(why),
            }
        }
        if object != before {
            let matched = &invocation.matched;
            if matched.custom.is_none() && request.kind == request.context.definition.kind {
                schema::decode(&matched.schema, &mut object).map_err(Status::internal)?;
            }
            request.reinvocation.policy_changed();
            *new = back(request, invocation, object);
        }
        if policy.rules.reinvoked {
            request.reinvocation.remember_policy(key);
        }
    }
    request.reinvocation.end_policies(new);
    Ok(())
}

fn key_of(invocation: &Invocation<'_, Mutations>) -> String {
    format!(
        "{}/{}/{}/{}",
        invocation.policy.name,
        invocation.binding.name,
        object::namespace(&invocation.params),
        object::name(&invocation.params)
    )
}

/// The changed object in the version of the request.
fn back(request: &Request<'_>, invocation: &Invocation<'_, Mutations>, object: Value) -> Value {
    let own = &request.context.definition;
    let mut object = object;
    if request.kind == own.kind && own.gvr != invocation.matched.gvr {
        invocation.matched.to_storage(&mut object);
        own.present(&mut object);
    }
    object
}

fn apply(
    invocation: &Invocation<'_, Mutations>,
    (sort, program): &(Sort, Compiled),
    mut evaluation: Evaluation,
    object: &Value,
) -> Result<Value, String> {
    let result = run(&mut evaluation, program).map_err(|(_, why)| why)?;
    match sort {
        Sort::ApplyConfiguration => {
            check_names(&result)?;
            let mut configuration = to_json(&result)?;
            configuration["apiVersion"] = object["apiVersion"].clone();
            configuration["kind"] = object["kind"].clone();
            patch::merge_configuration(&invocation.matched.schema, object, &configuration)
                .map_err(|why| format!("error applying patch: {why}"))
        }
        Sort::JsonPatch => {
            let operations = operations(&result)?;
            if operations.is_empty() {
                return Ok(object.clone());
            }
            let text = Value::Array(operations).to_string();
            let patch = JsonPatch::parse(text.as_bytes()).map_err(|error| error.to_string())?;
            // A test that does not hold leaves the object as it is.
            let patched = patch.apply_explained(object);
            patched
                .map(|changed| changed.unwrap_or_else(|| object.clone()))
                .map_err(|why| format!("JSON Patch: {why}"))
        }
    }
}

fn to_json(value: &Cel<'_>) -> Result<Value, String> {
    value
        .to_json(JsonOptions::default())
        .map_err(|error| error.to_string())
}

/// The operations of a patch.
fn operations(value: &Cel<'_>) -> Result<Vec<Value>, String> {
    let Cel::List(list) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let mut operations = Vec::with_capacity(list.len());
    for item in list.iter() {
        let Ok(Cel::Object(item)) = item else {
            return Err(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch"
                    .to_owned(),
            );
        };
        operations.push(operation(&item)?);
    }
    Ok(operations)
}

fn operation(item: &Object<'_>) -> Result<Value, String> {
    let mut operation = Map::new();
    for (name, value) in item.fields() {
        let value = value.map_err(|error| error.to_string())?;
        if name == "value" {
            check_names_below(&value, None)?;
        }
        let json = to_json(&value)?;
        if name != "from" || json != json!("") {
            operation.insert(name.to_owned(), json);
        }
    }
    for name in ["op", "path"] {
        operation.entry(name).or_insert_with(|| json!(""));
    }
    Ok(Value::Object(operation))
}

/// Every object literal has to be named after its place: `Object.spec` for the field `spec`.
fn check_names(value: &Cel<'_>) -> Result<(), String> {
    check_names_below(value, Some("Object".to_owned()))
}

fn check_names_below(value: &Cel<'_>, place: Option<String>) -> Result<(), String> {
    match value {
        Cel::Object(object) => {
            let name = object.object_type().name().to_owned();
            let place = place.unwrap_or_else(|| name.clone());
            if name != place {
                return Err(format!(
                    "type mismatch: unexpected type name \"{name}\", expected \"{place}\", which matches field name path from root Object type"
                ));
            }
            for (field, value) in object.fields() {
                if let Ok(value) = value {
                    check_names_below(&value, Some(format!("{place}.{field}")))?;
                }
            }
            Ok(())
        }
        Cel::List(list) => list
            .iter()
            .flatten()
            .try_for_each(|item| check_names_below(&item, place.clone())),
        Cel::Map(map) => map
            .entries()
            .filter_map(|(_, value)| value.ok())
            .try_for_each(|value| check_names_below(&value, place.clone())),
        _ => Ok(()),
    }
}

fn refusal(request: &Request<'_>, new: &Value, problems: &[Problem]) -> Status {
    let mut status = request.refuse(new, "");
    if let Some(first) = problems.first() {
        status.message.clone_from(&first.message);
        if first.invalid {
            "Invalid".clone_into(&mut status.reason);
        }
    }
    let causes = problems.iter().map(|problem| StatusCause {
        message: problem.message.clone(),
        ..StatusCause::default()
    });
    status.details.get_or_insert_default().causes.extend(causes);
    status
}
