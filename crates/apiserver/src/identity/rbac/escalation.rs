//! Nobody grants what they do not have themselves.
//!
//! Who makes or changes a role must hold all it allows, or may `escalate`; who binds one must hold
//! all that role allows, or may `bind` it.

use std::fmt::Write as _;

use model::{Status, object};
use serde_json::Value;

use super::policy::{Policy, aggregate, subjects_of};
use super::rule::{Rule, describe_all, quoted};
use super::{GROUP, uncovered};
use crate::context::Context;
use crate::identity::{Attributes, MASTERS};

/// Refuses a role or binding that would give more than its writer has.
pub fn check_grants(context: &Context, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let gvr = &context.definition.gvr;
    if gvr.group != GROUP || context.user.is_in(MASTERS) {
        return Ok(());
    }
    let resource = gvr.resource.as_str();
    let is_role = matches!(resource, "roles" | "clusterroles");
    if is_role && may(context, "escalate", resource, context.name()) {
        return Ok(());
    }
    if old.is_some_and(|old| only_garbage_collection(new, old)) {
        return Ok(());
    }
    if is_role {
        check_role(context, new, old)
    } else {
        check_binding(context, new)
    }
}

fn may(context: &Context, verb: &str, resource: &str, name: &str) -> bool {
    let wanted = Attributes {
        verb: verb.to_owned(),
        group: GROUP.to_owned(),
        version: "*".to_owned(),
        resource: resource.to_owned(),
        namespace: context.namespace().to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    let state = &context.state;
    state
        .authorizer
        .authorize(&context.user, &wanted)
        .is_allowed()
}

/// Whether a write only changes what the garbage collector changes, so that a role can always go.
fn only_garbage_collection(new: &Value, old: &Value) -> bool {
    let stripped = |value: &Value| {
        let mut value = value.clone();
        let metadata = object::metadata_mut(&mut value);
        for name in ["ownerReferences", "finalizers", "managedFields", "selfLink"] {
            metadata.remove(name);
        }
        value
    };
    stripped(new) == stripped(old)
}

fn rules_of(role: &Value) -> Vec<Rule> {
    object::list(role, &["rules"])
        .iter()
        .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
        .collect()
}

fn check_role(context: &Context, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let resource = &context.definition.gvr.resource;
    let refuse = |why: &str| Status::forbidden(GROUP, resource, object::name(new), why);
    confirm(context, &rules_of(new)).map_err(|why| refuse(&why))?;
    let aggregates =
        |role: &Value| !object::list(role, &["aggregationRule", "clusterRoleSelectors"]).is_empty();
    if aggregates(new) || old.is_some_and(aggregates) {
        let everything = |resources: &str, paths: &str| -> Rule {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
            Rule {
                verbs: words("*"),
                api_groups: words(resources),
                resources: words(resources),
                paths: words(paths),
                ..Rule::default()
            }
        };
        confirm(context, &[everything("*", ""), everything("", "*")])
            .map_err(|_| refuse("must have cluster-admin privileges to use the aggregationRule"))?;
    }
    Ok(())
}

fn check_binding(context: &Context, new: &Value) -> Result<(), Status> {
    let kind = object::text(new, &["roleRef", "kind"]);
    let role = object::text(new, &["roleRef", "name"]);
    let resource = match kind {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        other => {
            let mut status = Status::internal("");
            status.message = format!("unsupported role reference kind: {other:?}");
            (status.reason, status.details) = (String::new(), None);
            return Err(status);
        }
    };
    if may(context, "bind", resource, role) {
        return Ok(());
    }
    let rules = {
        let policy = context.state.authorizer.policy();
        let rules = policy.role(kind, role, context.namespace());
        rules
            .map(<[Rule]>::to_vec)
            .map_err(|missing| Status::not_found(GROUP, missing.resource(), &missing.name))?
    };
    let own = &context.definition.gvr.resource;
    confirm(context, &rules).map_err(|why| Status::forbidden(GROUP, own, object::name(new), &why))
}

/// That the user holds all that `rules` allow; else what is missing, in upstream's words.
fn confirm(context: &Context, rules: &[Rule]) -> Result<(), String> {
    let policy = context.state.authorizer.policy();
    confirm_with(&policy, context, rules)
}

fn confirm_with(policy: &Policy, context: &Context, rules: &[Rule]) -> Result<(), String> {
    let user = &context.user;
    let subjects = subjects_of(user);
    let (mut held, mut errors): (Vec<&Rule>, Vec<String>) = (Vec::new(), Vec::new());
    for grant in policy.grants(&subjects, context.namespace()) {
        match grant.rules {
            Ok(rules) => held.extend(rules),
            Err(missing) => errors.push(missing.to_string()),
        }
    }
    let missing = uncovered(&held, rules);
    if missing.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        describe_all(&missing)
    );
    if !errors.is_empty() {
        let _ = write!(why, "; resolution errors: [{}]", aggregate(&errors));
    }
    Err(why)
}
