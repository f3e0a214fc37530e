//! Whether a Job has come to its end: by its policies, its limits, its indexes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller::Object;
use jiff::SignedDuration;
use model::object;

use super::super::backoff;
use super::super::indexes::Indexes;
use super::super::pods;
use super::super::policy::{self, Verdict};
use super::super::status::Condition;
use super::{IndexState, Pass, count, is_suspended, spec};
use crate::pod;

impl Pass<'_> {
    /// Finds out whether the Job has come to its end.
    pub(super) fn judge(&mut self) {
        self.finished = self.earlier_verdict();
        if self.finished.is_none() {
            self.finished = self.limits();
        }
        if !self.is_indexed() {
            return;
        }
        let indexes = self.index_state();
        self.succeeded = indexes.succeeded.len();
        if self.finished.is_none() {
            self.finished = self.index_limits(&indexes);
        }
        if self.finished.is_none() {
            let met = policy::success(self.job, indexes.completions, &indexes.succeeded);
            self.finished =
                met.map(|why| Condition::new("SuccessCriteriaMet", "SuccessPolicy", &why));
        }
        self.indexes = Some(indexes);
    }

    /// What an earlier pass has found, and what the pod failure policy says.
    fn earlier_verdict(&self) -> Option<Condition> {
        if let Some((reason, message)) = self.status.is("SuccessCriteriaMet") {
            return Some(Condition::new("SuccessCriteriaMet", reason, message));
        }
        if let Some((reason, message)) = self.status.is("FailureTarget") {
            return Some(Condition::new("Failed", reason, message));
        }
        let failed = self
            .pods
            .iter()
            .filter(|pod| pods::is_failed(self.job, pod));
        failed
            .map(|pod| policy::judge(self.job, pod))
            .find_map(|verdict| match verdict {
                Verdict::FailJob(why) => {
                    Some(Condition::new("FailureTarget", "PodFailurePolicy", &why))
                }
                _ => None,
            })
    }

    fn limits(&mut self) -> Option<Condition> {
        let fail = |reason, message| Some(Condition::new("FailureTarget", reason, message));
        let limit = count(self.job, "backoffLimit").unwrap_or(6);
        if self.failed > limit || self.restarted_too_often(limit) {
            let message = "Job has reached the specified backoff limit";
            return fail("BackoffLimitExceeded", message);
        }
        let deadline = spec(self.job, "activeDeadlineSeconds")?;
        let start = self.status.start.filter(|_| !is_suspended(self.job))?;
        let end = start
            .checked_add(SignedDuration::from_secs(deadline))
            .ok()?;
        if self.now >= end {
            let message = "Job was active longer than specified deadline";
            return fail("DeadlineExceeded", message);
        }
        let left = Duration::try_from(end.duration_since(self.now)).unwrap_or_default();
        self.wait_at_most(left);
        None
    }

    /// Where containers restart in place, their restarts count.
    fn restarted_too_often(&self, limit: usize) -> bool {
        let path = ["spec", "template", "spec", "restartPolicy"];
        if object::text(self.job.value(), &path) != "OnFailure" {
            return false;
        }
        let alive = |pod: &&Arc<Object>| matches!(pod::phase(pod), "Running" | "Pending");
        let restarts: i64 = self
            .pods
            .iter()
            .filter(alive)
            .flat_map(|pod| {
                ["initContainerStatuses", "containerStatuses"]
                    .into_iter()
                    .flat_map(|list| object::list(pod.value(), &["status", list]))
            })
            .filter_map(|status| object::number(status, &["restartCount"]))
            .sum();
        let restarts = usize::try_from(restarts).unwrap_or(0);
        restarts > 0 && restarts >= limit
    }

    fn index_state(&self) -> IndexState {
        let completions = count(self.job, "completions").unwrap_or(0);
        let counted = Indexes::parse(&self.status.completed_indexes, completions);
        let of = |is: &dyn Fn(&Object) -> bool| -> Indexes {
            let fits = self
                .pods
                .iter()
                .filter(|pod| pods::is_tracked(pod) && is(pod));
            Indexes::of(fits.filter_map(|pod| self.valid_index(pod)))
        };
        let succeeded = counted.union(&of(&|pod| pod::phase(pod) == "Succeeded"));
        let failed = self.has_limit_per_index().then(|| {
            let known = self.status.failed_indexes.as_deref().unwrap_or_default();
            Indexes::parse(known, completions).union(&of(&|pod| self.ends_index(pod)))
        });
        let mut state = IndexState {
            completions,
            counted,
            succeeded,
            failed,
            held: BTreeMap::new(),
        };
        if state.failed.is_some() {
            state.held = self.held_back(&state);
        }
        state
    }

    /// Whether a failed Pod is the last its index may have.
    fn ends_index(&self, pod: &Object) -> bool {
        if !pods::is_failed(self.job, pod) {
            return false;
        }
        let limit = count(self.job, "backoffLimitPerIndex").unwrap_or(0);
        match policy::judge(self.job, pod) {
            Verdict::FailIndex => true,
            verdict => verdict.counts() && pods::failures(pod) as usize >= limit,
        }
    }

    /// Failed Pods that tell their successors how often the index has failed.
    fn held_back(&self, state: &IndexState) -> BTreeMap<usize, Arc<Object>> {
        let active = Indexes::of(self.active_pods.iter().filter_map(|pod| pods::index(pod)));
        let mut held: BTreeMap<usize, Arc<Object>> = BTreeMap::new();
        let failed_indexes = state.failed.clone().unwrap_or_default();
        for pod in self.pods.iter().filter(|pod| self.is_held(pod)) {
            let Some(index) = self
                .valid_index(pod)
                .filter(|_| pods::is_failed(self.job, pod))
            else {
                continue;
            };
            let settled = [&state.succeeded, &failed_indexes, &active];
            if settled.iter().any(|set| set.contains(index)) {
                continue;
            }
            let rank = |pod: &Object| (pods::all_failures(pod), backoff::finished(pod));
            let later = held
                .get(&index)
                .is_none_or(|other| rank(other).0 <= rank(pod).0 && rank(other).1 <= rank(pod).1);
            if later {
                held.insert(index, pod.clone());
            }
        }
        held
    }

    fn index_limits(&self, state: &IndexState) -> Option<Condition> {
        let failed = state.failed.as_ref()?.len();
        let fail = |reason, message| Some(Condition::new("FailureTarget", reason, message));
        if count(self.job, "maxFailedIndexes").is_some_and(|limit| failed > limit) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return fail("MaxFailedIndexesExceeded", message);
        }
        if failed > 0 && failed + state.succeeded.len() >= state.completions {
            return fail("FailedIndexes", "Job has failed indexes");
        }
        None
    }
}
