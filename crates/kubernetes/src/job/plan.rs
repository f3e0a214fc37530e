//! One pass over a Job: what to make and delete, what to count, what the status becomes. Pure.
//!
//! A Pod is counted in two steps, so that a crash in between neither loses it nor counts it twice: its uid goes into
//! `status.uncountedTerminatedPods`, then its finalizer goes, then the uid becomes a number. An indexed Job needs no
//! uid for a success: the index is enough.

mod verdict;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use controller::Object;
use jiff::Timestamp;
use model::object;
use serde_json::Value;

use super::backoff::{self, Record};
use super::indexes::Indexes;
use super::pods::{self, Wanted};
use super::policy;
use super::status::{Condition, Status};
use crate::pod;

/// Uids a status holds at most; the rest is counted in the next pass.
const UNCOUNTED_LIMIT: usize = 500;
/// Pods made or deleted in one pass at most.
const BATCH_LIMIT: usize = 500;

/// What to do about the Pods there are.
#[derive(Debug)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Delete these; `counted` says whether they are let go at once, without being counted.
    Delete {
        /// The Pods.
        pods: Vec<Arc<Object>>,
        /// Whether their finalizers stay until they are counted.
        counted: bool,
    },
    /// Make these.
    Create(Vec<Wanted>),
}

/// What became of an [`Action`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    /// Pods made.
    pub created: usize,
    /// Pods deleted.
    pub deleted: usize,
    /// Deleted Pods that were ready.
    pub deleted_ready: usize,
}

/// An event to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whether it is a warning.
    pub warning: bool,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// One pass over a Job.
pub struct Pass<'a> {
    job: &'a Object,
    pods: Vec<Arc<Object>>,
    active_pods: Vec<Arc<Object>>,
    /// Pods whose finalizers have gone, though the cache does not show it yet.
    released: &'a HashSet<String>,
    trusted: bool,
    now: Timestamp,
    /// The status as it becomes.
    pub status: Status,
    /// The record of failures as it becomes once the status is written.
    pub record: Record,
    /// When to look again.
    pub wait: Option<Duration>,
    /// What to tell the users of the Job.
    pub told: Vec<Told>,
    finished: Option<Condition>,
    active: usize,
    ready: usize,
    terminating: usize,
    succeeded: usize,
    failed: usize,
    indexes: Option<IndexState>,
    cut_short: bool,
}

/// What an indexed Job knows of its indexes.
struct IndexState {
    completions: usize,
    counted: Indexes,
    succeeded: Indexes,
    failed: Option<Indexes>,
    /// The failed Pod of an index that waits for its successor, so that the successor knows the failures.
    held: BTreeMap<usize, Arc<Object>>,
}

/// Whether a Job has ended.
pub fn is_finished(job: &Object) -> bool {
    ["Complete", "Failed"]
        .iter()
        .any(|kind| controller::condition::is_true(job.status(), kind))
}

fn spec(job: &Object, field: &str) -> Option<i64> {
    object::number(job.value(), &["spec", field])
}

fn count(job: &Object, field: &str) -> Option<usize> {
    spec(job, field).map(|number| usize::try_from(number).unwrap_or(0))
}

fn is_suspended(job: &Object) -> bool {
    job.get(&["spec", "suspend"]) == Some(&Value::Bool(true))
}

impl<'a> Pass<'a> {
    /// Looks at a Job and its Pods. `trusted` says whether the cache shows what was made and deleted before.
    pub fn new(
        job: &'a Object,
        pods: Vec<Arc<Object>>,
        released: &'a HashSet<String>,
        record: Record,
        trusted: bool,
        now: Timestamp,
    ) -> Self {
        let active_pods: Vec<Arc<Object>> = pods
            .iter()
            .filter(|pod| pod::is_active(pod))
            .cloned()
            .collect();
        let mut pass = Self {
            job,
            released,
            trusted,
            now,
            status: Status::read(job),
            record,
            wait: None,
            told: Vec::new(),
            finished: None,
            active: active_pods.len(),
            ready: active_pods.iter().filter(|pod| pod::is_ready(pod)).count(),
            terminating: pods.iter().filter(|pod| pods::is_leaving(pod)).count(),
            succeeded: 0,
            failed: 0,
            indexes: None,
            cut_short: false,
            pods,
            active_pods,
        };
        pass.count();
        pass.judge();
        pass
    }

    /// Counts the Pods, those included that are not in the status yet.
    fn count(&mut self) {
        let fresh = |uncounted: &[String], is: &dyn Fn(&Object) -> bool| -> Vec<Arc<Object>> {
            let fits = |pod: &&Arc<Object>| {
                self.is_held(pod) && !uncounted.iter().any(|uid| uid == pod.uid()) && is(pod)
            };
            let valid = |pod: &&Arc<Object>| !self.is_indexed() || self.valid_index(pod).is_some();
            self.pods
                .iter()
                .filter(valid)
                .filter(fits)
                .cloned()
                .collect()
        };
        let succeeded = fresh(&self.status.uncounted_succeeded, &|pod| {
            pod::phase(pod) == "Succeeded"
        });
        let failed = fresh(&self.status.uncounted_failed, &|pod| {
            pods::is_failed(self.job, pod)
        });
        let counted = failed
            .iter()
            .filter(|pod| policy::judge(self.job, pod).counts())
            .count();
        self.succeeded =
            self.status.succeeded + succeeded.len() + self.status.uncounted_succeeded.len();
        self.failed = self.status.failed + counted + self.status.uncounted_failed.len();
        self.record = self.record.with(&succeeded, &failed);
        if self.status.start.is_none() && !is_suspended(self.job) {
            self.status.start = Some(self.now);
        }
    }

    fn is_indexed(&self) -> bool {
        object::text(self.job.value(), &["spec", "completionMode"]) == "Indexed"
    }

    fn has_limit_per_index(&self) -> bool {
        spec(self.job, "backoffLimitPerIndex").is_some()
    }

    /// Whether the Pod has its finalizer still.
    fn is_held(&self, pod: &Object) -> bool {
        pods::is_tracked(pod) && !self.released.contains(pod.uid())
    }

    fn valid_index(&self, pod: &Object) -> Option<usize> {
        let completions = count(self.job, "completions").unwrap_or(0);
        pods::index(pod).filter(|index| *index < completions)
    }

    fn wait_at_most(&mut self, wait: Duration) {
        self.wait = Some(self.wait.map_or(wait, |earlier| earlier.min(wait)));
    }

    /// What to do now.
    pub fn action(&mut self) -> Action {
        if self.finished.is_some() {
            return Action::Delete {
                pods: self.active_pods.clone(),
                counted: true,
            };
        }
        if !self.manages() {
            return Action::Keep;
        }
        let wanted = self.wanted_active();
        let surplus = self.surplus(self.active.saturating_sub(wanted));
        if !surplus.is_empty() {
            return Action::Delete {
                pods: surplus,
                counted: false,
            };
        }
        let replaced_late = pods::replaces_only_failed(self.job);
        let leaving = if replaced_late { self.terminating } else { 0 };
        let missing = wanted.saturating_sub(leaving + self.active);
        if missing == 0 || is_suspended(self.job) {
            return Action::Keep;
        }
        self.create(missing.min(BATCH_LIMIT))
    }

    /// Whether Pods may be made and deleted in this pass.
    fn manages(&self) -> bool {
        self.trusted && !self.job.is_terminating()
    }

    fn wanted_active(&self) -> usize {
        if is_suspended(self.job) {
            return 0;
        }
        let parallelism = count(self.job, "parallelism").unwrap_or(1);
        match count(self.job, "completions") {
            Some(completions) => completions.saturating_sub(self.succeeded).min(parallelism),
            // One success is enough; those that run may end.
            None if self.succeeded > 0 => self.active,
            None => parallelism,
        }
    }

    /// Pods to remove: at least so many, and those that have no index or one that is taken.
    fn surplus(&self, at_least: usize) -> Vec<Arc<Object>> {
        let mut ranked = self.active_pods.clone();
        ranked.sort_by_key(|pod| pod::deletion_rank(pod, 0, self.now));
        let (mut remove, mut left) = (Vec::new(), Vec::new());
        if self.is_indexed() {
            // The most useful one of each index stays.
            let mut seen = HashSet::new();
            for pod in ranked.into_iter().rev() {
                match self.valid_index(&pod) {
                    Some(index) if seen.insert(index) => left.push(pod),
                    _ => remove.push(pod),
                }
            }
            left.reverse();
        } else {
            left = ranked;
        }
        let more = at_least.saturating_sub(remove.len());
        remove.extend(left.into_iter().take(more));
        if !is_suspended(self.job) {
            remove.truncate(BATCH_LIMIT);
        }
        remove
    }

    fn create(&mut self, missing: usize) -> Action {
        if !self.has_limit_per_index() {
            let wait = self.record.remaining(self.now);
            if !wait.is_zero() {
                self.wait_at_most(wait);
                return Action::Keep;
            }
        }
        let Some(state) = &self.indexes else {
            let anonymous = Wanted {
                index: None,
                replaces: None,
            };
            return Action::Create(vec![anonymous; missing]);
        };
        let of = |pods: &[Arc<Object>]| Indexes::of(pods.iter().filter_map(|pod| pods::index(pod)));
        let mut settled = state.succeeded.union(&of(&self.active_pods));
        if pods::replaces_only_failed(self.job) {
            let leaving: Vec<Arc<Object>> = self
                .pods
                .iter()
                .filter(|pod| pods::is_leaving(pod))
                .cloned()
                .collect();
            settled = settled.union(&of(&leaving));
        }
        if let Some(failed) = &state.failed {
            settled = settled.union(failed);
        }
        let (mut ready, mut earliest) = (Vec::new(), None);
        for index in settled.gaps(missing, state.completions) {
            let replaces = state.held.get(&index).cloned();
            let wait = replaces.as_ref().map_or(Duration::ZERO, |pod| {
                let failures = pods::all_failures(pod).saturating_add(1);
                backoff::remaining(failures, backoff::finished(pod), self.now)
            });
            if wait.is_zero() {
                let index = Some(index);
                ready.push(Wanted { index, replaces });
            } else {
                earliest = Some(earliest.map_or(wait, |other: Duration| other.min(wait)));
            }
        }
        if let Some(wait) = earliest.filter(|_| ready.is_empty()) {
            self.wait_at_most(wait);
        }
        if ready.is_empty() {
            Action::Keep
        } else {
            Action::Create(ready)
        }
    }

    /// Takes in what became of the action.
    pub fn acted(&mut self, done: Done) {
        if self.finished.is_some() {
            if done.deleted < self.active || !self.trusted {
                // Pods may be left, or the cache may not show them yet.
                self.finished = None;
            }
            self.leave(done);
            return;
        }
        self.active += done.created;
        self.leave(done);
        let complete = match count(self.job, "completions") {
            Some(completions) => self.succeeded >= completions && self.active == 0,
            None => self.succeeded > 0 && self.active == 0,
        };
        if complete {
            let message = "Reached expected number of succeeded pods";
            self.finished = Some(Condition::new(
                "SuccessCriteriaMet",
                "CompletionsReached",
                message,
            ));
        } else if self.manages() {
            self.suspend_or_resume();
        }
    }

    fn leave(&mut self, done: Done) {
        self.active = self.active.saturating_sub(done.deleted);
        self.ready = self
            .ready
            .saturating_sub(done.deleted_ready)
            .min(self.active);
        self.terminating += done.deleted;
    }

    fn suspend_or_resume(&mut self) {
        let mut tell = |reason: &str, message: &str| {
            self.told.push(Told {
                warning: false,
                reason: reason.to_owned(),
                message: message.to_owned(),
            });
        };
        if is_suspended(self.job) {
            let condition = Condition::new("Suspended", "JobSuspended", "Job suspended");
            if self.status.set(&condition, true, self.now) {
                tell("Suspended", "Job suspended");
                self.status.start = None;
            }
        } else {
            let condition = Condition::new("Suspended", "JobResumed", "Job resumed");
            if self.status.set(&condition, false, self.now) {
                tell("Resumed", "Job resumed");
                // The deadline counts the time a Job is continuously active.
                self.status.start = Some(self.now);
            }
        }
    }

    /// Notes ended Pods in the status; returns those that may be let go once that is written.
    pub fn account(&mut self) -> Vec<Arc<Object>> {
        self.status.active = self.active;
        self.status.ready = self.ready;
        self.status.terminating = self.terminating;
        let held: HashSet<&str> = self
            .pods
            .iter()
            .filter(|pod| self.is_held(pod))
            .map(|pod| pod.uid())
            .collect();
        self.status.count_released(|uid| held.contains(uid));
        let mut in_order = self.pods.clone();
        if self.is_indexed() {
            in_order.sort_by_key(|pod| pods::index(pod));
        }
        let (mut release, mut succeeded) = (Vec::new(), Vec::new());
        for pod in in_order {
            if !self.is_held(&pod) || !self.may_release(&pod) {
                continue;
            }
            self.note(&pod, &mut succeeded);
            release.push(pod);
            if succeeded.len() + self.status.uncounted() >= UNCOUNTED_LIMIT {
                self.cut_short = true;
                break;
            }
        }
        if let Some(state) = &self.indexes {
            let counted = state.succeeded.union(&Indexes::of(succeeded));
            self.status.succeeded = counted.len();
            self.status.completed_indexes = counted.to_string();
            self.status.failed_indexes = state.failed.as_ref().map(ToString::to_string);
        }
        self.interim();
        release
    }

    fn may_release(&self, pod: &Object) -> bool {
        if self.job.is_terminating() || self.finished.is_some() || pod::phase(pod) == "Succeeded" {
            return true;
        }
        let is_held_back = || {
            let held = |state: &IndexState| {
                let index = pods::index(pod)?;
                state.held.get(&index).map(|held| held.uid() == pod.uid())
            };
            self.indexes.as_ref().and_then(held).unwrap_or(false)
        };
        pods::is_failed(self.job, pod) && !is_held_back()
    }

    /// Notes how a Pod ended.
    fn note(&mut self, pod: &Object, succeeded: &mut Vec<usize>) {
        let uid = pod.uid();
        let is_noted = |list: &[String]| list.iter().any(|noted| noted == uid);
        let noted_failed = is_noted(&self.status.uncounted_failed);
        let index = self.valid_index(pod);
        if pod::phase(pod) == "Succeeded" && !noted_failed {
            match &self.indexes {
                Some(state) => succeeded.extend(index.filter(|i| !state.counted.contains(*i))),
                None if !is_noted(&self.status.uncounted_succeeded) => {
                    self.status.uncounted_succeeded.push(uid.to_owned());
                }
                None => {}
            }
            return;
        }
        // Where a Job has failed, what has not ended has failed with it.
        let failed_with_job = self
            .finished
            .as_ref()
            .is_some_and(|condition| condition.kind != "SuccessCriteriaMet");
        if (pods::is_failed(self.job, pod) || failed_with_job)
            && !noted_failed
            && (self.indexes.is_none() || index.is_some())
            && policy::judge(self.job, pod).counts()
        {
            self.status.uncounted_failed.push(uid.to_owned());
        }
    }

    /// Says what is coming before the Pods go, and prepares what is said once they have gone.
    fn interim(&mut self) {
        let Some(condition) = self.finished.take() else {
            return;
        };
        let end = match condition.kind {
            "FailureTarget" => "Failed",
            "SuccessCriteriaMet" => "Complete",
            other => other,
        };
        if end != condition.kind && self.status.is(condition.kind).is_none() {
            self.status.set(&condition, true, self.now);
        }
        self.finished = Some(Condition {
            kind: end,
            ..condition
        });
    }

    /// Counts the Pods that have been let go and ends the Job where nothing is left of it.
    ///
    /// Says whether it has ended.
    pub fn settle(&mut self, gone: &HashSet<String>) -> bool {
        let held: HashSet<String> = self
            .pods
            .iter()
            .filter(|pod| self.is_held(pod) && !gone.contains(pod.uid()))
            .map(|pod| pod.uid().to_owned())
            .collect();
        self.status.count_released(|uid| held.contains(uid));
        let Some(end) = self.finished.clone() else {
            return false;
        };
        if self.cut_short || self.status.uncounted() > 0 || self.terminating > 0 {
            return false;
        }
        self.status.set(&end, true, self.now);
        if end.kind == "Complete" {
            self.status.completion = Some(self.now);
        }
        self.told.extend(self.farewell(&end));
        true
    }

    fn farewell(&self, end: &Condition) -> Vec<Told> {
        let told = |warning, reason: &str, message: &str| Told {
            warning,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        if end.kind != "Complete" {
            return vec![told(true, &end.reason, &end.message)];
        }
        let mut all = Vec::new();
        if count(self.job, "completions").is_some_and(|wanted| self.status.succeeded > wanted) {
            let message = "Too many succeeded pods running after completion count reached";
            all.push(told(true, "TooManySucceededPods", message));
        }
        all.push(told(false, "Completed", "Job completed"));
        all
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
