//! From what Pods use to how many there should be. Pure.
//!
//! Pods whose numbers are missing or cannot be trusted yet are counted so that they damp the change: as if they used
//! nothing where there would be more, as if they used all they may where there would be fewer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::{Object, condition};
use jiff::{SignedDuration, Timestamp};
use model::{Quantity, object};
use serde_json::Value;

use crate::pod;

/// For so long after its start a Pod's CPU usage is looked at only where the Pod is ready.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A Pod that became unready within this time after its start has never been ready.
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// What one Pod uses, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The number.
    pub milli: i64,
    /// When it was taken.
    pub at: Option<Timestamp>,
    /// How long it was watched for it.
    pub window: SignedDuration,
}

/// Samples by the names of Pods.
pub type Samples = BTreeMap<String, Sample>;

/// By how much usage may differ without consequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    /// Below the target.
    pub down: f64,
    /// Above the target.
    pub up: f64,
}

impl Tolerances {
    /// Whether a ratio of usage and target is close enough to 1.
    pub fn contain(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What is aimed at.
#[derive(Debug, Clone)]
pub enum Target {
    /// So many percent of what Pods ask for, which is given in thousandths by their names.
    Utilization(i64, BTreeMap<String, i64>),
    /// So many thousandths a Pod.
    Average(i64),
}

/// Usage as it is told in a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Percent of what the Pods ask for.
    pub percent: Option<i64>,
    /// Thousandths a Pod.
    pub average: i64,
}

impl Target {
    fn ratio(&self, values: &BTreeMap<&str, i64>) -> Result<(f64, Usage), String> {
        let sum = |values: &mut dyn Iterator<Item = i64>| values.fold(0, i64::saturating_add);
        match self {
            Self::Utilization(target, requests) => {
                let known = || {
                    values
                        .iter()
                        .filter(|(name, _)| requests.contains_key(**name))
                };
                let used = sum(&mut known().map(|(_, value)| *value));
                let asked = sum(&mut known().map(|(name, _)| requests[*name]));
                if asked == 0 {
                    return Err("no metrics returned matched known pods".to_owned());
                }
                let percent = i64::try_from(i128::from(used) * 100 / i128::from(asked));
                let percent = percent.unwrap_or(i64::MAX);
                let usage = Usage {
                    percent: Some(percent),
                    average: used / known().count() as i64,
                };
                Ok((percent as f64 / *target as f64, usage))
            }
            Self::Average(target) => {
                let used = sum(&mut values.values().copied());
                let average = used / values.len().max(1) as i64;
                let usage = Usage {
                    percent: None,
                    average,
                };
                Ok((average as f64 / *target as f64, usage))
            }
        }
    }

    /// What a Pod without a number is taken to use where there would be fewer Pods.
    fn stand_in(&self, name: &str) -> i64 {
        match self {
            Self::Utilization(target, requests) => {
                let asked = requests.get(name).copied().unwrap_or(0);
                asked.saturating_mul(*target.max(&100)) / 100
            }
            Self::Average(target) => *target,
        }
    }
}

/// Pods by what their numbers are worth.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn group(pods: &[Arc<Object>], samples: &Samples, cpu: bool, now: Timestamp) -> Groups {
    let mut groups = Groups::default();
    for pod in pods {
        let name = pod.name().to_owned();
        if pod.is_terminating() || pod::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pod::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else if let Some(sample) = samples.get(&name) {
            if cpu && !is_settled(pod, *sample, now) {
                groups.unready.insert(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}

/// Whether a Pod's CPU usage says something about its work, and not about its start.
fn is_settled(pod: &Object, sample: Sample, now: Timestamp) -> bool {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let Some(ready) = condition::find(pod.status(), "Ready") else {
        return false;
    };
    let Some(start) = time(object::text(pod.value(), &["status", "startTime"])) else {
        return false;
    };
    let is_unready = object::text(ready, &["status"]) == "False";
    let since = time(object::text(ready, &["lastTransitionTime"])).unwrap_or(start);
    let after = |from: Timestamp, by| from.checked_add(by).unwrap_or(Timestamp::MAX);
    if after(start, CPU_INITIALIZATION) > now {
        let whole = after(since, sample.window);
        !is_unready && sample.at.is_none_or(|at| at >= whole)
    } else {
        !(is_unready && after(start, INITIAL_READINESS) > since)
    }
}

/// How many Pods there should be for what they use.
pub fn replicas(
    current: i64,
    pods: &[Arc<Object>],
    samples: &Samples,
    target: &Target,
    tolerances: Tolerances,
    cpu: bool,
    now: Timestamp,
) -> Result<(i64, Usage), String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = group(pods, samples, cpu, now);
    let mut values: BTreeMap<&str, i64> = samples
        .iter()
        .filter(|(name, _)| !groups.ignored.contains(*name) && !groups.unready.contains(*name))
        .map(|(name, sample)| (name.as_str(), sample.milli))
        .collect();
    if values.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let (ratio, usage) = target.ratio(&values)?;
    let unready_matter = !groups.unready.is_empty() && ratio > 1.0;
    if !unready_matter && groups.missing.is_empty() {
        if tolerances.contain(ratio) {
            return Ok((current, usage));
        }
        return Ok((ceil(ratio * groups.ready as f64), usage));
    }
    for name in &groups.missing {
        if ratio < 1.0 {
            values.insert(name, target.stand_in(name));
        } else if ratio > 1.0 {
            values.insert(name, 0);
        }
    }
    if unready_matter {
        values.extend(groups.unready.iter().map(|name| (name.as_str(), 0)));
    }
    let (damped, _) = target.ratio(&values)?;
    let turns = (ratio < 1.0 && damped > 1.0) || (ratio > 1.0 && damped < 1.0);
    if tolerances.contain(damped) || turns {
        return Ok((current, usage));
    }
    let proposed = ceil(damped * values.len() as f64);
    let turns = (damped < 1.0 && proposed > current) || (damped > 1.0 && proposed < current);
    Ok((if turns { current } else { proposed }, usage))
}

/// How many Pods there should be for one number about something else.
pub fn replicas_for_value(
    current: i64,
    pods: &[Arc<Object>],
    milli: i64,
    target: i64,
    tolerances: Tolerances,
) -> Result<i64, String> {
    let ratio = milli as f64 / target as f64;
    if current == 0 {
        return Ok(ceil(ratio));
    }
    if tolerances.contain(ratio) {
        return Ok(current);
    }
    if pods.is_empty() {
        return Err(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
                .to_owned(),
        );
    }
    let running = |pod: &&Arc<Object>| pod::phase(pod) == "Running" && pod::is_ready(pod);
    Ok(ceil(ratio * pods.iter().filter(running).count() as f64))
}

/// How many Pods there should be to share one number, and each one's share as it is.
pub fn replicas_for_share(
    status_replicas: i64,
    milli: i64,
    target: i64,
    tolerances: Tolerances,
) -> (i64, i64) {
    let ratio = milli as f64 / (target as f64 * status_replicas as f64);
    let replicas = if tolerances.contain(ratio) {
        status_replicas
    } else {
        ceil(milli as f64 / target as f64)
    };
    (replicas, ceil(milli as f64 / status_replicas.max(1) as f64))
}

fn ceil(number: f64) -> i64 {
    number.ceil().clamp(0.0, f64::from(i32::MAX)) as i64
}

/// What each Pod asks for of a resource, in thousandths; of one of its containers, where one is named.
pub fn requests(
    pods: &[Arc<Object>],
    resource: &str,
    container: &str,
) -> Result<BTreeMap<String, i64>, String> {
    let mut requests = BTreeMap::new();
    for pod in pods {
        requests.insert(pod.name().to_owned(), request(pod, resource, container)?);
    }
    Ok(requests)
}

fn request(pod: &Object, resource: &str, container: &str) -> Result<i64, String> {
    let amount = |value: &Value| {
        let text = object::text(value, &["resources", "requests", resource]);
        text.parse::<Quantity>()
            .ok()
            .map(|amount| amount.milli_value())
    };
    let name = pod.name();
    let of_pod = object::at(pod.value(), &["spec", "resources", "requests"]);
    if container.is_empty() && of_pod.is_some_and(|requests| !requests.is_null()) {
        let missing = || format!("missing pod-level request for {resource} in Pod {name}");
        return amount(pod.spec()).ok_or_else(missing);
    }
    let sidecars = object::list(pod.value(), &["spec", "initContainers"])
        .iter()
        .filter(|init| object::text(init, &["restartPolicy"]) == "Always");
    let mut sum = 0_i64;
    for one in object::list(pod.value(), &["spec", "containers"])
        .iter()
        .chain(sidecars)
    {
        let this = object::text(one, &["name"]);
        if container.is_empty() || container == this {
            let missing =
                || format!("missing request for {resource} in container {this} of Pod {name}");
            sum = sum.saturating_add(amount(one).ok_or_else(missing)?);
        }
        if container == this {
            return Ok(sum);
        }
    }
    if container.is_empty() {
        Ok(sum)
    } else {
        Err(format!("container {container} not found in Pod {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOLERANCES: Tolerances = Tolerances { down: 0.1, up: 0.1 };

    fn now() -> Timestamp {
        Timestamp::from_second(10_000).expect("in range")
    }

    fn pods(phases: &[&str]) -> Vec<Arc<Object>> {
        let pod = |(number, phase): (usize, &&str)| {
            let ready = if *phase == "Running" { "True" } else { "False" };
            Arc::new(Object::new(json!({
                "metadata": {"name": format!("p{number}")},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
                "status": {
                    "phase": if *phase == "Unready" { "Running" } else { *phase },
                    "startTime": "1970-01-01T00:00:00Z",
                    "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:10Z"}],
                },
            })))
        };
        phases.iter().enumerate().map(pod).collect()
    }

    fn samples(values: &[i64]) -> Samples {
        let sample = |milli: i64| Sample {
            milli,
            at: Some(now()),
            window: SignedDuration::from_secs(60),
        };
        let named = values.iter().enumerate();
        named
            .filter(|(_, milli)| **milli >= 0)
            .map(|(number, milli)| (format!("p{number}"), sample(*milli)))
            .collect()
    }

    #[test]
    fn usage_decides_how_many_pods_there_should_be() {
        // Pods ask for 1000 thousandths each; -1 is a Pod without a number.
        let check = |current, phases: &[&str], used: &[i64], percent, expect: Result<i64, &str>| {
            let pods = pods(phases);
            let asked = requests(&pods, "cpu", "").expect("all ask");
            let target = Target::Utilization(percent, asked);
            let found = replicas(
                current,
                &pods,
                &samples(used),
                &target,
                TOLERANCES,
                true,
                now(),
            );
            let found = found.map(|(replicas, _)| replicas);
            assert_eq!(found, expect.map_err(str::to_owned), "{phases:?} {used:?}");
        };
        let run = "Running";
        check(3, &[run; 3], &[300, 500, 700], 30, Ok(5));
        check(3, &[run; 3], &[100, 300, 500], 50, Ok(2));
        check(3, &[run; 3], &[520, 500, 540], 50, Ok(3));
        // One without a number: as if idle upwards, as if busy downwards.
        check(3, &[run; 3], &[600, 600, -1], 30, Ok(4));
        check(4, &[run; 4], &[100, 100, 100, -1], 50, Ok(3));
        check(2, &[run; 2], &[400, -1], 30, Ok(2));
        // Those that are starting count as idle upwards and not at all downwards.
        check(3, &[run, run, "Pending"], &[900, 900, -1], 30, Ok(6));
        check(3, &[run, run, "Unready"], &[900, 900, 2000], 30, Ok(6));
        check(3, &[run, run, "Pending"], &[100, 100, -1], 50, Ok(1));
        check(3, &[run, run, "Failed"], &[600, 600, 600], 30, Ok(4));
        let unready = "did not receive metrics for targeted pods (pods might be unready)";
        check(1, &["Pending"], &[5], 30, Err(unready));
        let none = "no pods returned by selector while calculating replica count";
        check(1, &[], &[5], 30, Err(none));
    }

    #[test]
    fn a_share_is_compared_with_the_target() {
        assert_eq!(replicas_for_share(4, 8600, 2000, TOLERANCES), (4, 2150));
        assert_eq!(replicas_for_share(4, 10_000, 2000, TOLERANCES), (5, 2500));
        assert_eq!(replicas_for_share(0, 3000, 2000, TOLERANCES), (2, 3000));
        let running = pods(&["Running"; 3]);
        assert_eq!(
            replicas_for_value(3, &running, 2000, 1000, TOLERANCES),
            Ok(6)
        );
        assert_eq!(
            replicas_for_value(3, &running, 1050, 1000, TOLERANCES),
            Ok(3)
        );
        assert_eq!(replicas_for_value(0, &[], 1500, 1000, TOLERANCES), Ok(2));
    }

    #[test]
    fn requests_must_be_stated() {
        let all = pods(&["Running"]);
        let missing = "missing request for memory in container c of Pod p0";
        assert_eq!(requests(&all, "memory", ""), Err(missing.to_owned()));
        assert_eq!(
            requests(&all, "cpu", "x"),
            Err("container x not found in Pod p0".to_owned())
        );
        assert_eq!(requests(&all, "cpu", "c").map(|all| all["p0"]), Ok(1000));
    }

    #[test]
    fn fresh_numbers_of_a_starting_pod_are_not_trusted() {
        let check = |age: i64, ready: &str, ready_for: i64, expect: bool| {
            let ago = |seconds: i64| {
                let then = now().as_second() - seconds;
                Timestamp::from_second(then).expect("in range").to_string()
            };
            let pod = Object::new(json!({"status": {
                "startTime": ago(age),
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": ago(ready_for)}],
            }}));
            let sample = samples(&[5])["p0"];
            assert_eq!(
                is_settled(&pod, sample, now()),
                expect,
                "{age} {ready} {ready_for}"
            );
        };
        check(100, "True", 90, true);
        check(100, "True", 30, false);
        check(100, "False", 90, false);
        check(1000, "True", 30, true);
        check(1000, "False", 990, false);
        check(1000, "False", 90, true);
    }
}
