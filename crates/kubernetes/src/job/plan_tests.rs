//! Tables of single passes, and whole histories with crashes at every step.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::job::pods::{FINALIZER, INDEX, make};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn job(spec: Value, status: Value) -> Object {
    let mut spec = spec;
    for (field, default) in [("parallelism", 1), ("backoffLimit", 6)] {
        if spec.get(field).is_none() {
            spec[field] = json!(default);
        }
    }
    Object::new(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "j", "namespace": "n", "uid": "job"}, "spec": spec, "status": status,
    }))
}

fn pod(name: &str, phase: &str, index: Option<usize>) -> Arc<Object> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "finalizers": [FINALIZER],
            "creationTimestamp": "1970-01-01T00:00:00Z"},
        "status": {"phase": phase},
    });
    if let Some(index) = index {
        pod["metadata"]["annotations"] = json!({INDEX: index.to_string()});
    }
    Arc::new(Object::new(pod))
}

/// One pass in which everything works.
fn pass(job: &Object, pods: Vec<Arc<Object>>, now: i64) -> (Action, Status, Vec<String>) {
    let none = HashSet::new();
    let mut pass = Pass::new(job, pods, &none, Record::default(), true, at(now));
    let action = pass.action();
    let (created, deleted) = match &action {
        Action::Keep => (0, 0),
        Action::Create(wanted) => (wanted.len(), 0),
        Action::Delete { pods, .. } => (0, pods.len()),
    };
    pass.acted(Done {
        created,
        deleted,
        deleted_ready: 0,
    });
    let released = pass.account();
    let gone = released.iter().map(|pod| pod.uid().to_owned()).collect();
    pass.settle(&gone);
    let told = pass.told.iter().map(|told| told.reason.clone()).collect();
    (action, pass.status, told)
}

fn indexes_to_create(action: &Action) -> Vec<usize> {
    match action {
        Action::Create(wanted) => wanted.iter().filter_map(|wanted| wanted.index).collect(),
        _ => vec![],
    }
}

fn conditions(status: &Status) -> Vec<String> {
    let conditions = status.to_json();
    object::list(&conditions, &["conditions"])
        .iter()
        .map(|c| {
            format!(
                "{}={}",
                object::text(c, &["type"]),
                object::text(c, &["reason"])
            )
        })
        .collect()
}

#[test]
fn a_job_begins_and_ends() {
    let first = job(json!({"completions": 2, "parallelism": 2}), json!({}));
    let (action, status, _) = pass(&first, vec![], 5);
    assert!(matches!(action, Action::Create(wanted) if wanted.len() == 2));
    assert_eq!((status.active, status.start), (2, Some(at(5))));

    let job = job(first.spec().clone(), status.to_json());
    let pods = vec![pod("a", "Succeeded", None), pod("b", "Succeeded", None)];
    let (action, status, told) = pass(&job, pods, 9);
    assert!(matches!(action, Action::Keep));
    assert_eq!((status.succeeded, status.completion), (2, Some(at(9))));
    assert_eq!(
        conditions(&status),
        [
            "SuccessCriteriaMet=CompletionsReached",
            "Complete=CompletionsReached"
        ]
    );
    assert_eq!(told, ["Completed"]);
}

#[test]
fn limits_end_a_job() {
    let check = |spec: Value, status: Value, pods: Vec<Arc<Object>>, expect: &[&str]| {
        let (_, status, _) = pass(&job(spec, status), pods, 60);
        assert_eq!(conditions(&status), expect);
    };
    let failed = || vec![pod("a", "Failed", None)];
    let ends = |reason: &str| {
        [
            format!("FailureTarget={reason}"),
            format!("Failed={reason}"),
        ]
    };
    let started = json!({"startTime": "1970-01-01T00:00:00Z"});
    let end = ends("BackoffLimitExceeded");
    check(
        json!({"completions": 1, "backoffLimit": 0}),
        json!({}),
        failed(),
        &[&end[0], &end[1]],
    );
    check(
        json!({"completions": 1, "backoffLimit": 1}),
        json!({}),
        failed(),
        &[],
    );
    let end = ends("DeadlineExceeded");
    let late = json!({"completions": 1, "activeDeadlineSeconds": 60});
    check(late, started.clone(), vec![], &[&end[0], &end[1]]);
    check(
        json!({"completions": 1, "activeDeadlineSeconds": 61}),
        started,
        vec![],
        &[],
    );
    // Pods that were deleted now are waited for.
    let running = vec![pod("a", "Failed", None), pod("b", "Running", None)];
    let limited = json!({"completions": 1, "backoffLimit": 0});
    check(
        limited,
        json!({}),
        running,
        &["FailureTarget=BackoffLimitExceeded"],
    );
}

#[test]
fn a_deadline_is_waited_for() {
    let started = json!({"startTime": "1970-01-01T00:00:00Z"});
    let job = job(json!({"activeDeadlineSeconds": 60}), started);
    let none = HashSet::new();
    let pass = Pass::new(&job, vec![], &none, Record::default(), true, at(20));
    assert_eq!(pass.wait, Some(Duration::from_secs(40)));
}

#[test]
fn a_suspended_job_has_no_pods() {
    let spec = json!({"suspend": true, "completions": 1});
    let running = vec![pod("a", "Running", None)];
    let (action, status, told) = pass(&job(spec.clone(), json!({})), running, 5);
    assert!(matches!(action, Action::Delete { pods, counted: false } if pods.len() == 1));
    assert_eq!((status.start, told), (None, vec!["Suspended".to_owned()]));

    let resumed = job(
        json!({"suspend": false, "completions": 1}),
        status.to_json(),
    );
    let (action, status, told) = pass(&resumed, vec![], 9);
    assert!(matches!(action, Action::Create(_)));
    assert_eq!(
        (status.start, told),
        (Some(at(9)), vec!["Resumed".to_owned()])
    );
    assert_eq!(conditions(&status), ["Suspended=JobResumed"]);
}

#[test]
fn indexes_are_made_once_each() {
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 3});
    let (action, ..) = pass(&job(spec.clone(), json!({})), vec![], 0);
    assert_eq!(indexes_to_create(&action), [0, 1, 2]);

    let pods = vec![pod("a", "Succeeded", Some(1)), pod("b", "Running", Some(0))];
    let (action, status, _) = pass(&job(spec.clone(), json!({})), pods, 0);
    assert_eq!(indexes_to_create(&action), [2, 3]);
    assert_eq!(
        (status.completed_indexes.as_str(), status.succeeded),
        ("1", 1)
    );

    // A repeated index, one out of range and one without.
    let pods = vec![
        pod("a", "Running", Some(1)),
        pod("b", "Pending", Some(1)),
        pod("c", "Running", Some(5)),
        pod("d", "Running", None),
    ];
    let (action, ..) = pass(&job(spec, json!({})), pods, 0);
    let Action::Delete { pods, .. } = action else {
        panic!("{action:?}");
    };
    let mut names: Vec<&str> = pods.iter().map(|pod| pod.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["b", "c", "d"]);
}

#[test]
fn an_elastic_job_forgets_indexes_beyond_its_end() {
    let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2});
    let status = json!({"completedIndexes": "0,3-7", "succeeded": 6});
    let (action, status, _) = pass(&job(spec, status), vec![], 0);
    assert_eq!(indexes_to_create(&action), [1]);
    assert_eq!(
        (status.completed_indexes.as_str(), status.succeeded),
        ("0", 1)
    );
}

#[test]
fn each_index_has_its_own_limit() {
    let spec = json!({
        "completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 1,
        "backoffLimit": 2_147_483_647,
    });
    let failed = |name: &str, index, failures: u32| {
        let mut failed = pod(name, "Failed", Some(index)).value().clone();
        failed["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] =
            json!(failures.to_string());
        Arc::new(Object::new(failed))
    };
    // The first failure of an index is held until its successor is there.
    let (action, status, _) = pass(&job(spec.clone(), json!({})), vec![failed("a", 0, 0)], 60);
    assert_eq!(indexes_to_create(&action), [0, 1]);
    assert_eq!(
        (status.failed, status.failed_indexes.as_deref()),
        (0, Some(""))
    );
    // It waits ten seconds.
    let (action, ..) = pass(&job(spec.clone(), json!({})), vec![failed("a", 0, 0)], 3);
    assert_eq!(indexes_to_create(&action), [1]);
    // The second ends it.
    let pods = vec![failed("a", 0, 1), pod("b", "Running", Some(1))];
    let (action, status, _) = pass(&job(spec.clone(), json!({})), pods, 60);
    assert!(matches!(action, Action::Keep), "{action:?}");
    assert_eq!(
        (status.failed, status.failed_indexes.as_deref()),
        (1, Some("0"))
    );
    let pods = vec![pod("b", "Succeeded", Some(1))];
    let (_, status, told) = pass(&job(spec, status.to_json()), pods, 60);
    assert_eq!(
        conditions(&status),
        ["FailureTarget=FailedIndexes", "Failed=FailedIndexes"]
    );
    assert_eq!(
        (told, status.completed_indexes.as_str()),
        (vec!["FailedIndexes".to_owned()], "1")
    );
}

#[test]
fn pods_that_go_are_replaced_when_the_policy_says() {
    let mut leaving = pod("a", "Running", None).value().clone();
    leaving["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:10Z");
    let leaving = Arc::new(Object::new(leaving));
    let spec = |policy: &str| json!({"completions": 1, "podReplacementPolicy": policy});
    let (action, status, _) = pass(&job(spec("Failed"), json!({})), vec![leaving.clone()], 60);
    assert!(matches!(action, Action::Keep), "{action:?}");
    assert_eq!((status.failed, status.terminating), (0, 1));
    let (action, status, _) = pass(
        &job(spec("TerminatingOrFailed"), json!({})),
        vec![leaving],
        60,
    );
    assert!(matches!(action, Action::Create(wanted) if wanted.len() == 1));
    assert_eq!((status.failed, status.terminating), (1, 1));
}

/// A world of one Job: what is stored, and what the controller remembers.
struct World {
    job: Object,
    pods: BTreeMap<String, Value>,
    ended: BTreeMap<&'static str, usize>,
    released: HashSet<String>,
    made: usize,
    now: i64,
}

#[derive(Debug, Clone)]
enum Step {
    /// The Pod at a place ends so.
    End(usize, bool),
    /// A pass; it crashes before this phase.
    Pass(u8),
    /// A Pod is evicted.
    Delete(usize),
}

impl World {
    fn new(spec: Value) -> Self {
        Self {
            job: job(spec, json!({})),
            pods: BTreeMap::new(),
            ended: BTreeMap::new(),
            released: HashSet::new(),
            made: 0,
            now: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        self.now += 1000;
        match step {
            Step::End(place, good) => {
                let running = |pod: &&mut Value| pod["status"]["phase"] == "Running";
                let mut running: Vec<_> = self.pods.values_mut().filter(running).collect();
                if !running.is_empty() {
                    let place = place % running.len();
                    let phase = if *good { "Succeeded" } else { "Failed" };
                    running[place]["status"]["phase"] = json!(phase);
                    *self.ended.entry(phase).or_default() += 1;
                }
            }
            Step::Delete(place) => {
                let names: Vec<String> = self.pods.keys().cloned().collect();
                if let Some(name) = names.get(place % names.len().max(1)) {
                    self.delete(name);
                }
            }
            Step::Pass(crash) => self.pass(*crash),
        }
        self.check();
    }

    /// The API server's part: what has a finalizer is only marked.
    fn delete(&mut self, name: &str) {
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        pod["metadata"]["deletionTimestamp"] = json!(at(self.now).to_string());
        if pod["status"]["phase"] == "Running" {
            pod["status"]["phase"] = json!("Failed");
            *self.ended.entry("Failed").or_default() += 1;
        }
        if object::list(pod, &["metadata", "finalizers"]).is_empty() {
            self.pods.remove(name);
        }
    }

    fn write(&mut self, status: &Status) {
        let mut value = self.job.value().clone();
        value["status"] = status.to_json();
        self.job = Object::new(value);
    }

    fn pass(&mut self, crash: u8) {
        if is_finished(&self.job) {
            return;
        }
        let job = self.job.clone();
        let pods: Vec<_> = self
            .pods
            .values()
            .cloned()
            .map(|p| Arc::new(Object::new(p)))
            .collect();
        let released = std::mem::take(&mut self.released);
        let mut pass = Pass::new(&job, pods, &released, Record::default(), true, at(self.now));
        let mut done = Done::default();
        match pass.action() {
            Action::Keep => {}
            Action::Create(wanted) => {
                for one in wanted {
                    self.made += 1;
                    let mut pod = make(&job, &one);
                    let name = format!("p{:04}", self.made);
                    pod["metadata"]["name"] = json!(name);
                    pod["metadata"]["uid"] = json!(name);
                    pod["status"] = json!({"phase": "Running"});
                    self.pods.insert(name, pod);
                    done.created += 1;
                }
            }
            Action::Delete { pods, counted } => {
                for pod in pods {
                    if !counted {
                        // Let go without being counted: it is none of the ended.
                        self.pods.remove(pod.name());
                    }
                    self.delete(pod.name());
                    done.deleted += 1;
                }
            }
        }
        if crash == 1 {
            return;
        }
        pass.acted(done);
        let release = pass.account();
        self.write(&pass.status);
        if crash == 2 {
            return;
        }
        let half = if crash == 3 {
            release.len() / 2
        } else {
            release.len()
        };
        for pod in &release[..half] {
            let gone = self.pods.get_mut(pod.name()).is_some_and(|pod| {
                pod["metadata"]["finalizers"] = json!([]);
                pod["metadata"].get("deletionTimestamp").is_some()
            });
            if gone {
                self.pods.remove(pod.name());
            }
        }
        if crash == 3 {
            return;
        }
        let gone = release.iter().map(|pod| pod.uid().to_owned()).collect();
        pass.settle(&gone);
        self.write(&pass.status);
    }

    fn check(&self) {
        let status = Status::read(&self.job);
        let ended = |phase: &str| self.ended.get(phase).copied().unwrap_or(0);
        let is_indexed = status.completed_indexes.is_empty();
        if is_indexed {
            assert!(status.succeeded + status.uncounted_succeeded.len() <= ended("Succeeded"));
        }
        assert!(status.failed + status.uncounted_failed.len() <= ended("Failed"));
        let running = self
            .pods
            .values()
            .filter(|p| p["status"]["phase"] == "Running")
            .count();
        let parallelism = count(&self.job, "parallelism").unwrap_or(1);
        assert!(running <= parallelism, "{running} run");
        let mut indexes: Vec<&str> = self
            .pods
            .values()
            .filter(|pod| pod["status"]["phase"] == "Running")
            .filter_map(|pod| pod["metadata"]["annotations"][INDEX].as_str())
            .collect();
        let all = indexes.len();
        indexes.sort_unstable();
        indexes.dedup();
        assert_eq!(indexes.len(), all, "an index runs twice");
    }

    /// Everything works from now on, and every Pod succeeds.
    fn finish(&mut self) {
        for _ in 0..200 {
            if is_finished(&self.job) {
                break;
            }
            self.step(&Step::End(0, true));
            self.step(&Step::Pass(0));
        }
        self.step(&Step::Pass(0));
        let status = Status::read(&self.job);
        assert!(is_finished(&self.job), "{:?}", status.to_json());
        assert_eq!((status.active, status.uncounted()), (0, 0));
        let failed = self.ended.get("Failed").copied().unwrap_or(0);
        assert_eq!(status.failed, failed, "every failure is counted once");
        if status.is("Complete").is_some() {
            assert_eq!(
                status.succeeded,
                count(&self.job, "completions").unwrap_or(0)
            );
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6_usize, any::<bool>()).prop_map(|(place, good)| Step::End(place, good)),
        4 => (0..4_u8).prop_map(Step::Pass),
        1 => (0..6_usize).prop_map(Step::Delete),
    ]
}

proptest! {
    #[test]
    fn no_pod_is_lost_or_counted_twice(
        steps in prop::collection::vec(step(), 0..60),
        indexed in any::<bool>(),
        parallelism in 1..5_usize,
    ) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let mut world = World::new(json!({
            "completions": 6, "parallelism": parallelism, "completionMode": mode, "backoffLimit": 1000,
        }));
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn an_index_fails_as_often_as_it_may(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(json!({
            "completions": 4, "parallelism": 3, "completionMode": "Indexed", "backoffLimit": 2_147_483_647,
            "backoffLimitPerIndex": 1,
        }));
        for step in &steps {
            world.step(step);
        }
        world.finish();
        let failed = world.ended.get("Failed").copied().unwrap_or(0);
        prop_assert!(failed <= 8, "{failed} failures of 4 indexes");
    }
}
