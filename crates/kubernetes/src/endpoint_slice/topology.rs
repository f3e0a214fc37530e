//! Hints that share endpoints out among zones by their CPUs, as the annotation `service.kubernetes.io/topology-mode: Auto` asks. Pure.
//!
//! Every zone gets a share of the endpoints like its share of the CPUs, its own ones first. Hints that are there stay as long as no
//! zone has too few: traffic does not move for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::{Object, condition};
use model::{Quantity, object};
use serde_json::{Value, json};

const MODE: &str = "service.kubernetes.io/topology-mode";
/// What the annotation was called before.
const MODE_BEFORE: &str = "service.kubernetes.io/topology-aware-hints";
const ZONE: &str = "topology.kubernetes.io/zone";
/// No endpoint may have more than this much over its share.
const OVERLOAD: f64 = 0.2;
/// Nodes that traffic does not come from.
const EXCLUDED: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// Whether a Service asks for hints by zone.
pub fn is_asked(service: &Object) -> bool {
    let mode = service
        .annotation(MODE_BEFORE)
        .or_else(|| service.annotation(MODE));
    matches!(mode, Some("Auto" | "auto"))
}

/// The zones' shares of the CPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct Zones(BTreeMap<String, f64>);

/// What of a node matters to the shares; none for nodes that do not count.
pub fn share_of(node: &Object) -> Option<(Option<&str>, i64)> {
    let excluded = EXCLUDED.iter().any(|label| node.label(label).is_some());
    if excluded || !condition::is_true(node.status(), "Ready") {
        return None;
    }
    let cpu = object::text(node.value(), &["status", "allocatable", "cpu"]);
    let cpu = cpu.parse::<Quantity>().map_or(0, |cpu| cpu.milli_value());
    Some((node.label(ZONE).filter(|zone| !zone.is_empty()), cpu))
}

impl Zones {
    /// The shares; none where not all nodes say where they are and what they have, or all are in one zone.
    pub fn of(nodes: &[Arc<Object>]) -> Option<Self> {
        let mut cpus: BTreeMap<String, i64> = BTreeMap::new();
        for (zone, cpu) in nodes.iter().filter_map(|node| share_of(node)) {
            let own = cpus
                .entry(zone.filter(|_| cpu > 0)?.to_owned())
                .or_default();
            *own = own.saturating_add(cpu);
        }
        let total: f64 = cpus.values().map(|cpu| *cpu as f64).sum();
        let share = |(zone, cpu): (String, i64)| (zone, cpu as f64 / total);
        (cpus.len() > 1).then(|| Self(cpus.into_iter().map(share).collect()))
    }
}

/// An endpoint that takes traffic.
#[derive(Debug, Clone)]
pub struct Place {
    /// Which endpoint.
    pub identity: String,
    /// Its zone.
    pub zone: Option<String>,
    /// The zone its present hint names.
    pub hinted: Option<String>,
}

/// For which zone each endpoint is, by identity.
pub type Hints = BTreeMap<String, String>;

/// Shares endpoints out; says why where that cannot be.
pub fn assign(zones: Option<&Zones>, places: &[Place]) -> Result<Hints, String> {
    let Some(Zones(shares)) = zones else {
        let why = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
        return Err(why.to_owned());
    };
    let sizes = format!("({} endpoints, {} zones)", places.len(), shares.len());
    if shares.len() > places.len() {
        return Err(format!("Insufficient number of endpoints {sizes}"));
    }
    let count = places.len() as f64;
    let least = |share: f64| (share * count / (1.0 + OVERLOAD)).ceil();
    if shares.values().map(|share| least(*share)).sum::<f64>() > count {
        return Err(format!(
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold {sizes}"
        ));
    }
    if places.iter().any(|place| place.zone.is_none()) {
        return Err("One or more endpoints do not have a zone specified".to_owned());
    }
    if let Some(hints) = still_good(shares, places, &least) {
        return Ok(hints);
    }
    let wanted = |zone: &str| {
        let share = shares.get(zone).copied().unwrap_or(0.0);
        (share * count).max(least(share))
    };
    let mut hints: Hints = BTreeMap::new();
    let mut counts: BTreeMap<&str, f64> = shares.keys().map(|zone| (&**zone, 0.0)).collect();
    for place in places {
        let zone = place.zone.as_deref().unwrap_or_default();
        *counts.entry(zone).or_default() += 1.0;
        hints.insert(place.identity.clone(), zone.to_owned());
    }
    // One after another goes from the zone that has most too many to the one that has most too few.
    loop {
        let most = |sign: f64| {
            let off = counts
                .iter()
                .map(|(zone, count)| (*zone, sign * (count - wanted(zone))));
            off.max_by(|one, other| one.1.total_cmp(&other.1))
        };
        let (Some((from, much)), Some((to, little))) = (most(1.0), most(-1.0)) else {
            break;
        };
        if (much < 1.0 && little < 1.0) || much < 0.5 || little < 0.5 {
            break;
        }
        let moved = places.iter().find(|place| {
            let own = place.zone.as_deref() == Some(from);
            own && hints.get(&place.identity).is_some_and(|zone| zone == from)
        });
        let Some(moved) = moved else { break };
        hints.insert(moved.identity.clone(), to.to_owned());
        *counts.entry(from).or_default() -= 1.0;
        *counts.entry(to).or_default() += 1.0;
    }
    Ok(hints)
}

/// The hints there are, where every endpoint has one and no zone too few.
fn still_good(
    shares: &BTreeMap<String, f64>,
    places: &[Place],
    least: &impl Fn(f64) -> f64,
) -> Option<Hints> {
    let hinted = |place: &Place| Some((place.identity.clone(), place.hinted.clone()?));
    let hints = places.iter().map(hinted).collect::<Option<Hints>>()?;
    let of = |zone: &String| hints.values().filter(|own| *own == zone).count() as f64;
    let enough = shares.iter().all(|(zone, share)| of(zone) >= least(*share));
    let known = hints.values().all(|zone| shares.contains_key(zone));
    (enough && known).then_some(hints)
}

/// Gives an endpoint its hint, or none.
pub fn hint(endpoint: &mut Value, zone: Option<&String>) {
    let Some(fields) = endpoint.as_object_mut() else {
        return;
    };
    match zone {
        Some(zone) => fields.insert("hints".to_owned(), json!({"forZones": [{"name": zone}]})),
        None => fields.remove("hints"),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(zone: &str, cpu: &str, label: &str) -> Arc<Object> {
        Arc::new(Object::new(json!({
            "metadata": {"name": zone, "labels": {ZONE: zone, label: ""}},
            "status": {
                "allocatable": {"cpu": cpu},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        })))
    }

    fn places(zones: &[&str]) -> Vec<Place> {
        let place = |(at, zone): (usize, &&str)| Place {
            identity: format!("{at:02}"),
            zone: Some((*zone).to_owned()).filter(|zone| !zone.is_empty()),
            hinted: None,
        };
        zones.iter().enumerate().map(place).collect()
    }

    fn shown(hints: Result<Hints, String>) -> String {
        match hints {
            Ok(hints) => hints.into_values().collect::<Vec<_>>().join(" "),
            Err(why) => why,
        }
    }

    #[test]
    fn zones_share_by_their_cpus() {
        let two = Zones::of(&[
            node("a", "2", "x"),
            node("a", "2", "x"),
            node("b", "4", "x"),
        ]);
        let check = |zones: &Option<Zones>, all: &[&str], expect: &str| {
            assert_eq!(
                shown(assign(zones.as_ref(), &places(all))),
                expect,
                "{all:?}"
            );
        };
        check(&two, &["a", "a", "b", "b"], "a a b b");
        check(&two, &["a", "a", "a", "b"], "b a a b");
        check(&two, &["a", "a", "a", "a"], "b b a a");
        check(&two, &["c", "a", "b", "c"], "b a b a");
        check(
            &two,
            &["a"],
            "Insufficient number of endpoints (1 endpoints, 2 zones)",
        );
        check(
            &two,
            &["a", "", "b", "b"],
            "One or more endpoints do not have a zone specified",
        );
        let uneven = Zones::of(&[node("a", "9", "x"), node("b", "1", "x")]);
        check(
            &uneven,
            &["a", "b"],
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (2 endpoints, 2 zones)",
        );
        let none = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
        check(&Zones::of(&[node("a", "9", "x")]), &["a", "a"], none);
        let unknown = [node("a", "9", "x"), node("b", "1", "x"), node("", "1", "x")];
        check(&Zones::of(&unknown), &["a", "a"], none);
        // The control plane's own node does not count.
        let apart = [node("a", "9", "x"), node("b", "9", EXCLUDED[0])];
        check(&Zones::of(&apart), &["a", "a"], none);
    }

    #[test]
    fn hints_that_are_good_enough_stay() {
        let zones = Zones::of(&[node("a", "1", "x"), node("b", "1", "x")]);
        let mut all = places(&["a"; 12]);
        for (number, place) in all.iter_mut().enumerate() {
            place.hinted = Some(if number < 5 { "b" } else { "a" }.to_owned());
        }
        assert_eq!(
            shown(assign(zones.as_ref(), &all)),
            "b b b b b a a a a a a a"
        );
        // Four are too few, and an endpoint without a hint is a reason to look at all of them.
        all[0].hinted = Some("a".to_owned());
        assert_eq!(
            shown(assign(zones.as_ref(), &all)),
            "b b b b b b a a a a a a"
        );
        all[0].hinted = None;
        assert_eq!(
            shown(assign(zones.as_ref(), &all)),
            "b b b b b b a a a a a a"
        );
    }

    proptest! {
        #[test]
        fn no_zone_has_too_few(
            cpus in prop::collection::vec(1_u8..20, 2..5),
            at in prop::collection::vec(0_usize..5, 1..40),
        ) {
            let name = |zone: usize| ["a", "b", "c", "d", "e"][zone];
            let nodes: Vec<_> = cpus.iter().enumerate()
                .map(|(zone, cpu)| node(name(zone), &cpu.to_string(), "x")).collect();
            let zones = Zones::of(&nodes).expect("several zones");
            let all = places(&at.iter().map(|zone| name(*zone)).collect::<Vec<_>>());
            if let Ok(hints) = assign(Some(&zones), &all) {
                prop_assert_eq!(hints.len(), all.len());
                let count = all.len() as f64;
                // Zones are owed whole endpoints, together more than there are; that is short, too.
                let owed = |share: &f64| (share * count).max((share * count / (1.0 + OVERLOAD)).ceil());
                let excess = zones.0.values().map(owed).sum::<f64>() - count;
                for (zone, share) in &zones.0 {
                    let own = hints.values().filter(|own| *own == zone).count() as f64;
                    // Less than half an endpoint is nobody's to give.
                    let short = (0.5 * (zones.0.len() - 1) as f64 + excess).max(1.0);
                    prop_assert!(own + short + 1e-9 > share * count, "{} {}", zone, own);
                }
            }
        }
    }
}
