//! The life of one simulated container: from its last status to the next. Pure.
//!
//! Everything that has happened so far is read from the status itself, as nothing else outlives a
//! restart of this program.

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::behaviour::{Behaviour, probe_seconds};

/// What a container is to its Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One of the application's.
    Application,
    /// One that ends before the application starts.
    Init,
    /// One that starts before the application and goes on.
    Sidecar,
    /// One for looking into a running Pod.
    Ephemeral,
}

/// Where a container stands in its Pod.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Its Pod.
    pub pod: &'a Object,
    /// What it is.
    pub role: Role,
    /// Since when it may start; none where others come first.
    pub may_start: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}

/// The next status of a container, and when to look again.
#[derive(Debug, PartialEq)]
pub struct Next {
    /// The status.
    pub status: Value,
    /// When something will have happened.
    pub at: Option<Timestamp>,
}

/// A point in time some seconds later.
pub fn after(time: Timestamp, seconds: i64) -> Timestamp {
    let later = time.as_second().saturating_add(seconds);
    Timestamp::from_second(later).unwrap_or(Timestamp::MAX)
}

/// The whole second of a time: more is not written.
pub fn whole(time: Timestamp) -> Timestamp {
    after(time, 0)
}

fn time(value: &Value, path: &[&str]) -> Option<Timestamp> {
    object::text(value, path).parse().ok()
}

/// How long a container that has been restarted so often waits before it is again.
fn back_off_seconds(restarts: i64) -> i64 {
    match restarts {
        ..=0 => 0,
        1..=5 => 10 << (restarts - 1),
        _ => 300,
    }
}

fn terminated(
    id: &Value,
    started: Timestamp,
    finished: Timestamp,
    code: i64,
    reason: &str,
) -> Value {
    json!({
        "containerID": id,
        "exitCode": code,
        "reason": reason,
        "startedAt": format_time(started),
        "finishedAt": format_time(finished),
    })
}

struct Life<'a> {
    setting: Setting<'a>,
    spec: &'a Value,
    name: &'a str,
    behaviour: Behaviour<'a>,
    restarts: i64,
}

/// The next status of a container.
pub fn next(old: Option<&Value>, spec: &Value, setting: Setting<'_>) -> Next {
    let name = object::text(spec, &["name"]);
    let life = Life {
        setting,
        spec,
        name,
        behaviour: Behaviour::of(setting.pod, name),
        restarts: old
            .and_then(|old| object::number(old, &["restartCount"]))
            .unwrap_or(0),
    };
    let Some(old) = old else {
        return life.not_started();
    };
    if let Some(running) = old.pointer("/state/running") {
        let started = time(running, &["startedAt"]).unwrap_or(setting.now);
        return life.running(old, started);
    }
    if let Some(ended) = old.pointer("/state/terminated") {
        return life.ended(old, ended);
    }
    match old.pointer("/lastState/terminated") {
        Some(ended) => life.ended(old, ended),
        None => life.not_started(),
    }
}

/// A running container that is restarted for a change of its resources.
pub fn restarted(old: &Value, spec: &Value, setting: Setting<'_>) -> Next {
    let ended = stopped(old, 0, setting.now);
    let name = object::text(spec, &["name"]);
    let life = Life {
        setting,
        spec,
        name,
        behaviour: Behaviour::of(setting.pod, name),
        restarts: object::number(old, &["restartCount"]).unwrap_or(0),
    };
    let last = ended.pointer("/state").cloned().unwrap_or_default();
    life.start(last, life.restarts + 1)
}

/// A container that is taken down with its Pod.
pub fn stopped(old: &Value, code: i64, now: Timestamp) -> Value {
    let mut status = old.clone();
    if let Some(running) = old.pointer("/state/running") {
        let started = time(running, &["startedAt"]).unwrap_or(now);
        let reason = if code == 0 { "Completed" } else { "Error" };
        let id = old.get("containerID").cloned().unwrap_or_default();
        status["state"] = json!({"terminated": terminated(&id, started, whole(now), code, reason)});
    }
    status["ready"] = json!(false);
    status["started"] = json!(false);
    status
}

impl Life<'_> {
    fn id(&self, restarts: i64) -> Value {
        json!(format!(
            "virtual://{}/{}/{restarts}",
            self.setting.pod.uid(),
            self.name
        ))
    }

    /// A status with everything that does not depend on the state.
    fn status(
        &self,
        state: Value,
        last: Value,
        ready: bool,
        started: bool,
        restarts: i64,
    ) -> Value {
        let image = object::text(self.spec, &["image"]);
        let lives = state.get("running").is_some()
            || !last.as_object().is_none_or(serde_json::Map::is_empty);
        let (id, image_id) = if lives || state.get("terminated").is_some() {
            (self.id(restarts), format!("virtual://{image}"))
        } else {
            (json!(""), String::new())
        };
        let mut status = json!({
            "name": self.name,
            "image": image,
            "imageID": image_id,
            "ready": ready,
            "started": started,
            "restartCount": restarts,
            "state": state,
            "lastState": last,
        });
        if id != "" {
            status["containerID"] = id;
        }
        status
    }

    fn waiting(&self, reason: &str, message: &str, last: Value) -> Value {
        let mut waiting = json!({"reason": reason});
        if !message.is_empty() {
            waiting["message"] = json!(message);
        }
        self.status(
            json!({"waiting": waiting}),
            last,
            false,
            false,
            self.restarts,
        )
    }

    fn not_started(&self) -> Next {
        let Some(since) = self.setting.may_start else {
            let status = self.waiting("PodInitializing", "", json!({}));
            return Next { status, at: None };
        };
        let now = self.setting.now;
        if self.behaviour.pull_fails() {
            let image = object::text(self.spec, &["image"]);
            let cause = format!(
                "failed to pull image \"{image}\": simulated by annotation virtual.corvus.dev/image-pull"
            );
            let backs_off = after(since, 10);
            if now < backs_off {
                let status = self.waiting("ErrImagePull", &cause, json!({}));
                return Next {
                    status,
                    at: Some(backs_off),
                };
            }
            let text = format!("Back-off pulling image \"{image}\": ErrImagePull: {cause}");
            let status = self.waiting("ImagePullBackOff", &text, json!({}));
            return Next { status, at: None };
        }
        let starts = after(since, self.behaviour.start_seconds());
        if now < starts {
            let initial = self.setting.role == Role::Application
                && !object::list(self.setting.pod.spec(), &["initContainers"]).is_empty();
            let reason = if initial {
                "PodInitializing"
            } else {
                "ContainerCreating"
            };
            let status = self.waiting(reason, "", json!({}));
            return Next {
                status,
                at: Some(starts),
            };
        }
        self.start(json!({}), self.restarts)
    }

    /// Starts it, now; what lasts no time has ended in the same moment.
    fn start(&self, last: Value, restarts: i64) -> Next {
        let started = whole(self.setting.now);
        let state = json!({"running": {"startedAt": format_time(started)}});
        let status = self.status(state, last, false, true, restarts);
        let life = Life {
            restarts,
            behaviour: self.behaviour,
            ..*self
        };
        life.running(&status, started)
    }

    fn running(&self, old: &Value, started: Timestamp) -> Next {
        let now = self.setting.now;
        let changed = object::text(old, &["image"]) != object::text(self.spec, &["image"]);
        if changed && self.setting.role != Role::Init {
            let id = old.get("containerID").cloned().unwrap_or_default();
            let last = terminated(&id, started, whole(now), 0, "Completed");
            return self.start(json!({"terminated": last}), self.restarts + 1);
        }
        if let Some((at, code)) = self.end(started) {
            if now >= at {
                let id = old.get("containerID").cloned().unwrap_or_default();
                let ended = terminated(&id, started, at, code, self.behaviour.reason(code));
                return self.ended(old, &ended);
            }
            return self.go_on(old, started, Some(at));
        }
        self.go_on(old, started, None)
    }

    fn go_on(&self, old: &Value, started: Timestamp, end: Option<Timestamp>) -> Next {
        let now = self.setting.now;
        let is_up = !self.behaviour.startup_fails(self.restarts);
        let ready_at = after(started, self.behaviour.ready_seconds());
        let ready = is_up
            && self.setting.role != Role::Init
            && now >= ready_at
            && !self.behaviour.is_unready();
        let turns_ready =
            (now < ready_at && is_up && self.setting.role != Role::Init).then_some(ready_at);
        let state = json!({"running": {"startedAt": format_time(started)}});
        let last = old.get("lastState").cloned().unwrap_or_else(|| json!({}));
        Next {
            status: self.status(state, last, ready, is_up, self.restarts),
            at: end.into_iter().chain(turns_ready).min(),
        }
    }

    /// When and with what it ends, if nobody stops it.
    fn end(&self, started: Timestamp) -> Option<(Timestamp, i64)> {
        /// Of a process that was killed.
        const KILLED: i64 = 137;
        let behaviour = &self.behaviour;
        match self.setting.role {
            Role::Ephemeral => return None,
            Role::Init => {
                let at = after(started, behaviour.init_seconds());
                return Some((at, behaviour.init_exit_code(self.restarts)));
            }
            Role::Application | Role::Sidecar => {}
        }
        let policy = self.policy();
        let ends = self.setting.role == Role::Application && policy != "Always";
        let by_itself = behaviour
            .run_seconds(ends, self.restarts)
            .filter(|_| {
                self.setting.role == Role::Application || behaviour.exit_code(self.restarts) != 0
            })
            .map(|seconds| (after(started, seconds), behaviour.exit_code(self.restarts)));
        let probe = |fails: bool, probe: &str| {
            fails.then(|| (after(started, probe_seconds(self.spec, probe)), KILLED))
        };
        [
            by_itself,
            probe(behaviour.startup_fails(self.restarts), "startupProbe"),
            probe(behaviour.liveness_fails(self.restarts), "livenessProbe"),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether and when it is restarted: its own policy, else the Pod's.
    fn policy(&self) -> &str {
        match object::text(self.spec, &["restartPolicy"]) {
            "" => match object::text(self.setting.pod.spec(), &["restartPolicy"]) {
                "" => "Always",
                policy => policy,
            },
            own => own,
        }
    }

    fn restarts_after(&self, code: i64) -> bool {
        match (self.setting.role, self.policy()) {
            (Role::Ephemeral, _) | (_, "Never") => false,
            (Role::Init, _) | (_, "OnFailure") => code != 0,
            _ => true,
        }
    }

    fn ended(&self, old: &Value, ended: &Value) -> Next {
        let code = object::number(ended, &["exitCode"]).unwrap_or(0);
        let last = old.get("lastState").cloned().unwrap_or_else(|| json!({}));
        if !self.restarts_after(code) {
            let done = self.setting.role == Role::Init && code == 0;
            let state = json!({"terminated": ended});
            let status = self.status(state, last, done, false, self.restarts);
            return Next { status, at: None };
        }
        let finished = time(ended, &["finishedAt"]).unwrap_or(self.setting.now);
        let back_off = back_off_seconds(self.restarts);
        let restarts_at = after(finished, back_off);
        if self.setting.now >= restarts_at {
            return self.restart(ended);
        }
        let pod = self.setting.pod;
        let text = format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            duration(back_off),
            self.name,
            pod.name(),
            pod.namespace().unwrap_or_default(),
            pod.uid(),
        );
        let status = self.waiting("CrashLoopBackOff", &text, json!({"terminated": ended}));
        Next {
            status,
            at: Some(restarts_at),
        }
    }

    /// One restart at a time: a container that ends at once is looked at again in a second.
    fn restart(&self, ended: &Value) -> Next {
        let started = whole(self.setting.now);
        let state = json!({"running": {"startedAt": format_time(started)}});
        let life = Life {
            restarts: self.restarts + 1,
            behaviour: self.behaviour,
            ..*self
        };
        let status = life.status(
            state,
            json!({"terminated": ended}),
            false,
            true,
            life.restarts,
        );
        let mut next = life.go_on(&status, started, life.end(started).map(|(at, _)| at));
        if let Some(at) = next.at {
            next.at = Some(at.max(after(started, 1)));
        }
        next
    }
}

/// Seconds as a kubelet writes them in messages: `10s`, `2m40s`, `5m0s`.
fn duration(seconds: i64) -> String {
    if seconds < 60 {
        return format!("{seconds}s");
    }
    format!("{}m{}s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(policy: &str, annotations: &[(&str, &str)]) -> Object {
        let annotations: serde_json::Map<String, Value> = annotations
            .iter()
            .map(|(name, value)| (format!("virtual.corvus.dev/{name}"), json!(value)))
            .collect();
        Object::new(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "annotations": annotations},
            "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i:1"}]},
        }))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    /// The states a container goes through, each with its time, as long as it changes.
    fn history(pod: &Object, role: Role, until: i64) -> Vec<String> {
        let spec = json!({"name": "c", "image": "i:1"});
        let (mut status, mut told, mut now) = (None, Vec::new(), 0);
        loop {
            let setting = Setting {
                pod,
                role,
                may_start: Some(at(0)),
                now: at(now),
            };
            let next = next(status.as_ref(), &spec, setting);
            let state = next.status["state"]
                .as_object()
                .and_then(|state| state.iter().next());
            let (kind, detail) = state.expect("a state");
            let detail = match kind.as_str() {
                "running" => {
                    if next.status["ready"] == true {
                        "ready"
                    } else {
                        "unready"
                    }
                }
                _ => object::text(detail, &["reason"]),
            };
            told.push(format!(
                "{now} {kind} {detail} {}",
                next.status["restartCount"]
            ));
            status = Some(next.status);
            match next.at {
                Some(time) if time.as_second() <= until => now = time.as_second(),
                _ => return told,
            }
        }
    }

    #[test]
    fn a_container_runs_by_default() {
        assert_eq!(
            history(&pod("Always", &[]), Role::Application, 99),
            ["0 running ready 0"]
        );
    }

    #[test]
    fn slow_ones_take_their_time() {
        let slow = pod("Always", &[("start-seconds", "3"), ("ready-seconds", "4")]);
        let told = history(&slow, Role::Application, 99);
        let expect = [
            "0 waiting ContainerCreating 0",
            "3 running unready 0",
            "7 running ready 0",
        ];
        assert_eq!(told, expect);
    }

    #[test]
    fn crashes_back_off() {
        let told = history(&pod("Always", &[("exit-code", "1")]), Role::Application, 60);
        let expect = [
            "0 running ready 0",
            "1 running ready 1",
            "2 waiting CrashLoopBackOff 1",
            "12 running ready 2",
            "13 waiting CrashLoopBackOff 2",
            "33 running ready 3",
            "34 waiting CrashLoopBackOff 3",
        ];
        assert_eq!(told, expect);
        let recovers = pod("Always", &[("exit-code", "1"), ("fail-times", "2")]);
        let told = history(&recovers, Role::Application, 60);
        assert_eq!(told.last().map(String::as_str), Some("12 running ready 2"));
    }

    #[test]
    fn jobs_end() {
        let told = history(
            &pod("Never", &[("run-seconds", "5")]),
            Role::Application,
            99,
        );
        assert_eq!(told, ["0 running ready 0", "5 terminated Completed 0"]);
        let failing = pod("Never", &[("exit-code", "3"), ("reason", "OOMKilled")]);
        let told = history(&failing, Role::Application, 99);
        assert_eq!(told, ["0 running ready 0", "1 terminated OOMKilled 0"]);
    }

    #[test]
    fn probes_fail_and_images_are_missing() {
        let dead = pod("Always", &[("liveness", "fail"), ("fail-times", "1")]);
        let told = history(&dead, Role::Application, 99);
        assert_eq!(told, ["0 running ready 0", "30 running ready 1"]);
        let never_up = pod("Always", &[("startup", "fail"), ("fail-times", "1")]);
        let told = history(&never_up, Role::Application, 99);
        assert_eq!(told, ["0 running unready 0", "30 running ready 1"]);
        let missing = pod("Always", &[("image-pull", "error")]);
        let told = history(&missing, Role::Application, 99);
        assert_eq!(
            told,
            ["0 waiting ErrImagePull 0", "10 waiting ImagePullBackOff 0"]
        );
    }

    #[test]
    fn init_containers_end_at_once_and_sidecars_go_on() {
        let told = history(&pod("Always", &[]), Role::Init, 99);
        assert_eq!(told, ["0 terminated Completed 0"]);
        assert_eq!(
            history(&pod("Never", &[]), Role::Sidecar, 99),
            ["0 running ready 0"]
        );
    }

    #[test]
    fn a_new_image_restarts_a_container() {
        let pod = pod("Always", &[]);
        let setting = |now| Setting {
            pod: &pod,
            role: Role::Application,
            may_start: Some(at(0)),
            now: at(now),
        };
        let first = next(None, &json!({"name": "c", "image": "i:1"}), setting(0)).status;
        let second = next(
            Some(&first),
            &json!({"name": "c", "image": "i:2"}),
            setting(9),
        )
        .status;
        assert_eq!(second["restartCount"], 1);
        assert_eq!(second["imageID"], "virtual://i:2");
        assert_ne!(second["containerID"], first["containerID"]);
        assert_eq!(
            second["lastState"]["terminated"]["containerID"],
            first["containerID"]
        );
    }

    #[test]
    fn durations_read_as_a_kubelets() {
        assert_eq!(
            [10, 80, 160, 300].map(duration),
            ["10s", "1m20s", "2m40s", "5m0s"]
        );
    }
}
