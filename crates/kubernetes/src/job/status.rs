//! A Job's status: read, changed and written back. Pure.

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

/// What ends a Job, or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `Complete`, `Failed`, `SuccessCriteriaMet` or `FailureTarget`.
    pub kind: &'static str,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Condition {
    /// A condition that is true.
    pub fn new(kind: &'static str, reason: &str, message: &str) -> Self {
        Self {
            kind,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    fn to_json(&self, status: &str, now: Timestamp) -> Value {
        let now = format_time(now);
        json!({
            "type": self.kind, "status": status, "reason": self.reason, "message": self.message,
            "lastProbeTime": now, "lastTransitionTime": now,
        })
    }
}

/// The status of a Job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Pods that have neither ended nor begun to go.
    pub active: usize,
    /// Active Pods that are ready.
    pub ready: usize,
    /// Pods that are going.
    pub terminating: usize,
    /// Pods counted as succeeded; indexes, in an indexed Job.
    pub succeeded: usize,
    /// Pods counted as failed.
    pub failed: usize,
    /// Succeeded indexes.
    pub completed_indexes: String,
    /// Failed indexes, where each index has a limit of its own.
    pub failed_indexes: Option<String>,
    /// Pods that succeeded and wait to be let go, by uid.
    pub uncounted_succeeded: Vec<String>,
    /// Pods that failed and wait to be let go, by uid.
    pub uncounted_failed: Vec<String>,
    /// When the Job began.
    pub start: Option<Timestamp>,
    /// When it completed.
    pub completion: Option<Timestamp>,
    conditions: Vec<Value>,
}

impl Status {
    /// Reads the status of a Job.
    pub fn read(job: &Object) -> Self {
        let status = job.status();
        let number = |name: &str| {
            let number = object::number(status, &[name]).unwrap_or(0);
            usize::try_from(number).unwrap_or(0)
        };
        let text = |name: &str| status.get(name).and_then(Value::as_str);
        let time = |name: &str| text(name).and_then(|text| text.parse().ok());
        let uids = |name: &str| {
            object::list(status, &["uncountedTerminatedPods", name])
                .iter()
                .filter_map(|uid| uid.as_str().map(str::to_owned))
                .collect()
        };
        Self {
            active: number("active"),
            ready: number("ready"),
            terminating: number("terminating"),
            succeeded: number("succeeded"),
            failed: number("failed"),
            completed_indexes: text("completedIndexes").unwrap_or_default().to_owned(),
            failed_indexes: text("failedIndexes").map(str::to_owned),
            uncounted_succeeded: uids("succeeded"),
            uncounted_failed: uids("failed"),
            start: time("startTime"),
            completion: time("completionTime"),
            conditions: object::list(status, &["conditions"]).to_vec(),
        }
    }

    /// The document.
    pub fn to_json(&self) -> Value {
        let mut uncounted = json!({});
        if !self.uncounted_succeeded.is_empty() {
            uncounted["succeeded"] = json!(self.uncounted_succeeded);
        }
        if !self.uncounted_failed.is_empty() {
            uncounted["failed"] = json!(self.uncounted_failed);
        }
        let mut status = json!({
            "ready": self.ready,
            "terminating": self.terminating,
            "uncountedTerminatedPods": uncounted,
        });
        let numbers = [
            ("active", self.active),
            ("succeeded", self.succeeded),
            ("failed", self.failed),
        ];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
            status[name] = json!(number);
        }
        if !self.completed_indexes.is_empty() {
            status["completedIndexes"] = json!(self.completed_indexes);
        }
        if let Some(failed) = &self.failed_indexes {
            status["failedIndexes"] = json!(failed);
        }
        for (name, time) in [
            ("startTime", self.start),
            ("completionTime", self.completion),
        ] {
            if let Some(time) = time {
                status[name] = json!(format_time(time));
            }
        }
        if !self.conditions.is_empty() {
            status["conditions"] = json!(self.conditions);
        }
        status
    }

    /// Reason and message of a condition that is true.
    pub fn is(&self, kind: &str) -> Option<(&str, &str)> {
        let found = self.conditions.iter().find(|condition| {
            object::text(condition, &["type"]) == kind
                && object::text(condition, &["status"]) == "True"
        })?;
        Some((
            object::text(found, &["reason"]),
            object::text(found, &["message"]),
        ))
    }

    /// Makes a condition true or false; one that is not there is not written as false. Says whether anything changed.
    pub fn set(&mut self, condition: &Condition, holds: bool, now: Timestamp) -> bool {
        let status = if holds { "True" } else { "False" };
        let present = self
            .conditions
            .iter_mut()
            .find(|present| object::text(present, &["type"]) == condition.kind);
        match present {
            Some(present) => {
                let same = object::text(present, &["status"]) == status
                    && object::text(present, &["reason"]) == condition.reason
                    && object::text(present, &["message"]) == condition.message;
                if !same {
                    *present = condition.to_json(status, now);
                }
                !same
            }
            None if holds => {
                self.conditions.push(condition.to_json(status, now));
                true
            }
            None => false,
        }
    }

    /// Counts the waiting Pods that have been let go, those that are not `tracked` any more.
    pub fn count_released(&mut self, tracked: impl Fn(&str) -> bool) {
        let before = self.uncounted_succeeded.len();
        self.uncounted_succeeded.retain(|uid| tracked(uid));
        self.succeeded += before - self.uncounted_succeeded.len();
        let before = self.uncounted_failed.len();
        self.uncounted_failed.retain(|uid| tracked(uid));
        self.failed += before - self.uncounted_failed.len();
    }

    /// How many Pods wait to be let go.
    pub fn uncounted(&self) -> usize {
        self.uncounted_succeeded.len() + self.uncounted_failed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_as_it_was_read() {
        let status = json!({
            "active": 1, "ready": 1, "terminating": 0, "succeeded": 2, "failed": 3,
            "completedIndexes": "0,1", "failedIndexes": "",
            "uncountedTerminatedPods": {"failed": ["a"], "succeeded": ["b", "c"]},
            "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z",
            "conditions": [{"type": "Suspended", "status": "False", "extra": 1}],
        });
        let job = Object::new(json!({"status": status}));
        assert_eq!(Status::read(&job).to_json(), status);
        let empty = json!({"ready": 0, "terminating": 0, "uncountedTerminatedPods": {}});
        assert_eq!(Status::default().to_json(), empty);
    }

    #[test]
    fn released_pods_are_counted_once() {
        let mut status = Status {
            uncounted_succeeded: vec!["a".to_owned(), "b".to_owned()],
            uncounted_failed: vec!["c".to_owned()],
            ..Status::default()
        };
        status.count_released(|uid| uid == "b");
        status.count_released(|uid| uid == "b");
        assert_eq!(
            (status.succeeded, status.failed, status.uncounted()),
            (1, 1, 1)
        );
    }

    #[test]
    fn a_condition_moves_only_when_it_changes() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let mut status = Status::default();
        let resumed = Condition::new("Suspended", "JobResumed", "Job resumed");
        let suspended = Condition::new("Suspended", "JobSuspended", "Job suspended");
        assert!(!status.set(&resumed, false, at(0)));
        assert!(status.set(&suspended, true, at(1)));
        assert!(!status.set(&suspended, true, at(2)));
        assert!(status.is("Suspended").is_some());
        assert!(status.set(&resumed, false, at(3)));
        assert!(status.is("Suspended").is_none());
    }
}
