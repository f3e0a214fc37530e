//! Authorization: the modes in order, and what each says.

use std::str::FromStr;
use std::sync::Arc;

use parking_lot::RwLockReadGuard;
use store::Store;

use super::node::{self, Graph};
use super::rbac::{Policy, Rule};
use super::{Attributes, MASTERS, User};
use crate::bootstrap;
use crate::follow::Followed;

/// Whether a request may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No rule allows it; what was in the way of knowing, where something was.
    NoOpinion(String),
}

impl Decision {
    /// Whether the answer is yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The reason given, empty where there is none.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// A way of deciding, as `--authorization-mode` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What concerns nodes, for nodes.
    Node,
    /// Role based access control.
    Rbac,
    /// Everything is allowed.
    AlwaysAllow,
    /// Nothing is allowed.
    AlwaysDeny,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Node" => Ok(Self::Node),
            "RBAC" => Ok(Self::Rbac),
            "AlwaysAllow" => Ok(Self::AlwaysAllow),
            "AlwaysDeny" => Ok(Self::AlwaysDeny),
            "Webhook" | "ABAC" => Err(format!(
                "{text} is not served; use Node, RBAC, AlwaysAllow or AlwaysDeny"
            )),
            _ => Err(format!(
                "{text:?} is not a valid mode; use Node, RBAC, AlwaysAllow or AlwaysDeny"
            )),
        }
    }
}

/// Decides who may do what.
pub struct Authorizer {
    store: Arc<dyn Store>,
    modes: Vec<Mode>,
    policy: Followed<Policy>,
    graph: Followed<Graph>,
    /// What every node may do.
    node_rules: Vec<Rule>,
}

impl Authorizer {
    /// An authorizer of modes, asked in order.
    pub fn new(store: Arc<dyn Store>, modes: &[Mode]) -> Self {
        Self {
            store,
            modes: modes.to_vec(),
            policy: Followed::default(),
            graph: Followed::default(),
            node_rules: bootstrap::rules_of("system:node"),
        }
    }

    /// Decides. Members of `system:masters` may do everything, whatever the modes.
    pub fn authorize(&self, user: &User, wanted: &Attributes) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        for mode in &self.modes {
            match self.ask(*mode, user, wanted) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                allow @ Decision::Allow(_) => return allow,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    fn ask(&self, mode: Mode, user: &User, wanted: &Attributes) -> Decision {
        match mode {
            // Those that are no nodes must not pay for the graph.
            Mode::Node if node::node_of(user).is_none() => Decision::NoOpinion(String::new()),
            Mode::Node => {
                let graph = self.graph.read(self.store.as_ref());
                node::decide(&graph, &self.node_rules, user, wanted)
            }
            Mode::AlwaysAllow => Decision::Allow(String::new()),
            Mode::AlwaysDeny => Decision::NoOpinion("Everything is forbidden.".to_owned()),
            Mode::Rbac => match self.policy().decide(user, wanted) {
                Ok(binding) => Decision::Allow(format!("RBAC: allowed by {binding}")),
                Err(why) if why.is_empty() => Decision::NoOpinion(why),
                Err(why) => Decision::NoOpinion(format!("RBAC: {why}")),
            },
        }
    }

    /// Roles and bindings, as of now.
    pub(crate) fn policy(&self) -> RwLockReadGuard<'_, Policy> {
        self.policy.read(self.store.as_ref())
    }
}
