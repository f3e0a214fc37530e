//! Why a Pod has no node, in upstream's words. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::profile::{Plugin, PluginSet};
use super::world::Slot;

/// Why one node does not take a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who refuses.
    pub plugin: Plugin,
    /// Why.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether evicting Pods from the node could help.
    pub is_resolvable: bool,
}

impl Refusal {
    /// A refusal that eviction may resolve.
    pub fn resolvable(plugin: Plugin, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            plugin,
            reasons: vec![reason.into()],
            is_resolvable: true,
        }
    }

    /// A refusal that eviction does not resolve.
    pub fn unresolvable(plugin: Plugin, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            is_resolvable: false,
            ..Self::resolvable(plugin, reason)
        }
    }
}

/// Why no node takes a Pod.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// Nodes that were asked.
    pub refused: Vec<(Slot, Refusal)>,
    /// Why the others were not asked.
    pub absent: Option<Cow<'static, str>>,
    /// What rules out every node at once, and whether eviction could help.
    pub everywhere: Option<(String, bool)>,
    /// Who has refused.
    pub plugins: PluginSet,
    /// What came of looking for Pods to evict.
    pub preemption: String,
}

impl Diagnosis {
    /// The nodes where eviction may help.
    pub fn resolvable(&self) -> impl Iterator<Item = Slot> + '_ {
        let resolvable = |(_, refusal): &&(Slot, Refusal)| refusal.is_resolvable;
        self.refused
            .iter()
            .filter(resolvable)
            .map(|(slot, _)| *slot)
    }

    /// The sentence for the event and the condition.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let why = match &self.everywhere {
            Some((why, _)) => format!(" {why}."),
            None => self.reasons(),
        };
        let preemption = match self.preemption.as_str() {
            "" => String::new(),
            text => format!(" {text}"),
        };
        format!("0/{} nodes are available:{why}{preemption}", self.nodes)
    }

    fn reasons(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self
            .refused
            .iter()
            .flat_map(|(_, refusal)| &refusal.reasons)
        {
            *counts.entry(reason).or_default() += 1;
        }
        let absent = self.nodes.saturating_sub(self.refused.len());
        if let Some(reason) = self.absent.as_deref().filter(|_| absent > 0) {
            *counts.entry(reason).or_default() += absent;
        }
        let mut texts: Vec<String> = counts
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        // By text, as upstream: 10 comes before 2.
        texts.sort();
        if texts.is_empty() {
            return String::new();
        }
        format!(" {}.", texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_count_reasons() {
        let cpu = Refusal::resolvable(Plugin::NodeResourcesFit, "Insufficient cpu");
        let taint =
            Refusal::unresolvable(Plugin::TaintToleration, "node(s) had untolerated taint(s)");
        let mut diagnosis = Diagnosis {
            nodes: 5,
            refused: vec![(0, cpu.clone()), (1, cpu), (2, taint)],
            absent: Some("node(s) didn't satisfy plugin(s) [NodeAffinity]".into()),
            ..Diagnosis::default()
        };
        assert_eq!(
            diagnosis.message(),
            "0/5 nodes are available: 1 node(s) had untolerated taint(s), \
             2 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
        );
        diagnosis.preemption = "preemption: not eligible due to preemptionPolicy=Never.".into();
        diagnosis.everywhere = Some(("persistentvolumeclaim \"c\" not found".into(), false));
        assert_eq!(
            diagnosis.message(),
            "0/5 nodes are available: persistentvolumeclaim \"c\" not found. \
             preemption: not eligible due to preemptionPolicy=Never."
        );
        assert_eq!(
            Diagnosis::default().message(),
            "no nodes available to schedule pods"
        );
    }
}
