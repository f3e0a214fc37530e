//! A node as the scheduler sees it: what it offers, and the sums over the Pods on it. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use controller::Object;
use model::object;

use super::amounts::{Allocatable, Amounts};
use super::pod_info::PodInfo;
use crate::taints::Taint;

/// The label of nodes that names their zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The label of nodes that names their region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// The label of nodes that names themselves.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// What a node is, read once.
#[derive(Debug)]
pub struct Node {
    /// The node.
    pub object: Arc<Object>,
    /// What it offers.
    pub allocatable: Allocatable,
    /// What keeps Pods off it.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub is_unschedulable: bool,
    /// Sizes of the images it has.
    pub images: HashMap<String, i64>,
    zone: Option<String>,
    hostname: Option<String>,
}

impl Node {
    /// Reads a node.
    pub fn new(object: Arc<Object>) -> Self {
        let mut images = HashMap::new();
        for image in object::list(object.status(), &["images"]) {
            let size = object::number(image, &["sizeBytes"]).unwrap_or(0);
            for name in object::list(image, &["names"]) {
                images.insert(name.as_str().unwrap_or_default().to_owned(), size);
            }
        }
        let label = |key| object.label(key).map(str::to_owned);
        Self {
            zone: label(ZONE),
            hostname: label(HOSTNAME),
            allocatable: Allocatable::of_node(&object),
            taints: Taint::of_node(&object),
            is_unschedulable: object::at(object.spec(), &["unschedulable"])
                .and_then(serde_json::Value::as_bool)
                .unwrap_or(false),
            images,
            object,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object.name()
    }

    /// A label. Those asked for all the time are found fast.
    pub fn label(&self, key: &str) -> Option<&str> {
        match key {
            ZONE => self.zone.as_deref(),
            HOSTNAME => self.hostname.as_deref(),
            _ => self.object.label(key),
        }
    }

    /// Where it stands: region and zone.
    pub fn place(&self) -> (&str, &str) {
        let label = |key| self.label(key).unwrap_or_default();
        (label(REGION), label(ZONE))
    }
}

/// The Pods on a node and their sums. Cheap enough to clone for a thought experiment.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// The node, as long as there is one: Pods may outlive it.
    pub node: Option<Arc<Node>>,
    /// Its Pods.
    pub pods: Vec<Arc<PodInfo>>,
    /// What they ask for.
    pub requested: Amounts,
    /// Likewise, where who says nothing counts as an ordinary container.
    pub cpu_assumed: i64,
    /// Likewise.
    pub memory_assumed: i64,
    /// How many of them say anything of other Pods.
    pub with_affinity: usize,
    /// How many of them refuse to be beside others.
    pub with_anti_affinity: usize,
    /// How many of them take ports.
    pub with_ports: usize,
}

impl NodeInfo {
    /// Puts a Pod on the node.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests.exact);
        self.cpu_assumed += pod.requests.cpu_assumed;
        self.memory_assumed += pod.requests.memory_assumed;
        self.with_affinity += usize::from(pod.has_affinity());
        self.with_anti_affinity += usize::from(!pod.anti_affinity.is_empty());
        self.with_ports += usize::from(!pod.ports.is_empty());
        self.pods.push(pod);
    }

    /// Takes a Pod off the node.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let place = self.pods.iter().position(|pod| pod.uid() == uid)?;
        let pod = self.pods.swap_remove(place);
        self.requested.subtract(&pod.requests.exact);
        self.cpu_assumed -= pod.requests.cpu_assumed;
        self.memory_assumed -= pod.requests.memory_assumed;
        self.with_affinity -= usize::from(pod.has_affinity());
        self.with_anti_affinity -= usize::from(!pod.anti_affinity.is_empty());
        self.with_ports -= usize::from(!pod.ports.is_empty());
        Some(pod)
    }
}
