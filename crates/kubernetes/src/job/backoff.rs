//! How long a Job waits after failed Pods before it makes new ones. Pure.
//!
//! Ten seconds after the first failure, twice as long after each further one without a success in between,
//! at most ten minutes.

use std::sync::Arc;
use std::time::Duration;

use controller::Object;
use jiff::Timestamp;
use model::object;
use serde_json::Value;

const BASE: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_mins(10);

/// The failures of a Job since its last success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// How many.
    pub failures: u32,
    /// When the last was.
    pub last: Option<Timestamp>,
}

impl Record {
    /// The record once these Pods have ended, too.
    pub fn with(self, succeeded: &[Arc<Object>], failed: &[Arc<Object>]) -> Self {
        let last_success = succeeded.iter().map(|pod| finished(pod)).max();
        let since = failed
            .iter()
            .map(|pod| finished(pod))
            .filter(|time| last_success.is_none_or(|success| *time > success));
        let (mut count, mut last) = (0, None);
        for time in since {
            count += 1;
            last = last.max(Some(time));
        }
        match last_success {
            Some(_) => Self {
                failures: count,
                last,
            },
            None if count == 0 => self,
            None => Self {
                failures: self.failures.saturating_add(count),
                last,
            },
        }
    }

    /// How long to wait from now on.
    pub fn remaining(self, now: Timestamp) -> Duration {
        self.last
            .map_or(Duration::ZERO, |last| remaining(self.failures, last, now))
    }
}

/// How long to wait after so many failures, the last of which was at a time.
pub fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let factor = 2_u32.saturating_pow(failures - 1);
    let wait = BASE.saturating_mul(factor).min(MAX);
    let elapsed = Duration::try_from(now.duration_since(last)).unwrap_or(Duration::ZERO);
    wait.saturating_sub(elapsed)
}

/// When a Pod ended, by the best source there is: its containers, its readiness, its deletion, its creation.
pub fn finished(pod: &Object) -> Timestamp {
    let created = || time(pod.creation_timestamp());
    containers_finished(pod)
        .or_else(|| not_ready_since(pod))
        .or_else(|| deleted(pod))
        .or_else(created)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn containers_finished(pod: &Object) -> Option<Timestamp> {
    let sidecars: Vec<&str> = object::list(pod.value(), &["spec", "initContainers"])
        .iter()
        .filter(|container| object::text(container, &["restartPolicy"]) == "Always")
        .map(|container| object::text(container, &["name"]))
        .collect();
    let is_sidecar = |status: &&Value| sidecars.contains(&object::text(status, &["name"]));
    let statuses = object::list(pod.value(), &["status", "containerStatuses"]).iter();
    let helpers = object::list(pod.value(), &["status", "initContainerStatuses"]).iter();
    let mut latest = None;
    for status in statuses.chain(helpers.filter(is_sidecar)) {
        let ended = time(object::text(status, &["state", "terminated", "finishedAt"]))?;
        latest = latest.max(Some(ended));
    }
    latest
}

fn not_ready_since(pod: &Object) -> Option<Timestamp> {
    let condition = controller::condition::find(pod.status(), "Ready")?;
    (object::text(condition, &["status"]) == "False")
        .then(|| time(object::text(condition, &["lastTransitionTime"])))
        .flatten()
}

fn deleted(pod: &Object) -> Option<Timestamp> {
    let deadline = time(object::text(
        pod.value(),
        &["metadata", "deletionTimestamp"],
    ))?;
    let grace = object::number(pod.value(), &["metadata", "deletionGracePeriodSeconds"]);
    deadline
        .checked_sub(jiff::SignedDuration::from_secs(grace.unwrap_or(0)))
        .ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn pods(ends: &[i64]) -> Vec<Arc<Object>> {
        let pod = |end: &i64| {
            let ended = at(*end).to_string();
            let state = json!({"terminated": {"finishedAt": ended}});
            Arc::new(Object::new(
                json!({"status": {"containerStatuses": [{"name": "c", "state": state}]}}),
            ))
        };
        ends.iter().map(pod).collect()
    }

    #[test]
    fn the_wait_doubles_up_to_ten_minutes() {
        let check = |failures: u32, elapsed: i64, expect: u64| {
            let wait = remaining(failures, at(0), at(elapsed));
            assert_eq!(
                wait.as_secs(),
                expect,
                "{failures} failures, {elapsed} s ago"
            );
        };
        check(0, 0, 0);
        check(1, 0, 10);
        check(1, 4, 6);
        check(1, 11, 0);
        check(2, 0, 20);
        check(4, 0, 80);
        check(60, 0, 600);
        check(u32::MAX, 599, 1);
    }

    #[test]
    fn a_success_forgives_the_failures_before_it() {
        let two = Record::default().with(&[], &pods(&[5, 3]));
        assert_eq!((two.failures, two.last), (2, Some(at(5))));
        let three = two.with(&[], &pods(&[9]));
        assert_eq!((three.failures, three.last), (3, Some(at(9))));
        let mixed = three.with(&pods(&[12]), &pods(&[11, 14]));
        assert_eq!((mixed.failures, mixed.last), (1, Some(at(14))));
        assert_eq!(mixed.with(&pods(&[20]), &[]), Record::default());
        assert_eq!(three.with(&[], &[]), three);
    }
}
