//! A Pod as the scheduler sees it: read once from JSON, compared many times. Pure.

use std::sync::Arc;

use controller::{Object, ObjectKey};
use model::{LabelSelector, object};
use serde_json::Value;

use super::amounts::Requests;
use crate::node_affinity::{PreferredNodes, RequiredNodes};
use crate::taints::Toleration;

/// A port a Pod takes on its node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The address it listens on; empty is all of them.
    address: String,
    protocol: String,
    port: i64,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let everywhere = |port: &Self| port.address.is_empty() || port.address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || everywhere(self) || everywhere(other))
    }

    fn of_spec(spec: &Value) -> Vec<Self> {
        let sidecar = |container: &&Value| object::text(container, &["restartPolicy"]) == "Always";
        let sidecars = object::list(spec, &["initContainers"])
            .iter()
            .filter(sidecar);
        let mut ports = Vec::new();
        for container in object::list(spec, &["containers"]).iter().chain(sidecars) {
            for port in object::list(container, &["ports"]) {
                let Some(number) = object::number(port, &["hostPort"]).filter(|port| *port > 0)
                else {
                    continue;
                };
                let protocol = object::text(port, &["protocol"]);
                ports.push(Self {
                    address: object::text(port, &["hostIP"]).to_owned(),
                    protocol: if protocol.is_empty() { "TCP" } else { protocol }.to_owned(),
                    port: number,
                });
            }
        }
        ports
    }
}

/// A term of Pod affinity or anti-affinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTerm {
    /// The label of nodes whose values are the places Pods share.
    pub topology_key: String,
    selector: LabelSelector,
    namespaces: Vec<String>,
    namespace_selector: LabelSelector,
    /// How much it counts; 0 for required ones.
    pub weight: i64,
}

impl PodTerm {
    /// Reads a term; one whose selectors make no sense selects nothing.
    fn of(term: &Value, own_namespace: &str, weight: i64) -> Self {
        let selector = |name: &str| {
            let found = term.get(name).filter(|selector| !selector.is_null());
            LabelSelector::from_object(found).unwrap_or_else(|_| LabelSelector::nothing())
        };
        let mut namespaces: Vec<String> = object::list(term, &["namespaces"])
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        let none_selected = term.get("namespaceSelector").is_none_or(Value::is_null);
        if namespaces.is_empty() && none_selected {
            namespaces.push(own_namespace.to_owned());
        }
        Self {
            topology_key: object::text(term, &["topologyKey"]).to_owned(),
            selector: selector("labelSelector"),
            namespaces,
            namespace_selector: selector("namespaceSelector"),
            weight,
        }
    }

    fn required(list: &[Value], namespace: &str) -> Vec<Self> {
        let read = |term| Self::of(term, namespace, 0);
        list.iter().map(read).collect()
    }

    fn preferred(list: &[Value], namespace: &str) -> Vec<Self> {
        let read = |weighted: &Value| {
            let weight = object::number(weighted, &["weight"]).unwrap_or(0);
            let term = weighted.get("podAffinityTerm").unwrap_or(&Value::Null);
            Self::of(term, namespace, weight)
        };
        list.iter().map(read).collect()
    }

    /// Whether it selects a Pod; `namespace` is the Namespace of that Pod.
    pub fn matches(&self, pod: &PodInfo, namespace: Option<&Object>) -> bool {
        let named = self.namespaces.contains(&pod.key.namespace);
        let selected = || match namespace {
            Some(namespace) => self
                .namespace_selector
                .matches_with(|key| namespace.label(key)),
            None => self.namespace_selector.is_everything(),
        };
        (named || selected()) && self.selector.matches(pod.labels())
    }
}

/// What may happen when a spread cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnsatisfiable {
    /// The Pod waits.
    DoNotSchedule,
    /// The Pod goes where the spread suffers least.
    ScheduleAnyway,
}

/// How Pods are to be spread over the values of a node label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// By how many Pods places may differ.
    pub max_skew: i64,
    /// The label.
    pub topology_key: String,
    /// Which Pods count.
    pub selector: LabelSelector,
    /// How many places there have to be.
    pub min_domains: usize,
    /// Whether only nodes the Pod selects count.
    pub honours_affinity: bool,
    /// Whether only nodes whose taints the Pod tolerates count.
    pub honours_taints: bool,
    /// What may happen otherwise.
    pub otherwise: WhenUnsatisfiable,
}

impl Spread {
    /// Reads a constraint of a Pod with these labels.
    pub fn of(constraint: &Value, labels: &impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| object::text(constraint, &[name]);
        let selector = constraint
            .get("labelSelector")
            .filter(|selector| !selector.is_null());
        let mut selector =
            LabelSelector::from_object(selector).unwrap_or_else(|_| LabelSelector::nothing());
        for key in object::list(constraint, &["matchLabelKeys"]) {
            let key = key.as_str().unwrap_or_default();
            if let Some(value) = labels(key) {
                selector = selector.and_label(key, &value);
            }
        }
        let domains = object::number(constraint, &["minDomains"]).unwrap_or(1);
        Self {
            max_skew: object::number(constraint, &["maxSkew"]).unwrap_or(1),
            topology_key: text("topologyKey").to_owned(),
            selector,
            min_domains: usize::try_from(domains).unwrap_or(1),
            honours_affinity: text("nodeAffinityPolicy") != "Ignore",
            honours_taints: text("nodeTaintsPolicy") == "Honor",
            otherwise: if text("whenUnsatisfiable") == "ScheduleAnyway" {
                WhenUnsatisfiable::ScheduleAnyway
            } else {
                WhenUnsatisfiable::DoNotSchedule
            },
        }
    }
}

/// A Pod, read.
#[derive(Debug)]
pub struct PodInfo {
    /// The Pod.
    pub object: Arc<Object>,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// What it asks for.
    pub requests: Requests,
    /// Its priority.
    pub priority: i64,
    /// Ports it takes on its node.
    pub ports: Vec<HostPort>,
    /// Taints it tolerates.
    pub tolerations: Vec<Toleration>,
    /// Nodes it may run on.
    pub nodes: RequiredNodes,
    /// Nodes it would like.
    pub preferred_nodes: Vec<PreferredNodes>,
    /// Pods it has to be beside.
    pub affinity: Vec<PodTerm>,
    /// Pods it must not be beside.
    pub anti_affinity: Vec<PodTerm>,
    /// Pods it would like to be beside.
    pub preferred_affinity: Vec<PodTerm>,
    /// Pods it would rather not be beside.
    pub preferred_anti_affinity: Vec<PodTerm>,
    /// How it is to be spread.
    pub spreads: Vec<Spread>,
    /// The claims of its volumes.
    pub claims: Vec<Claim>,
    /// Whether it is going.
    pub is_terminating: bool,
}

/// A claim a Pod uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name; its namespace is the Pod's.
    pub name: String,
    /// Whether it is made for the Pod, and goes with it.
    pub is_ephemeral: bool,
}

impl Claim {
    fn of_pod(pod: &Object) -> Vec<Self> {
        let read = |volume: &Value| {
            let named = object::text(volume, &["persistentVolumeClaim", "claimName"]);
            if !named.is_empty() {
                return Some(Self {
                    name: named.to_owned(),
                    is_ephemeral: false,
                });
            }
            volume.get("ephemeral").filter(|own| own.is_object())?;
            Some(Self {
                name: format!("{}-{}", pod.name(), object::text(volume, &["name"])),
                is_ephemeral: true,
            })
        };
        let volumes = object::list(pod.spec(), &["volumes"]);
        volumes.iter().filter_map(read).collect()
    }
}

impl PodInfo {
    /// Reads a Pod.
    pub fn new(object: Arc<Object>) -> Self {
        let spec = object.spec();
        let key = object.key();
        let affinity = |kind: &str, how: &str| {
            let path = ["affinity", kind, how];
            object::list(spec, &path)
        };
        const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
        const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
        let label = |key: &str| object.label(key).map(str::to_owned);
        Self {
            requests: Requests::of_pod(&object),
            priority: object::number(spec, &["priority"]).unwrap_or(0),
            ports: HostPort::of_spec(spec),
            tolerations: Toleration::of_pod(&object),
            nodes: RequiredNodes::of_spec(spec),
            preferred_nodes: PreferredNodes::of_spec(spec),
            affinity: PodTerm::required(affinity("podAffinity", REQUIRED), &key.namespace),
            anti_affinity: PodTerm::required(affinity("podAntiAffinity", REQUIRED), &key.namespace),
            preferred_affinity: PodTerm::preferred(
                affinity("podAffinity", PREFERRED),
                &key.namespace,
            ),
            preferred_anti_affinity: PodTerm::preferred(
                affinity("podAntiAffinity", PREFERRED),
                &key.namespace,
            ),
            spreads: object::list(spec, &["topologySpreadConstraints"])
                .iter()
                .map(|constraint| Spread::of(constraint, &label))
                .collect(),
            claims: Claim::of_pod(&object),
            is_terminating: object.is_terminating(),
            key,
            object,
        }
    }

    /// Its uid.
    pub fn uid(&self) -> &str {
        self.object.uid()
    }

    /// Its labels.
    pub fn labels(&self) -> Option<&serde_json::Map<String, Value>> {
        object::labels(self.object.value())
    }

    /// The node it is on, empty where there is none.
    pub fn node(&self) -> &str {
        object::text(self.object.spec(), &["nodeName"])
    }

    /// The node room is being made on for it.
    pub fn nominated_node(&self) -> &str {
        object::text(self.object.status(), &["nominatedNodeName"])
    }

    /// Its volumes.
    pub fn volumes(&self) -> &[Value] {
        object::list(self.object.spec(), &["volumes"])
    }

    /// The key of one of its claims.
    pub fn claim_key(&self, claim: &Claim) -> ObjectKey {
        ObjectKey::new(&*self.key.namespace, &*claim.name)
    }

    /// Whether it says anything of other Pods.
    pub fn has_affinity(&self) -> bool {
        let terms = [
            &self.affinity,
            &self.anti_affinity,
            &self.preferred_affinity,
            &self.preferred_anti_affinity,
        ];
        terms.iter().any(|terms| !terms.is_empty())
    }

    /// Whether it says anything of other Pods that need not hold.
    pub fn has_preferred_affinity(&self) -> bool {
        !self.preferred_affinity.is_empty() || !self.preferred_anti_affinity.is_empty()
    }

    /// When its containers started, or it was made: the older, the more important.
    pub fn since(&self) -> &str {
        match object::text(self.object.status(), &["startTime"]) {
            "" => self.object.creation_timestamp(),
            started => started,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_conflict_by_address_protocol_and_number() {
        let port = |address: &str, protocol: &str, number: i64| {
            let spec = json!({"containers": [{"ports": [
                {"hostIP": address, "protocol": protocol, "hostPort": number}]}]});
            HostPort::of_spec(&spec).remove(0)
        };
        let check = |a: &HostPort, b: &HostPort, expect: bool| {
            assert_eq!(a.conflicts(b), expect, "{a:?} {b:?}");
            assert_eq!(b.conflicts(a), expect, "{b:?} {a:?}");
        };
        check(&port("", "", 80), &port("10.0.0.1", "TCP", 80), true);
        check(
            &port("10.0.0.2", "", 80),
            &port("10.0.0.1", "TCP", 80),
            false,
        );
        check(&port("", "UDP", 80), &port("", "TCP", 80), false);
        check(&port("0.0.0.0", "TCP", 80), &port("10.0.0.1", "", 80), true);
        check(&port("", "", 80), &port("", "", 81), false);
    }

    #[test]
    fn terms_select_pods_of_their_namespaces() {
        let pod = |namespace: &str| {
            PodInfo::new(Arc::new(Object::new(json!({"metadata": {
                "name": "p", "namespace": namespace, "labels": {"app": "a"}}}))))
        };
        let selector = json!({"matchLabels": {"app": "a"}});
        let space = Object::new(json!({"metadata": {"name": "other", "labels": {"team": "x"}}}));
        let check = |term: Value, namespace: &str, expect: bool| {
            let read = PodTerm::of(&term, "own", 0);
            assert_eq!(
                read.matches(&pod(namespace), Some(&space)),
                expect,
                "{term}"
            );
        };
        let plain = json!({"labelSelector": selector});
        check(plain.clone(), "own", true);
        check(plain, "other", false);
        check(
            json!({"labelSelector": selector, "namespaces": ["other"]}),
            "other",
            true,
        );
        check(
            json!({"labelSelector": selector, "namespaces": ["other"]}),
            "own",
            false,
        );
        check(
            json!({"labelSelector": selector, "namespaceSelector": {}}),
            "other",
            true,
        );
        let teams = json!({"labelSelector": selector,
            "namespaceSelector": {"matchLabels": {"team": "y"}}});
        check(teams, "other", false);
    }
}
