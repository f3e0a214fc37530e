//! Admission policies: a policy, its bindings, and the parameters each binding names.
//!
//! Validating and mutating policies are found, matched and given their parameters alike; what they do
//! with a matching write is in [`super::validating_policy`] and [`super::mutating_policy`].

use std::sync::Arc;

use cel::Program;
use cel_kube::admission::{Compiler, Declarations, Evaluation, Expect, Failure, Inputs};
use model::{GroupVersionKind, LabelSelector, Status, object};
use serde_json::Value;

use super::authorizer::RequestAuthorizer;
use super::matching::Criteria;
use super::{Request, review};
use crate::catalog::Definition;

/// What the conditions of a policy or webhook may cost together: a quarter of what its rules may, as
/// upstream.
const CONDITIONS_BUDGET: u64 = 2_500_000;

/// A policy with its bindings, and what it does.
pub struct Policy<R> {
    pub name: String,
    /// Whether errors refuse the write.
    pub fail: bool,
    pub compiler: Compiler,
    pub conditions: Conditions,
    pub rules: R,
    pub bindings: Vec<Binding>,
    criteria: Result<Criteria, String>,
    param_kind: Option<GroupVersionKind>,
}

/// Where a policy applies, and with which parameters.
pub struct Binding {
    pub name: String,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
    criteria: Option<Result<Criteria, String>>,
    param_ref: Option<Value>,
}

/// A binding of a policy that applies to a write.
pub struct Invocation<'p, R> {
    pub policy: &'p Policy<R>,
    pub binding: &'p Binding,
    /// The resource under which the write matched.
    pub matched: Arc<Definition>,
    /// The parameter object, `null` for none.
    pub params: Arc<Value>,
}

/// What is wrong with a policy or binding itself.
pub struct Misconfigured<'p, R> {
    pub policy: &'p Policy<R>,
    pub binding: Option<&'p Binding>,
    pub why: String,
}

/// An expression that does not compile fails when it is evaluated.
pub type Compiled = Result<Program, String>;

/// Conditions a write has to fulfil.
pub struct Conditions(Vec<Compiled>);

impl Conditions {
    /// The `matchConditions` of a policy or webhook.
    pub fn compile(owner: &Value, compiler: &Compiler, declarations: Declarations) -> Self {
        let list = object::list(owner, &["matchConditions"]);
        Self(
            list.iter()
                .map(|condition| {
                    let source = object::text(condition, &["expression"]);
                    compiler.compile(source, declarations, Expect::Bool)
                })
                .collect(),
        )
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not decides, whatever errors others have.
    pub fn hold(&self, evaluation: &Evaluation) -> Result<bool, String> {
        let mut evaluation = evaluation.with_budget(CONDITIONS_BUDGET);
        let mut errors = Vec::new();
        for condition in &self.0 {
            match run(&mut evaluation, condition) {
                Ok(value) if value.as_bool() == Some(false) => return Ok(false),
                Ok(_) => {}
                Err((Failure::Budget, why)) => return Err(why),
                Err((_, why)) => errors.push(why),
            }
        }
        match errors.len() {
            0 => Ok(true),
            1 => Err(errors.remove(0)),
            _ => Err(format!("[{}]", errors.join(", "))),
        }
    }
}

/// Evaluates an expression; the error is worded as upstream words it.
pub fn run(
    evaluation: &mut Evaluation,
    program: &Compiled,
) -> Result<cel::Value<'static>, (Failure, String)> {
    let program = program.as_ref().map_err(|why| {
        let failure = Failure::Evaluation {
            expression: String::new(),
            error: why.clone(),
        };
        (failure, format!("compilation error: {why}"))
    })?;
    evaluation.run(program).map_err(|failure| {
        let why = failure.to_string();
        (failure, why)
    })
}

/// Compiles policies with their bindings; those without any do nothing.
pub fn compile<R>(
    policies: &[Value],
    bindings: &[Value],
    rules: impl Fn(&Value, &Compiler, Declarations) -> R,
) -> Vec<Policy<R>> {
    let of = |name: &str| -> Vec<Binding> {
        bindings
            .iter()
            .filter(|binding| object::text(binding, &["spec", "policyName"]) == name)
            .map(Binding::compile)
            .collect()
    };
    policies
        .iter()
        .map(|policy| (policy, of(object::name(policy))))
        .filter(|(_, bindings)| !bindings.is_empty())
        .map(|(policy, bindings)| Policy::compile(policy, bindings, &rules))
        .collect()
}

impl Binding {
    fn compile(binding: &Value) -> Self {
        let spec = &binding["spec"];
        let actions = object::list(spec, &["validationActions"]);
        Self {
            name: object::name(binding).to_owned(),
            actions: actions
                .iter()
                .filter_map(|action| action.as_str().map(str::to_owned))
                .collect(),
            criteria: spec
                .get("matchResources")
                .filter(|resources| resources.is_object())
                .map(|resources| Criteria::of_policy(resources, true)),
            param_ref: spec.get("paramRef").filter(|own| own.is_object()).cloned(),
        }
    }
}

impl<R> Policy<R> {
    fn compile(
        policy: &Value,
        bindings: Vec<Binding>,
        rules: impl Fn(&Value, &Compiler, Declarations) -> R,
    ) -> Self {
        let spec = &policy["spec"];
        let param_kind = spec
            .get("paramKind")
            .filter(|kind| kind.is_object())
            .map(|kind| {
                let version = object::text(kind, &["apiVersion"]);
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                GroupVersionKind::new(group, version, object::text(kind, &["kind"]))
            });
        let declarations = Declarations {
            params: param_kind.is_some(),
            authorizer: true,
            patch_types: false,
        };
        let mut compiler = Compiler::with_variables();
        for variable in object::list(spec, &["variables"]) {
            let text = |field| object::text(variable, &[field]);
            // A variable that does not compile fails where it is read.
            let _ = compiler.add_variable(text("name"), text("expression"), declarations);
        }
        Self {
            name: object::name(policy).to_owned(),
            fail: object::text(spec, &["failurePolicy"]) != "Ignore",
            conditions: Conditions::compile(spec, &compiler, declarations),
            rules: rules(spec, &compiler, declarations),
            compiler,
            bindings,
            criteria: Criteria::of_policy(&spec["matchConstraints"], false),
            param_kind,
        }
    }

    /// What applies to a write, and what cannot be said because of how it is configured.
    pub fn invocations<'p>(
        &'p self,
        request: &Request<'_>,
        new: &Value,
        errors: &mut Vec<Misconfigured<'p, R>>,
    ) -> Vec<Invocation<'p, R>> {
        let mut misconfigured = |binding, why| {
            errors.push(Misconfigured {
                policy: self,
                binding,
                why,
            });
        };
        let matched = match matches(&self.criteria, request, new) {
            Ok(Some(matched)) => matched,
            Ok(None) => return Vec::new(),
            Err(why) => {
                misconfigured(None, why);
                return Vec::new();
            }
        };
        let source = match self.param_source(request) {
            Ok(source) => source,
            Err(why) => {
                misconfigured(None, why);
                return Vec::new();
            }
        };
        let mut invocations = Vec::new();
        for binding in &self.bindings {
            let applies = match &binding.criteria {
                Some(criteria) => matches(criteria, request, new).map(|found| found.is_some()),
                None => Ok(true),
            };
            let params = match applies {
                Ok(false) => continue,
                Ok(true) => params(request, source.as_deref(), binding.param_ref.as_ref()),
                Err(why) => Err(why),
            };
            match params {
                Ok(params) => invocations.extend(params.into_iter().map(|params| Invocation {
                    policy: self,
                    binding,
                    matched: matched.clone(),
                    params: Arc::new(params),
                })),
                Err(why) => misconfigured(Some(binding), why),
            }
        }
        invocations
    }

    /// The resource parameters are of; `None` where the policy takes none.
    fn param_source(&self, request: &Request<'_>) -> Result<Option<Arc<Definition>>, String> {
        let Some(kind) = &self.param_kind else {
            return Ok(None);
        };
        match request.context.catalog.by_kind(kind) {
            Some(definition) => Ok(Some(definition.clone())),
            None => Err(format!(
                "failed to find resource referenced by paramKind: '{}, Kind={}'",
                kind.api_version(),
                kind.kind
            )),
        }
    }
}

fn matches(
    criteria: &Result<Criteria, String>,
    request: &Request<'_>,
    new: &Value,
) -> Result<Option<Arc<Definition>>, String> {
    match criteria {
        Ok(criteria) => criteria
            .matches(request, new)
            .map_err(|status| status.message),
        Err(why) => Err(why.clone()),
    }
}

/// The parameter objects of a binding: one that is `null` where it takes none.
fn params(
    request: &Request<'_>,
    source: Option<&Definition>,
    reference: Option<&Value>,
) -> Result<Vec<Value>, String> {
    let (Some(source), Some(reference)) = (source, reference) else {
        return Ok(vec![Value::Null]);
    };
    let named = object::text(reference, &["namespace"]);
    let namespace = match (source.namespaced(), named) {
        (true, "") if request.namespace().is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .to_owned(),
            );
        }
        (true, "") => Some(request.namespace()),
        (true, named) => Some(named),
        (false, "") => None,
        (false, _) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
                    .to_owned(),
            );
        }
    };
    let (group, resource) = &source.storage;
    let name = object::text(reference, &["name"]);
    let mut found = if !name.is_empty() {
        Vec::from_iter(request.find(group, resource, namespace, name))
    } else if let Some(selector) = reference.get("selector") {
        let selector = LabelSelector::from_object(Some(selector)).map_err(|e| e.to_string())?;
        let mut all = request.list(group, resource, namespace);
        all.retain(|object| selector.matches(object::labels(object)));
        all
    } else {
        return Err("one of name or selector must be provided".to_owned());
    };
    if found.is_empty() && object::text(reference, &["parameterNotFoundAction"]) == "Deny" {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
        );
    }
    for object in &mut found {
        source.present(object);
    }
    Ok(found)
}

/// The data expressions of an invocation see.
pub fn inputs<R>(
    request: &Request<'_>,
    invocation: &Invocation<'_, R>,
    object: Arc<Value>,
    old: Arc<Value>,
    namespace: Arc<Value>,
) -> Inputs {
    Inputs {
        object,
        old_object: old,
        request: Arc::new(Value::Object(review::request_value(
            request,
            &invocation.matched,
        ))),
        namespace_object: namespace,
        params: invocation.params.clone(),
        authorizer: Some(RequestAuthorizer::of(request, &request.name)),
    }
}

/// The namespace of a write as expressions see it; `null` for writes that have none.
pub fn namespace_object(request: &Request<'_>) -> Result<Arc<Value>, Status> {
    let name = request.namespace();
    if name.is_empty() || request.is("", "namespaces") {
        return Ok(Arc::default());
    }
    match request.find("", "namespaces", None, name) {
        Some(namespace) => Ok(Arc::new(namespace)),
        None => Err(Status::not_found("", "namespaces", name)),
    }
}

/// An object in the version a policy or webhook has asked for.
pub fn converted(request: &Request<'_>, matched: &Definition, object: &Value) -> Value {
    let mut object = object.clone();
    let own = &request.context.definition;
    if object.is_object() && request.kind == own.kind && own.gvr != matched.gvr {
        own.to_storage(&mut object);
        matched.present(&mut object);
    }
    object
}
