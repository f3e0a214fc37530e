//! The Node mode: a node may do what nodes have to do, to objects that have to do with it.
//!
//! A node is known by its name (`system:node:NAME`) and group (`system:nodes`).

mod graph;

use model::{LabelRequirement, Operator};

pub(crate) use graph::Graph;
use graph::Kind;

use super::{Attributes, Decision, Rule, User};

/// The group of all nodes.
pub const GROUP: &str = "system:nodes";

/// The name of the node a user is.
pub fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.is_in(GROUP).then_some(name)
}

/// Decides for a node, given what is related to it and what every node may do.
pub fn decide(graph: &Graph, rules: &[Rule], user: &User, wanted: &Attributes) -> Decision {
    let Some(node) = node_of(user) else {
        return Decision::NoOpinion(String::new());
    };
    if node.is_empty() {
        return no(format!("unknown node for user {:?}", user.name));
    }
    let asked = Asked {
        graph,
        node,
        wanted,
    };
    let resource = (wanted.group.as_str(), wanted.resource.as_str());
    match resource {
        ("", "secrets") => asked.read(Kind::Secret),
        ("", "configmaps") => asked.read(Kind::ConfigMap),
        ("", "persistentvolumeclaims") if wanted.subresource == "status" => {
            match wanted.verb.as_str() {
                "update" | "patch" => asked.related(Kind::Claim),
                _ => no("can only get/update/patch this type"),
            }
        }
        ("", "persistentvolumeclaims") => asked.get(Kind::Claim),
        ("", "persistentvolumes") => asked.get(Kind::Volume),
        ("resource.k8s.io", "resourceclaims") => asked.get(Kind::ResourceClaim),
        ("storage.k8s.io", "volumeattachments") => asked.get(Kind::Attachment),
        ("", "serviceaccounts") => asked.service_account(),
        ("coordination.k8s.io", "leases") => asked.lease(),
        ("storage.k8s.io", "csinodes") => asked.csi_node(),
        ("resource.k8s.io", "resourceslices") => asked.resource_slice(),
        ("", "nodes") => asked.node(),
        ("", "pods") => asked.pod(),
        _ if rules.iter().any(|rule| rule.allows(wanted)) => yes(),
        _ => no(""),
    }
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

fn no(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

struct Asked<'a> {
    graph: &'a Graph,
    node: &'a str,
    wanted: &'a Attributes,
}

impl Asked<'_> {
    fn verb(&self) -> &str {
        &self.wanted.verb
    }

    fn related(&self, kind: Kind) -> Decision {
        let Attributes {
            namespace, name, ..
        } = self.wanted;
        if name.is_empty() {
            return no("No Object name found");
        }
        if self.graph.relates(self.node, kind, namespace, name) {
            return yes();
        }
        no(format!(
            "no relationship found between node '{}' and this object",
            self.node
        ))
    }

    fn get(&self, kind: Kind) -> Decision {
        if self.verb() != "get" {
            return no("can only get individual resources of this type");
        }
        if !self.wanted.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(kind)
    }

    fn read(&self, kind: Kind) -> Decision {
        if !matches!(self.verb(), "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !self.wanted.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if self.wanted.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(kind)
    }

    fn service_account(&self) -> Decision {
        if self.verb() == "get" && self.wanted.subresource.is_empty() {
            return self.read(Kind::ServiceAccount);
        }
        if self.verb() != "create" || self.wanted.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if self.wanted.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(Kind::ServiceAccount)
    }

    /// Verbs on one's own object; admission checks the name of a new one.
    fn own(&self, what: &str, verbs: &str) -> Decision {
        if !matches!(
            self.verb(),
            "get" | "create" | "update" | "patch" | "delete"
        ) {
            return no(verbs);
        }
        if self.verb() != "create" && self.wanted.name != self.node {
            return no(format!(
                "can only access {what} with the same name as the requesting node"
            ));
        }
        yes()
    }

    fn lease(&self) -> Decision {
        let verbs = "can only get, create, update, patch, or delete a node lease";
        match self.own("node lease", verbs) {
            Decision::NoOpinion(why) if why == verbs => no(why),
            _ if self.wanted.namespace != "kube-node-lease" => {
                no("can only access leases in the \"kube-node-lease\" system namespace")
            }
            decision => decision,
        }
    }

    fn csi_node(&self) -> Decision {
        let verbs = "can only get, create, update, patch, or delete a CSINode";
        match self.own("CSINode", verbs) {
            Decision::NoOpinion(why) if why == verbs => no(why),
            _ if !self.wanted.subresource.is_empty() => no("cannot authorize CSINode subresources"),
            decision => decision,
        }
    }

    /// Whether the request is only about what has a field set to this node.
    fn selects(&self, field: &str) -> bool {
        let is_own = |requirement: &LabelRequirement| {
            requirement.key == field
                && requirement.operator == Operator::In
                && requirement.values == [self.node]
        };
        self.wanted.field_selector.iter().any(is_own)
    }

    fn resource_slice(&self) -> Decision {
        if !self.wanted.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match self.verb() {
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(Kind::Slice),
            "watch" | "list" | "deletecollection" if self.selects("spec.nodeName") => yes(),
            "watch" | "list" | "deletecollection" => no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn node(&self) -> Decision {
        let (node, name) = (self.node, &self.wanted.name);
        match (self.wanted.subresource.as_str(), self.verb()) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
            ("", "get" | "list" | "watch") if name == node => yes(),
            ("", "get" | "list" | "watch") if name.is_empty() => no(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            ("", "get" | "list" | "watch") => no(format!(
                "node '{node}' cannot read '{name}', only its own Node object"
            )),
            _ => no(""),
        }
    }

    fn pod(&self) -> Decision {
        match (self.wanted.subresource.as_str(), self.verb()) {
            ("", "get") => self.get(Kind::Pod),
            ("", "list" | "watch") if self.selects("spec.nodeName") => yes(),
            ("", "list" | "watch") if !self.wanted.name.is_empty() => self.related(Kind::Pod),
            ("", "list" | "watch") => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                yes()
            }
            _ => no(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_do_what_concerns_it() {
        let graph = Graph::default();
        let node = User::new("system:node:n", &[GROUP]);
        let check = |verb: &str, what: &str, expect: &str| {
            let (namespace, what) = what.split_once(':').unwrap_or(("", what));
            let mut parts = what.split('/');
            let mut next = || parts.next().unwrap_or_default().to_owned();
            let (resource, name, subresource) = (next(), next(), next());
            let group = match resource.as_str() {
                "leases" => "coordination.k8s.io",
                "csinodes" => "storage.k8s.io",
                _ => "",
            };
            let wanted = Attributes {
                verb: verb.to_owned(),
                group: group.to_owned(),
                namespace: namespace.to_owned(),
                resource,
                name,
                subresource,
                ..Attributes::default()
            };
            let decision = decide(&graph, &[], &node, &wanted);
            let text = if decision.is_allowed() {
                "yes"
            } else {
                decision.reason()
            };
            assert_eq!(text, expect, "{verb} {what}");
        };
        check("get", "nodes/n", "yes");
        check(
            "list",
            "nodes",
            "node 'n' cannot read all nodes, only its own Node object",
        );
        check(
            "get",
            "nodes/m",
            "node 'n' cannot read 'm', only its own Node object",
        );
        check("patch", "nodes/n/status", "yes");
        check("delete", "nodes/n", "");
        check("update", "kube-node-lease:leases/n", "yes");
        check(
            "update",
            "kube-node-lease:leases/m",
            "can only access node lease with the same name as the requesting node",
        );
        check(
            "get",
            "a:leases/n",
            "can only access leases in the \"kube-node-lease\" system namespace",
        );
        check("get", "csinodes/n", "yes");
        check(
            "list",
            "a:pods",
            "can only list/watch pods with spec.nodeName field selector",
        );
        check(
            "get",
            "a:secrets/s",
            "no relationship found between node 'n' and this object",
        );
        check(
            "list",
            "secrets",
            "can only read namespaced object of this type",
        );
        assert_eq!(node_of(&User::new("system:node:n", &[])), None);
    }
}
