//! Profiles: which plugins judge nodes for the Pods of one `schedulerName`, and with what weight.

use std::fmt;

use crate::node_affinity::{NodeTerm, PreferredNodes};

use super::pod_info::Spread;

/// A plugin of upstream's default profile, in upstream's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Plugin {
    SchedulingGates,
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
    DefaultPreemption,
    NodeResourcesBalancedAllocation,
    ImageLocality,
}

impl Plugin {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::SchedulingGates,
        Self::NodeUnschedulable,
        Self::NodeName,
        Self::TaintToleration,
        Self::NodeAffinity,
        Self::NodePorts,
        Self::NodeResourcesFit,
        Self::VolumeRestrictions,
        Self::NodeVolumeLimits,
        Self::VolumeBinding,
        Self::VolumeZone,
        Self::PodTopologySpread,
        Self::InterPodAffinity,
        Self::DefaultPreemption,
        Self::NodeResourcesBalancedAllocation,
        Self::ImageLocality,
    ];

    /// The plugin of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.to_string() == name)
    }

    /// What its score counts in the default profile; 0 has none.
    pub fn default_weight(self) -> i64 {
        match self {
            Self::TaintToleration => 3,
            Self::NodeAffinity | Self::PodTopologySpread | Self::InterPodAffinity => 2,
            Self::NodeResourcesFit
            | Self::NodeResourcesBalancedAllocation
            | Self::ImageLocality => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A set of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PluginSet(u32);

impl PluginSet {
    /// Adds one.
    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u8;
    }

    /// Takes one out.
    pub fn remove(&mut self, plugin: Plugin) {
        self.0 &= !(1 << plugin as u8);
    }

    /// Whether one is in it.
    pub fn contains(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u8) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Plugin> {
        Plugin::ALL
            .into_iter()
            .filter(move |one| self.contains(*one))
    }
}

impl FromIterator<Plugin> for PluginSet {
    fn from_iter<I: IntoIterator<Item = Plugin>>(plugins: I) -> Self {
        let mut set = Self::default();
        for plugin in plugins {
            set.insert(plugin);
        }
        set
    }
}

/// How nodes compare by what is used of them.
#[derive(Debug, Clone, PartialEq)]
pub enum FitStrategy {
    /// The emptier, the better.
    LeastAllocated,
    /// The fuller, the better.
    MostAllocated,
    /// By a line through points of utilisation (percent) and score (0 to 10).
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// A resource and how much it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedResource {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: i64,
}

fn cpu_and_memory() -> Vec<WeightedResource> {
    ["cpu", "memory"]
        .map(|name| WeightedResource {
            name: name.to_owned(),
            weight: 1,
        })
        .to_vec()
}

/// Spreads of Pods that say nothing of it themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum DefaultSpreads {
    /// Upstream's: over hosts and zones, where it can be.
    System,
    /// One's own.
    List(Vec<Spread>),
}

/// How the Pods of one `schedulerName` are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// `spec.schedulerName` of its Pods.
    pub scheduler_name: String,
    /// Which plugins filter (or do what else they do).
    pub enabled: PluginSet,
    /// What the scores count, by plugin; 0 is not asked.
    pub weights: [i64; Plugin::ALL.len()],
    /// How many percent of the nodes are looked at for one that fits; none decides by size.
    pub percentage_of_nodes: Option<usize>,
    /// What every node has to have besides.
    pub added_affinity: Option<Vec<NodeTerm>>,
    /// What is liked besides.
    pub added_preferences: Vec<PreferredNodes>,
    /// What required affinity of others counts.
    pub hard_affinity_weight: i64,
    /// Whether wishes of Pods already placed count for Pods that have none.
    pub ignores_preferences_of_placed: bool,
    /// How nodes compare by what is used.
    pub fit: FitStrategy,
    /// Which resources count in that.
    pub fit_resources: Vec<WeightedResource>,
    /// Extended resources that others look after.
    pub ignored_resources: Vec<String>,
    /// Likewise, by the part before the slash.
    pub ignored_resource_groups: Vec<String>,
    /// Which resources are to be used alike.
    pub balanced_resources: Vec<WeightedResource>,
    /// Spreads of Pods that name none.
    pub default_spreads: DefaultSpreads,
    /// How many percent of the nodes are looked at for Pods to evict.
    pub preemption_percentage: usize,
    /// At least this many, though.
    pub preemption_minimum: usize,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            enabled: Plugin::ALL.into_iter().collect(),
            weights: Plugin::ALL.map(Plugin::default_weight),
            percentage_of_nodes: None,
            added_affinity: None,
            added_preferences: Vec::new(),
            hard_affinity_weight: 1,
            ignores_preferences_of_placed: false,
            fit: FitStrategy::LeastAllocated,
            fit_resources: cpu_and_memory(),
            ignored_resources: Vec::new(),
            ignored_resource_groups: Vec::new(),
            balanced_resources: cpu_and_memory(),
            default_spreads: DefaultSpreads::System,
            preemption_percentage: 10,
            preemption_minimum: 100,
        }
    }
}

impl Profile {
    /// What a plugin's score counts.
    pub fn weight(&self, plugin: Plugin) -> i64 {
        self.weights[plugin as usize]
    }

    /// Whether a plugin has a say.
    pub fn has(&self, plugin: Plugin) -> bool {
        self.enabled.contains(plugin)
    }

    /// How many nodes that fit are enough among so many.
    pub fn enough_nodes(&self, nodes: usize) -> usize {
        /// So many nodes are always looked for.
        const MINIMUM: usize = 100;
        /// And this share of them, in percent.
        const PERCENTAGE_MINIMUM: usize = 5;
        if nodes < MINIMUM {
            return nodes;
        }
        let percentage = match self.percentage_of_nodes {
            Some(percentage) if percentage > 0 => percentage,
            _ => 50_usize.saturating_sub(nodes / 125).max(PERCENTAGE_MINIMUM),
        };
        (nodes * percentage / 100).max(MINIMUM).min(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_less_the_more_there_are() {
        let profile = Profile::default();
        let check = |nodes: usize, expect: usize| assert_eq!(profile.enough_nodes(nodes), expect);
        check(0, 0);
        check(99, 99);
        check(150, 100);
        check(500, 230);
        check(5_000, 500);
        check(10_000, 500);
    }

    #[test]
    fn plugins_have_upstreams_names() {
        for plugin in Plugin::ALL {
            assert_eq!(Plugin::parse(&plugin.to_string()), Some(plugin));
        }
        assert_eq!(Plugin::parse("PrioritySort"), None);
    }
}
