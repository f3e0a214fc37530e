//! One decision: which nodes take a Pod, and which of them is best. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::diagnosis::{Diagnosis, Refusal};
use super::inter_pod::{self, AffinityFilter};
use super::lookup::Lookup;
use super::node_info::{Node, NodeInfo};
use super::pod_info::PodInfo;
use super::profile::{Plugin, Profile};
use super::random::Random;
use super::score;
use super::spread::{self, SpreadFilter};
use super::volumes::{Needs, Reservations, VolumeFilter};
use super::world::{Slot, World};
use crate::taints::{self, Effect, Taint};

/// What stands behind a decision, besides the nodes.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// How the Pod is judged.
    pub profile: &'a Profile,
    /// Other objects.
    pub lookup: &'a dyn Lookup,
    /// What decisions on their way have taken.
    pub reserved: &'a Reservations,
}

/// A node for a Pod.
#[derive(Debug)]
pub struct Decision {
    /// The node's name.
    pub node: String,
    /// What has to be written before.
    pub needs: Needs,
}

/// What was counted for the Pod once, for all nodes.
#[derive(Clone, Default)]
pub struct Counts {
    spread: Option<SpreadFilter>,
    affinity: Option<AffinityFilter>,
    volumes: Option<VolumeFilter>,
}

/// The filters of one Pod.
pub struct Cycle<'a> {
    /// The Pod.
    pub pod: &'a Arc<PodInfo>,
    around: Surroundings<'a>,
    /// What was counted at the start.
    pub counts: Counts,
}

impl<'a> Cycle<'a> {
    /// Counts what the filters need. An error rules out every node.
    pub fn new(
        pod: &'a Arc<PodInfo>,
        around: Surroundings<'a>,
        world: &mut World,
    ) -> Result<Self, Refusal> {
        let Surroundings {
            profile, lookup, ..
        } = around;
        let volumes = if profile.has(Plugin::VolumeBinding) {
            VolumeFilter::new(pod, profile, lookup, world)?
        } else {
            None
        };
        let spread = profile
            .has(Plugin::PodTopologySpread)
            .then(|| SpreadFilter::new(pod, profile, lookup, world))
            .flatten();
        let affinity = profile
            .has(Plugin::InterPodAffinity)
            .then(|| AffinityFilter::new(pod, world))
            .flatten();
        let counts = Counts {
            spread,
            affinity,
            volumes,
        };
        Ok(Self {
            pod,
            around,
            counts,
        })
    }

    /// In thought, another Pod comes to a node (`by` 1) or leaves it (-1).
    pub fn update(
        &self,
        counts: &mut Counts,
        other: &PodInfo,
        node: &Node,
        by: i64,
        world: &World,
    ) {
        if let Some(spread) = &mut counts.spread {
            spread.update(self.pod, other, node, by);
        }
        if let Some(affinity) = &mut counts.affinity {
            affinity.update(self.pod, other, node, by, world);
        }
        if let Some(volumes) = &mut counts.volumes {
            volumes.update(self.pod, other, self.around.lookup, by);
        }
    }

    /// Whether a node takes the Pod, also when those come that room is being made for there.
    pub fn check(&self, counts: &Counts, info: &NodeInfo, world: &World) -> Result<Needs, Refusal> {
        let Some(node) = info.node.clone() else {
            return Err(Refusal::unresolvable(Plugin::NodeName, "node(s) are gone"));
        };
        let ahead = |other: &&Arc<PodInfo>| {
            other.priority >= self.pod.priority && other.uid() != self.pod.uid()
        };
        let nominated: Vec<&Arc<PodInfo>> =
            world.nominated(node.name()).iter().filter(ahead).collect();
        if !nominated.is_empty() {
            let (mut crowded, mut more) = (info.clone(), counts.clone());
            for other in nominated {
                crowded.add(other.clone());
                self.update(&mut more, other, &node, 1, world);
            }
            self.check_one(&more, &crowded, &node)?;
        }
        // And when they do not come: the Pod must not rely on them.
        self.check_one(counts, info, &node)
    }

    fn check_one(&self, counts: &Counts, info: &NodeInfo, node: &Node) -> Result<Needs, Refusal> {
        let (
            pod,
            Surroundings {
                profile,
                lookup,
                reserved,
            },
        ) = (self.pod, self.around);
        let asked = |plugin: Plugin| profile.has(plugin);
        if asked(Plugin::NodeUnschedulable) {
            check_cordon(pod, node)?;
        }
        if asked(Plugin::NodeName)
            && !matches!(pod.node(), name if name.is_empty() || name == node.name())
        {
            let why = "node(s) didn't match the requested node name";
            return Err(Refusal::unresolvable(Plugin::NodeName, why));
        }
        if asked(Plugin::TaintToleration) && !taints::admits(&node.taints, &pod.tolerations) {
            let why = "node(s) had untolerated taint(s)";
            return Err(Refusal::unresolvable(Plugin::TaintToleration, why));
        }
        if asked(Plugin::NodeAffinity) {
            self.check_affinity(node)?;
        }
        if asked(Plugin::NodePorts) {
            check_ports(pod, info)?;
        }
        if asked(Plugin::NodeResourcesFit) {
            check_fit(pod, info, node, profile)?;
        }
        let mut needs = Needs::default();
        if let Some(volumes) = &counts.volumes {
            if asked(Plugin::VolumeRestrictions) {
                volumes.check_restrictions(pod, info)?;
            }
            if asked(Plugin::NodeVolumeLimits) {
                volumes.check_limits(info, node, lookup)?;
            }
            needs = volumes.check_binding(node, lookup, reserved)?;
            if asked(Plugin::VolumeZone) {
                volumes.check_zones(node)?;
            }
        }
        if let Some(spread) = &counts.spread {
            spread.check(pod, node)?;
        }
        if let Some(affinity) = &counts.affinity {
            affinity.check(node)?;
        }
        Ok(needs)
    }

    fn check_affinity(&self, node: &Node) -> Result<(), Refusal> {
        let added = self.around.profile.added_affinity.as_ref();
        if added.is_some_and(|terms| !terms.iter().any(|term| term.matches(&node.object))) {
            let why = "node(s) didn't match scheduler-enforced node affinity";
            return Err(Refusal::unresolvable(Plugin::NodeAffinity, why));
        }
        if !self.pod.nodes.is_empty() && !self.pod.nodes.matches(&node.object) {
            let why = "node(s) didn't match Pod's node affinity/selector";
            return Err(Refusal::unresolvable(Plugin::NodeAffinity, why));
        }
        Ok(())
    }
}

/// The taint that stands for a cordon.
pub fn cordon() -> Taint {
    Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        value: String::new(),
        effect: Effect::NoSchedule,
    }
}

fn check_cordon(pod: &PodInfo, node: &Node) -> Result<(), Refusal> {
    if node.is_unschedulable && !taints::tolerated(&cordon(), &pod.tolerations) {
        let why = "node(s) were unschedulable";
        return Err(Refusal::unresolvable(Plugin::NodeUnschedulable, why));
    }
    Ok(())
}

fn check_ports(pod: &PodInfo, info: &NodeInfo) -> Result<(), Refusal> {
    if pod.ports.is_empty() || info.with_ports == 0 {
        return Ok(());
    }
    let taken = info.pods.iter().flat_map(|other| &other.ports);
    let conflicts =
        |taken: &super::pod_info::HostPort| pod.ports.iter().any(|own| own.conflicts(taken));
    if taken.into_iter().any(conflicts) {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return Err(Refusal::resolvable(Plugin::NodePorts, why));
    }
    Ok(())
}

fn check_fit(
    pod: &PodInfo,
    info: &NodeInfo,
    node: &Node,
    profile: &Profile,
) -> Result<(), Refusal> {
    let (wanted, there) = (&pod.requests.exact, &node.allocatable);
    let mut refusal = Refusal {
        plugin: Plugin::NodeResourcesFit,
        reasons: Vec::new(),
        is_resolvable: true,
    };
    if info.pods.len() as i64 + 1 > there.pods {
        refusal.reasons.push("Too many pods".into());
    }
    if !wanted.is_zero() {
        let own = [
            ("cpu", "Insufficient cpu"),
            ("memory", "Insufficient memory"),
            ("ephemeral-storage", "Insufficient ephemeral-storage"),
        ];
        for (name, why) in own {
            let (asked, all) = (wanted.get(name), there.amounts.get(name));
            if asked > 0 && asked > all - info.requested.get(name) {
                refusal.reasons.push(why.into());
                refusal.is_resolvable &= asked <= all;
            }
        }
        for (name, asked) in &wanted.other {
            let all = there.amounts.get(name);
            let group = name.split('/').next().unwrap_or_default();
            let ignored = profile.ignored_resources.contains(name)
                || profile
                    .ignored_resource_groups
                    .iter()
                    .any(|own| own == group);
            if *asked > 0 && !ignored && *asked > all - info.requested.get(name) {
                refusal.reasons.push(format!("Insufficient {name}").into());
                refusal.is_resolvable &= *asked <= all;
            }
        }
    }
    if refusal.reasons.is_empty() {
        Ok(())
    } else {
        Err(refusal)
    }
}

/// Why no node takes a Pod.
pub struct Failure<'a> {
    /// Why.
    pub diagnosis: Diagnosis,
    /// What was counted, where it came to that.
    pub cycle: Option<Cycle<'a>>,
}

fn failure(diagnosis: Diagnosis, cycle: Option<Cycle<'_>>) -> Box<Failure<'_>> {
    Box::new(Failure { diagnosis, cycle })
}

/// Chooses a node for a Pod; or says why there is none, with what was counted, for preemption.
pub fn decide<'a>(
    pod: &'a Arc<PodInfo>,
    around: Surroundings<'a>,
    world: &mut World,
    random: &mut Random,
    start: &mut usize,
) -> Result<Decision, Box<Failure<'a>>> {
    let nodes = world.nodes();
    let mut diagnosis = Diagnosis {
        nodes: nodes.len(),
        ..Diagnosis::default()
    };
    if nodes.is_empty() {
        return Err(failure(diagnosis, None));
    }
    let cycle = match Cycle::new(pod, around, world) {
        Ok(cycle) => cycle,
        Err(refusal) => {
            diagnosis.plugins.insert(refusal.plugin);
            diagnosis.everywhere = Some((refusal.reasons.join(", "), refusal.is_resolvable));
            return Err(failure(diagnosis, None));
        }
    };
    let names = pod
        .nodes
        .names()
        .filter(|_| around.profile.has(Plugin::NodeAffinity));
    if names.as_ref().is_some_and(BTreeSet::is_empty) {
        diagnosis.plugins.insert(Plugin::NodeAffinity);
        diagnosis.everywhere = Some(("pod affinity terms conflict".to_owned(), false));
        return Err(failure(diagnosis, Some(cycle)));
    }
    let mut found = nominated(&cycle, world).into_iter().collect::<Vec<_>>();
    if found.is_empty() {
        found = match &names {
            Some(names) => {
                diagnosis.absent = Some("node(s) didn't satisfy plugin(s) [NodeAffinity]".into());
                let named = names
                    .iter()
                    .filter_map(|name| world.find(name))
                    .collect::<Vec<_>>();
                feasible(&cycle, world, &named, 0, named.len(), &mut diagnosis)
            }
            None => {
                let enough = around.profile.enough_nodes(nodes.len());
                let found = feasible(&cycle, world, &nodes, *start, enough, &mut diagnosis);
                *start = (*start + found.len() + diagnosis.refused.len()) % nodes.len();
                found
            }
        };
    }
    if found.is_empty() {
        if names.is_some() {
            diagnosis.plugins.insert(Plugin::NodeAffinity);
        }
        return Err(failure(diagnosis, Some(cycle)));
    }
    let best = best(&cycle, world, &found, nodes.len(), random);
    let (slot, needs) = found.swap_remove(best);
    let node = world
        .slot(slot)
        .node
        .as_deref()
        .map_or("", Node::name)
        .to_owned();
    Ok(Decision { node, needs })
}

/// The node room has been made on, if it takes the Pod.
fn nominated(cycle: &Cycle<'_>, world: &World) -> Option<(Slot, Needs)> {
    let name = match world.nomination(cycle.pod.uid()) {
        Some(name) => name,
        None => cycle.pod.nominated_node(),
    };
    let slot = world.find(name)?;
    let needs = cycle.check(&cycle.counts, world.slot(slot), world).ok()?;
    Some((slot, needs))
}

/// Nodes that take the Pod, from `start` on, until there are enough.
fn feasible(
    cycle: &Cycle<'_>,
    world: &World,
    nodes: &[Slot],
    start: usize,
    enough: usize,
    diagnosis: &mut Diagnosis,
) -> Vec<(Slot, Needs)> {
    let mut found = Vec::new();
    for at in 0..nodes.len() {
        let slot = nodes[(start + at) % nodes.len()];
        match cycle.check(&cycle.counts, world.slot(slot), world) {
            Ok(needs) => found.push((slot, needs)),
            Err(refusal) => {
                diagnosis.plugins.insert(refusal.plugin);
                diagnosis.refused.push((slot, refusal));
            }
        }
        if found.len() >= enough {
            break;
        }
    }
    found
}

/// Which of several nodes is best.
fn best(
    cycle: &Cycle<'_>,
    world: &mut World,
    found: &[(Slot, Needs)],
    nodes: usize,
    random: &mut Random,
) -> usize {
    if found.len() == 1 {
        return 0;
    }
    let slots: Vec<Slot> = found.iter().map(|(slot, _)| *slot).collect();
    let totals = totals(cycle, world, &slots, nodes);
    let most = totals.iter().copied().max().unwrap_or(0);
    let equal: Vec<usize> = (0..totals.len()).filter(|at| totals[*at] == most).collect();
    equal[random.below(equal.len())]
}

/// The weighted sums of all scores.
fn totals(cycle: &Cycle<'_>, world: &mut World, slots: &[Slot], nodes: usize) -> Vec<i64> {
    let (
        pod,
        Surroundings {
            profile, lookup, ..
        },
    ) = (cycle.pod, cycle.around);
    let mut totals = vec![0; slots.len()];
    let mut add = |plugin: Plugin, scores: &[i64]| {
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * profile.weight(plugin);
        }
    };
    let asked = |plugin: Plugin| profile.weight(plugin) > 0;
    if asked(Plugin::PodTopologySpread)
        && let Some(scores) = spread::score(pod, profile, lookup, world, slots)
    {
        add(Plugin::PodTopologySpread, &scores);
    }
    let world = &*world;
    if asked(Plugin::InterPodAffinity)
        && let Some(scores) = inter_pod::score(pod, profile, world, slots)
    {
        add(Plugin::InterPodAffinity, &scores);
    }
    let mut each =
        |plugin: Plugin, score: &dyn Fn(&NodeInfo, &Node) -> i64, scaled: Option<bool>| {
            if !asked(plugin) {
                return;
            }
            let of = |slot: &Slot| {
                let info = world.slot(*slot);
                info.node.as_deref().map_or(0, |node| score(info, node))
            };
            let mut scores: Vec<i64> = slots.iter().map(of).collect();
            if let Some(reverse) = scaled {
                score::normalize(&mut scores, reverse);
            }
            add(plugin, &scores);
        };
    each(
        Plugin::TaintToleration,
        &|_, node| score::intolerable(node, &pod.tolerations),
        Some(true),
    );
    if !pod.preferred_nodes.is_empty() || !profile.added_preferences.is_empty() {
        let wishes = || pod.preferred_nodes.iter().chain(&profile.added_preferences);
        each(
            Plugin::NodeAffinity,
            &|_, node| wishes().map(|wish| wish.score(&node.object)).sum(),
            Some(false),
        );
    }
    each(
        Plugin::NodeResourcesFit,
        &|info, node| score::fit(info, node, pod, profile),
        None,
    );
    each(
        Plugin::NodeResourcesBalancedAllocation,
        &|info, node| score::balance(info, node, pod, &profile.balanced_resources).unwrap_or(0),
        None,
    );
    each(
        Plugin::ImageLocality,
        &|_, node| score::images(node, pod, world, nodes),
        None,
    );
    totals
}
