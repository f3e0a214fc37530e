//! Deletes Jobs some time after they have ended, as their `ttlSecondsAfterFinished` says.

use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, Informer, Object, ObjectKey, Outcome, Reconciler, WorkQueue, condition,
    enqueue,
};
use jiff::{SignedDuration, Timestamp};
use model::object;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("ttl_jobs_to_delete", Backoff::default());
    let jobs = cluster.informer(&resources::jobs());
    let _handler = jobs.add_handler(enqueue::object(&queue));
    let reconciler = Expired {
        cluster: cluster.clone(),
        jobs: jobs.clone(),
    };
    let name = "ttlafterfinished";
    cluster.drive(name, queue, reconciler, vec![jobs]).await;
}

/// How long a Job has left; none where it may stay.
fn left(job: &Object, now: Timestamp) -> Option<Duration> {
    if job.is_terminating() {
        return None;
    }
    let ttl = object::number(job.value(), &["spec", "ttlSecondsAfterFinished"])?;
    let ended = ["Complete", "Failed"]
        .iter()
        .filter(|kind| condition::is_true(job.status(), kind))
        .find_map(|kind| condition::find(job.status(), kind))?;
    let ended: Timestamp = object::text(ended, &["lastTransitionTime"]).parse().ok()?;
    let end = ended.checked_add(SignedDuration::from_secs(ttl)).ok()?;
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

struct Expired {
    cluster: Cluster,
    jobs: Informer,
}

impl Reconciler for Expired {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let cached = self.jobs.get(key);
        match cached.and_then(|job| left(&job, self.cluster.now())) {
            None => return Ok(Outcome::Done),
            Some(wait) if !wait.is_zero() => return Ok(Outcome::RequeueAfter(wait)),
            Some(_) => {}
        }
        // The cache may be late and the Job may stay longer by now.
        let api = self.cluster.api();
        let Some(fresh) = api.get_opt(&resources::jobs(), key).await? else {
            return Ok(Outcome::Done);
        };
        match left(&fresh, self.cluster.now()) {
            None => return Ok(Outcome::Done),
            Some(wait) if !wait.is_zero() => return Ok(Outcome::RequeueAfter(wait)),
            Some(_) => {}
        }
        let options = DeleteOptions {
            propagation_policy: Some("Foreground"),
            ..DeleteOptions::of_uid(fresh.uid())
        };
        api.delete(&resources::jobs(), key, &options).await?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_ended_job_has_its_time_left() {
        let check = |ttl: Value, condition: &str, now: i64, expect: Option<u64>| {
            let job = Object::new(json!({
                "spec": {"ttlSecondsAfterFinished": ttl},
                "status": {"conditions": [{
                    "type": condition, "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z",
                }]},
            }));
            let now = Timestamp::from_second(now).expect("in range");
            assert_eq!(left(&job, now).map(|left| left.as_secs()), expect);
        };
        check(json!(30), "Complete", 70, Some(20));
        check(json!(30), "Failed", 91, Some(0));
        check(json!(0), "Complete", 60, Some(0));
        check(Value::Null, "Complete", 600, None);
        check(json!(0), "Suspended", 600, None);
    }
}
