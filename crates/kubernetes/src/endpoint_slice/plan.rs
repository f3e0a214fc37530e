//! The slices a Service should have, compared with those it has. Pure.
//!
//! A slice keeps the endpoints it has; new ones go where a slice is written anyway, then into one slice with room for all
//! of them, then into slices of their own. So a change of few endpoints writes few slices.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::{Object, ObjectKey, owner};
use jiff::Timestamp;
use model::object;
use serde_json::{Map, Value, json};

use super::SERVICE_NAME;
use super::endpoint::{self, Family};
use super::hints::Distribution;
use super::topology::{self, Hints, Place, Zones};
use super::trigger;

/// Most endpoints in one slice, as upstream.
const ENDPOINTS_MAX: usize = 100;
/// Who looks after a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Whether the Service has no address.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// One request.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// A new slice.
    Create(Value),
    /// A slice with other content.
    Update(Value),
    /// A slice that is not needed.
    Delete(ObjectKey),
}

/// Whether a slice is this controller's.
pub fn is_managed(slice: &Object) -> bool {
    slice.label(MANAGED_BY) == Some(MANAGER)
}

/// What slices are made from.
pub struct Scene<'a> {
    /// The Service.
    pub service: &'a Object,
    /// The Pods it selects.
    pub pods: &'a [Arc<Object>],
    /// Finds nodes by their names.
    pub node: &'a dyn Fn(&str) -> Option<Arc<Object>>,
    /// What triggered the change.
    pub trigger: Option<Timestamp>,
    /// The zones' shares, for Services that ask for hints by them.
    pub zones: Option<Zones>,
}

/// What is told of hints by zone.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether something is wrong.
    pub warning: bool,
    /// The reason.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

/// Endpoints by what they are of.
type Endpoints = BTreeMap<String, Value>;

/// One group of endpoints with the same ports.
#[derive(Default)]
struct Group {
    ports: Vec<Value>,
    endpoints: Endpoints,
}

/// A slice while it is filled.
struct Draft {
    /// The slice there is, if any.
    slice: Option<Arc<Object>>,
    endpoints: Vec<Value>,
    changed: bool,
}

/// What to change.
pub fn plan(scene: &Scene<'_>, present: &[Arc<Object>]) -> Vec<Change> {
    let families = endpoint::families(scene.service);
    let mut changes = Vec::new();
    let of = |family: Family| {
        let is_of =
            |slice: &&Arc<Object>| object::text(slice.value(), &["addressType"]) == family.name();
        present.iter().filter(is_of).cloned().collect::<Vec<_>>()
    };
    for family in [Family::V4, Family::V6] {
        let slices = of(family);
        if families.contains(&family) {
            changes.extend(scene.of_family(family, slices));
        } else {
            changes.extend(slices.iter().map(|slice| Change::Delete(slice.key())));
        }
    }
    changes
}

/// What there is to tell of hints by zone.
pub fn notices(scene: &Scene<'_>, present: &[Arc<Object>]) -> Vec<Notice> {
    let disabled = |why: String| (true, "TopologyAwareHintsDisabled", why);
    let of_family = |family: Family| {
        let of =
            |slice: &&Arc<Object>| object::text(slice.value(), &["addressType"]) == family.name();
        let slices: Vec<Arc<Object>> = present.iter().filter(of).cloned().collect();
        let had = slices.iter().any(|slice| !hinted(slice).is_empty());
        let (warning, reason, message) = match scene.by_zone(&scene.groups(family), &slices) {
            Some(Err(why)) => disabled(why),
            Some(Ok(_)) if !had => {
                let text = "Topology Aware Hints has been enabled".to_owned();
                (false, "TopologyAwareHintsEnabled", text)
            }
            None if had && Distribution::of(scene.service) == Distribution::Anywhere => {
                disabled("Topology Aware Hints has been disabled".to_owned())
            }
            _ => return None,
        };
        let message = format!("{message}, addressType: {}", family.name());
        Some(Notice {
            warning,
            reason,
            message,
        })
    };
    let families = endpoint::families(scene.service);
    families.into_iter().filter_map(of_family).collect()
}

/// The zones the endpoints of a slice are hinted for, by identity.
fn hinted(slice: &Object) -> BTreeMap<String, String> {
    let endpoints = object::list(slice.value(), &["endpoints"]).iter();
    let zone = |endpoint: &Value| {
        let zone = endpoint.pointer("/hints/forZones/0/name")?.as_str()?;
        Some((identity(endpoint), zone.to_owned()))
    };
    endpoints.filter_map(zone).collect()
}

fn is_ready(endpoint: &Value) -> bool {
    endpoint.pointer("/conditions/ready") == Some(&Value::Bool(true))
}

impl Scene<'_> {
    /// Hints by zone, where the Service asks for them; an error says why there are none.
    fn by_zone(
        &self,
        groups: &BTreeMap<String, Group>,
        present: &[Arc<Object>],
    ) -> Option<Result<Hints, String>> {
        if !topology::is_asked(self.service) {
            return None;
        }
        let had: BTreeMap<String, String> =
            present.iter().flat_map(|slice| hinted(slice)).collect();
        let endpoints = groups.values().flat_map(|group| &group.endpoints);
        let places = endpoints.filter(|(_, endpoint)| is_ready(endpoint));
        let places: Vec<Place> = places
            .map(|(identity, endpoint)| Place {
                identity: identity.clone(),
                zone: endpoint
                    .get("zone")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                hinted: had.get(identity).cloned(),
            })
            .collect();
        Some(topology::assign(self.zones.as_ref(), &places))
    }

    fn of_family(&self, family: Family, present: Vec<Arc<Object>>) -> Vec<Change> {
        let mut groups = self.groups(family);
        let by_zone = self
            .by_zone(&groups, &present)
            .map(Result::unwrap_or_default);
        let (mut kept, mut surplus) = (BTreeMap::<String, Vec<Arc<Object>>>::new(), Vec::new());
        for slice in present {
            let key = ports_key(object::list(slice.value(), &["ports"]));
            if self.owns(&slice) && groups.contains_key(&key) {
                kept.entry(key).or_default().push(slice);
            } else {
                surplus.push(slice);
            }
        }
        if groups.values().all(|group| group.endpoints.is_empty()) {
            // A Service without endpoints has one slice that says so.
            surplus.extend(std::mem::take(&mut kept).into_values().flatten());
            groups = BTreeMap::from([(ports_key(&[]), Group::default())]);
        }
        let distribution = Distribution::of(self.service);
        let (mut changes, mut new) = (Vec::new(), Vec::new());
        for (key, group) in groups {
            let slices = kept.remove(&key).unwrap_or_default();
            let placeholder = group.endpoints.is_empty();
            for mut draft in fill(slices, group.endpoints, placeholder) {
                for endpoint in &mut draft.endpoints {
                    match &by_zone {
                        Some(hints) => {
                            let zone = hints.get(&identity(endpoint));
                            topology::hint(endpoint, zone);
                        }
                        None => distribution.hint(endpoint),
                    }
                }
                match &draft.slice {
                    Some(slice) if draft.endpoints.is_empty() => surplus.push(slice.clone()),
                    Some(slice) => {
                        let wanted = self.slice(family, &group.ports, draft.endpoints);
                        if draft.changed || !is_same(slice, &wanted) {
                            changes.push(self.update(slice, wanted));
                        }
                    }
                    None => new.push(self.slice(family, &group.ports, draft.endpoints)),
                }
            }
        }
        // A slice that would go takes what would need a new one.
        let (own, foreign): (Vec<_>, Vec<_>) = surplus.into_iter().partition(|s| self.owns(s));
        let mut own = own.into_iter();
        for wanted in new {
            match own.next() {
                Some(slice) if is_same(&slice, &wanted) => {}
                Some(slice) => changes.push(self.update(&slice, wanted)),
                None if self.service.is_terminating() => {}
                None => {
                    let mut wanted = wanted;
                    trigger::tell(&mut wanted, self.trigger);
                    changes.push(Change::Create(wanted));
                }
            }
        }
        changes.extend(own.chain(foreign).map(|slice| Change::Delete(slice.key())));
        changes
    }

    fn owns(&self, slice: &Object) -> bool {
        let owners = slice.owner_references();
        owners.iter().any(|owner| owner.uid == self.service.uid())
    }

    /// Endpoints by the ports they are reached at: a named target port may differ from Pod to Pod.
    fn groups(&self, family: Family) -> BTreeMap<String, Group> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| endpoint::counts(pod, true)) {
            let node_name = object::text(pod.value(), &["spec", "nodeName"]);
            let node = (self.node)(node_name);
            // A Pod of a node that is gone is on its way, too.
            let lost = node.is_none() && !node_name.is_empty();
            if lost && !endpoint::publishes_unready(self.service) {
                continue;
            }
            let found = endpoint::endpoint(self.service, pod, node.as_deref(), family);
            let Some(endpoint) = found else { continue };
            let ports = endpoint::ports(self.service, pod);
            let group = groups.entry(ports_key(&ports)).or_default();
            group.ports = ports;
            group.endpoints.insert(identity(&endpoint), endpoint);
        }
        groups
    }

    fn slice(&self, family: Family, ports: &[Value], endpoints: Vec<Value>) -> Value {
        let list = |list: Vec<Value>| {
            if list.is_empty() {
                Value::Null
            } else {
                json!(list)
            }
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": prefix(self.service.name()),
                "namespace": self.service.namespace(),
                "labels": self.labels(),
                "ownerReferences": [owner::reference(self.service, true)],
            },
            "addressType": family.name(),
            "ports": list(ports.to_vec()),
            "endpoints": list(endpoints),
        })
    }

    fn labels(&self) -> Map<String, Value> {
        let reserved = [SERVICE_NAME, MANAGED_BY, HEADLESS];
        let mut labels: Map<String, Value> = self
            .service
            .labels()
            .filter(|(key, _)| !reserved.contains(key))
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        labels.insert(SERVICE_NAME.to_owned(), json!(self.service.name()));
        labels.insert(MANAGED_BY.to_owned(), json!(MANAGER));
        if endpoint::is_headless(self.service) {
            labels.insert(HEADLESS.to_owned(), json!(""));
        }
        labels
    }

    fn update(&self, slice: &Object, wanted: Value) -> Change {
        let mut new = slice.value().clone();
        for field in ["ports", "endpoints"] {
            new[field] = wanted[field].clone();
        }
        new["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
        trigger::tell(&mut new, self.trigger);
        Change::Update(new)
    }
}

/// The start of a slice's name.
fn prefix(service: &str) -> String {
    // A name that ends with a dot and a dash would be none.
    if service.ends_with('.') {
        service.to_owned()
    } else {
        format!("{service}-")
    }
}

/// Ports in an order of their own, as text.
fn ports_key(ports: &[Value]) -> String {
    let mut texts: Vec<String> = ports
        .iter()
        .map(|port| {
            let mut port = port.clone();
            if let Some(fields) = port.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            port.to_string()
        })
        .collect();
    texts.sort();
    texts.join(",")
}

/// What an endpoint is of: its addresses and its Pod.
fn identity(endpoint: &Value) -> String {
    let mut addresses: Vec<String> = object::list(endpoint, &["addresses"])
        .iter()
        .map(ToString::to_string)
        .collect();
    addresses.sort();
    format!(
        "{} {}",
        object::text(endpoint, &["targetRef", "uid"]),
        addresses.join(",")
    )
}

/// Puts endpoints into slices.
fn fill(slices: Vec<Arc<Object>>, mut wanted: Endpoints, placeholder: bool) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = slices
        .into_iter()
        .map(|slice| {
            let had = object::list(slice.value(), &["endpoints"]);
            let kept: Vec<Value> = had
                .iter()
                .filter_map(|endpoint| wanted.remove(&identity(endpoint)))
                .collect();
            let changed = kept.len() != had.len();
            Draft {
                slice: Some(slice),
                endpoints: kept,
                changed,
            }
        })
        .collect();
    let mut rest: Vec<Value> = wanted.into_values().rev().collect();
    // The fullest first, of those that are written anyway.
    drafts.sort_by_key(|draft| (!draft.changed, std::cmp::Reverse(draft.endpoints.len())));
    let written = drafts
        .iter_mut()
        .filter(|d| d.changed && !d.endpoints.is_empty());
    for draft in written {
        let room = ENDPOINTS_MAX
            .saturating_sub(draft.endpoints.len())
            .min(rest.len());
        draft
            .endpoints
            .extend(rest.drain(rest.len() - room..).rev());
    }
    if !rest.is_empty() && rest.len() < ENDPOINTS_MAX {
        let fits = |draft: &&mut Draft| {
            !draft.changed && draft.endpoints.len() + rest.len() <= ENDPOINTS_MAX
        };
        let fullest = drafts
            .iter_mut()
            .filter(fits)
            .max_by_key(|d| d.endpoints.len());
        if let Some(draft) = fullest {
            draft.endpoints.extend(rest.drain(..).rev());
            draft.changed = true;
        }
    }
    while !rest.is_empty() || (placeholder && drafts.is_empty()) {
        let some = ENDPOINTS_MAX.min(rest.len());
        drafts.push(Draft {
            slice: None,
            endpoints: rest.drain(rest.len() - some..).rev().collect(),
            changed: true,
        });
    }
    drafts
}

/// Whether a slice says what it should; missing, null and empty lists are the same to a reader.
fn is_same(slice: &Object, wanted: &Value) -> bool {
    let list = |value: &Value, field: &str| object::list(value, &[field]).to_vec();
    let value = slice.value();
    ports_key(&list(value, "ports")) == ports_key(&list(wanted, "ports"))
        && list(value, "endpoints") == list(wanted, "endpoints")
        && value.pointer("/metadata/labels") == wanted.pointer("/metadata/labels")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
