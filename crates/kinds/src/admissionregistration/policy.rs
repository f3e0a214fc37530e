//! Admission policies in CEL, and their bindings.

use std::collections::HashSet;

use cel_kube::admission::{Compiler, Declarations, Expect};
use jiff::Timestamp;
use model::{FieldError, names, object};
use serde_json::{Value, json};

use super::matching;
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::{fill, with};

const NO_CHECKS: &str = "validations or auditAnnotations must contain at least one item";
/// Most audit annotations of a policy, and the longest expression of one, as upstream.
const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_BYTES_MAX: usize = 5 << 10;
const EXCLUSIVE: &str = "name and selector are mutually exclusive";

/// Policies that check.
pub const VALIDATING: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Keeps,
    unconditional_update: false,
    default: default_policy,
    validate_create: check_validating,
    validate_update: |policy, _| check_validating(policy),
    cells: Some(|policy, now| policy_cells(policy, "validations", now)),
    ..Behaviour::DEFAULT
};

/// Where policies that check apply.
pub const VALIDATING_BINDING: Behaviour = Behaviour {
    generation: true,
    unconditional_update: false,
    default: default_binding,
    validate_create: |binding| check_binding(binding, true),
    validate_update: |binding, _| check_binding(binding, true),
    cells: Some(binding_cells),
    ..Behaviour::DEFAULT
};

/// Policies that change.
pub const MUTATING: Behaviour = Behaviour {
    generation: true,
    unconditional_update: false,
    default: default_policy,
    validate_create: check_mutating,
    validate_update: |policy, _| check_mutating(policy),
    cells: Some(|policy, now| policy_cells(policy, "mutations", now)),
    ..Behaviour::DEFAULT
};

/// Where policies that change apply.
pub const MUTATING_BINDING: Behaviour = Behaviour {
    validate_create: |binding| check_binding(binding, false),
    validate_update: |binding, _| check_binding(binding, false),
    ..VALIDATING_BINDING
};

fn default_policy(policy: &mut Value) {
    with(policy, "spec", |spec| {
        fill(spec, "failurePolicy", "Fail");
        with(spec, "matchConstraints", matching::default_match);
    });
}

fn default_binding(binding: &mut Value) {
    with(binding, "spec", |spec| {
        with(spec, "matchResources", matching::default_match);
    });
}

/// What both sorts of policies have; gives the compiler that knows the policy's variables. `operations`
/// names those a policy can be about, where it is not all.
fn common(spec: &At<'_>, operations: Option<&[&str]>, errors: &mut Errors) -> Compiler {
    check::required_one_of(&spec.get("failurePolicy"), &["Fail", "Ignore"], errors);
    let kind = spec.get("paramKind");
    if kind.is_set() {
        param_kind(&kind, errors);
    }
    let constraints = spec.get("matchConstraints");
    if constraints.is_set() {
        matching::check_match(&constraints, errors);
        if constraints.get("resourceRules").is_empty() {
            errors.push(constraints.get("resourceRules").required(""));
        }
        if let Some(operations) = operations {
            supported(&constraints.get("resourceRules"), operations, errors);
        }
    } else {
        errors.push(constraints.required(""));
    }
    let params = kind.is_set();
    matching::check_conditions(&spec.get("matchConditions"), params, errors);
    let variables = spec.get("variables");
    let mut compiler = if variables.is_empty() {
        Compiler::new()
    } else {
        Compiler::with_variables()
    };
    for variable in variables.items() {
        let name = variable.get("name");
        if name.text().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            errors.push(name.invalid("must be a valid CEL identifier"));
        }
        let expression = variable.get("expression");
        if expression.text().trim().is_empty() {
            errors.push(expression.required("expression is not specified"));
        } else if let Err(why) =
            compiler.add_variable(name.text(), expression.text(), declarations(params))
        {
            errors.push(expression.invalid(why));
        }
    }
    compiler
}

/// What expressions see besides the request.
fn declarations(params: bool) -> Declarations {
    Declarations {
        params,
        authorizer: true,
        patch_types: false,
    }
}

fn supported(rules: &At<'_>, operations: &[&str], errors: &mut Errors) {
    for operation in rules
        .items()
        .flat_map(|rule| rule.get("operations").items())
    {
        if !operations.contains(&operation.text()) {
            let path = rules.path().child("operations");
            errors.push(FieldError::not_supported(
                &path,
                operation.text(),
                operations,
            ));
        }
    }
}

fn is_identifier(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn param_kind(at: &At<'_>, errors: &mut Errors) {
    let (version, kind) = (at.get("apiVersion"), at.get("kind"));
    if check::required(&version, errors) {
        match version.text().split('/').collect::<Vec<_>>().as_slice() {
            [version] | ["", version] => label(&at.get("apiVersion"), version, errors),
            [group, number] => {
                check_group(&version, group, errors);
                label(&version, number, errors);
            }
            _ => {
                let why = format!("unexpected GroupVersion string: {}", version.text());
                errors.push(version.invalid(why));
            }
        }
    }
    if check::required(&kind, errors) {
        label(&kind, &kind.text().to_lowercase(), errors);
    }
}

fn check_group(at: &At<'_>, group: &str, errors: &mut Errors) {
    errors.extend(
        names::dns1123_subdomain(group)
            .into_iter()
            .map(|message| at.invalid(message)),
    );
}

fn label(at: &At<'_>, text: &str, errors: &mut Errors) {
    errors.extend(
        names::dns1035_label(text)
            .into_iter()
            .map(|message| at.invalid(message)),
    );
}

fn check_validating(policy: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(policy).get("spec");
    let compiler = common(&spec, None, &mut errors);
    let params = spec.get("paramKind").is_set();
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        errors.push(validations.required(NO_CHECKS));
        errors.push(annotations.required(NO_CHECKS));
    }
    for validation in validations.items() {
        check_validation(&validation, &compiler, params, &mut errors);
    }
    if annotations.len() > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.push(annotations.invalid(why));
    }
    let mut keys = HashSet::new();
    for annotation in annotations.items() {
        let key = annotation.get("key");
        let full = format!("{}/{}", object::name(policy), key.text());
        for message in names::qualified_name(&full) {
            errors.push(FieldError::invalid(key.path(), full.as_str(), message));
        }
        audit_value(
            &annotation.get("valueExpression"),
            &compiler,
            params,
            &mut errors,
        );
        if !keys.insert(key.text()) {
            errors.push(key.duplicate());
        }
    }
    errors
}

fn audit_value(at: &At<'_>, compiler: &Compiler, params: bool, errors: &mut Errors) {
    let source = at.text().trim();
    if source.is_empty() {
        errors.push(at.required("valueExpression is not specified"));
    } else if source.len() > ANNOTATION_BYTES_MAX {
        let why = format!("must not exceed {ANNOTATION_BYTES_MAX} bytes in length");
        errors.push(at.required(&why));
    } else if let Err(why) = compiler.compile(source, declarations(params), Expect::TextOrNull) {
        errors.push(at.invalid(why));
    }
}

fn check_validation(at: &At<'_>, compiler: &Compiler, params: bool, errors: &mut Errors) {
    let expression = at.get("expression");
    if expression.text().trim().is_empty() {
        errors.push(expression.required("expression is not specified"));
    } else if let Err(why) = compiler.compile(expression.text(), declarations(params), Expect::Bool)
    {
        errors.push(expression.invalid(why));
    }
    let text = at.get("messageExpression");
    if !text.is_empty() && text.text().trim().is_empty() {
        errors.push(text.invalid("must be non-empty if specified"));
    } else if !text.is_empty() {
        // A message says nothing of who may do what.
        let declarations = Declarations {
            params,
            ..Declarations::default()
        };
        if let Err(why) = compiler.compile(text.text(), declarations, Expect::Text) {
            errors.push(text.invalid(why));
        }
    }
    let message = at.get("message");
    if !message.is_empty() && message.text().trim().is_empty() {
        errors.push(message.invalid("must be non-empty if specified"));
    } else if message.text().trim().contains(['\n', '\r']) {
        errors.push(message.invalid("must not contain line breaks"));
    }
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
    check::optional_one_of(&at.get("reason"), &reasons, errors);
}

fn check_mutating(policy: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(policy).get("spec");
    let operations = ["*", "CONNECT", "CREATE", "UPDATE"];
    let compiler = common(&spec, Some(&operations), &mut errors);
    let params = spec.get("paramKind").is_set();
    let mutations = spec.get("mutations");
    if mutations.is_empty() {
        errors.push(mutations.required("mutations must contain at least one item"));
    }
    for mutation in mutations.items() {
        let kind = mutation.get("patchType");
        check::required_one_of(&kind, &["ApplyConfiguration", "JSONPatch"], &mut errors);
        let own = match kind.text() {
            "ApplyConfiguration" => (
                "applyConfiguration",
                "jsonPatch",
                Expect::ApplyConfiguration,
            ),
            "JSONPatch" => ("jsonPatch", "applyConfiguration", Expect::JsonPatch),
            _ => continue,
        };
        check_mutation(&mutation, own, &compiler, params, &mut errors);
    }
    let policy = spec.get("reinvocationPolicy");
    check::required_one_of(&policy, &["IfNeeded", "Never"], &mut errors);
    errors
}

/// A mutation has the field of its type, and not the other one's.
fn check_mutation(
    at: &At<'_>,
    (wanted, unwanted, expect): (&str, &str, Expect),
    compiler: &Compiler,
    params: bool,
    errors: &mut Errors,
) {
    let kind = at.get("patchType");
    let (own, other) = (at.get(wanted), at.get(unwanted));
    let expression = own.get("expression");
    let source = expression.text().trim();
    if !own.is_set() {
        let why = format!("must be specified when patchType is {}", kind.text());
        errors.push(own.required(&why));
    } else if source.is_empty() {
        errors.push(expression.required(""));
    } else {
        let declarations = Declarations {
            patch_types: true,
            ..declarations(params)
        };
        if let Err(why) = compiler.compile(source, declarations, expect) {
            errors.push(FieldError::invalid(expression.path(), source, why));
        }
    }
    if other.is_set() {
        let why = format!("must not be specified when patchType is {}", kind.text());
        let shown = format!("{{{unwanted}}}");
        errors.push(FieldError::invalid(other.path(), shown, why));
    }
}

fn check_binding(binding: &Value, validating: bool) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(binding).get("spec");
    let name = spec.get("policyName");
    if check::required(&name, &mut errors) {
        check::subdomain(&name, &mut errors);
    }
    let reference = spec.get("paramRef");
    if reference.is_set() {
        param_ref(&reference, &mut errors);
    }
    if spec.get("matchResources").is_set() {
        matching::check_match(&spec.get("matchResources"), &mut errors);
    }
    if validating {
        actions(&spec.get("validationActions"), &mut errors);
    }
    errors
}

fn param_ref(at: &At<'_>, errors: &mut Errors) {
    let (name, selector) = (at.get("name"), at.get("selector"));
    match (!name.is_empty(), selector.is_set()) {
        (true, true) => {
            errors.push(name.forbidden(EXCLUSIVE));
            errors.push(selector.forbidden(EXCLUSIVE));
        }
        (true, false) => check::subdomain(&name, errors),
        (false, true) => check::label_selector(&selector, errors),
        (false, false) => errors.push(at.required("one of name or selector must be specified")),
    }
    let action = at.get("parameterNotFoundAction");
    if action.is_set() {
        check::one_of(&action, &["Allow", "Deny"], errors);
    } else {
        errors.push(action.required(""));
    }
}

fn actions(at: &At<'_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.push(at.required("at least one validation action is required"));
    }
    let mut seen = HashSet::new();
    for action in at.items() {
        if !["Audit", "Deny", "Warn"].contains(&action.text()) {
            errors.push(action.not_supported(&["Audit", "Deny", "Warn"]));
        }
        if !seen.insert(action.text()) {
            errors.push(action.duplicate());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(at.invalid(why));
    }
}

fn policy_cells(policy: &Value, list: &str, now: Timestamp) -> Vec<Value> {
    let kind = object::at(policy, &["spec", "paramKind"]).map(|kind| {
        format!(
            "{}/{}",
            object::text(kind, &["apiVersion"]),
            object::text(kind, &["kind"])
        )
    });
    vec![
        json!(object::name(policy)),
        json!(object::list(policy, &["spec", list]).len()),
        cell::or_unset(kind.as_deref().unwrap_or_default()),
        cell::age_of(policy, now),
    ]
}

fn binding_cells(binding: &Value, now: Timestamp) -> Vec<Value> {
    let reference = object::at(binding, &["spec", "paramRef"]).map(|own| {
        match (
            object::text(own, &["name"]),
            object::text(own, &["namespace"]),
        ) {
            ("", _) => cell::selector(own.get("selector")),
            (name, "") => json!(format!("*/{name}")),
            (name, namespace) => json!(format!("{namespace}/{name}")),
        }
    });
    vec![
        json!(object::name(binding)),
        json!(object::text(binding, &["spec", "policyName"])),
        reference.unwrap_or_else(|| json!("<unset>")),
        cell::age_of(binding, now),
    ]
}
