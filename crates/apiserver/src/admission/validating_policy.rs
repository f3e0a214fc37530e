//! `ValidatingAdmissionPolicy`: rules in CEL that refuse a write, warn of it, or note it for the audit log.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel_kube::RUNTIME_COST_BUDGET;
use cel_kube::admission::{Compiler, Declarations, Evaluation, Expect, Failure};
use model::{Reason, Status, StatusCause, object};
use serde_json::{Value, json};

use super::matching::is_exempt;
use super::policy::{
    Binding, Compiled, Invocation, Policy, compile, converted, inputs, namespace_object, run,
};
use super::snapshot::Snapshot;
use super::{Mutate, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "ValidatingAdmissionPolicy",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Now(validate),
};

/// The policies that are in force.
pub type Policies = Snapshot<Vec<Policy<Rules>>>;

/// Where they come from.
pub const RESOURCES: &[&str] = &[
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];

/// Longest message an expression may give, and longest audit annotation, as upstream.
const MESSAGE_BYTES_MAX: usize = 5 << 10;
const ANNOTATION_BYTES_MAX: usize = 10 << 10;

/// What a policy checks.
pub struct Rules {
    validations: Vec<Validation>,
    annotations: Vec<(String, Compiled, String)>,
}

struct Validation {
    program: Compiled,
    expression: String,
    message: String,
    message_program: Option<Compiled>,
    reason: String,
}

impl Rules {
    fn compile(spec: &Value, compiler: &Compiler, declarations: Declarations) -> Self {
        // A message says nothing of who may do what.
        let plain = Declarations {
            authorizer: false,
            ..declarations
        };
        let validation = |own: &Value| {
            let text = |field| object::text(own, &[field]).trim().to_owned();
            let message = object::text(own, &["messageExpression"]);
            Validation {
                program: compiler.compile(
                    object::text(own, &["expression"]),
                    declarations,
                    Expect::Bool,
                ),
                expression: text("expression"),
                message: text("message"),
                message_program: (!message.is_empty())
                    .then(|| compiler.compile(message, plain, Expect::Text)),
                reason: text("reason"),
            }
        };
        let annotation = |own: &Value| {
            let source = object::text(own, &["valueExpression"]);
            let program = compiler.compile(source, plain, Expect::TextOrNull);
            let key = object::text(own, &["key"]).to_owned();
            (key, program, source.to_owned())
        };
        Self {
            validations: object::list(spec, &["validations"])
                .iter()
                .map(validation)
                .collect(),
            annotations: object::list(spec, &["auditAnnotations"])
                .iter()
                .map(annotation)
                .collect(),
        }
    }
}

/// Why a write is refused.
struct Denial<'p> {
    policy: &'p str,
    binding: Option<&'p str>,
    message: String,
    reason: String,
}

/// A rule that does not hold, and which one it is.
struct Failed {
    index: usize,
    message: String,
    reason: String,
}

fn validate(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    let state = &request.context.state;
    if is_exempt(request) {
        return Ok(());
    }
    let policies = state
        .admission
        .validating_policies
        .get(state.store.as_ref(), |objects| {
            compile(&objects[0], &objects[1], Rules::compile)
        });
    let Some(policies) = policies else {
        return Ok(());
    };
    let mut denials = Vec::new();
    for policy in policies.iter() {
        check(request, new, policy, &mut denials)?;
    }
    match denials.first() {
        Some(denial) => Err(refusal(request, new, denial)),
        None => Ok(()),
    }
}

fn check<'p>(
    request: &Request<'_>,
    new: &Value,
    policy: &'p Policy<Rules>,
    denials: &mut Vec<Denial<'p>>,
) -> Result<(), Status> {
    let mut errors = Vec::new();
    let invocations = policy.invocations(request, new, &mut errors);
    for error in errors.iter().filter(|_| policy.fail) {
        let what = if error.binding.is_some() {
            "binding"
        } else {
            "policy"
        };
        denials.push(Denial {
            policy: &policy.name,
            binding: error.binding.map(|binding| binding.name.as_str()),
            message: format!("failed to configure {what}: {}", error.why),
            reason: String::new(),
        });
    }
    let Some(first) = invocations.first() else {
        return Ok(());
    };
    let object = Arc::new(converted(request, &first.matched, new));
    let null = Value::Null;
    let old = request.old.unwrap_or(&null);
    let old = Arc::new(converted(request, &first.matched, old));
    let namespace = namespace_object(request)?;
    let mut annotations: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for invocation in &invocations {
        let inputs = inputs(
            request,
            invocation,
            object.clone(),
            old.clone(),
            namespace.clone(),
        );
        let evaluation = Evaluation::new(&policy.compiler, inputs, RUNTIME_COST_BUDGET);
        let outcome = evaluate(policy, &evaluation);
        for failed in outcome.failed {
            report(request, invocation, failed, denials);
        }
        for (key, value) in outcome.annotations {
            let values = annotations.entry(key).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
        denials.extend(outcome.annotation_errors.into_iter().map(|message| Denial {
            policy: &policy.name,
            binding: Some(&invocation.binding.name),
            message,
            reason: String::new(),
        }));
    }
    for (key, values) in annotations {
        let key = format!("{}/{key}", policy.name);
        request.context.annotate(&key, &values.join(", "));
    }
    Ok(())
}

/// What one evaluation of a policy comes to.
#[derive(Default)]
struct Outcome<'p> {
    failed: Vec<Failed>,
    annotations: Vec<(&'p str, String)>,
    annotation_errors: Vec<String>,
}

fn evaluate<'p>(policy: &'p Policy<Rules>, evaluation: &Evaluation) -> Outcome<'p> {
    let mut outcome = Outcome::default();
    let error = |index: usize, message: String| Failed {
        index,
        message,
        reason: String::new(),
    };
    match policy.conditions.hold(evaluation) {
        Ok(true) => {}
        Ok(false) => return outcome,
        Err(why) => {
            outcome.failed.extend(policy.fail.then(|| error(0, why)));
            return outcome;
        }
    }
    let mut budgeted = evaluation.with_budget(RUNTIME_COST_BUDGET);
    for (index, validation) in policy.rules.validations.iter().enumerate() {
        match run(&mut budgeted, &validation.program) {
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(_) => outcome.failed.push(Failed {
                index,
                message: validation.say(&mut budgeted),
                reason: validation.reason.clone(),
            }),
            Err((Failure::Budget, why)) => {
                // Nothing more is asked of this policy.
                outcome.failed = Vec::from_iter(policy.fail.then(|| error(0, why)));
                return outcome;
            }
            Err((_, why)) => outcome
                .failed
                .extend(policy.fail.then(|| error(index, why))),
        }
    }
    annotate(policy, evaluation, &mut outcome);
    outcome
}

fn annotate<'p>(policy: &'p Policy<Rules>, evaluation: &Evaluation, outcome: &mut Outcome<'p>) {
    let mut budgeted = evaluation.with_budget(RUNTIME_COST_BUDGET);
    for (key, program, source) in &policy.rules.annotations {
        match run(&mut budgeted, program) {
            Ok(cel::Value::String(text)) => {
                let mut text = text.trim().to_owned();
                if text.len() > ANNOTATION_BYTES_MAX {
                    text.truncate(text.floor_char_boundary(ANNOTATION_BYTES_MAX));
                }
                if !text.is_empty() {
                    outcome.annotations.push((key, text));
                }
            }
            Ok(cel::Value::Null) => {}
            Ok(other) => outcome.annotation_errors.push(format!(
                "valueExpression '{source}' resulted in unsupported return type: {}. Return type must be either string or null.",
                other.type_name()
            )),
            Err((_, why)) => outcome.annotation_errors.extend(policy.fail.then_some(why)),
        }
    }
}

impl Validation {
    /// What is said where the rule does not hold.
    fn say(&self, evaluation: &mut Evaluation) -> String {
        if let Some(program) = &self.message_program
            && let Ok(cel::Value::String(text)) = run(evaluation, program)
        {
            let text = text.trim();
            let fits = text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
            if fits && !text.is_empty() {
                return text.to_owned();
            }
        }
        if self.message.is_empty() {
            format!("failed expression: {}", self.expression)
        } else {
            self.message.clone()
        }
    }
}

/// Does with a failure what the binding says.
fn report<'p>(
    request: &Request<'_>,
    invocation: &Invocation<'p, Rules>,
    failed: Failed,
    denials: &mut Vec<Denial<'p>>,
) {
    let (policy, binding): (&Policy<Rules>, &Binding) = (invocation.policy, invocation.binding);
    for action in &binding.actions {
        match action.as_str() {
            "Warn" => request.context.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                policy.name, binding.name, failed.message
            )),
            "Audit" => {
                let failure = json!([{
                    "message": failed.message,
                    "policy": policy.name,
                    "binding": binding.name,
                    "expressionIndex": failed.index,
                    "validationActions": binding.actions,
                }]);
                let key = "validation.policy.admission.k8s.io/validation_failure";
                request.context.annotate(key, &failure.to_string());
            }
            _ => denials.push(Denial {
                policy: &policy.name,
                binding: Some(&binding.name),
                message: failed.message.clone(),
                reason: failed.reason.clone(),
            }),
        }
    }
}

fn refusal(request: &Request<'_>, new: &Value, denial: &Denial<'_>) -> Status {
    let by = match denial.binding {
        Some(binding) => format!(
            "ValidatingAdmissionPolicy '{}' with binding '{binding}'",
            denial.policy
        ),
        None => format!("ValidatingAdmissionPolicy '{}'", denial.policy),
    };
    let message = format!("{by} denied request: {}", denial.message);
    let mut status = request.refuse(new, &message);
    let reason = match denial.reason.as_str() {
        "Forbidden" => Reason::Forbidden,
        "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
        _ => Reason::Invalid,
    };
    status.code = reason.code();
    reason.as_str().clone_into(&mut status.reason);
    let cause = StatusCause {
        message,
        ..StatusCause::default()
    };
    status.details.get_or_insert_default().causes.push(cause);
    status
}
