//! Who asks, and what they may do.

mod attributes;
mod authentication;
mod authorizer;
mod impersonation;
mod node;
mod rbac;
mod request_header;
mod service_accounts;

pub use attributes::Attributes;
pub use authentication::{Authentication, Certified, Tokens, user_of_certificate};
pub use authorizer::{Authorizer, Decision, Mode};
pub use request_header::RequestHeader;
pub use service_accounts::{ServiceAccounts, TokenSettings, service_account_name};

pub(crate) use attributes::verb;
pub(crate) use impersonation::{impersonate, wanted_user};
pub(crate) use node::node_of;
pub(crate) use rbac::{Rule, check_grants, subjects_of, uncovered};
pub(crate) use service_accounts::{note_used, populate_secrets, request_token};

use std::collections::BTreeMap;

use model::object;
use serde_json::{Value, json};

use crate::context::Context;

/// The group of cluster administrators, who may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of everyone who has proven who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone who has not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of those who present nothing.
pub const ANONYMOUS: &str = "system:anonymous";

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// The name.
    pub name: String,
    /// The uid, empty where there is none.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user in groups; everyone who has a name is also in `system:authenticated`.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self {
            name: name.to_owned(),
            groups,
            ..Self::default()
        }
    }

    /// Who presents nothing.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// A cluster administrator.
    pub fn admin() -> Self {
        Self::new("admin", &[MASTERS])
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// A request for a certificate says who made it; the server alone knows.
pub(crate) fn note_requester(context: &Context, object: &mut Value) {
    let gvr = &context.definition.gvr;
    if gvr.resource != "certificatesigningrequests" || gvr.group != "certificates.k8s.io" {
        return;
    }
    let user = &context.user;
    let spec = object::child_mut(object, "spec");
    for (field, value) in [
        ("username", json!(user.name)),
        ("uid", json!(user.uid)),
        ("groups", json!(user.groups)),
        ("extra", json!(user.extra)),
    ] {
        let empty = value == "" || value == json!([]) || value == json!({});
        if empty {
            spec.remove(field);
        } else {
            spec.insert(field.to_owned(), value);
        }
    }
}
