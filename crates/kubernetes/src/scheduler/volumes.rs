//! The volume plugins: whether a Pod's volumes are to be had on a node. Pure.
//!
//! A claim whose class waits for its first consumer is decided here: the node chosen must have a free
//! volume that fits, or its class must be able to make one there. Left out: volumes of disks built into
//! old Kubernetes versions as drivers of their own (they were moved to CSI drivers), and volumes that are
//! attached to a node without a Pod there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use controller::{Object, ObjectKey};
use model::{LabelSelector, Quantity, object};
use serde_json::Value;

use super::diagnosis::Refusal;
use super::lookup::Lookup;
use super::node_info::{Node, NodeInfo};
use super::pod_info::{Claim, PodInfo};
use super::profile::{Plugin, Profile};
use super::world::World;
use crate::node_affinity;

/// The annotation of a claim that says where its volume is to be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const ZONE_LABELS: [&str; 4] = [
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

const WRONG_NODE: &str = "node(s) didn't match PersistentVolume's node affinity";
const NOTHING_FREE: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const WRONG_ZONE: &str = "node(s) had no available volume zone";
const TOO_MANY: &str = "node(s) exceed max volume count";
const DISK_TAKEN: &str = "node(s) had no available disk";
const ONE_POD_ONLY: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod \
                            access mode already in-use by another pod";

/// What decisions on their way have taken: not yet to be seen in claims and volumes.
#[derive(Debug, Default)]
pub struct Reservations {
    volumes: HashSet<String>,
    claims: HashMap<ObjectKey, String>,
}

impl Reservations {
    /// Takes what a Pod needs on its node.
    pub fn take(&mut self, needs: &Needs, node: &str) {
        for (volume, _) in &needs.bind {
            self.volumes.insert(volume.name().to_owned());
        }
        for claim in &needs.provision {
            self.claims.insert(claim.key(), node.to_owned());
        }
    }

    /// Gives it back, or it can be seen by now.
    pub fn give_back(&mut self, needs: &Needs) {
        for (volume, _) in &needs.bind {
            self.volumes.remove(volume.name());
        }
        for claim in &needs.provision {
            self.claims.remove(&claim.key());
        }
    }
}

/// What is to be written before a Pod may be bound.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Volumes and the claims they are for.
    pub bind: Vec<(Arc<Object>, Arc<Object>)>,
    /// Claims whose volumes are to be made for the node.
    pub provision: Vec<Arc<Object>>,
}

impl Needs {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }
}

/// The volumes of a Pod, looked up once for all nodes.
#[derive(Debug, Clone, Default)]
pub struct VolumeFilter {
    /// Volumes of claims that are bound; none where the volume is missing.
    bound: Vec<Option<Arc<Object>>>,
    /// Claims that wait for their first consumer, smallest first.
    waiting: Vec<Arc<Object>>,
    /// Label, its values, of zones bound volumes are in.
    zones: Vec<(&'static str, BTreeSet<String>)>,
    /// Uses of the Pod's one-Pod-only claims by others.
    exclusive_uses: usize,
    has_disks: bool,
    /// The Pod's volumes that count, with their drivers.
    counted: HashMap<String, String>,
}

fn class(object: &Object) -> &str {
    object
        .annotation("volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object::text(object.spec(), &["storageClassName"]))
}

fn is_bound(claim: &Object) -> bool {
    !object::text(claim.spec(), &["volumeName"]).is_empty()
        && claim.annotation(BIND_COMPLETED).is_some()
}

/// A size; what cannot be read is nothing.
fn size(object: &Object, path: &[&str]) -> Quantity {
    let text = object::text(object.value(), path);
    text.parse().unwrap_or_else(|_| Quantity::from_units(0))
}

fn requested(claim: &Object) -> Quantity {
    size(claim, &["spec", "resources", "requests", "storage"])
}

fn everywhere(plugin: Plugin, why: impl Into<String>) -> Refusal {
    Refusal::unresolvable(plugin, why.into())
}

impl VolumeFilter {
    /// Looks up a Pod's volumes. An error rules out every node.
    pub fn new(
        pod: &PodInfo,
        profile: &Profile,
        lookup: &dyn Lookup,
        world: &World,
    ) -> Result<Option<Self>, Refusal> {
        if pod.volumes().is_empty() {
            return Ok(None);
        }
        let mut filter = Self {
            has_disks: pod
                .volumes()
                .iter()
                .any(|volume| Disk::of(volume).is_some()),
            ..Self::default()
        };
        for claim in &pod.claims {
            filter.claim(pod, claim, profile, lookup, world)?;
        }
        filter.waiting.sort_by_key(|claim| requested(claim));
        if pod.claims.is_empty() && !filter.has_disks {
            return Ok(None);
        }
        Ok(Some(filter))
    }

    fn claim(
        &mut self,
        pod: &PodInfo,
        named: &Claim,
        profile: &Profile,
        lookup: &dyn Lookup,
        world: &World,
    ) -> Result<(), Refusal> {
        let refuse = |why: String| Err(everywhere(Plugin::VolumeBinding, why));
        let key = pod.claim_key(named);
        let Some(claim) = lookup.claim(&key) else {
            return refuse(if named.is_ephemeral {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{}\"",
                    named.name
                )
            } else {
                format!("persistentvolumeclaim \"{}\" not found", named.name)
            });
        };
        let volume_name = object::text(claim.spec(), &["volumeName"]);
        if object::text(claim.status(), &["phase"]) == "Lost" {
            return refuse(format!(
                "persistentvolumeclaim \"{}\" bound to non-existent persistentvolume \"{volume_name}\"",
                named.name
            ));
        }
        if claim.is_terminating() {
            return refuse(format!(
                "persistentvolumeclaim \"{}\" is being deleted",
                named.name
            ));
        }
        let is_own = claim
            .controller_of()
            .is_some_and(|owner| owner.uid == pod.uid());
        if named.is_ephemeral && !is_own {
            return refuse(format!(
                "PVC {key} was not created for pod {} (pod is not owner)",
                pod.key
            ));
        }
        let exclusive = object::list(claim.spec(), &["accessModes"])
            .iter()
            .any(|mode| mode == "ReadWriteOncePod");
        if exclusive && profile.has(Plugin::VolumeRestrictions) {
            self.exclusive_uses += world.users_of(&key);
        }
        if let Some((unique, driver)) = counted(&claim, lookup) {
            self.counted.insert(unique, driver);
        }
        if is_bound(&claim) {
            let volume = lookup.volume(volume_name);
            if let Some(volume) = &volume {
                self.zones_of(volume);
            }
            self.bound.push(volume);
            return Ok(());
        }
        let class = lookup.storage_class(class(&claim));
        let waits = class.as_ref().is_some_and(|class| {
            object::text(class.value(), &["volumeBindingMode"]) == "WaitForFirstConsumer"
        });
        if !waits || !volume_name.is_empty() {
            return refuse("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        self.waiting.push(claim);
        Ok(())
    }

    fn zones_of(&mut self, volume: &Object) {
        for label in ZONE_LABELS {
            if let Some(value) = volume.label(label) {
                let values = value.split("__").map(str::to_owned).collect();
                self.zones.push((label, values));
            }
        }
    }

    /// In thought, a Pod comes to a node (`by` 1) or leaves it (-1).
    pub fn update(&mut self, pod: &PodInfo, other: &PodInfo, lookup: &dyn Lookup, by: i64) {
        if self.exclusive_uses == 0 && by < 0 || pod.key.namespace != other.key.namespace {
            return;
        }
        for claim in pod
            .claims
            .iter()
            .filter(|claim| other.claims.contains(claim))
        {
            let exclusive = lookup.claim(&pod.claim_key(claim)).is_some_and(|claim| {
                object::list(claim.spec(), &["accessModes"])
                    .iter()
                    .any(|mode| mode == "ReadWriteOncePod")
            });
            if exclusive {
                self.exclusive_uses = if by > 0 {
                    self.exclusive_uses + 1
                } else {
                    self.exclusive_uses.saturating_sub(1)
                };
            }
        }
    }

    /// `VolumeRestrictions`: whether nobody else has the volumes.
    pub fn check_restrictions(&self, pod: &PodInfo, info: &NodeInfo) -> Result<(), Refusal> {
        if self.has_disks {
            let own: Vec<Disk> = pod.volumes().iter().filter_map(Disk::of).collect();
            let others = info.pods.iter().flat_map(|other| other.volumes());
            for other in others.filter_map(Disk::of) {
                if own.iter().any(|own| own.conflicts(&other)) {
                    return Err(Refusal::resolvable(Plugin::VolumeRestrictions, DISK_TAKEN));
                }
            }
        }
        if self.exclusive_uses > 0 {
            return Err(Refusal::resolvable(
                Plugin::VolumeRestrictions,
                ONE_POD_ONLY,
            ));
        }
        Ok(())
    }

    /// `NodeVolumeLimits`: whether the drivers of the node can take the volumes.
    pub fn check_limits(
        &self,
        info: &NodeInfo,
        node: &Node,
        lookup: &dyn Lookup,
    ) -> Result<(), Refusal> {
        if self.counted.is_empty() {
            return Ok(());
        }
        let Some(csi_node) = lookup.csi_node(node.name()) else {
            return Ok(());
        };
        let mut present: HashMap<String, String> = HashMap::new();
        for other in info.pods.iter().filter(|other| !other.claims.is_empty()) {
            let claims = other
                .claims
                .iter()
                .filter_map(|claim| lookup.claim(&other.claim_key(claim)));
            present.extend(claims.filter_map(|claim| counted(&claim, lookup)));
        }
        for driver in object::list(csi_node.spec(), &["drivers"]) {
            let name = object::text(driver, &["name"]);
            let Some(limit) = object::number(driver, &["allocatable", "count"]) else {
                continue;
            };
            let new = self
                .counted
                .iter()
                .filter(|(unique, own)| *own == name && !present.contains_key(*unique))
                .count();
            let there = present.values().filter(|own| *own == name).count();
            if new > 0 && (there + new) as i64 > limit {
                return Err(Refusal::resolvable(Plugin::NodeVolumeLimits, TOO_MANY));
            }
        }
        Ok(())
    }

    /// `VolumeZone`: whether the node is in the zones of the volumes.
    pub fn check_zones(&self, node: &Node) -> Result<(), Refusal> {
        let zoned = ZONE_LABELS.iter().any(|label| node.label(label).is_some());
        if !zoned {
            return Ok(());
        }
        for (label, values) in &self.zones {
            let current = label.replace("failure-domain.beta", "topology");
            let found = node.label(label).or_else(|| node.label(&current));
            if !found.is_some_and(|found| values.contains(found)) {
                return Err(Refusal::unresolvable(Plugin::VolumeZone, WRONG_ZONE));
            }
        }
        Ok(())
    }

    /// `VolumeBinding`: whether the volumes can be reached from the node, and what is to be done for
    /// those that are not bound yet.
    pub fn check_binding(
        &self,
        node: &Node,
        lookup: &dyn Lookup,
        reserved: &Reservations,
    ) -> Result<Needs, Refusal> {
        let mut reasons: Vec<&'static str> = Vec::new();
        let reachable = |volume: &Arc<Object>| fits_node(volume, &node.object);
        if !self.bound.iter().flatten().all(reachable) {
            reasons.push(WRONG_NODE);
        }
        let mut needs = Needs::default();
        if let Err(why) = self.waiting_claims(node, lookup, reserved, &mut needs) {
            reasons.push(why);
        }
        if self.bound.iter().any(Option::is_none) {
            reasons.push(NO_VOLUME);
        }
        if reasons.is_empty() {
            return Ok(needs);
        }
        let mut refusal = Refusal::unresolvable(Plugin::VolumeBinding, "");
        refusal.reasons = reasons.into_iter().map(Into::into).collect();
        Err(refusal)
    }

    fn waiting_claims(
        &self,
        node: &Node,
        lookup: &dyn Lookup,
        reserved: &Reservations,
        needs: &mut Needs,
    ) -> Result<(), &'static str> {
        for claim in &self.waiting {
            let assumed = reserved.claims.get(&claim.key()).map(String::as_str);
            if let Some(selected) = assumed.or_else(|| claim.annotation(SELECTED_NODE)) {
                if selected != node.name() {
                    return Err(NOTHING_FREE);
                }
                needs.provision.push(claim.clone());
                continue;
            }
            let taken: HashSet<&str> = needs.bind.iter().map(|(volume, _)| volume.name()).collect();
            let free = |volume: &Arc<Object>| {
                !taken.contains(volume.name()) && !reserved.volumes.contains(volume.name())
            };
            match find_volume(claim, node, lookup, free) {
                Some(volume) => needs.bind.push((volume, claim.clone())),
                None => {
                    can_provision(claim, node, lookup)?;
                    needs.provision.push(claim.clone());
                }
            }
        }
        Ok(())
    }
}

/// The smallest volume that fits a claim and the node.
fn find_volume(
    claim: &Object,
    node: &Node,
    lookup: &dyn Lookup,
    free: impl Fn(&Arc<Object>) -> bool,
) -> Option<Arc<Object>> {
    let wanted = requested(claim);
    let mode = |object: &Object| match object::text(object.spec(), &["volumeMode"]) {
        "" => "Filesystem".to_owned(),
        mode => mode.to_owned(),
    };
    let selector = object::at(claim.spec(), &["selector"]).filter(|own| own.is_object());
    let selector = selector.map(|own| {
        LabelSelector::from_object(Some(own)).unwrap_or_else(|_| LabelSelector::nothing())
    });
    let fits = |volume: &Arc<Object>| {
        let offered = object::list(volume.spec(), &["accessModes"]);
        let asked = object::list(claim.spec(), &["accessModes"]);
        !volume.is_terminating()
            && object::text(volume.status(), &["phase"]) == "Available"
            && object::at(volume.spec(), &["claimRef"]).is_none_or(Value::is_null)
            && free(volume)
            && mode(volume) == mode(claim)
            && asked.iter().all(|mode| offered.contains(mode))
            && size(volume, &["spec", "capacity", "storage"]) >= wanted
            && selector
                .as_ref()
                .is_none_or(|selector| selector.matches(object::labels(volume.value())))
            && fits_node(volume, &node.object)
    };
    lookup
        .volumes_of_class(class(claim))
        .into_iter()
        .filter(fits)
        .min_by_key(|volume| (size(volume, &["spec", "capacity", "storage"]), volume.key()))
}

/// Whether the claim's class can make a volume for the node.
fn can_provision(claim: &Object, node: &Node, lookup: &dyn Lookup) -> Result<(), &'static str> {
    let class = lookup.storage_class(class(claim)).ok_or(NOTHING_FREE)?;
    let provisioner = object::text(class.value(), &["provisioner"]);
    if provisioner.is_empty() || provisioner == NO_PROVISIONER {
        return Err(NOTHING_FREE);
    }
    let topologies = object::list(class.value(), &["allowedTopologies"]);
    let allowed = |topology: &Value| {
        let expressions = object::list(topology, &["matchLabelExpressions"]);
        expressions.iter().all(|expression| {
            let found = node.label(object::text(expression, &["key"]));
            let values = object::list(expression, &["values"]);
            found.is_some_and(|found| values.iter().any(|value| value == found))
        })
    };
    if !topologies.is_empty() && !topologies.iter().any(allowed) {
        return Err(NOTHING_FREE);
    }
    if has_capacity(claim, &class, provisioner, node, lookup) {
        Ok(())
    } else {
        Err(NO_SPACE)
    }
}

/// Whether a driver that says how much it has, has enough.
fn has_capacity(
    claim: &Object,
    class: &Object,
    provisioner: &str,
    node: &Node,
    lookup: &dyn Lookup,
) -> bool {
    let tells = lookup.csi_driver(provisioner).is_some_and(|driver| {
        object::at(driver.spec(), &["storageCapacity"]) == Some(&Value::Bool(true))
    });
    if !tells {
        return true;
    }
    let wanted = requested(claim);
    lookup.capacities().iter().any(|capacity| {
        let text = |name: &str| object::text(capacity.value(), &[name]);
        let limit = match text("maximumVolumeSize") {
            "" => text("capacity"),
            limit => limit,
        };
        let selector = LabelSelector::from_object(capacity.value().get("nodeTopology"));
        text("storageClassName") == class.name()
            && limit.parse::<Quantity>().is_ok_and(|limit| limit >= wanted)
            && selector.is_ok_and(|selector| selector.matches_with(|key| node.label(key)))
    })
}

fn fits_node(volume: &Object, node: &Object) -> bool {
    match object::at(volume.spec(), &["nodeAffinity", "required"]).filter(|own| own.is_object()) {
        None => true,
        Some(required) => {
            let terms = node_affinity::terms(required);
            terms.iter().any(|term| term.matches(node))
        }
    }
}

/// What a claim counts as with a storage driver: a name of its own, and the driver.
fn counted(claim: &Object, lookup: &dyn Lookup) -> Option<(String, String)> {
    let name = object::text(claim.spec(), &["volumeName"]);
    let volume = (!name.is_empty()).then(|| lookup.volume(name)).flatten();
    if let Some(volume) = volume {
        let csi = |field: &str| object::text(volume.spec(), &["csi", field]);
        let driver = csi("driver");
        let unique = format!("{driver}/{}", csi("volumeHandle"));
        return (!driver.is_empty()).then(|| (unique, driver.to_owned()));
    }
    let class = lookup.storage_class(class(claim))?;
    let provisioner = object::text(class.value(), &["provisioner"]);
    // A volume that will be: its claim stands for it.
    Some((
        format!("{provisioner}/claim/{}", claim.key()),
        provisioner.to_owned(),
    ))
}

/// A disk that only one Pod at a time may write to.
struct Disk<'a> {
    kind: &'static str,
    name: String,
    monitors: &'a [Value],
    read_only: bool,
    /// Whether several may have it as long as all only read.
    may_share: bool,
}

impl<'a> Disk<'a> {
    fn of(volume: &'a Value) -> Option<Self> {
        let disk = |kind: &'static str, field: &str, may_share: bool| {
            let own = volume.get(kind).filter(|own| own.is_object())?;
            Some(Disk {
                kind,
                name: object::text(own, &[field]).to_owned(),
                monitors: &[],
                read_only: own.get("readOnly") == Some(&Value::Bool(true)),
                may_share,
            })
        };
        disk("gcePersistentDisk", "pdName", true)
            .or_else(|| disk("awsElasticBlockStore", "volumeID", false))
            .or_else(|| disk("iscsi", "iqn", true))
            .or_else(|| {
                let mut found = disk("rbd", "image", true)?;
                let own = volume.get("rbd")?;
                found.name = format!("{}/{}", object::text(own, &["pool"]), found.name);
                found.monitors = object::list(own, &["monitors"]);
                Some(found)
            })
    }

    fn conflicts(&self, other: &Disk<'_>) -> bool {
        let monitored = self.monitors.is_empty()
            || self
                .monitors
                .iter()
                .any(|monitor| other.monitors.contains(monitor));
        self.kind == other.kind
            && self.name == other.name
            && monitored
            && !(self.may_share && self.read_only && other.read_only)
    }
}
