//! Reviews: kinds that are never stored, whose creation is a question.

use http::Response;
use model::{Status, object};
use serde_json::{Value, json};

use crate::body::Body;
use crate::context::Context;
use crate::identity::{AUTHENTICATED, Attributes, Decision, User, authorize};
use crate::respond;

/// `POST` of a review; `None` where the resource is no review.
pub fn review(context: &Context) -> Option<Result<Response<Body>, Status>> {
    let gvr = &context.definition.gvr;
    let answer = match (gvr.group.as_str(), gvr.resource.as_str()) {
        ("authentication.k8s.io", "selfsubjectreviews") => who_am_i,
        ("authentication.k8s.io", "tokenreviews") => token,
        ("authorization.k8s.io", "selfsubjectaccessreviews") => own_access,
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews") => access,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => own_rules,
        _ => return None,
    };
    let outcome = context.definition.decode(context).and_then(|mut review| {
        let status = answer(context, &review)?;
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
    });
    Some(outcome)
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn who_am_i(context: &Context, _: &Value) -> Result<Value, Status> {
    Ok(json!({"userInfo": user_info(&context.user)}))
}

fn token(context: &Context, review: &Value) -> Result<Value, Status> {
    let token = object::text(review, &["spec", "token"]);
    let mut headers = http::HeaderMap::new();
    let value = http::HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Status::bad_request("spec.token holds characters no token has"))?;
    headers.insert(http::header::AUTHORIZATION, value);
    let outcome = context
        .state
        .options
        .authentication
        .authenticate(&headers, None);
    Ok(match outcome {
        Ok(user) if user.is_in(AUTHENTICATED) => {
            json!({"authenticated": true, "user": user_info(&user)})
        }
        _ => json!({"user": {}, "error": "invalid bearer token"}),
    })
}

fn attributes(spec: &Value) -> Attributes {
    let of = |group: &str, field: &str| object::text(spec, &[group, field]).to_owned();
    if spec.get("nonResourceAttributes").is_some() {
        return Attributes {
            verb: of("nonResourceAttributes", "verb"),
            path: of("nonResourceAttributes", "path"),
            ..Attributes::default()
        };
    }
    let text = |field: &str| of("resourceAttributes", field);
    Attributes {
        verb: text("verb"),
        group: text("group"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        path: String::new(),
    }
}

fn decide(context: &Context, user: &User, spec: &Value) -> Value {
    match authorize(context.state.store.as_ref(), user, &attributes(spec)) {
        Decision::Allow(reason) if reason.is_empty() => json!({"allowed": true}),
        Decision::Allow(reason) => json!({"allowed": true, "reason": reason}),
        Decision::NoOpinion => json!({"allowed": false}),
    }
}

fn own_access(context: &Context, review: &Value) -> Result<Value, Status> {
    Ok(decide(context, &context.user, &review["spec"]))
}

fn access(context: &Context, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let groups = object::list(spec, &["groups"])
        .iter()
        .filter_map(Value::as_str);
    let user = User {
        name: object::text(spec, &["user"]).to_owned(),
        groups: groups.map(str::to_owned).collect(),
        ..User::default()
    };
    Ok(decide(context, &user, spec))
}

fn own_rules(context: &Context, _: &Value) -> Result<Value, Status> {
    if context.user.is_in(crate::identity::MASTERS) {
        return Ok(json!({
            "incomplete": false,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }));
    }
    Ok(json!({
        "incomplete": true,
        "evaluationError": "only the rules of system:masters can be listed",
        "resourceRules": [],
        "nonResourceRules": [],
    }))
}
