//! `DefaultPreemption`: which Pods of less priority go, so that one of more gets a place. Pure.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use controller::Object;
use model::{LabelSelector, object};

use super::cycle::Cycle;
use super::diagnosis::{Diagnosis, Refusal};
use super::node_info::{Node, NodeInfo};
use super::pod_info::PodInfo;
use super::profile::{Plugin, Profile};
use super::random::Random;
use super::world::{Slot, World};

/// What the condition of a Pod that is evicted for another says.
pub const PREEMPTED: &str = "PreemptionByScheduler";

/// How many Pods of a kind may be disturbed.
#[derive(Debug, Clone)]
pub struct Budget {
    namespace: String,
    selector: LabelSelector,
    allowed: i64,
    disturbed: HashSet<String>,
}

impl Budget {
    /// Reads a PodDisruptionBudget; `None` where it selects nothing.
    pub fn of(budget: &Object) -> Option<Self> {
        let selector = object::at(budget.spec(), &["selector"]).filter(|own| own.is_object());
        let selector = LabelSelector::from_object(selector).ok()?;
        if selector.is_everything() {
            return None;
        }
        let disturbed = object::at(budget.status(), &["disruptedPods"]);
        let disturbed = disturbed.and_then(serde_json::Value::as_object);
        Some(Self {
            namespace: budget.namespace().unwrap_or_default().to_owned(),
            selector,
            allowed: object::number(budget.status(), &["disruptionsAllowed"]).unwrap_or(0),
            disturbed: disturbed
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
        })
    }
}

/// A node, and who has to go from it.
#[derive(Debug)]
pub struct Eviction {
    /// The node.
    pub node: String,
    /// Who goes, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// Important Pods first: by priority, then by age.
fn by_importance(pods: &mut [Arc<PodInfo>]) {
    pods.sort_by(|a, b| {
        let priority = b.priority.cmp(&a.priority);
        priority.then_with(|| a.since().cmp(b.since()))
    });
}

/// Whether a Pod is going because another needs its place.
fn is_preempted(pod: &PodInfo) -> bool {
    let condition = controller::condition::find(pod.object.status(), "DisruptionTarget");
    pod.is_terminating
        && condition.is_some_and(|condition| {
            object::text(condition, &["status"]) == "True"
                && object::text(condition, &["reason"]) == PREEMPTED
        })
}

/// Why a Pod may not have others evicted now.
fn is_ineligible(pod: &PodInfo, diagnosis: &Diagnosis, world: &World) -> Option<&'static str> {
    if object::text(pod.object.spec(), &["preemptionPolicy"]) == "Never" {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = match world.nomination(pod.uid()) {
        Some(node) => node,
        None => pod.nominated_node(),
    };
    let slot = world.find(nominated)?;
    let hopeless = |(other, refusal): &(Slot, Refusal)| *other == slot && !refusal.is_resolvable;
    if diagnosis.refused.iter().any(hopeless) {
        return None;
    }
    let waits = |other: &Arc<PodInfo>| other.priority < pod.priority && is_preempted(other);
    world
        .slot(slot)
        .pods
        .iter()
        .any(waits)
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Finds who is to go, or says why that does not help.
pub fn find(
    cycle: Option<&Cycle<'_>>,
    pod: &PodInfo,
    profile: &Profile,
    diagnosis: &Diagnosis,
    world: &World,
    budgets: &[Budget],
    random: &mut Random,
) -> Result<Eviction, String> {
    if let Some(why) = is_ineligible(pod, diagnosis, world) {
        return Err(format!("preemption: {why}"));
    }
    let hopeless = matches!(diagnosis.everywhere, Some((_, false)));
    let nodes: Vec<Slot> = match cycle {
        Some(_) if !hopeless => diagnosis.resolvable().collect(),
        _ => Vec::new(),
    };
    let enough = (nodes.len() * profile.preemption_percentage / 100)
        .max(profile.preemption_minimum)
        .min(nodes.len());
    let offset = random.below(nodes.len());
    let mut candidates = Vec::new();
    let mut failed = Diagnosis {
        nodes: diagnosis.nodes,
        absent: Some("Preemption is not helpful for scheduling".into()),
        ..Diagnosis::default()
    };
    for at in 0..nodes.len() {
        let slot = nodes[(offset + at) % nodes.len()];
        let Some(cycle) = cycle else { break };
        match victims(cycle, slot, world, budgets) {
            Ok(eviction) => candidates.push(eviction),
            Err(refusal) => failed.refused.push((slot, refusal)),
        }
        let harmless = candidates.iter().any(|eviction| eviction.violations == 0);
        if harmless && candidates.len() >= enough {
            break;
        }
    }
    choose(candidates).ok_or_else(|| format!("preemption: {}", failed.message()))
}

/// The eviction that does the least harm.
fn choose(candidates: Vec<Eviction>) -> Option<Eviction> {
    candidates.into_iter().min_by_key(|eviction| {
        let victims = &eviction.victims;
        let highest = victims.first().map_or(i64::MIN, |pod| pod.priority);
        // All made positive: few of low priority are better than many.
        let sum: i64 = victims
            .iter()
            .map(|pod| pod.priority + i64::from(i32::MAX) + 1)
            .sum();
        let important = victims.iter().filter(|pod| pod.priority == highest);
        let earliest = important.map(|pod| pod.since().to_owned()).min();
        (
            eviction.violations,
            highest,
            sum,
            victims.len(),
            Reverse(earliest),
        )
    })
}

/// Who has to go from one node: as few, and as unimportant, as will do.
fn victims(
    cycle: &Cycle<'_>,
    slot: Slot,
    world: &World,
    budgets: &[Budget],
) -> Result<Eviction, Refusal> {
    let mut info: NodeInfo = world.slot(slot).clone();
    let Some(node) = info.node.clone() else {
        return Err(Refusal::unresolvable(
            Plugin::DefaultPreemption,
            "node(s) are gone",
        ));
    };
    let mut counts = cycle.counts.clone();
    let lesser = |other: &&Arc<PodInfo>| other.priority < cycle.pod.priority;
    let mut lower: Vec<Arc<PodInfo>> = info.pods.iter().filter(lesser).cloned().collect();
    if lower.is_empty() {
        let why = "No preemption victims found for incoming pod";
        return Err(Refusal::unresolvable(Plugin::DefaultPreemption, why));
    }
    for other in &lower {
        info.remove(other.uid());
        cycle.update(&mut counts, other, &node, -1, world);
    }
    cycle.check(&counts, &info, world)?;
    by_importance(&mut lower);
    let (violating, harmless) = by_budget(lower, budgets);
    let (mut victims, mut violations) = (Vec::new(), 0);
    let mut reprieve = |other: Arc<PodInfo>, victims: &mut Vec<Arc<PodInfo>>| -> bool {
        info.add(other.clone());
        cycle.update(&mut counts, &other, &node, 1, world);
        if cycle.check(&counts, &info, world).is_ok() {
            return true;
        }
        info.remove(other.uid());
        cycle.update(&mut counts, &other, &node, -1, world);
        victims.push(other);
        false
    };
    for other in violating {
        if !reprieve(other, &mut victims) {
            violations += 1;
        }
    }
    for other in harmless {
        reprieve(other, &mut victims);
    }
    if victims.is_empty() {
        let why = "expected at least one victim pod on node";
        return Err(Refusal::unresolvable(Plugin::DefaultPreemption, why));
    }
    by_importance(&mut victims);
    Ok(Eviction {
        node: Node::name(&node).to_owned(),
        victims,
        violations,
    })
}

type Pods = Vec<Arc<PodInfo>>;

/// Those whose eviction breaks a budget, and the others.
fn by_budget(pods: Pods, budgets: &[Budget]) -> (Pods, Pods) {
    let mut allowed: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut breaks = false;
        if pod.labels().is_none_or(serde_json::Map::is_empty) {
            return false;
        }
        for (budget, left) in budgets.iter().zip(&mut allowed) {
            if budget.namespace == pod.key.namespace
                && budget.selector.matches(pod.labels())
                && !budget.disturbed.contains(&pod.key.name)
            {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        breaks
    })
}
