//! All nodes and the Pods on them, with sums that are kept up to date event by event. Pure.
//!
//! Nothing here is computed by looking at all Pods, with one exception: the first time a selector is
//! asked about, its Pods are counted per node; from then on the count follows every change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use controller::{Object, ObjectKey};
use model::LabelSelector;

use super::node_info::{Node, NodeInfo};
use super::pod_info::PodInfo;

/// Selectors whose Pods are counted; more than that forgets the one unused for longest.
const COUNTED_MAX: usize = 256;

/// Which slot of the world a node has.
pub type Slot = usize;

/// How many Pods of a namespace a selector selects, by slot.
#[derive(Debug)]
struct Counted {
    namespace: String,
    selector: LabelSelector,
    counts: Arc<Vec<u32>>,
    used: u64,
}

impl Counted {
    fn counts(&self, pod: &PodInfo) -> bool {
        !pod.is_terminating
            && pod.key.namespace == self.namespace
            && self.selector.matches(pod.labels())
    }
}

/// The nodes and their Pods.
#[derive(Debug, Default)]
pub struct World {
    slots: Vec<NodeInfo>,
    by_name: HashMap<String, Slot>,
    free: Vec<Slot>,
    /// Where each Pod is.
    placed: HashMap<String, Slot>,
    /// Slots that have a node, taking turns between zones.
    order: Vec<Slot>,
    stale_order: bool,
    counted: Vec<Counted>,
    clock: u64,
    /// How many nodes have an image.
    images: HashMap<String, usize>,
    /// Pods that room is being made for, by node.
    nominated: HashMap<String, Vec<Arc<PodInfo>>>,
    namespaces: HashMap<String, Arc<Object>>,
    /// How many Pods on nodes use a claim.
    claims: HashMap<ObjectKey, usize>,
}

impl World {
    /// The node and Pods of a slot.
    pub fn slot(&self, slot: Slot) -> &NodeInfo {
        &self.slots[slot]
    }

    /// The slot of a node that is there.
    pub fn find(&self, name: &str) -> Option<Slot> {
        let slot = *self.by_name.get(name)?;
        self.slots[slot].node.is_some().then_some(slot)
    }

    /// Slots of all nodes, taking turns between zones.
    pub fn nodes(&mut self) -> Vec<Slot> {
        if self.stale_order {
            self.order = self.interleave();
            self.stale_order = false;
        }
        self.order.clone()
    }

    /// Slots that may have a node or Pods, in no order.
    pub fn occupied(&self) -> impl Iterator<Item = (Slot, &NodeInfo)> {
        let used = |(_, info): &(Slot, &NodeInfo)| info.node.is_some();
        self.slots.iter().enumerate().filter(used)
    }

    fn interleave(&self) -> Vec<Slot> {
        let mut zones: BTreeMap<(&str, &str), Vec<(&str, Slot)>> = BTreeMap::new();
        for (slot, info) in self.slots.iter().enumerate() {
            if let Some(node) = &info.node {
                zones
                    .entry(node.place())
                    .or_default()
                    .push((node.name(), slot));
            }
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        for zone in zones.values_mut() {
            zone.sort_unstable();
        }
        let turn = |place: usize| zones.values().filter_map(move |zone| zone.get(place));
        (0..longest).flat_map(turn).map(|(_, slot)| *slot).collect()
    }

    fn slot_of(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(NodeInfo::default());
            for counted in &mut self.counted {
                Arc::make_mut(&mut counted.counts).push(0);
            }
            self.slots.len() - 1
        });
        self.by_name.insert(name.to_owned(), slot);
        slot
    }

    /// Gives a slot back that has neither node nor Pods.
    fn tidy(&mut self, name: &str) {
        let Some(slot) = self.by_name.get(name).copied() else {
            return;
        };
        let info = &self.slots[slot];
        if info.node.is_none() && info.pods.is_empty() {
            self.slots[slot] = NodeInfo::default();
            self.by_name.remove(name);
            self.free.push(slot);
        }
    }

    /// A node is there, or has changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let slot = self.slot_of(node.name());
        let old = self.slots[slot].node.replace(node.clone());
        for name in node.images.keys() {
            *self.images.entry(name.clone()).or_insert(0) += 1;
        }
        match &old {
            Some(old) => {
                self.forget_images(old);
                self.stale_order |= old.place() != node.place();
            }
            None => self.stale_order = true,
        }
    }

    /// A node is gone. Its Pods stay known until they go too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.find(name) else {
            return;
        };
        if let Some(old) = self.slots[slot].node.take() {
            self.forget_images(&old);
        }
        self.stale_order = true;
        self.tidy(name);
    }

    fn forget_images(&mut self, node: &Node) {
        for name in node.images.keys() {
            if let Some(count) = self.images.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(name);
                }
            }
        }
    }

    /// On how many nodes an image is.
    pub fn nodes_with_image(&self, name: &str) -> usize {
        self.images.get(name).copied().unwrap_or(0)
    }

    /// A Pod is on a node, really or by a decision that is on its way.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.displace(pod.uid());
        let slot = self.slot_of(node);
        self.placed.insert(pod.uid().to_owned(), slot);
        for counted in &mut self.counted {
            if counted.counts(&pod) {
                Arc::make_mut(&mut counted.counts)[slot] += 1;
            }
        }
        for claim in &pod.claims {
            *self.claims.entry(pod.claim_key(claim)).or_insert(0) += 1;
        }
        self.slots[slot].add(pod);
    }

    /// A Pod is on no node any more. Says what it was.
    pub fn displace(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let slot = self.placed.remove(uid)?;
        let pod = self.slots[slot].remove(uid)?;
        for counted in &mut self.counted {
            if counted.counts(&pod) {
                Arc::make_mut(&mut counted.counts)[slot] -= 1;
            }
        }
        for claim in &pod.claims {
            let key = pod.claim_key(claim);
            if let Some(users) = self.claims.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.claims.remove(&key);
                }
            }
        }
        let gone = self.slots[slot].node.is_none() && self.slots[slot].pods.is_empty();
        if gone {
            let name = self.by_name.iter().find(|(_, of)| **of == slot);
            if let Some(name) = name.map(|(name, _)| name.clone()) {
                self.tidy(&name);
            }
        }
        Some(pod)
    }

    /// Whether a Pod has a place.
    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// A Pod that has a place.
    pub fn placed(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        let slot = self.placed.get(uid)?;
        self.slots[*slot].pods.iter().find(|pod| pod.uid() == uid)
    }

    /// How many Pods on nodes use a claim.
    pub fn users_of(&self, claim: &ObjectKey) -> usize {
        self.claims.get(claim).copied().unwrap_or(0)
    }

    /// How many Pods of a namespace a selector selects, by slot; those that are going do not count.
    pub fn count(&mut self, namespace: &str, selector: &LabelSelector) -> Arc<Vec<u32>> {
        self.clock += 1;
        let clock = self.clock;
        let known = self
            .counted
            .iter_mut()
            .find(|known| known.namespace == namespace && known.selector == *selector);
        if let Some(known) = known {
            known.used = clock;
            return known.counts.clone();
        }
        let mut counted = Counted {
            namespace: namespace.to_owned(),
            selector: selector.clone(),
            counts: Arc::default(),
            used: clock,
        };
        let on = |info: &NodeInfo| info.pods.iter().filter(|pod| counted.counts(pod)).count();
        let counts: Vec<u32> = self
            .slots
            .iter()
            .map(|info| u32::try_from(on(info)).unwrap_or(u32::MAX))
            .collect();
        counted.counts = Arc::new(counts);
        if self.counted.len() >= COUNTED_MAX {
            let oldest = (0..self.counted.len()).min_by_key(|at| self.counted[*at].used);
            self.counted.swap_remove(oldest.unwrap_or(0));
        }
        let counts = counted.counts.clone();
        self.counted.push(counted);
        counts
    }

    /// Room is being made for a Pod on a node; empty takes that back.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str) {
        for pods in self.nominated.values_mut() {
            pods.retain(|other| other.uid() != pod.uid());
        }
        if !node.is_empty() {
            let pods = self.nominated.entry(node.to_owned()).or_default();
            pods.push(pod.clone());
        }
        self.nominated.retain(|_, pods| !pods.is_empty());
    }

    /// The node room is being made on for a Pod.
    pub fn nomination(&self, uid: &str) -> Option<&str> {
        let of = |pods: &Vec<Arc<PodInfo>>| pods.iter().any(|pod| pod.uid() == uid);
        let found = self.nominated.iter().find(|(_, pods)| of(pods));
        found.map(|(node, _)| node.as_str())
    }

    /// Pods that room is being made for on a node.
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map_or(&[], Vec::as_slice)
    }

    /// Whether room is being made for any Pod.
    pub fn has_nominations(&self) -> bool {
        !self.nominated.is_empty()
    }

    /// A namespace is there, or has changed.
    pub fn set_namespace(&mut self, namespace: Arc<Object>) {
        self.namespaces
            .insert(namespace.name().to_owned(), namespace);
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// A namespace.
    pub fn namespace(&self, name: &str) -> Option<&Object> {
        self.namespaces.get(name).map(Arc::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn pod(number: u8, app: u8) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(Arc::new(Object::new(json!({
            "metadata": {"name": format!("p{number}"), "namespace": "d",
                "uid": format!("u{number}"), "labels": {"app": app.to_string()}},
            "spec": {"containers": [{"resources": {"requests": {"cpu": format!("{number}m")}}}]},
        })))))
    }

    fn node(number: u8) -> Arc<Node> {
        Arc::new(Node::new(Arc::new(Object::new(json!({"metadata": {
            "name": format!("n{number}"),
            "labels": {"topology.kubernetes.io/zone": (number % 2).to_string()}}})))))
    }

    #[derive(Debug, Clone)]
    enum Step {
        Place(u8, u8, u8),
        Displace(u8),
        Node(u8),
        NoNode(u8),
        Count(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..20_u8, 0..3_u8, 0..5_u8).prop_map(|(pod, app, node)| Step::Place(pod, app, node)),
            (0..20_u8).prop_map(Step::Displace),
            (0..5_u8).prop_map(Step::Node),
            (0..5_u8).prop_map(Step::NoNode),
            (0..3_u8).prop_map(Step::Count),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// Sums and counts that follow changes are those of a fresh look.
        #[test]
        fn sums_follow_every_change(steps in steps()) {
            let mut world = World::default();
            let selector = |app: u8| LabelSelector::from_labels([("app", app.to_string().as_str())]);
            for step in steps {
                match step {
                    Step::Place(number, app, at) => world.place(pod(number, app), &format!("n{at}")),
                    Step::Displace(number) => drop(world.displace(&format!("u{number}"))),
                    Step::Node(number) => world.set_node(node(number)),
                    Step::NoNode(number) => world.remove_node(&format!("n{number}")),
                    Step::Count(app) => drop(world.count("d", &selector(app))),
                }
                for app in 0..3 {
                    let counts = world.count("d", &selector(app));
                    for (slot, info) in world.slots.iter().enumerate() {
                        let fresh = info.pods.iter().filter(|pod| {
                            pod.object.label("app") == Some(app.to_string().as_str())
                        }).count();
                        prop_assert_eq!(counts[slot] as usize, fresh);
                    }
                }
                for info in &world.slots {
                    let cpu: i64 = info.pods.iter().map(|pod| pod.requests.exact.cpu).sum();
                    prop_assert_eq!(info.requested.cpu, cpu);
                }
                let nodes = world.nodes();
                prop_assert_eq!(nodes.len(), world.occupied().count());
            }
        }
    }

    #[test]
    fn zones_take_turns() {
        let mut world = World::default();
        for number in [0, 2, 4, 1] {
            world.set_node(node(number));
        }
        let order = world.nodes();
        let names: Vec<&str> = order
            .iter()
            .filter_map(|slot| world.slot(*slot).node.as_deref())
            .map(Node::name)
            .collect();
        assert_eq!(names, ["n0", "n1", "n2", "n4"]);
    }
}
