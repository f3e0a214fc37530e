//! Who has been heard of, and how zones fare: when a silent node counts as lost, and how fast Pods may
//! be driven from lost ones. Pure: the time is given.

use std::collections::HashMap;
use std::time::Duration;

use controller::Object;
use model::object;
use serde_json::{Value, json};
use tokio::time::Instant;

/// When nodes are lost, and how fast Pods leave lost ones: kube-controller-manager's flags of these names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeLifecycleSettings {
    /// A node that has been silent for so long is lost.
    pub node_monitor_grace_period: Duration,
    /// One that has never said anything may be for longer.
    pub node_startup_grace_period: Duration,
    /// Nodes of a zone whose Pods are driven off, in a second.
    pub node_eviction_rate: f64,
    /// The same, in a large zone of which much is lost.
    pub secondary_node_eviction_rate: f64,
    /// Above so many nodes a zone is large.
    pub large_cluster_size_threshold: usize,
    /// Much of a zone is lost from this share on.
    pub unhealthy_zone_threshold: f64,
}

impl Default for NodeLifecycleSettings {
    fn default() -> Self {
        Self {
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_mins(1),
            node_eviction_rate: 0.1,
            secondary_node_eviction_rate: 0.01,
            large_cluster_size_threshold: 50,
            unhealthy_zone_threshold: 0.55,
        }
    }
}

/// What a kubelet says; what nobody says becomes `Unknown`.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How a zone fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Well enough.
    Normal,
    /// Much of it is lost.
    Partial,
    /// All of it is lost.
    Full,
}

impl Zone {
    /// By how many nodes are ready and not.
    #[expect(clippy::cast_precision_loss, reason = "numbers of nodes")]
    pub fn of(ready: usize, lost: usize, threshold: f64) -> Self {
        match (ready, lost) {
            (0, 1..) => Self::Full,
            // A few are never much.
            (_, 3..) if lost as f64 / (lost + ready) as f64 >= threshold => Self::Partial,
            _ => Self::Normal,
        }
    }
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    heartbeat: String,
    renewed: String,
    ready: bool,
    zone: String,
}

/// All nodes.
#[derive(Debug, Default)]
pub struct Health {
    settings: NodeLifecycleSettings,
    nodes: HashMap<String, Heard>,
    /// When the Pods of a zone's node were last driven off.
    driven: HashMap<String, Instant>,
    all_lost: bool,
}

/// The status of the Ready condition, empty where there is none.
pub fn ready_status(node: &Object) -> &str {
    let found = controller::condition::find(node.status(), "Ready");
    found.map_or("", |found| object::text(found, &["status"]))
}

fn zone_of(node: &Object) -> String {
    let label = |key: &str| node.label(key).unwrap_or_default();
    let (region, zone) = (
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone"),
    );
    format!("{region}/{zone}")
}

impl Health {
    /// No nodes yet.
    pub fn new(settings: NodeLifecycleSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// A node has been seen.
    pub fn saw_node(&mut self, node: &Object, now: Instant) {
        let heartbeat = controller::condition::find(node.status(), "Ready")
            .map_or("", |found| object::text(found, &["lastHeartbeatTime"]));
        let ready = ready_status(node) == "True";
        let zone = zone_of(node);
        match self.nodes.get_mut(node.name()) {
            Some(heard) => {
                if heard.heartbeat != heartbeat {
                    heartbeat.clone_into(&mut heard.heartbeat);
                    heard.at = now;
                }
                (heard.ready, heard.zone) = (ready, zone);
            }
            None => {
                let heard = Heard {
                    at: now,
                    heartbeat: heartbeat.to_owned(),
                    renewed: String::new(),
                    ready,
                    zone,
                };
                self.nodes.insert(node.name().to_owned(), heard);
            }
        }
        self.leave_disruption(now);
    }

    /// A node's lease has been seen.
    pub fn saw_lease(&mut self, node: &str, renewed: &str, now: Instant) {
        if let Some(heard) = self.nodes.get_mut(node)
            && heard.renewed.as_str() < renewed
        {
            renewed.clone_into(&mut heard.renewed);
            heard.at = now;
        }
    }

    /// A node is gone.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// How much longer a node may be silent; none when it is lost.
    pub fn patience(&self, node: &Object, now: Instant) -> Option<Duration> {
        let grace = match ready_status(node) {
            "" => self.settings.node_startup_grace_period,
            _ => self.settings.node_monitor_grace_period,
        };
        let heard = self.nodes.get(node.name()).map_or(now, |heard| heard.at);
        (heard + grace)
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    fn zone(&self, zone: &str) -> (Zone, usize) {
        let own = || self.nodes.values().filter(|heard| heard.zone == zone);
        let ready = own().filter(|heard| heard.ready).count();
        let size = own().count();
        let threshold = self.settings.unhealthy_zone_threshold;
        (Zone::of(ready, size - ready, threshold), size)
    }

    /// Whether no node at all is ready: then it is rather this program that is cut off.
    pub fn is_all_lost(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.values().all(|heard| !heard.ready)
    }

    /// Who comes back from being cut off has heard of nobody for a while.
    fn leave_disruption(&mut self, now: Instant) {
        let lost = self.is_all_lost();
        if self.all_lost && !lost {
            for heard in self.nodes.values_mut() {
                heard.at = now;
            }
        }
        self.all_lost = lost;
    }

    /// Whether the Pods of a lost node may be driven off now; else when to ask again, or never as
    /// things are.
    pub fn may_drive_off(&mut self, node: &Object, now: Instant) -> Result<(), Option<Duration>> {
        if self.is_all_lost() {
            return Err(None);
        }
        let name = zone_of(node);
        let rate = match self.zone(&name) {
            (Zone::Normal | Zone::Full, _) => self.settings.node_eviction_rate,
            (Zone::Partial, size) if size > self.settings.large_cluster_size_threshold => {
                self.settings.secondary_node_eviction_rate
            }
            // A small zone of which much is lost: wait until it is better.
            (Zone::Partial, _) => 0.0,
        };
        let Ok(every) = Duration::try_from_secs_f64(1.0 / rate) else {
            return Err(None);
        };
        if let Some(last) = self.driven.get(&name) {
            let next = *last + every;
            if next > now {
                return Err(Some(next - now));
            }
        }
        self.driven.insert(name, now);
        Ok(())
    }
}

/// The conditions of a node nobody has heard of; `None` where they say so already. Pure.
pub fn unknown(node: &Object, now: &str) -> Option<Vec<Value>> {
    let mut conditions = object::list(node.status(), &["conditions"]).to_vec();
    let before = conditions.clone();
    for kind in CONDITIONS {
        let found = conditions
            .iter_mut()
            .find(|own| object::text(own, &["type"]) == kind);
        match found {
            None => conditions.push(json!({
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": node.creation_timestamp(),
                "lastTransitionTime": now,
            })),
            Some(own) if object::text(own, &["status"]) != "Unknown" => {
                own["status"] = json!("Unknown");
                own["reason"] = json!("NodeStatusUnknown");
                own["message"] = json!("Kubelet stopped posting node status.");
                own["lastTransitionTime"] = json!(now);
            }
            Some(_) => {}
        }
    }
    (conditions != before).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: &str, ready: &str, heartbeat: &str) -> Object {
        Object::new(json!({
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone},
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": [
                {"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]},
        }))
    }

    #[test]
    fn zones_fare_by_what_is_lost() {
        let check = |ready: usize, lost: usize, expect: Zone| {
            assert_eq!(Zone::of(ready, lost, 0.55), expect, "{ready} {lost}");
        };
        check(0, 0, Zone::Normal);
        check(0, 1, Zone::Full);
        check(1, 2, Zone::Normal);
        check(2, 3, Zone::Partial);
        check(3, 3, Zone::Normal);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_and_any_sign_breaks_it() {
        let (mut health, start) = (Health::default(), Instant::now());
        let quiet = node("n", "z", "True", "t1");
        health.saw_node(&quiet, start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(
            health.patience(&quiet, at(20)),
            Some(Duration::from_secs(30))
        );
        assert_eq!(health.patience(&quiet, at(50)), None);
        health.saw_lease("n", "r1", at(50));
        assert!(health.patience(&quiet, at(99)).is_some());
        // The same lease again is no sign.
        health.saw_lease("n", "r1", at(99));
        assert_eq!(health.patience(&quiet, at(100)), None);
        health.saw_node(&node("n", "z", "True", "t2"), at(100));
        assert!(health.patience(&quiet, at(149)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn pods_are_driven_off_slowly() {
        let (mut health, start) = (Health::default(), Instant::now());
        for number in 0..5 {
            health.saw_node(&node(&format!("n{number}"), "z", "True", "t"), start);
        }
        let lost = node("n0", "z", "Unknown", "t");
        health.saw_node(&lost, start);
        assert_eq!(health.may_drive_off(&lost, start), Ok(()));
        let wait = Duration::from_secs(10);
        assert_eq!(health.may_drive_off(&lost, start), Err(Some(wait)));
        assert_eq!(health.may_drive_off(&lost, start + wait), Ok(()));
        // Most of a small zone is lost: nobody is driven off.
        for number in 1..3 {
            health.saw_node(&node(&format!("n{number}"), "z", "Unknown", "t"), start);
        }
        assert_eq!(health.may_drive_off(&lost, start + wait * 9), Err(None));
        // Nor when all are.
        for number in 3..5 {
            health.saw_node(&node(&format!("n{number}"), "z", "Unknown", "t"), start);
        }
        assert!(health.is_all_lost());
        assert_eq!(health.may_drive_off(&lost, start + wait * 9), Err(None));
    }

    #[tokio::test(start_paused = true)]
    async fn settings_count() {
        let settings = NodeLifecycleSettings {
            node_monitor_grace_period: Duration::from_secs(4),
            node_startup_grace_period: Duration::from_secs(9),
            node_eviction_rate: 0.5,
            secondary_node_eviction_rate: 0.0,
            large_cluster_size_threshold: 3,
            unhealthy_zone_threshold: 0.6,
        };
        let (mut health, start) = (Health::new(settings), Instant::now());
        let (quiet, new) = (node("n0", "z", "True", "t"), node("n1", "z", "", "t"));
        for node in [&quiet, &new] {
            health.saw_node(node, start);
        }
        let seconds = Duration::from_secs;
        assert_eq!(health.patience(&quiet, start), Some(seconds(4)));
        assert_eq!(health.patience(&new, start), Some(seconds(9)));
        for number in 1..5 {
            let status = if number < 3 { "Unknown" } else { "True" };
            health.saw_node(&node(&format!("n{number}"), "z", status, "t"), start);
        }
        assert_eq!(health.may_drive_off(&quiet, start), Ok(()));
        let wait = Err(Some(seconds(2)));
        assert_eq!(health.may_drive_off(&quiet, start), wait);
        // Three of five are much, and the zone is large; but a rate of 0 is never.
        health.saw_node(&node("n3", "z", "Unknown", "t"), start);
        assert_eq!(health.may_drive_off(&quiet, start + seconds(60)), Err(None));
    }

    #[test]
    fn what_nobody_says_is_unknown() {
        let lost = node("n", "z", "True", "t");
        let conditions = unknown(&lost, "now").expect("a change");
        let told: Vec<String> = conditions
            .iter()
            .map(|own| {
                format!(
                    "{} {}",
                    object::text(own, &["status"]),
                    object::text(own, &["reason"])
                )
            })
            .collect();
        let never = "Unknown NodeStatusNeverUpdated";
        assert_eq!(told, ["Unknown NodeStatusUnknown", never, never, never]);
        let mut told = lost.into_value();
        told["status"]["conditions"] = json!(conditions);
        assert_eq!(unknown(&Object::new(told), "later"), None);
    }
}
