//! When a cron job is due, and the Job it makes then. Pure.

use std::time::Duration;

use controller::{Object, owner};
use jiff::{SignedDuration, Timestamp};
use kinds::Schedule;
use model::object;
use serde_json::{Map, Value, json};

/// Clocks differ a little: the next look is this much after the time.
const LATE: SignedDuration = SignedDuration::from_millis(100);
/// More starts than this are not made up for silently.
const MISSED_LIMIT: i64 = 100;
/// The time a Job was made for.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What the past holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Where counting began.
    pub since: Timestamp,
    /// The latest start that has not been made.
    pub start: Option<Timestamp>,
    /// How many starts were missed, about.
    pub missed: i64,
}

impl Due {
    /// Whether so many were missed that it is worth a warning.
    pub fn too_many(self) -> bool {
        self.missed > MISSED_LIMIT
    }
}

/// A schedule that cannot be.
pub const TOO_CLOSE: &str = "time difference between two schedules is less than 1 second";

/// The latest start of a cron job that is due; looks back no further than its deadline where `deadline` says so.
pub fn due(
    job: &Object,
    schedule: &Schedule,
    now: Timestamp,
    deadline: bool,
) -> Result<Due, &'static str> {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let last = time(object::text(job.value(), &["status", "lastScheduleTime"]));
    let created = time(job.creation_timestamp());
    let mut since = last.or(created).unwrap_or(now);
    let limit = object::number(job.value(), &["spec", "startingDeadlineSeconds"]);
    if let Some(seconds) = limit.filter(|_| deadline) {
        let earliest = now.checked_sub(SignedDuration::from_secs(seconds));
        since = since.max(earliest.unwrap_or(since));
    }
    let none = |missed| Due {
        since,
        start: None,
        missed,
    };
    let Some(first) = schedule.next(since) else {
        return Err(TOO_CLOSE);
    };
    if now < first {
        return Ok(none(0));
    }
    let one = Due {
        since,
        start: Some(first),
        missed: 0,
    };
    let Some(second) = schedule.next(first).filter(|second| *second <= now) else {
        return Ok(one);
    };
    let between = second.duration_since(first).as_secs();
    if between < 1 {
        return Err(TOO_CLOSE);
    }
    // About how many there were, by the distance of the first two; then the last one exactly.
    let missed = now.duration_since(first).as_secs() / between + 1;
    let near = SignedDuration::from_secs((missed - 2) * between);
    let mut at = first.checked_add(near).unwrap_or(first);
    let mut latest = None;
    while let Some(next) = schedule.next(at).filter(|next| *next <= now) {
        latest = Some(next);
        at = next;
    }
    Ok(Due {
        since,
        start: latest,
        missed,
    })
}

/// How long until a cron job must be looked at again.
pub fn wait(job: &Object, schedule: &Schedule, now: Timestamp) -> Option<Duration> {
    let from = match due(job, schedule, now, false) {
        Ok(due) => match due.start {
            Some(start) => start,
            None if due.missed == 0 => due.since,
            None => now,
        },
        Err(_) => now,
    };
    let next = schedule.next(from)?.checked_add(LATE).ok()?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or_default())
}

/// Whether a start is too long ago to be made up for.
pub fn is_too_late(job: &Object, start: Timestamp, now: Timestamp) -> bool {
    let limit = object::number(job.value(), &["spec", "startingDeadlineSeconds"]);
    limit.is_some_and(|seconds| {
        let end = start.checked_add(SignedDuration::from_secs(seconds));
        end.is_ok_and(|end| end < now)
    })
}

/// The name of the Job of a start: by minutes, so that one start never makes two.
pub fn job_name(cron_job: &Object, start: Timestamp) -> String {
    format!("{}-{}", cron_job.name(), start.as_second().div_euclid(60))
}

/// The Job of a start.
pub fn job(cron_job: &Object, start: Timestamp, schedule: &Schedule) -> Value {
    let template = cron_job
        .get(&["spec", "jobTemplate"])
        .cloned()
        .unwrap_or_default();
    let map = |name: &str| {
        let found = object::at(&template, &["metadata", name]);
        found
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let mut annotations: Map<String, Value> = map("annotations");
    let zoned = start.to_zoned(schedule.zone().clone());
    annotations.insert(SCHEDULED_AT.to_owned(), json!(rfc3339(&zoned)));
    let mut metadata = json!({
        "name": job_name(cron_job, start),
        "namespace": cron_job.namespace(),
        "annotations": annotations,
        "ownerReferences": [owner::reference(cron_job, true)],
    });
    let labels = map("labels");
    if !labels.is_empty() {
        metadata["labels"] = Value::Object(labels);
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": template.get("spec").cloned().unwrap_or_else(|| json!({})),
    })
}

/// A time with its zone's offset, `Z` for none.
fn rfc3339(time: &jiff::Zoned) -> String {
    let local = time.strftime("%Y-%m-%dT%H:%M:%S");
    if time.offset().is_zero() {
        format!("{local}Z")
    } else {
        format!("{local}{}", time.strftime("%:z"))
    }
}

/// A time as mails write it.
pub fn rfc1123(time: Timestamp) -> String {
    let utc = time.to_zoned(jiff::tz::TimeZone::UTC);
    utc.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Ended Jobs beyond the limit of history, the oldest first.
pub fn surplus<'a>(jobs: &[&'a Object], limit: Option<i64>) -> Vec<&'a Object> {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return Vec::new();
    };
    let started = |job: &Object| {
        let time = object::text(job.value(), &["status", "startTime"]);
        time.parse::<Timestamp>().ok()
    };
    let mut sorted = jobs.to_vec();
    // Those that never began come last.
    sorted.sort_by_key(|job| {
        let time = started(job);
        (time.is_none(), time, job.name().to_owned())
    });
    sorted.truncate(jobs.len().saturating_sub(limit));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-03-{text}Z").parse().expect("a time")
    }

    fn cron_job(schedule: &str, last: Option<&str>, deadline: Option<i64>) -> (Object, Schedule) {
        let mut job = json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "creationTimestamp": "2026-03-14T12:00:00Z"},
            "spec": {"schedule": schedule},
        });
        if let Some(last) = last {
            job["status"]["lastScheduleTime"] = json!(at(last).to_string());
        }
        if let Some(deadline) = deadline {
            job["spec"]["startingDeadlineSeconds"] = json!(deadline);
        }
        (
            Object::new(job),
            Schedule::parse(schedule, None).expect("a schedule"),
        )
    }

    #[test]
    fn the_latest_missed_start_is_due() {
        let check = |schedule, last, deadline, now, expect: Option<&str>, too_many: bool| {
            let (job, schedule) = cron_job(schedule, last, deadline);
            let due = due(&job, &schedule, at(now), true).expect("it can be");
            assert_eq!(
                (due.start, due.too_many()),
                (expect.map(at), too_many),
                "{job:?} at {now}"
            );
        };
        check("*/5 * * * *", None, None, "14T12:04:59", None, false);
        check(
            "*/5 * * * *",
            None,
            None,
            "14T12:05:00",
            Some("14T12:05:00"),
            false,
        );
        check(
            "*/5 * * * *",
            None,
            None,
            "14T12:17:00",
            Some("14T12:15:00"),
            false,
        );
        check(
            "*/5 * * * *",
            Some("14T12:15:00"),
            None,
            "14T12:17:00",
            None,
            false,
        );
        check(
            "* * * * *",
            None,
            None,
            "14T14:00:00",
            Some("14T14:00:00"),
            true,
        );
        check(
            "* * * * *",
            None,
            Some(600),
            "14T14:00:00",
            Some("14T14:00:00"),
            false,
        );
        check("*/5 * * * *", None, Some(30), "14T12:06:00", None, false);
        check(
            "@every 7m",
            None,
            None,
            "14T12:30:00",
            Some("14T12:28:00"),
            false,
        );
        check(
            "30 6-16/4 * * 1-5",
            None,
            None,
            "16T15:00:00",
            Some("16T14:30:00"),
            false,
        );
    }

    #[test]
    fn impossible_schedules_are_told() {
        let (job, schedule) = cron_job("59 23 31 2 *", None, None);
        assert_eq!(
            due(&job, &schedule, at("14T12:00:00"), true),
            Err(TOO_CLOSE)
        );
    }

    #[test]
    fn the_next_look_is_just_after_the_next_start() {
        let check = |last, now, millis: u128| {
            let (job, schedule) = cron_job("*/5 * * * *", last, None);
            let wait = wait(&job, &schedule, at(now)).expect("there is a next one");
            assert_eq!(wait.as_millis(), millis, "{last:?} at {now}");
        };
        check(None, "14T12:01:00", 240_100);
        check(Some("14T12:05:00"), "14T12:05:01", 299_100);
        // Due now: the next one after it.
        check(None, "14T12:06:00", 240_100);
    }

    #[test]
    fn a_job_is_named_by_its_minute() {
        let (cron_job, schedule) = cron_job("* * * * *", None, None);
        let made = job(&cron_job, at("14T12:05:00"), &schedule);
        assert_eq!(made["metadata"]["name"], "c-29558165");
        assert_eq!(
            made["metadata"]["annotations"][SCHEDULED_AT],
            "2026-03-14T12:05:00Z"
        );
        let tokyo = Schedule::parse("* * * * *", Some("Asia/Tokyo")).expect("a schedule");
        let made = job(&cron_job, at("14T12:05:00"), &tokyo);
        assert_eq!(
            made["metadata"]["annotations"][SCHEDULED_AT],
            "2026-03-14T21:05:00+09:00"
        );
        assert_eq!(
            rfc1123(at("14T12:05:00")),
            "Sat, 14 Mar 2026 12:05:00 +0000"
        );
    }

    #[test]
    fn the_oldest_go_first() {
        let ended = |name: &str, start: &str| {
            Object::new(json!({"metadata": {"name": name}, "status": {"startTime": start}}))
        };
        let jobs = [
            ended("b", "2026-03-14T12:00:00Z"),
            ended("never", ""),
            ended("a", "2026-03-14T12:00:00Z"),
            ended("old", "2026-03-14T11:00:00Z"),
        ];
        let jobs: Vec<&Object> = jobs.iter().collect();
        let names =
            |limit| -> Vec<&str> { surplus(&jobs, limit).iter().map(|j| j.name()).collect() };
        assert_eq!(names(Some(2)), ["old", "a"]);
        assert_eq!(names(Some(0)), ["old", "a", "b", "never"]);
        assert!(names(Some(4)).is_empty() && names(None).is_empty());
    }
}
