//! The order of resources: what must exist before what, what can happen at the same time, what is deleted first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use thiserror::Error;

/// Resources depend on each other in a circle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("graph contains a cycle: {}", path.join(" -> "))]
pub struct Cycle {
    /// The ids along the circle; the first is repeated at the end.
    pub path: Vec<String>,
}

/// Nodes in authored order with the nodes each depends on.
#[derive(Clone, Debug, Default)]
pub struct Dag {
    ids: Vec<String>,
    dependencies: Vec<BTreeSet<usize>>,
}

impl Dag {
    /// Nodes without dependencies.
    pub fn new(ids: impl IntoIterator<Item = String>) -> Self {
        let ids: Vec<String> = ids.into_iter().collect();
        let dependencies = vec![BTreeSet::new(); ids.len()];
        Self { ids, dependencies }
    }

    /// Says that `node` needs `dependency`. Both are positions in authored order.
    pub fn add_dependency(&mut self, node: usize, dependency: usize) {
        self.dependencies[node].insert(dependency);
    }

    /// What a node needs directly.
    pub fn dependencies(&self, node: usize) -> impl Iterator<Item = usize> {
        self.dependencies[node].iter().copied()
    }

    /// Which nodes need a node directly.
    pub fn dependents(&self) -> Vec<Vec<usize>> {
        let mut dependents = vec![Vec::new(); self.ids.len()];
        for (node, dependencies) in self.dependencies.iter().enumerate() {
            for dependency in dependencies {
                dependents[*dependency].push(node);
            }
        }
        dependents
    }

    /// All nodes, each after its dependencies, otherwise as authored.
    pub fn order(&self) -> Result<Vec<usize>, Cycle> {
        let dependents = self.dependents();
        let mut missing: Vec<usize> = self.dependencies.iter().map(BTreeSet::len).collect();
        let mut ready: BinaryHeap<Reverse<usize>> = (0..self.ids.len())
            .filter(|node| missing[*node] == 0)
            .map(Reverse)
            .collect();
        let mut order = Vec::with_capacity(self.ids.len());
        while let Some(Reverse(node)) = ready.pop() {
            order.push(node);
            for dependent in &dependents[node] {
                missing[*dependent] -= 1;
                if missing[*dependent] == 0 {
                    ready.push(Reverse(*dependent));
                }
            }
        }
        if order.len() == self.ids.len() {
            Ok(order)
        } else {
            Err(self.cycle(&missing))
        }
    }

    /// Follows unmet dependencies from the first stuck node until one repeats.
    fn cycle(&self, missing: &[usize]) -> Cycle {
        let stuck = |node: &usize| missing[*node] > 0;
        let mut walk: Vec<usize> = (0..self.ids.len()).find(stuck).into_iter().collect();
        while let Some(next) = walk
            .last()
            .and_then(|node| self.dependencies[*node].iter().copied().find(stuck))
        {
            if let Some(first) = walk.iter().position(|seen| *seen == next) {
                walk.push(next);
                let path = walk[first..]
                    .iter()
                    .map(|node| self.ids[*node].clone())
                    .collect();
                return Cycle { path };
            }
            walk.push(next);
        }
        Cycle { path: Vec::new() }
    }

    /// The wave of each node, counted from 1: a node's wave is above those of all it needs, and nodes that nobody
    /// needs share the highest. Deletion goes from the highest wave down.
    pub fn waves(&self) -> Result<Vec<usize>, Cycle> {
        let order = self.order()?;
        // The distance to the farthest node that needs this one.
        let mut height = vec![0; self.ids.len()];
        for node in order.into_iter().rev() {
            for dependency in &self.dependencies[node] {
                height[*dependency] = height[*dependency].max(height[node] + 1);
            }
        }
        let layers = height.iter().max().map_or(0, |highest| highest + 1);
        Ok(height.into_iter().map(|height| layers - height).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dag(ids: &str, edges: &[&str]) -> Dag {
        let mut dag = Dag::new(ids.chars().map(String::from));
        for edge in edges {
            let at = |position| ids.find(edge.chars().nth(position).unwrap()).unwrap();
            dag.add_dependency(at(0), at(1));
        }
        dag
    }

    #[test]
    fn the_authored_order_stays_where_it_can() {
        let order = |ids, edges: &[&str]| {
            let dag = dag(ids, edges);
            dag.order()
                .unwrap()
                .into_iter()
                .map(|node| dag.ids[node].as_str())
                .collect::<String>()
        };
        assert_eq!(order("abc", &[]), "abc");
        assert_eq!(order("abc", &["ac"]), "bca");
        assert_eq!(order("abcd", &["ab", "bd"]), "cdba");
    }

    #[test]
    fn a_cycle_is_shown() {
        let message = |ids, edges: &[&str]| dag(ids, edges).order().unwrap_err().to_string();
        assert_eq!(
            message("ab", &["ab", "ba"]),
            "graph contains a cycle: a -> b -> a"
        );
        assert_eq!(
            message("xabc", &["xa", "ab", "bc", "ca"]),
            "graph contains a cycle: a -> b -> c -> a"
        );
    }

    #[test]
    fn waves_peel_from_the_top() {
        // b needs a, c needs b; d stands alone and goes first with c.
        assert_eq!(dag("abcd", &["ba", "cb"]).waves().unwrap(), [1, 2, 3, 3]);
        assert_eq!(dag("", &[]).waves().unwrap(), Vec::<usize>::new());
    }

    proptest! {
        #[test]
        fn order_and_waves_respect_dependencies(edges in prop::collection::vec((0..12_usize, 0..12_usize), 0..40)) {
            let mut dag = Dag::new((0..12).map(|node| format!("n{node}")));
            for (a, b) in edges {
                dag.add_dependency(a, b);
            }
            match dag.order() {
                Ok(order) => {
                    let waves = dag.waves().unwrap();
                    let place = |node: usize| order.iter().position(|at| *at == node).unwrap();
                    for node in 0..12 {
                        for dependency in dag.dependencies(node) {
                            prop_assert!(place(dependency) < place(node));
                            prop_assert!(waves[dependency] < waves[node]);
                        }
                    }
                }
                Err(cycle) => {
                    prop_assert!(cycle.path.len() >= 2);
                    prop_assert_eq!(cycle.path.first(), cycle.path.last());
                    for pair in cycle.path.windows(2) {
                        let at = |id: &str| dag.ids.iter().position(|known| known == id).unwrap();
                        prop_assert!(dag.dependencies(at(&pair[0])).any(|needed| needed == at(&pair[1])));
                    }
                }
            }
        }
    }
}
