//! Reviews: kinds that are never stored, whose creation is a question.

mod access;

use http::Response;
use model::{Status, object};
use serde_json::{Value, json};

use crate::admission::{self, Operation, Request};
use crate::body::Body;
use crate::context::Context;
use crate::identity::{User, node_of, subjects_of};
use crate::respond;
use crate::write::track;

/// `POST` of a review; `None` where the resource is no review.
pub async fn review(context: &Context) -> Option<Result<Response<Body>, Status>> {
    let gvr = &context.definition.gvr;
    let answer: Answer = match (gvr.group.as_str(), gvr.resource.as_str()) {
        ("authentication.k8s.io", "selfsubjectreviews") => who_am_i,
        ("authentication.k8s.io", "tokenreviews") => token,
        ("authorization.k8s.io", "selfsubjectaccessreviews") => access::own,
        ("authorization.k8s.io", "subjectaccessreviews") => access::of_anyone,
        ("authorization.k8s.io", "localsubjectaccessreviews") => access::in_namespace,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => own_rules,
        _ => return None,
    };
    Some(answer_with(context, answer).await)
}

/// Gives the status of a review; may change the rest.
type Answer = fn(&Context, &mut Value) -> Result<Value, Status>;

async fn answer_with(context: &Context, answer: Answer) -> Result<Response<Body>, Status> {
    let mut review = context.definition.decode(context)?;
    if context.definition.namespaced() {
        crate::verbs::place(context, &mut review)?;
    }
    // Fields are tracked, for whoever looks at the answer only.
    track(context, "", None, &mut review)?;
    let asked = Request::new(context, Operation::Create, "", None);
    admission::validate(&asked, &review).await?;
    let status = answer(context, &mut review)?;
    // As upstream: only the answer to "who am I" says when it was given.
    let metadata = object::metadata_mut(&mut review);
    if context.definition.gvr.resource == "selfsubjectreviews" {
        metadata.insert("creationTimestamp".to_owned(), context.now().into());
    } else {
        metadata.remove("creationTimestamp");
    }
    if let Some(members) = review.as_object_mut() {
        members.insert("status".to_owned(), status);
    }
    Ok(respond::value(201, &review, context.accept.encoding))
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn who_am_i(context: &Context, _: &mut Value) -> Result<Value, Status> {
    Ok(json!({"userInfo": user_info(&context.user)}))
}

fn token(context: &Context, review: &mut Value) -> Result<Value, Status> {
    let token = object::text(review, &["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let wanted: Vec<String> = object::list(review, &["spec", "audiences"])
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let options = &context.state.options;
    let outcome = options.authentication.token(
        context.state.store.as_ref(),
        (options.clock)(),
        token.trim(),
        (!wanted.is_empty()).then_some(wanted.as_slice()),
    );
    Ok(match outcome {
        Ok(believed) => json!({
            "authenticated": true,
            "user": user_info(&believed.user),
            "audiences": believed.audiences,
        }),
        Err(why) => json!({"user": {}, "error": why}),
    })
}

fn own_rules(context: &Context, review: &mut Value) -> Result<Value, Status> {
    let namespace = object::text(review, &["spec", "namespace"]).to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let subjects = subjects_of(&context.user);
    let policy = context.state.authorizer.policy();
    let (mut resources, mut others, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    // What a node may do depends on what runs there, which no rule tells.
    let incomplete = node_of(&context.user).is_some();
    if incomplete {
        errors.push("node authorizer does not support user rule resolution".to_owned());
    }
    for grant in policy.grants(&subjects, &namespace) {
        match grant.rules {
            Ok(rules) => {
                for rule in rules {
                    let rule = serde_json::to_value(rule).map_err(Status::internal)?;
                    if rule.get("resources").is_some() {
                        let mut rule = rule.clone();
                        remove(&mut rule, "nonResourceURLs");
                        resources.push(rule);
                    }
                    if let Some(paths) = rule.get("nonResourceURLs") {
                        others.push(json!({"verbs": rule["verbs"], "nonResourceURLs": paths}));
                    }
                }
            }
            Err(missing) => errors.push(missing.to_string()),
        }
    }
    // As upstream: the answer does not say for which namespace it is, nor who asked.
    review["spec"] = json!({});
    object::metadata_mut(review).clear();
    let mut status = json!({
        "incomplete": incomplete,
        "resourceRules": resources,
        "nonResourceRules": others,
    });
    if !errors.is_empty() {
        status["evaluationError"] = json!(errors.join(", "));
    }
    Ok(status)
}

fn remove(value: &mut Value, field: &str) {
    if let Some(members) = value.as_object_mut() {
        members.remove(field);
    }
}
