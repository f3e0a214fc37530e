//! Role based access control: rules, the index of who is bound to which, and who may grant what.

mod escalation;
mod policy;
mod rule;

pub(crate) use escalation::check_grants;
pub(crate) use policy::{Policy, subjects_of};
pub(crate) use rule::{Rule, uncovered};

/// The group of the resources.
pub const GROUP: &str = "rbac.authorization.k8s.io";
