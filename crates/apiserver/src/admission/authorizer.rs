//! What expressions may ask: who may do what.

use std::fmt;
use std::sync::Arc;

use cel_kube::{AuthorizationAttributes, AuthorizationDecision, Authorizer};

use super::Request;
use crate::identity::{Attributes, User};
use crate::server::State;

/// Answers for the user of a request, or for a service account an expression names.
pub struct RequestAuthorizer {
    state: Arc<State>,
    user: User,
}

impl fmt::Debug for RequestAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestAuthorizer")
            .field(&self.user.name)
            .finish()
    }
}

impl RequestAuthorizer {
    /// The authorizer of a request, and the request's own resource.
    pub fn of(request: &Request<'_>, name: &str) -> (Arc<dyn Authorizer>, AuthorizationAttributes) {
        let context = request.context;
        let gvr = &context.definition.gvr;
        let authorizer = Self {
            state: context.state.clone(),
            user: context.user.clone(),
        };
        let attributes = AuthorizationAttributes {
            group: gvr.group.clone(),
            resource: gvr.resource.clone(),
            subresource: request.subresource.to_owned(),
            namespace: request.namespace().to_owned(),
            name: name.to_owned(),
            ..AuthorizationAttributes::default()
        };
        (Arc::new(authorizer), attributes)
    }
}

impl Authorizer for RequestAuthorizer {
    fn authorize(&self, asked: &AuthorizationAttributes) -> AuthorizationDecision {
        let account = asked.service_account.as_ref().map(|(namespace, name)| {
            let all = "system:serviceaccounts";
            User::new(
                &format!("system:serviceaccount:{namespace}:{name}"),
                &[all, &format!("{all}:{namespace}")],
            )
        });
        let attributes = Attributes {
            verb: asked.verb.clone(),
            group: asked.group.clone(),
            resource: asked.resource.clone(),
            subresource: asked.subresource.clone(),
            namespace: asked.namespace.clone(),
            name: asked.name.clone(),
            path: asked.path.clone().unwrap_or_default(),
            ..Attributes::default()
        };
        let user = account.as_ref().unwrap_or(&self.user);
        let decision = self.state.authorizer.authorize(user, &attributes);
        AuthorizationDecision {
            allowed: decision.is_allowed(),
            reason: decision.reason().to_owned(),
            error: None,
        }
    }
}
