//! Which revision each instance runs on, where that is not the newest for all.
//!
//! The status of an instance says which revision it is on (`status.graphRevision`), and that is written before anything is
//! done with another one. When a new revision is there, the definition's reconciler decides for all instances at once
//! which may move, remembers those in memory, and wakes them; each instance that has come further wakes the
//! definition. So a restart forgets nothing: who was let through and did not move yet is decided about again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use controller::{ListOptions, Object, ObjectKey, Resource};
use parking_lot::Mutex;
use serde_json::Value;

use super::context::{Context, InstanceKey};
use super::registry::{Entry, RevisionState};
use super::rgd::{self, CompileError};
use super::rgd_plan::revision_name;
use super::serving::is_suspended;
use crate::build::{Graph, REVISION};
use crate::features::{Feature, Features};
use crate::keys;
use crate::runtime::{Gate, Member, instance_gates};

/// What follows the newest revision, whatever the definition says.
const LATEST: &str = "latest";

/// The rollouts under way.
#[derive(Default)]
pub(crate) struct Rollouts {
    /// By ResourceGraphDefinition.
    under_way: Mutex<HashMap<String, UnderWay>>,
    /// Graphs of older revisions that instances still run on.
    older: Mutex<HashMap<(String, i64), Arc<Graph>>>,
}

#[derive(Default)]
struct UnderWay {
    revision: i64,
    /// Those that may move.
    cleared: HashSet<ObjectKey>,
}

/// How far a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub updated: usize,
    pub total: usize,
    /// What the first instance that may not move waits for, or fails with.
    pub waiting: Option<Gate>,
}

impl Rollouts {
    /// Whether an instance may move to a revision.
    fn is_cleared(&self, rgd: &str, revision: i64, key: &ObjectKey) -> bool {
        let under_way = self.under_way.lock();
        let found = under_way
            .get(rgd)
            .filter(|found| found.revision == revision);
        found.is_some_and(|found| found.cleared.contains(key))
    }

    /// Whether it matters to others how far an instance has come.
    fn is_under_way(&self, rgd: &str) -> bool {
        self.under_way.lock().contains_key(rgd)
    }

    /// Forgets the graph of a revision.
    pub fn forget_revision(&self, rgd: &str, revision: i64) {
        self.older.lock().remove(&(rgd.to_owned(), revision));
    }

    /// Forgets a definition.
    pub fn forget(&self, rgd: &str) {
        self.under_way.lock().remove(rgd);
        self.older.lock().retain(|(name, _), _| name != rgd);
    }
}

/// The revision an instance runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The newest, whatever its state.
    Newest,
    /// An older one.
    Older {
        /// Which.
        revision: i64,
        /// The one it should be on.
        target: i64,
    },
    /// None; why.
    Unavailable(String),
}

/// The revision an instance is on, by its status.
pub(crate) fn revision_of(instance: &Object) -> Option<i64> {
    instance.status()[REVISION].as_i64()
}

/// The revision somebody has pinned an instance to.
pub(crate) fn pin(instance: &Object) -> Option<&str> {
    instance.annotation(keys::GRAPH_REVISION)
}

/// Chooses the revision an instance runs on.
pub(crate) fn choose(
    context: &Context,
    rgd: &str,
    instance: &Object,
    newest: Option<&Entry>,
) -> Choice {
    let is_cleared = |revision| {
        let rollouts = &context.rollouts;
        rollouts.is_cleared(rgd, revision, &instance.key())
    };
    decide(context.options.build.features, instance, newest, is_cleared)
}

fn decide(
    features: Features,
    instance: &Object,
    newest: Option<&Entry>,
    is_cleared: impl FnOnce(i64) -> bool,
) -> Choice {
    let Some(newest) = newest else {
        return Choice::Newest;
    };
    let older = |revision: i64| {
        if revision == newest.revision {
            Choice::Newest
        } else {
            let target = revision;
            Choice::Older { revision, target }
        }
    };
    if let Some(pin) = pin(instance).filter(|_| features.has(Feature::RevisionPinning)) {
        return match pin.parse::<i64>() {
            _ if pin == LATEST => Choice::Newest,
            Ok(revision) if revision > 0 => older(revision),
            _ => Choice::Unavailable(format!(
                "annotation {}: expected a number or \"latest\", got {pin:?}",
                keys::GRAPH_REVISION
            )),
        };
    }
    let RevisionState::Active(graph) = &newest.state else {
        return Choice::Newest;
    };
    // One that was never worked on has nothing to move from; numbers beyond the newest are of an earlier life.
    let current = revision_of(instance).filter(|current| *current < newest.revision);
    let rollout = &graph.rollout;
    match current {
        Some(current) if rollout.is_manual => older(current),
        Some(revision) if !rollout.propagate_when.is_empty() && !is_cleared(newest.revision) => {
            let target = newest.revision;
            Choice::Older { revision, target }
        }
        _ => Choice::Newest,
    }
}

/// The graph of an older revision, compiled if it has to be; otherwise why not.
pub(crate) async fn older_graph(
    context: &Context,
    rgd: &str,
    revision: i64,
) -> Result<Result<Arc<Graph>, String>, controller::Error> {
    let place = (rgd.to_owned(), revision);
    if let Some(graph) = context.rollouts.older.lock().get(&place) {
        return Ok(Ok(Arc::clone(graph)));
    }
    let unavailable = |why: &str| Ok(Err(format!("graph revision {revision} of {rgd} {why}")));
    let found = context
        .revisions
        .get(&ObjectKey::cluster(revision_name(rgd, revision)));
    let Some(found) = found.filter(|found| !found.is_terminating()) else {
        return unavailable("does not exist");
    };
    let Some(spec) = found.pointer("/spec/snapshot/spec") else {
        return unavailable("has no snapshot");
    };
    match rgd::compile(context, spec).await {
        Ok(graph) => {
            let graph = Arc::new(graph);
            context
                .rollouts
                .older
                .lock()
                .insert(place, Arc::clone(&graph));
            Ok(Ok(graph))
        }
        Err(CompileError::Api(error)) => Err(error),
        Err(CompileError::Build(error)) => unavailable(&format!("cannot be compiled: {error}")),
    }
}

/// The revisions that instances are on or are pinned to; none of them may be deleted.
pub(crate) async fn in_use(
    context: &Context,
    resource: &Resource,
) -> Result<BTreeSet<i64>, controller::Error> {
    let list = context.api.list(resource, &ListOptions::default()).await?;
    let numbers = list.items.iter().flat_map(|instance| {
        let pinned = pin(instance).and_then(|pin| pin.parse().ok());
        revision_of(instance).into_iter().chain(pinned)
    });
    Ok(numbers.collect())
}

/// Decides which instances may move to a revision, and wakes those; `None` if all may at any time.
pub(crate) async fn advance(
    context: &Context,
    rgd: &str,
    revision: i64,
    graph: &Graph,
) -> Result<Option<Progress>, controller::Error> {
    if graph.rollout.propagate_when.is_empty() {
        context.rollouts.under_way.lock().remove(rgd);
        return Ok(None);
    }
    // Before anything is read: an instance that comes further after that has to say so.
    let cleared = {
        let mut all = context.rollouts.under_way.lock();
        let under_way = all.entry(rgd.to_owned()).or_default();
        if under_way.revision != revision {
            *under_way = UnderWay {
                revision,
                ..UnderWay::default()
            };
        }
        under_way.cleared.clone()
    };
    let resource = graph.schema.resource();
    let list = context.api.list(&resource, &ListOptions::default()).await?;
    let pinning = context.options.build.features.has(Feature::RevisionPinning);
    let mut instances: Vec<Object> = list
        .items
        .into_iter()
        .filter(|it| !it.is_terminating() && !is_suspended(it))
        .filter(|it| !pinning || pin(it).is_none())
        .collect();
    instances.sort_by_cached_key(|it| (it.creation_timestamp().to_owned(), it.key()));
    let (progress, may_move) = step(graph, revision, &instances, &cleared);
    if progress.updated == progress.total {
        let ended = context.rollouts.under_way.lock().remove(rgd);
        if ended.is_some_and(|ended| !ended.cleared.is_empty()) {
            // Nobody needs the graphs of older revisions any more, or says so.
            context
                .rollouts
                .older
                .lock()
                .retain(|(name, _), _| name != rgd);
        }
        return Ok(Some(progress));
    }
    if let Some(under_way) = context.rollouts.under_way.lock().get_mut(rgd) {
        under_way.cleared.extend(may_move.iter().cloned());
    }
    for key in may_move {
        context.instance_queue.add(InstanceKey {
            resource: resource.clone(),
            key,
        });
    }
    Ok(Some(progress))
}

/// Says that an instance has come further, to a rollout that may wait for it.
pub(crate) fn tell(context: &Context, rgd: &str) {
    if context.rollouts.is_under_way(rgd) {
        context.rgd_queue.add(ObjectKey::cluster(rgd));
    }
}

/// How far a rollout is, and which instances may move now.
fn step(
    graph: &Graph,
    revision: i64,
    instances: &[Object],
    cleared: &HashSet<ObjectKey>,
) -> (Progress, Vec<ObjectKey>) {
    let members = instances.iter().map(|instance| {
        let current = revision_of(instance);
        let has_moved = current == Some(revision);
        let is_cleared = cleared.contains(&instance.key());
        Member {
            object: instance.value().clone(),
            // Who has been let through is ready again only there.
            is_ready: instance.status()["state"] == "ACTIVE" && (has_moved || !is_cleared),
            is_updated: has_moved || is_cleared,
            // One that was never worked on starts on the newest anyway.
            is_due: current.is_some() && !has_moved && !is_cleared,
        }
    });
    let members: Vec<Member> = members.collect();
    let due: Vec<bool> = members.iter().map(|member| member.is_due).collect();
    let gates = instance_gates(&graph.rollout, members);
    let mut progress = Progress {
        total: instances.len(),
        ..Progress::default()
    };
    let mut may_move = Vec::new();
    for ((instance, is_due), gate) in instances.iter().zip(due).zip(gates) {
        progress.updated += usize::from(revision_of(instance) == Some(revision));
        match gate {
            Gate::Open if is_due => may_move.push(instance.key()),
            Gate::Open => {}
            closed => progress.waiting = progress.waiting.or(Some(closed)),
        }
    }
    (progress, may_move)
}

/// Where an instance is, for its status.
pub(crate) fn put_revisions(
    status: &mut serde_json::Map<String, Value>,
    current: i64,
    target: i64,
) {
    status.insert(REVISION.to_owned(), current.into());
    status.insert(crate::build::TARGET_REVISION.to_owned(), target.into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::build::{BuildOptions, build, read_spec};
    use crate::kinds::OfflineKinds;

    fn graph(more: &Value) -> Arc<Graph> {
        let mut spec = json!({"schema": {"apiVersion": "v1", "kind": "App", "spec": {"tier": "string | default=a"}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let options = BuildOptions {
            features: Features::all(),
            ..BuildOptions::default()
        };
        let built = read_spec(&spec).and_then(|spec| build(&spec, &OfflineKinds::new(), &options));
        Arc::new(built.unwrap_or_else(|error| panic!("{error}")))
    }

    fn instance(name: &str, revision: Option<i64>, state: &str) -> Object {
        Object::new(json!({"metadata": {"name": name}, "spec": {"tier": name},
            "status": {"graphRevision": revision, "state": state}}))
    }

    #[test]
    fn the_revision_of_an_instance() {
        let newest = |more: Value| Entry {
            revision: 3,
            hash: String::new(),
            state: RevisionState::Active(graph(&more)),
        };
        let manual = newest(json!({"rollout": {"strategy": "Manual"}}));
        let gated = newest(json!({"propagateWhen": ["${true}"]}));
        let plain = newest(json!({}));
        let check = |newest: &Entry, pin: Option<&str>, current, cleared: bool, expect: Choice| {
            let mut object = instance("a", current, "").into_value();
            object["metadata"]["annotations"] = json!({keys::GRAPH_REVISION: pin});
            let object = Object::new(object);
            let found = decide(Features::all(), &object, Some(newest), |_| cleared);
            assert_eq!(found, expect, "{object:?}");
        };
        check(&plain, None, Some(1), false, Choice::Newest);
        let older = |revision, target| Choice::Older { revision, target };
        check(&plain, Some("2"), Some(1), false, older(2, 2));
        check(&plain, Some("3"), Some(1), false, Choice::Newest);
        check(&manual, None, Some(1), true, older(1, 1));
        check(&manual, None, None, false, Choice::Newest);
        check(&manual, None, Some(9), false, Choice::Newest);
        check(&manual, Some("latest"), Some(1), false, Choice::Newest);
        check(&gated, None, Some(1), false, older(1, 3));
        check(&gated, None, Some(1), true, Choice::Newest);
        check(&gated, Some("latest"), Some(1), false, Choice::Newest);
        let wrong = decide(
            Features::all(),
            &Object::new(json!({"metadata": {"annotations": {keys::GRAPH_REVISION: "-1"}}})),
            Some(&plain),
            |_| false,
        );
        assert!(matches!(wrong, Choice::Unavailable(_)), "{wrong:?}");
        let object = Object::new(json!({"metadata": {"annotations": {keys::GRAPH_REVISION: "1"}}}));
        let off = decide(Features::default(), &object, Some(&plain), |_| false);
        assert_eq!(off, Choice::Newest);
    }

    /// A server that gives this list, and lets `meanwhile` happen when the list is read and before it arrives.
    fn lists(list: Value, meanwhile: impl Fn() + Send + Sync + 'static) -> kube::Client {
        let meanwhile = Arc::new(meanwhile);
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let body = kube::client::Body::from(list.to_string().into_bytes());
            meanwhile();
            async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
        });
        kube::Client::new(service, "default")
    }

    #[tokio::test]
    async fn an_instance_that_comes_further_while_they_are_looked_at_is_heard() {
        let waiting = graph(&json!({"propagateWhen": ["${apps.all(it, it.ready())}"]}));
        let is_heard = |revision: i64, before: Option<i64>| {
            let graph = Arc::clone(&waiting);
            async move {
                let late = instance("a", Some(1), "IN_PROGRESS").into_value();
                let list = json!({"kind": "AppList", "metadata": {}, "items": [late]});
                let context = Arc::new(std::sync::OnceLock::<Arc<Context>>::new());
                let at_once = Arc::clone(&context);
                // The instance is ready right after it was read: it tells, if anybody listens.
                let becomes_ready = move || {
                    tell(at_once.get().expect("a context"), "app");
                };
                let client = lists(list, becomes_ready);
                let shutdown = tokio_util::sync::CancellationToken::new();
                let options = crate::controllers::Options::default();
                let (made, _recorder) = Context::new(client, options, shutdown);
                let context = context.get_or_init(|| made);
                if let Some(revision) = before {
                    let earlier = UnderWay {
                        revision,
                        ..UnderWay::default()
                    };
                    let mut all = context.rollouts.under_way.lock();
                    all.insert("app".to_owned(), earlier);
                }
                let progress = advance(context, "app", revision, &graph).await;
                let progress = progress.expect("a list").expect("a rollout");
                assert!(matches!(progress.waiting, Some(Gate::Closed(_))));
                !context.rgd_queue.is_empty()
            }
        };
        for before in [None, Some(1), Some(2)] {
            assert!(is_heard(2, before).await, "{before:?}");
        }
    }

    #[test]
    fn instances_move_in_steps() {
        let linear = graph(&json!({"propagateWhen": ["${linearlyUpdated(app, apps, 2)}"]}));
        let canary = graph(&json!({"propagateWhen": [
            "${app.spec.tier == 'a' || apps.exists(it, it.spec.tier == 'a' && it.updated() && it.ready())}"]}));
        let check =
            |graph: &Graph, states: &[(&str, i64, &str)], cleared: &[&str], expect: &[&str]| {
                let instances: Vec<Object> = states
                    .iter()
                    .map(|(name, revision, state)| instance(name, Some(*revision), state))
                    .collect();
                let cleared = cleared
                    .iter()
                    .map(|name| ObjectKey::cluster(*name))
                    .collect();
                let (_, may_move) = step(graph, 2, &instances, &cleared);
                let names: Vec<String> = may_move.into_iter().map(|key| key.name).collect();
                assert_eq!(names, expect, "{states:?}");
            };
        let old = [("a", 1, "ACTIVE"), ("b", 1, "ACTIVE"), ("c", 1, "ACTIVE")];
        check(&linear, &old, &[], &["a", "b"]);
        check(&linear, &old, &["a"], &["b"]);
        check(&linear, &old, &["a", "b"], &[]);
        let half = [
            ("a", 2, "ACTIVE"),
            ("b", 2, "IN_PROGRESS"),
            ("c", 1, "ACTIVE"),
        ];
        check(&linear, &half, &["a", "b"], &[]);
        let ready = [("a", 2, "ACTIVE"), ("b", 2, "ACTIVE"), ("c", 1, "ACTIVE")];
        check(&linear, &ready, &["a", "b"], &["c"]);
        check(&canary, &old, &[], &["a"]);
        check(&canary, &half, &["a"], &["c"]);
    }
}
