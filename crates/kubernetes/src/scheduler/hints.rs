//! Which changes in the cluster may help which Pods: everybody else is not tried again. Pure.

use super::node_info::Node;
use super::pod_info::{PodInfo, PodTerm};
use super::profile::{Plugin, PluginSet};
use super::world::World;
use crate::taints;

/// Something has changed.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A node is there (no `old`), or has changed.
    Node {
        /// As it was.
        old: Option<&'a Node>,
        /// As it is.
        new: &'a Node,
    },
    /// A node is gone.
    NodeGone,
    /// A Pod is on a node (no `old`), or one on a node has changed.
    Placed {
        /// As it was.
        old: Option<&'a PodInfo>,
        /// As it is.
        new: &'a PodInfo,
    },
    /// A Pod has left its node.
    Left(&'a PodInfo),
    /// A claim, volume or storage class.
    Storage,
    /// What the storage drivers say of nodes, themselves or the room they have.
    Driver,
    /// The labels of a namespace.
    Namespace,
}

/// Whether a change may help a Pod that was refused by these plugins.
pub fn helps(pod: &PodInfo, refused_by: PluginSet, change: Change<'_>, world: &World) -> bool {
    refused_by.iter().any(|plugin| match change {
        Change::Node { old, new } => node_helps(pod, plugin, old, new),
        Change::NodeGone => plugin == Plugin::PodTopologySpread,
        Change::Placed { old, new } => placed_helps(pod, plugin, old, new, world),
        Change::Left(other) => left_helps(pod, plugin, other, world),
        Change::Storage => matches!(
            plugin,
            Plugin::VolumeBinding
                | Plugin::VolumeZone
                | Plugin::VolumeRestrictions
                | Plugin::NodeVolumeLimits
        ),
        Change::Driver => matches!(plugin, Plugin::VolumeBinding | Plugin::NodeVolumeLimits),
        Change::Namespace => plugin == Plugin::InterPodAffinity,
    })
}

/// Whether a node has become one that a plugin would not refuse.
fn node_helps(pod: &PodInfo, plugin: Plugin, old: Option<&Node>, new: &Node) -> bool {
    let turns = |good: &dyn Fn(&Node) -> bool| good(new) && !old.is_some_and(good);
    let relabelled = old.is_none_or(|old| {
        let labels = |node: &Node| model::object::labels(node.object.value()).cloned();
        labels(old) != labels(new)
    });
    match plugin {
        Plugin::NodeUnschedulable => turns(&|node| !node.is_unschedulable),
        Plugin::NodeName => old.is_none(),
        Plugin::TaintToleration => turns(&|node| taints::admits(&node.taints, &pod.tolerations)),
        Plugin::NodeAffinity => turns(&|node| pod.nodes.matches(&node.object)),
        Plugin::NodePorts => old.is_none(),
        Plugin::NodeResourcesFit => {
            let grown = old.is_none_or(|old| old.allocatable != new.allocatable);
            grown && fits_alone(pod, new)
        }
        Plugin::VolumeBinding | Plugin::VolumeZone | Plugin::NodeVolumeLimits => relabelled,
        Plugin::PodTopologySpread => relabelled || old.is_some_and(|old| old.taints != new.taints),
        Plugin::InterPodAffinity => relabelled,
        _ => false,
    }
}

fn fits_alone(pod: &PodInfo, node: &Node) -> bool {
    let (wanted, there) = (&pod.requests.exact, &node.allocatable);
    let fits = |name: &str| wanted.get(name) <= there.amounts.get(name);
    there.pods > 0
        && ["cpu", "memory", "ephemeral-storage"]
            .iter()
            .all(|name| fits(name))
        && wanted.other.keys().all(|name| fits(name))
}

fn placed_helps(
    pod: &PodInfo,
    plugin: Plugin,
    old: Option<&PodInfo>,
    new: &PodInfo,
    world: &World,
) -> bool {
    let relabelled = old.is_none_or(|old| old.labels() != new.labels());
    match plugin {
        Plugin::PodTopologySpread => relabelled && is_counted(pod, new),
        Plugin::InterPodAffinity => {
            relabelled
                && (any_matches(&pod.affinity, new, world)
                    || old.is_some_and(|old| any_matches(&pod.anti_affinity, old, world)))
        }
        Plugin::NodeResourcesFit => old.is_some_and(|old| {
            let (old, new) = (&old.requests.exact, &new.requests.exact);
            old != new && (new.cpu < old.cpu || new.memory < old.memory)
        }),
        _ => false,
    }
}

fn left_helps(pod: &PodInfo, plugin: Plugin, other: &PodInfo, world: &World) -> bool {
    match plugin {
        Plugin::NodeResourcesFit => true,
        Plugin::NodePorts => pod
            .ports
            .iter()
            .any(|own| other.ports.iter().any(|taken| own.conflicts(taken))),
        Plugin::VolumeRestrictions => !other.volumes().is_empty(),
        Plugin::NodeVolumeLimits => !other.claims.is_empty(),
        Plugin::PodTopologySpread => is_counted(pod, other),
        Plugin::InterPodAffinity => {
            any_matches(&pod.anti_affinity, other, world)
                || any_matches(&other.anti_affinity, pod, world)
        }
        _ => false,
    }
}

/// Whether a spread of the Pod counts another.
fn is_counted(pod: &PodInfo, other: &PodInfo) -> bool {
    pod.key.namespace == other.key.namespace
        && pod
            .spreads
            .iter()
            .any(|spread| spread.selector.matches(other.labels()))
}

fn any_matches(terms: &[PodTerm], other: &PodInfo, world: &World) -> bool {
    let namespace = world.namespace(&other.key.namespace);
    terms.iter().any(|term| term.matches(other, namespace))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use controller::Object;
    use serde_json::{Value, json};

    fn node(spec: Value, cpu: &str) -> Node {
        Node::new(Arc::new(Object::new(json!({
            "metadata": {"name": "n", "labels": {"zone": "a"}},
            "spec": spec,
            "status": {"allocatable": {"cpu": cpu, "pods": "9"}},
        }))))
    }

    fn pod(name: &str, spec: Value) -> PodInfo {
        PodInfo::new(Arc::new(Object::new(json!({
            "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": name}},
            "spec": spec,
        }))))
    }

    fn check(pod: &PodInfo, plugin: Plugin, change: Change<'_>, expect: bool) {
        let refused_by = [plugin].into_iter().collect();
        let found = helps(pod, refused_by, change, &World::default());
        assert_eq!(found, expect, "{plugin} {change:?}");
    }

    #[test]
    fn nodes_help_who_they_were_wrong_for() {
        let big = pod(
            "p",
            json!({"containers": [{"resources": {"requests": {"cpu": "2"}}}]}),
        );
        let (small, large) = (node(json!({}), "1"), node(json!({}), "4"));
        let added = |new| Change::Node { old: None, new };
        check(&big, Plugin::NodeResourcesFit, added(&small), false);
        check(&big, Plugin::NodeResourcesFit, added(&large), true);
        let same = Change::Node {
            old: Some(&large),
            new: &large,
        };
        check(&big, Plugin::NodeResourcesFit, same, false);
        let cordoned = node(json!({"unschedulable": true}), "4");
        let uncordon = Change::Node {
            old: Some(&cordoned),
            new: &large,
        };
        check(&big, Plugin::NodeUnschedulable, uncordon, true);
        check(&big, Plugin::NodeUnschedulable, same, false);
        check(&big, Plugin::TaintToleration, uncordon, false);
    }

    #[test]
    fn pods_that_leave_help_who_was_in_their_way() {
        let port = json!({"containers": [{"ports": [{"hostPort": 80}]}]});
        let (own, other) = (pod("p", port.clone()), pod("q", port));
        check(&own, Plugin::NodePorts, Change::Left(&other), true);
        check(
            &own,
            Plugin::NodePorts,
            Change::Left(&pod("r", json!({}))),
            false,
        );
        check(&own, Plugin::NodeResourcesFit, Change::Left(&other), true);
        check(&own, Plugin::NodeAffinity, Change::Left(&other), false);
        let apart = json!({"affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "q"}}}]}}});
        let apart = pod("p", apart);
        check(&apart, Plugin::InterPodAffinity, Change::Left(&other), true);
        check(
            &apart,
            Plugin::InterPodAffinity,
            Change::Left(&pod("r", json!({}))),
            false,
        );
    }
}
