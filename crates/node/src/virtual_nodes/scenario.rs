//! Scenarios: what happens to Pods and nodes at given times, written down in a file. Pure.
//!
//! A step says from when to when it holds, whom it concerns, and what is set. What it sets are the annotations Pods and nodes can
//! be told by anyway, so a step is as if they had these for a while: the objects themselves are not changed, and Pods that come
//! while a step holds do what it says from their first moment on.
//!
//! Left out: what the API server answers (logs, metrics); that is told by annotations alone.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use controller::Object;
use model::{LabelSelector, object, parse_duration};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::behaviour::PREFIX;

const API_VERSION: &str = "virtual.corvus.dev/v1";
const KIND: &str = "Scenario";
/// The most steps of a scenario: each is looked at for every Pod.
const STEPS_MAX: usize = 1_000;

/// What can be set for Pods, with the values there are.
const OF_PODS: &[(&str, Values)] = &[
    ("start-seconds", Values::Seconds),
    ("ready-seconds", Values::Seconds),
    ("ready", Values::One(&["false"])),
    ("run-seconds", Values::Seconds),
    ("exit-code", Values::ExitCode),
    ("reason", Values::Text),
    ("fail-times", Values::Seconds),
    ("startup", Values::One(&["fail"])),
    ("liveness", Values::One(&["fail"])),
    ("image-pull", Values::One(&["error"])),
    ("init-seconds", Values::Seconds),
    ("init-exit-code", Values::ExitCode),
    ("stop-seconds", Values::Seconds),
    ("stop-exit-code", Values::ExitCode),
    ("evict", Values::Text),
    ("resize", Values::One(&["deferred", "infeasible"])),
];

/// What can be set for nodes.
const OF_NODES: &[(&str, Values)] = &[
    ("outage", Values::One(&["true"])),
    ("condition.Ready", Values::One(&["True", "False"])),
    ("condition.MemoryPressure", Values::One(&["True", "False"])),
    ("condition.DiskPressure", Values::One(&["True", "False"])),
    ("condition.PIDPressure", Values::One(&["True", "False"])),
];

#[derive(Debug, Clone, Copy)]
enum Values {
    Seconds,
    ExitCode,
    Text,
    One(&'static [&'static str]),
}

impl Values {
    fn allow(self, value: &str) -> Result<(), String> {
        let number = |most: u64| value.parse::<u64>().is_ok_and(|number| number <= most);
        match self {
            Self::Seconds if !number(366 * 24 * 3600) => Err("write a whole number".to_owned()),
            Self::ExitCode if !number(255) => Err("write a number from 0 to 255".to_owned()),
            Self::One(values) if !values.contains(&value) => {
                Err(format!("write {}", values.join(" or ")))
            }
            _ => Ok(()),
        }
    }
}

/// What is wrong with a scenario, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ScenarioError {
    /// The field, such as `steps[2].for`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

fn wrong<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, ScenarioError> {
    Err(ScenarioError {
        field: field.into(),
        why: why.into(),
    })
}

/// What happens, and when.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
struct Step {
    from: Duration,
    /// It holds until the end where there is none.
    until: Option<Duration>,
    whom: Whom,
    /// How many at most: those who come first.
    count: Option<usize>,
    set: Vec<(String, String)>,
}

/// Whom a step concerns.
#[derive(Debug, Clone)]
struct Whom {
    is_nodes: bool,
    namespace: Option<String>,
    name: Option<String>,
    node: Option<String>,
    selector: Option<LabelSelector>,
}

impl Step {
    fn holds(&self, elapsed: Duration) -> bool {
        self.from <= elapsed && self.until.is_none_or(|until| elapsed < until)
    }
}

impl Whom {
    fn fits(&self, object: &Object, is_node: bool) -> bool {
        let like = |pattern: &Option<String>, text: &str| {
            pattern
                .as_ref()
                .is_none_or(|pattern| is_like(pattern, text))
        };
        let labels = object::labels(object.value());
        self.is_nodes == is_node
            && like(&self.namespace, object.namespace().unwrap_or_default())
            && like(&self.name, object.name())
            && like(&self.node, object::text(object.spec(), &["nodeName"]))
            && self
                .selector
                .as_ref()
                .is_none_or(|selector| selector.matches(labels))
    }
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        // All but the last part are found as early as they can be.
        if let Some(part) = last.replace(part) {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

impl Scenario {
    /// Reads a `Scenario`.
    pub fn parse(value: &Value) -> Result<Self, ScenarioError> {
        let text = |name: &str| object::text(value, &[name]);
        if text("apiVersion") != API_VERSION {
            return wrong("apiVersion", format!("write {API_VERSION}"));
        }
        if text("kind") != KIND {
            return wrong("kind", format!("write {KIND}"));
        }
        only(value, "", &["apiVersion", "kind", "metadata", "steps"])?;
        let Some(steps) = value.get("steps").and_then(Value::as_array) else {
            return wrong("steps", "write a list of steps");
        };
        if steps.len() > STEPS_MAX {
            return wrong("steps", format!("write no more than {STEPS_MAX}"));
        }
        let read = |(at, value)| step(value, &format!("steps[{at}]"));
        let steps = steps.iter().enumerate().map(read);
        Ok(Self {
            steps: steps.collect::<Result<_, _>>()?,
        })
    }

    /// When the next step begins or ends after `elapsed`.
    fn next_change(&self, elapsed: Duration) -> Option<Duration> {
        let times = self.steps.iter();
        let times = times.flat_map(|step| [Some(step.from), step.until]);
        times.flatten().filter(|time| *time > elapsed).min()
    }
}

/// A map that has no fields but those.
fn only(value: &Value, field: &str, known: &[&str]) -> Result<(), ScenarioError> {
    let Some(map) = value.as_object() else {
        return wrong(field, format!("write a map with {}", known.join(", ")));
    };
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => {
            let dot = if field.is_empty() { "" } else { "." };
            let why = format!("there is no such field; there are {}", known.join(", "));
            wrong(format!("{field}{dot}{unknown}"), why)
        }
        None => Ok(()),
    }
}

fn step(value: &Value, field: &str) -> Result<Step, ScenarioError> {
    only(
        value,
        field,
        &["at", "for", "pods", "nodes", "count", "set"],
    )?;
    let time = |name: &str| -> Result<Option<Duration>, ScenarioError> {
        let why = "write a duration such as 15s, 1m30s or 500ms";
        match value.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => match parse_duration(text) {
                Ok(time) => Ok(Some(time)),
                Err(why) => wrong(format!("{field}.{name}"), why),
            },
            Some(_) => wrong(format!("{field}.{name}"), why),
        }
    };
    let from = time("at")?.unwrap_or_default();
    let until = match time("for")? {
        Some(Duration::ZERO) => return wrong(format!("{field}.for"), "write more than 0"),
        length => length.map(|length| from.saturating_add(length)),
    };
    let (kind, whom) = match (value.get("pods"), value.get("nodes")) {
        (Some(pods), None) => ("pods", pods),
        (None, Some(nodes)) => ("nodes", nodes),
        _ => return wrong(field, "say whom it concerns: either pods or nodes"),
    };
    let is_nodes = kind == "nodes";
    let count = match value.get("count") {
        None => None,
        Some(count) => match count.as_u64().filter(|count| *count > 0) {
            Some(count) => usize::try_from(count).ok(),
            None => return wrong(format!("{field}.count"), "write a number greater than 0"),
        },
    };
    Ok(Step {
        from,
        until,
        whom: self::whom(whom, &format!("{field}.{kind}"), is_nodes)?,
        count,
        set: settings(value.get("set"), &format!("{field}.set"), is_nodes)?,
    })
}

fn whom(value: &Value, field: &str, is_nodes: bool) -> Result<Whom, ScenarioError> {
    let known: &[&str] = if is_nodes {
        &["name", "selector"]
    } else {
        &["namespace", "name", "node", "selector"]
    };
    only(value, field, known)?;
    let pattern = |name: &str| match value.get(name) {
        None => Ok(None),
        Some(Value::String(pattern)) if !pattern.is_empty() => Ok(Some(pattern.clone())),
        Some(_) => wrong(
            format!("{field}.{name}"),
            "write a name, in which * stands for anything",
        ),
    };
    let selector = match value.get("selector") {
        None => None,
        given => match LabelSelector::from_object(given) {
            Ok(selector) => Some(selector),
            Err(error) => return wrong(format!("{field}.selector"), error.to_string()),
        },
    };
    Ok(Whom {
        is_nodes,
        namespace: pattern("namespace")?,
        name: pattern("name")?,
        node: pattern("node")?,
        selector,
    })
}

fn settings(
    value: Option<&Value>,
    field: &str,
    is_nodes: bool,
) -> Result<Vec<(String, String)>, ScenarioError> {
    let known = if is_nodes { OF_NODES } else { OF_PODS };
    let names = || {
        known
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(map) = value
        .and_then(Value::as_object)
        .filter(|map| !map.is_empty())
    else {
        return wrong(field, format!("write what happens; there are {}", names()));
    };
    let mut set = Vec::with_capacity(map.len());
    for (name, value) in map {
        let at = format!("{field}[{name:?}]");
        // For one container its name follows.
        let plain = if is_nodes {
            name
        } else {
            name.split('.').next().unwrap_or(name)
        };
        let Some((_, values)) = known.iter().find(|(known, _)| *known == plain) else {
            return wrong(
                at,
                format!("there is no such setting; there are {}", names()),
            );
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return wrong(at, "write a text, a number, true or false"),
        };
        // YAML's own true and false are conditions' True and False.
        let text = match (plain.strip_prefix("condition."), text.as_str()) {
            (Some(_), "true") => "True".to_owned(),
            (Some(_), "false") => "False".to_owned(),
            _ => text,
        };
        if let Err(why) = values.allow(&text) {
            return wrong(at, why);
        }
        set.push((format!("{PREFIX}{name}"), text));
    }
    Ok(set)
}

/// A scenario that is being played.
#[derive(Debug)]
pub struct Play {
    scenario: Scenario,
    began: Instant,
    /// For steps that concern only some: who that is, by uid.
    chosen: Mutex<Vec<HashSet<String>>>,
}

impl Play {
    /// Begins now.
    pub fn new(scenario: Scenario) -> Self {
        let chosen = vec![HashSet::new(); scenario.steps.len()];
        Self {
            scenario,
            began: Instant::now(),
            chosen: Mutex::new(chosen),
        }
    }

    /// A Pod or a node as it is to behave now.
    pub fn look(&self, object: &Arc<Object>, is_node: bool) -> Arc<Object> {
        let elapsed = self.began.elapsed();
        let mut set = Map::new();
        for (at, step) in self.scenario.steps.iter().enumerate() {
            if !step.holds(elapsed) || !step.whom.fits(object, is_node) {
                continue;
            }
            if let Some(count) = step.count {
                let chosen = &mut self.chosen.lock()[at];
                if !chosen.contains(object.uid()) && chosen.len() >= count {
                    continue;
                }
                chosen.insert(object.uid().to_owned());
            }
            set.extend(
                step.set
                    .iter()
                    .map(|(name, value)| (name.clone(), json!(value))),
            );
        }
        if set.is_empty() {
            return object.clone();
        }
        let mut value = object.value().clone();
        let metadata = object::metadata_mut(&mut value);
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.extend(set);
        }
        Arc::new(Object::new(value))
    }

    /// When a step begins or ends next.
    pub fn next_change(&self) -> Option<Instant> {
        let next = self.scenario.next_change(self.began.elapsed())?;
        Some(self.began + next)
    }

    /// Whether anything may happen to it at any time.
    pub fn concerns(&self, object: &Object, is_node: bool) -> bool {
        let mut steps = self.scenario.steps.iter();
        steps.any(|step| step.whom.fits(object, is_node))
    }

    /// The settings that hold now, for the log.
    pub fn current(&self) -> BTreeSet<String> {
        let elapsed = self.began.elapsed();
        let steps = self
            .scenario
            .steps
            .iter()
            .filter(|step| step.holds(elapsed));
        let set = steps.flat_map(|step| &step.set);
        set.map(|(name, value)| format!("{}={value}", name.trim_start_matches(PREFIX)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(steps: Value) -> Result<Scenario, ScenarioError> {
        Scenario::parse(&json!({"apiVersion": API_VERSION, "kind": KIND, "steps": steps}))
    }

    fn pod(name: &str) -> Arc<Object> {
        Arc::new(Object::new(json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "virtual-1"},
        })))
    }

    fn told(play: &Play, object: &Arc<Object>, name: &str) -> String {
        let seen = play.look(object, false);
        seen.annotation(&format!("{PREFIX}{name}"))
            .unwrap_or_default()
            .to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn steps_hold_for_a_while() {
        let play = Play::new(
            scenario(json!([
                {"at": "10s", "for": "5s", "pods": {"name": "web-*"}, "set": {"ready": false}},
                {"at": "12s", "pods": {"selector": {"matchLabels": {"app": "web"}}}, "count": 1,
                 "set": {"exit-code.main": 3}},
            ]))
            .expect("a scenario"),
        );
        let (first, second) = (pod("web-1"), pod("web-2"));
        let check = |seconds: u64, expect: [&str; 4]| {
            let found = [&first, &second].map(|pod| {
                [
                    told(&play, pod, "ready"),
                    told(&play, pod, "exit-code.main"),
                ]
            });
            assert_eq!(found.concat(), expect, "after {seconds} s");
        };
        check(0, ["", "", "", ""]);
        assert_eq!(
            play.next_change(),
            Some(play.began + Duration::from_secs(10))
        );
        tokio::time::advance(Duration::from_secs(11)).await;
        check(11, ["false", "", "false", ""]);
        tokio::time::advance(Duration::from_secs(2)).await;
        check(13, ["false", "3", "false", ""]);
        tokio::time::advance(Duration::from_secs(3)).await;
        check(16, ["", "3", "", ""]);
        assert_eq!(play.next_change(), None);
        assert_eq!(Vec::from_iter(play.current()), ["exit-code.main=3"]);
        assert!(play.concerns(&pod("web-9"), false) && !play.concerns(&pod("web-9"), true));
    }

    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(is_like(pattern, text), expect, "{pattern} {text}");
        };
        check("web", "web", true);
        check("web", "web-1", false);
        check("web-*", "web-1", true);
        check("*-1", "web-1", true);
        check("w*b-*", "web-1", true);
        check("w*b*1", "web-12", false);
        check("*", "", true);
        check("a*a", "a", false);
        check("*ab", "abab", true);
        check("é*", "éa", true);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |steps: Value, expect: &str| {
            let error = scenario(steps).expect_err("makes no sense").to_string();
            assert_eq!(error, expect);
        };
        let pods = json!({"name": "a"});
        check(json!("x"), "steps: write a list of steps");
        check(
            json!([{"set": {"ready": false}}]),
            "steps[0]: say whom it concerns: either pods or nodes",
        );
        check(
            json!([{"at": 10, "pods": pods, "set": {"ready": false}}]),
            "steps[0].at: write a duration such as 15s, 1m30s or 500ms",
        );
        check(
            json!([{"after": "1s", "pods": pods, "set": {"ready": false}}]),
            "steps[0].after: there is no such field; there are at, for, pods, nodes, count, set",
        );
        check(
            json!([{"nodes": {"name": "a"}, "set": {"outage": "yes"}}]),
            "steps[0].set[\"outage\"]: write true",
        );
        check(
            json!([{"pods": pods, "set": {"exit-code": 300}}]),
            "steps[0].set[\"exit-code\"]: write a number from 0 to 255",
        );
        check(
            json!([{"nodes": {"namespace": "a"}, "set": {"outage": true}}]),
            "steps[0].nodes.namespace: there is no such field; there are name, selector",
        );
        check(
            json!([{"nodes": {}, "set": {"ready": false}}]),
            "steps[0].set[\"ready\"]: there is no such setting; there are outage, condition.Ready, condition.MemoryPressure, condition.DiskPressure, condition.PIDPressure",
        );
        let selector =
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Nope"}]}});
        let error = scenario(json!([{"pods": selector, "set": {"ready": false}}]));
        assert!(error.is_err_and(|error| error.field == "steps[0].pods.selector"));
        let kind = Scenario::parse(&json!({"apiVersion": API_VERSION}));
        assert!(kind.is_err_and(|error| error.to_string() == "kind: write Scenario"));
    }
}
