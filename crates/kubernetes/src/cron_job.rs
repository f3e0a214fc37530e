//! Cron jobs: Jobs made by the clock.
//!
//! A Job's name is that of its cron job and the minute it is for, so a start is never made twice, whatever the caches
//! show. Nothing polls: each cron job is looked at when it changes, when one of its Jobs does, and when it is due.

mod plan;

use std::sync::Arc;

use controller::{
    Backoff, DeleteOptions, Event, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    WorkQueue, condition, enqueue, index,
};
use jiff::Timestamp;
use kinds::{Schedule, is_zone};
use model::object;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;
use crate::settled::{LAG, Own};

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("cronjob", Backoff::default());
    let cron_jobs = cluster.informer(&resources::cron_jobs());
    let jobs = cluster.informer(&resources::jobs());
    jobs.add_owner_index();
    let (changed, clock) = (queue.clone(), cluster.clone());
    let _cron_job_handler = cron_jobs.add_handler(move |event| match event {
        Event::Updated { old, new } if reschedules(old, new) => {
            // A new schedule does not make up for starts it would have had.
            let wait = schedule(new)
                .ok()
                .and_then(|s| plan::wait(new, &s, clock.now()));
            changed.add_after(new.key(), wait.unwrap_or_default());
        }
        _ => changed.add(event.object().key()),
    });
    let _job_handler = jobs.add_handler(enqueue::controller(&queue, "batch", "CronJob"));
    let informers = vec![cron_jobs.clone(), jobs.clone()];
    let reconciler = CronJobs {
        recorder: cluster.recorder("cronjob-controller"),
        cluster: cluster.clone(),
        cron_jobs,
        jobs,
        own: Own::default(),
    };
    cluster.drive("cronjob", queue, reconciler, informers).await;
}

fn reschedules(old: &Object, new: &Object) -> bool {
    ["schedule", "timeZone"]
        .iter()
        .any(|field| old.get(&["spec", field]) != new.get(&["spec", field]))
}

fn schedule(job: &Object) -> Result<Schedule, String> {
    let text = object::text(job.value(), &["spec", "schedule"]);
    let zone = job.get(&["spec", "timeZone"]).and_then(Value::as_str);
    Schedule::parse(text, zone)
}

struct CronJobs {
    cluster: Cluster,
    cron_jobs: Informer,
    jobs: Informer,
    recorder: EventRecorder,
    own: Own,
}

/// The status of a cron job while it is worked on.
struct Progress {
    job: Arc<Object>,
    active: Vec<Value>,
    successful: Option<Timestamp>,
    scheduled: Option<Timestamp>,
}

impl Progress {
    fn new(job: Arc<Object>) -> Self {
        let time = |name: &str| object::text(job.value(), &["status", name]).parse().ok();
        Self {
            active: object::list(job.value(), &["status", "active"]).to_vec(),
            successful: time("lastSuccessfulTime"),
            scheduled: time("lastScheduleTime"),
            job,
        }
    }

    fn is_active(&self, uid: &str) -> bool {
        self.active.iter().any(|job| job["uid"] == uid)
    }

    fn drop_active(&mut self, uid: &str) {
        self.active.retain(|job| job["uid"] != uid);
    }

    /// The status as it becomes.
    fn status(&self) -> Value {
        let mut status = self.job.status().clone();
        if status.is_null() {
            status = json!({});
        }
        if self.active.is_empty() {
            if let Some(fields) = status.as_object_mut() {
                fields.remove("active");
            }
        } else {
            status["active"] = json!(self.active);
        }
        let times = [
            ("lastSuccessfulTime", self.successful),
            ("lastScheduleTime", self.scheduled),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                status[name] = json!(controller::format_time(time));
            }
        }
        status
    }
}

impl Reconciler for CronJobs {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(cron_job) = self.cron_jobs.get(key) else {
            self.own.forget(key);
            return Ok(Outcome::Done);
        };
        if !self.own.is_shown(&cron_job) {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        let jobs = self.jobs.by_index(index::CONTROLLER_UID, cron_job.uid());
        let mut progress = Progress::new(cron_job);
        self.clean_up(&mut progress, &jobs).await;
        let outcome = self.start(&mut progress, &jobs).await;
        let status = progress.status();
        let job = &progress.job;
        if status != *job.status() && !(job.status().is_null() && status == json!({})) {
            let mut new = job.value().clone();
            new["status"] = status;
            let api = self.cluster.api();
            match api.update_status(&resources::cron_jobs(), &new).await {
                Err(error) if error.is_not_found() => return Ok(Outcome::Done),
                Err(error) if error.is_conflict() => return Ok(Outcome::Requeue),
                outcome => self.own.note(&outcome?),
            }
        }
        outcome
    }
}

impl CronJobs {
    /// Deletes ended Jobs beyond the limits of history.
    async fn clean_up(&self, progress: &mut Progress, jobs: &[Arc<Object>]) {
        let limits = [
            ("Complete", "successfulJobsHistoryLimit"),
            ("Failed", "failedJobsHistoryLimit"),
        ];
        for (kind, limit) in limits {
            let limit = object::number(progress.job.value(), &["spec", limit]);
            let ended: Vec<&Object> = jobs
                .iter()
                .map(AsRef::as_ref)
                .filter(|job| end_of(job) == Some(kind))
                .collect();
            for job in plan::surplus(&ended, limit) {
                self.delete(progress, job).await;
            }
        }
    }

    /// Deletes a Job with its Pods; says whether it worked.
    async fn delete(&self, progress: &mut Progress, job: &Object) -> bool {
        let options = DeleteOptions {
            propagation_policy: Some("Background"),
            ..DeleteOptions::of_uid(job.uid())
        };
        let api = self.cluster.api();
        match api.delete(&resources::jobs(), &job.key(), &options).await {
            Ok(true) => {
                let text = format!("Deleted job {}", job.name());
                self.recorder
                    .normal(&progress.job, "SuccessfulDelete", text);
            }
            Ok(false) => {}
            Err(error) => {
                let text = format!("Deleted job: {}", error.message());
                self.recorder.warning(&progress.job, "FailedDelete", text);
                return false;
            }
        }
        progress.drop_active(job.uid());
        true
    }

    /// Notes what became of the Jobs.
    async fn follow(&self, progress: &mut Progress, jobs: &[Arc<Object>]) -> Result<(), Error> {
        let api = self.cluster.api();
        let mut fresh = false;
        for job in jobs {
            let end = end_of(job);
            let mut known = progress.is_active(job.uid());
            if !known && end.is_none() && !fresh {
                // The Job may be newer than what the cache shows of the cron job.
                let key = progress.job.key();
                let Some(current) = api.get_opt(&resources::cron_jobs(), &key).await? else {
                    return Ok(());
                };
                *progress = Progress::new(Arc::new(current));
                fresh = true;
                known = progress.is_active(job.uid());
            }
            let cron_job = progress.job.clone();
            match end {
                None if !known => {
                    let text = format!(
                        "Saw a job that the controller did not create or forgot: {}",
                        job.name()
                    );
                    self.recorder.warning(&cron_job, "UnexpectedJob", text);
                }
                None => {}
                Some(end) => {
                    if known {
                        progress.drop_active(job.uid());
                        let text = format!("Saw completed job: {}, condition: {end}", job.name());
                        self.recorder.normal(&cron_job, "SawCompletedJob", text);
                    }
                    let done = object::text(job.value(), &["status", "completionTime"]);
                    let done = done.parse().ok().filter(|_| end == "Complete");
                    progress.successful = progress.successful.max(done);
                }
            }
        }
        for reference in progress.active.clone() {
            let text = |name: &str| object::text(&reference, &[name]).to_owned();
            let uid = text("uid");
            if jobs.iter().any(|job| job.uid() == uid) {
                continue;
            }
            let key = ObjectKey::new(text("namespace"), text("name"));
            let found = api.get_metadata_opt(&resources::jobs(), &key).await?;
            if found.is_none_or(|found| found.uid() != uid) {
                let text = format!("Active job went missing: {}", key.name);
                self.recorder.normal(&progress.job, "MissingJob", text);
                progress.drop_active(&uid);
            }
        }
        Ok(())
    }

    /// Starts what is due.
    async fn start(&self, progress: &mut Progress, jobs: &[Arc<Object>]) -> Result<Outcome, Error> {
        self.follow(progress, jobs).await?;
        let cron_job = progress.job.clone();
        let suspended = cron_job.get(&["spec", "suspend"]) == Some(&Value::Bool(true));
        let Some(schedule) = self.schedule(&cron_job, suspended) else {
            return Ok(Outcome::Done);
        };
        let now = self.cluster.now();
        let again = || {
            let wait = plan::wait(&cron_job, &schedule, now);
            wait.map_or(Outcome::Done, Outcome::RequeueAfter)
        };
        let due = match plan::due(&cron_job, &schedule, now, true) {
            Ok(due) => due,
            Err(why) => {
                let text = object::text(cron_job.value(), &["spec", "schedule"]);
                let text = format!("invalid schedule: {text} : {why}");
                self.recorder.warning(&cron_job, "InvalidSchedule", text);
                return Ok(Outcome::Done);
            }
        };
        let Some(at) = due.start else {
            return Ok(again());
        };
        if due.too_many() {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.recorder.warning(&cron_job, "TooManyMissedTimes", text);
        }
        if plan::is_too_late(&cron_job, at, now) {
            let text = format!(
                "Missed scheduled time to start a job: {}",
                plan::rfc1123(at)
            );
            self.recorder.warning(&cron_job, "MissSchedule", text);
            return Ok(again());
        }
        let name = plan::job_name(&cron_job, at);
        let is_made = progress
            .active
            .iter()
            .any(|job| job["name"] == name.as_str());
        if is_made || progress.scheduled == Some(at) {
            return Ok(again());
        }
        match object::text(cron_job.value(), &["spec", "concurrencyPolicy"]) {
            "Forbid" if !progress.active.is_empty() => {
                let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.recorder.normal(&cron_job, "JobAlreadyActive", text);
                return Ok(again());
            }
            "Replace" => self.replace(progress).await?,
            _ => {}
        }
        if let Some(job) = self.create(progress, at, &schedule).await? {
            progress.active.push(reference(&job));
            progress.scheduled = Some(at);
        }
        Ok(again())
    }

    /// The schedule, where the cron job is to run by it.
    fn schedule(&self, cron_job: &Object, suspended: bool) -> Option<Schedule> {
        if cron_job.is_terminating() {
            return None;
        }
        let zone = cron_job.get(&["spec", "timeZone"]).and_then(Value::as_str);
        if let Some(zone) = zone.filter(|zone| !is_zone(zone)) {
            let text = format!("invalid timeZone: {zone:?}: unknown time zone {zone}");
            self.recorder.warning(cron_job, "UnknownTimeZone", text);
            return None;
        }
        if suspended {
            return None;
        }
        let text = object::text(cron_job.value(), &["spec", "schedule"]);
        if text.contains("TZ") {
            let text = format!(
                "CRON_TZ or TZ used in schedule {text:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            );
            self.recorder.warning(cron_job, "UnsupportedSchedule", text);
        }
        match schedule(cron_job) {
            Ok(schedule) => Some(schedule),
            Err(why) => {
                let text = format!("unparseable schedule: {text:?} : {why}");
                self.recorder.warning(cron_job, "UnparseableSchedule", text);
                None
            }
        }
    }

    /// Ends what still runs, in favour of the next start.
    async fn replace(&self, progress: &mut Progress) -> Result<(), Error> {
        for reference in progress.active.clone() {
            let text = |name: &str| object::text(&reference, &[name]).to_owned();
            let key = ObjectKey::new(text("namespace"), text("name"));
            let job = match self.cluster.api().get(&resources::jobs(), &key).await {
                Ok(job) => job,
                Err(error) => {
                    let text = format!("Get job: {}", error.message());
                    self.recorder.warning(&progress.job, "FailedGet", text);
                    return Err(error.into());
                }
            };
            if !self.delete(progress, &job).await {
                return Err(Error::Object {
                    kind: "Job",
                    name: key.to_string(),
                    why: "it could not be replaced".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Makes the Job of a start; none where it is known already or not ours.
    async fn create(
        &self,
        progress: &Progress,
        at: Timestamp,
        schedule: &Schedule,
    ) -> Result<Option<Object>, Error> {
        let api = self.cluster.api();
        let cron_job = &progress.job;
        let wanted = plan::job(cron_job, at, schedule);
        match api.create(&resources::jobs(), &wanted).await {
            Ok(job) => {
                let text = format!("Created job {}", job.name());
                self.recorder.normal(cron_job, "SuccessfulCreate", text);
                Ok(Some(job))
            }
            Err(error) if error.is_already_exists() => {
                // Made by an earlier attempt that could not note it, or by somebody else.
                let key = Object::new(wanted).key();
                let job = api.get(&resources::jobs(), &key).await?;
                let mine = job
                    .controller_of()
                    .is_some_and(|owner| owner.uid == cron_job.uid());
                Ok(Some(job).filter(|job| mine && !progress.is_active(job.uid())))
            }
            Err(error) => {
                if !error.message().contains("because it is being terminated") {
                    let text = format!("Error creating job: {}", error.message());
                    self.recorder.warning(cron_job, "FailedCreate", text);
                }
                Err(error.into())
            }
        }
    }
}

/// How a Job has ended.
fn end_of(job: &Object) -> Option<&'static str> {
    ["Complete", "Failed"]
        .into_iter()
        .find(|kind| condition::is_true(job.status(), kind))
}

fn reference(job: &Object) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "name": job.name(), "namespace": job.namespace(),
        "uid": job.uid(), "resourceVersion": job.resource_version(),
    })
}
