//! What is to happen to a simulated Pod: read from its annotations. Pure.

use controller::Object;
use model::object;
use serde_json::Value;

/// What every annotation of virtual nodes and their Pods begins with.
pub const PREFIX: &str = "virtual.corvus.dev/";

/// The reading of one container's annotations: `virtual.corvus.dev/NAME.CONTAINER`, else
/// `virtual.corvus.dev/NAME`.
#[derive(Clone, Copy)]
pub struct Behaviour<'a> {
    pod: &'a Object,
    container: &'a str,
}

impl<'a> Behaviour<'a> {
    /// Of one container.
    pub fn of(pod: &'a Object, container: &'a str) -> Self {
        Self { pod, container }
    }

    /// An annotation.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let own = format!("{PREFIX}{name}.{}", self.container);
        let all = || self.pod.annotation(&format!("{PREFIX}{name}"));
        self.pod.annotation(&own).or_else(all)
    }

    /// A number that is not negative; what is none is as if it were not there.
    pub fn number(&self, name: &str) -> Option<i64> {
        let number: i64 = self.text(name)?.trim().parse().ok()?;
        (0..=MOST).contains(&number).then_some(number)
    }

    fn is(&self, name: &str, text: &str) -> bool {
        self.text(name) == Some(text)
    }

    /// Whether what is to go wrong still does, after so many restarts.
    fn still_fails(&self, restarts: i64) -> bool {
        self.number("fail-times")
            .is_none_or(|times| restarts < times)
    }

    /// How long it takes to start.
    pub fn start_seconds(&self) -> i64 {
        self.number("start-seconds").unwrap_or(0)
    }

    /// How long after its start it is ready.
    pub fn ready_seconds(&self) -> i64 {
        self.number("ready-seconds").unwrap_or(0)
    }

    /// Whether its readiness probe fails.
    pub fn is_unready(&self) -> bool {
        self.is("ready", "false")
    }

    /// Whether its image cannot be had.
    pub fn pull_fails(&self) -> bool {
        self.is("image-pull", "error")
    }

    /// Whether its startup probe fails.
    pub fn startup_fails(&self, restarts: i64) -> bool {
        self.is("startup", "fail") && self.still_fails(restarts)
    }

    /// Whether its liveness probe fails.
    pub fn liveness_fails(&self, restarts: i64) -> bool {
        self.is("liveness", "fail") && self.still_fails(restarts)
    }

    /// After how many seconds an application container ends by itself. `ends` says whether that is
    /// its nature.
    pub fn run_seconds(&self, ends: bool, restarts: i64) -> Option<i64> {
        let fails = self.exit_code(restarts) != 0;
        let given = self.number("run-seconds");
        if ends || fails {
            return Some(given.unwrap_or(1));
        }
        // A container that was to fail a few times goes on once it has.
        given.filter(|_| self.text("exit-code").is_none())
    }

    /// What it ends with.
    pub fn exit_code(&self, restarts: i64) -> i64 {
        let code = self.number("exit-code").unwrap_or(0);
        if self.still_fails(restarts) { code } else { 0 }
    }

    /// How long an init container runs.
    pub fn init_seconds(&self) -> i64 {
        self.number("init-seconds").unwrap_or(0)
    }

    /// What an init container ends with.
    pub fn init_exit_code(&self, restarts: i64) -> i64 {
        let code = self.number("init-exit-code").unwrap_or(0);
        if self.still_fails(restarts) { code } else { 0 }
    }

    /// Why it ends, where the exit code does not tell.
    pub fn reason(&self, code: i64) -> &'a str {
        let usual = if code == 0 { "Completed" } else { "Error" };
        self.text("reason").filter(|_| code != 0).unwrap_or(usual)
    }
}

/// The most seconds that make sense: a year.
const MOST: i64 = 366 * 24 * 3600;

/// Whether a Pod's resize is to wait or to be refused: `deferred` or `infeasible`.
pub fn resize(pod: &Object) -> Option<&str> {
    pod.annotation(&format!("{PREFIX}resize"))
}

/// The message a Pod is evicted with by its node, if it is.
pub fn evicted(pod: &Object) -> Option<&str> {
    pod.annotation(&format!("{PREFIX}evict"))
}

/// How long a Pod takes to stop: no longer than it may.
pub fn stop_seconds(pod: &Object) -> i64 {
    let grace = object::number(pod.value(), &["metadata", "deletionGracePeriodSeconds"]);
    let own = Behaviour::of(pod, "").number("stop-seconds").unwrap_or(0);
    own.min(grace.unwrap_or(0).max(0))
}

/// How long until a probe that always fails has its effect.
pub fn probe_seconds(container: &Value, probe: &str) -> i64 {
    let of = |name: &str, default: i64| {
        object::number(container, &[probe, name])
            .unwrap_or(default)
            .clamp(0, MOST)
    };
    of("initialDelaySeconds", 0) + of("periodSeconds", 10) * of("failureThreshold", 3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn annotations_may_be_for_one_container() {
        let pod = Object::new(json!({"metadata": {"annotations": {
            "virtual.corvus.dev/exit-code": "1",
            "virtual.corvus.dev/exit-code.good": "0",
            "virtual.corvus.dev/fail-times": "2",
            "virtual.corvus.dev/run-seconds": "nonsense",
        }}}));
        let check = |container: &str, restarts: i64, code: i64, run: Option<i64>| {
            let behaviour = Behaviour::of(&pod, container);
            let found = (
                behaviour.exit_code(restarts),
                behaviour.run_seconds(false, restarts),
            );
            assert_eq!(found, (code, run), "{container} {restarts}");
        };
        check("bad", 0, 1, Some(1));
        check("bad", 2, 0, None);
        check("good", 0, 0, None);
    }
}
