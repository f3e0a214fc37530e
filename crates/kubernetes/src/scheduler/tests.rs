//! Whole histories, decided without IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::{Event, Object, ObjectKey};
use model::object;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::configuration::Configuration;
use super::lookup::Lookup;
use super::preemption::Budget;
use super::state::{State, Step};

/// Objects by kind and name.
#[derive(Default)]
struct Shelf(BTreeMap<(String, ObjectKey), Arc<Object>>);

impl Shelf {
    fn of(objects: Vec<Value>) -> Self {
        let named = |value: Value| {
            let object = Object::new(value);
            ((object.kind().to_owned(), object.key()), Arc::new(object))
        };
        Self(objects.into_iter().map(named).collect())
    }

    fn one(&self, kind: &str, key: ObjectKey) -> Option<Arc<Object>> {
        self.0.get(&(kind.to_owned(), key)).cloned()
    }

    fn all(&self, kind: &str) -> Vec<Arc<Object>> {
        let own = |((other, _), _): &(&(String, ObjectKey), &Arc<Object>)| other == kind;
        self.0
            .iter()
            .filter(own)
            .map(|(_, object)| object.clone())
            .collect()
    }
}

impl Lookup for Shelf {
    fn services(&self, namespace: &str) -> Vec<Arc<Object>> {
        let mut all = self.all("Service");
        all.retain(|service| service.namespace() == Some(namespace));
        all
    }

    fn owner(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.one(kind, ObjectKey::new(namespace, name))
    }

    fn claim(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.one("PersistentVolumeClaim", key.clone())
    }

    fn volume(&self, name: &str) -> Option<Arc<Object>> {
        self.one("PersistentVolume", ObjectKey::cluster(name))
    }

    fn volumes_of_class(&self, class: &str) -> Vec<Arc<Object>> {
        let mut all = self.all("PersistentVolume");
        all.retain(|volume| object::text(volume.spec(), &["storageClassName"]) == class);
        all
    }

    fn storage_class(&self, name: &str) -> Option<Arc<Object>> {
        self.one("StorageClass", ObjectKey::cluster(name))
    }

    fn csi_node(&self, name: &str) -> Option<Arc<Object>> {
        self.one("CSINode", ObjectKey::cluster(name))
    }

    fn csi_driver(&self, name: &str) -> Option<Arc<Object>> {
        self.one("CSIDriver", ObjectKey::cluster(name))
    }

    fn capacities(&self) -> Vec<Arc<Object>> {
        self.all("CSIStorageCapacity")
    }
}

/// A scheduler and what it has been told.
struct Story {
    state: State,
    pods: BTreeMap<String, Arc<Object>>,
    budgets: Vec<Value>,
    now: Instant,
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

impl Story {
    fn new(shelf: Vec<Value>) -> Self {
        Self::with(&Configuration::default(), shelf)
    }

    fn with(configuration: &Configuration, shelf: Vec<Value>) -> Self {
        let lookup = Arc::new(Shelf::of(shelf));
        Self {
            state: State::new(configuration, lookup, 7),
            pods: BTreeMap::new(),
            budgets: Vec::new(),
            now: Instant::now(),
        }
    }

    /// A node with 4 CPUs and 10 places, changed by `over`.
    fn node(&mut self, name: &str, over: &Value) -> &mut Self {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
        });
        merge(&mut node, over);
        let event = Event::Added(Arc::new(Object::new(node)));
        self.state.observe_node(&event, self.now);
        self
    }

    fn zoned(&mut self, name: &str, zone: &str) -> &mut Self {
        let labels = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
        self.node(name, &labels)
    }

    /// A Pod of one container that asks for `cpu`, with its spec changed by `over`.
    fn pod(&mut self, name: &str, cpu: &str, over: &Value) -> &mut Self {
        let app = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "d", "uid": format!("uid-{name}"),
                "labels": {"app": app}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [
                {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
            "status": {"phase": "Pending"},
        });
        merge(&mut pod["spec"], over);
        self.observe(Object::new(pod))
    }

    fn observe(&mut self, pod: Object) -> &mut Self {
        let new = Arc::new(pod);
        let event = match self.pods.insert(new.name().to_owned(), new.clone()) {
            Some(old) => Event::Updated { old, new },
            None => Event::Added(new),
        };
        self.state.observe_pod(&event, self.now);
        self
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Value)) -> &mut Self {
        let mut pod = self.pods[name].value().clone();
        change(&mut pod);
        self.observe(Object::new(pod))
    }

    fn delete(&mut self, name: &str) -> &mut Self {
        let pod = self.pods.remove(name).expect("a Pod of that name");
        self.state.observe_pod(&Event::Deleted(pod), self.now);
        self
    }

    fn step(&mut self) -> Option<Step> {
        let budgets: Vec<Budget> = self
            .budgets
            .iter()
            .filter_map(|budget| Budget::of(&Object::new(budget.clone())))
            .collect();
        self.state.step(self.now, &|| budgets.clone())
    }

    /// The next decision: a Pod and its node, or why it has none and who goes for it.
    fn next(&mut self) -> String {
        match self.step() {
            None => "nothing".to_owned(),
            Some(Step::Bind { pod, node, needs }) => {
                self.state.bound(&pod, &needs);
                let name = pod.key.name.clone();
                self.change(&name, |pod| pod["spec"]["nodeName"] = json!(node));
                format!("{name} -> {node}")
            }
            Some(Step::Refuse {
                pod,
                message,
                eviction,
                ..
            }) => {
                let Some(eviction) = eviction else {
                    return format!("{}: {message}", pod.key.name);
                };
                let victims: Vec<&str> = eviction
                    .victims
                    .iter()
                    .map(|victim| &*victim.key.name)
                    .collect();
                let (node, victims) = (eviction.node.clone(), victims.join(","));
                self.state.evicted(&pod, true, self.now);
                format!("{} evicts {victims} from {node}", pod.key.name)
            }
        }
    }

    /// All decisions there are now.
    fn all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| Some(self.next()).filter(|next| next != "nothing")).collect()
    }
}

const NO_VICTIMS: &str = "preemption: 0/1 nodes are available: 1 No preemption victims found for \
                          incoming pod.";
const UNHELPFUL: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for \
                         scheduling.";

#[tokio::test]
async fn nobody_takes_pods_where_there_are_no_nodes() {
    let mut story = Story::new(vec![]);
    story.pod("a", "1", &json!({}));
    assert_eq!(story.next(), "a: no nodes available to schedule pods");
    assert_eq!(story.next(), "nothing");
    story.node("n", &json!({}));
    assert_eq!(story.next(), "a -> n");
}

#[tokio::test]
async fn each_filter_says_why() {
    let check = |node: Value, pod: Value, expect: &str| {
        let mut story = Story::new(vec![]);
        story.node("n", &node).pod("a", "1", &pod);
        let expect = match expect.split_once('|') {
            Some((why, preemption)) => {
                format!("a: 0/1 nodes are available: 1 {why}. {preemption}")
            }
            None => expect.to_owned(),
        };
        assert_eq!(story.next(), expect, "{node} {pod}");
    };
    let why = |why: &str, preemption: &str| format!("{why}|{preemption}");
    check(json!({}), json!({}), "a -> n");
    check(
        json!({"spec": {"unschedulable": true}}),
        json!({}),
        &why("node(s) were unschedulable", UNHELPFUL),
    );
    check(
        json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}),
        json!({}),
        &why("node(s) had untolerated taint(s)", UNHELPFUL),
    );
    check(
        json!({}),
        json!({"nodeSelector": {"disk": "fast"}}),
        &why(
            "node(s) didn't match Pod's node affinity/selector",
            UNHELPFUL,
        ),
    );
    check(
        json!({"status": {"allocatable": {"cpu": "500m"}}}),
        json!({}),
        &why("Insufficient cpu", UNHELPFUL),
    );
    check(
        json!({"status": {"allocatable": {"pods": "0"}}}),
        json!({}),
        &why("Too many pods", NO_VICTIMS),
    );
    check(
        json!({}),
        json!({"preemptionPolicy": "Never", "nodeSelector": {"disk": "fast"}}),
        &why(
            "node(s) didn't match Pod's node affinity/selector",
            "preemption: not eligible due to preemptionPolicy=Never.",
        ),
    );
    check(
        json!({}),
        json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
        "a: 0/1 nodes are available: persistentvolumeclaim \"c\" not found. \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
}

#[tokio::test]
async fn what_is_decided_counts_at_once() {
    let mut story = Story::new(vec![]);
    story.node("n", &json!({})).node("m", &json!({}));
    for number in 0..3 {
        story.pod(&format!("a{number}"), "3", &json!({}));
    }
    let decisions = story.all();
    assert_eq!(decisions.len(), 3);
    assert_eq!(
        decisions[2],
        "a2: 0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
         2 No preemption victims found for incoming pod."
    );
    story.delete("a0");
    assert!(story.next().starts_with("a2 -> "));
}

#[tokio::test]
async fn ports_are_taken_once_a_node() {
    let mut story = Story::new(vec![]);
    story.node("n", &json!({}));
    let port = json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]});
    story.pod("a", "0", &port).pod("b", "0", &port);
    assert_eq!(story.next(), "a -> n");
    assert_eq!(
        story.next(),
        format!(
            "b: 0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod \
             ports. {NO_VICTIMS}"
        )
    );
}

fn apart(key: &str, app: &str) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]}}})
}

fn beside(key: &str, app: &str) -> Value {
    json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]}}})
}

const ZONE: &str = "topology.kubernetes.io/zone";

#[tokio::test]
async fn pods_keep_apart_both_ways() {
    let mut story = Story::new(vec![]);
    story.zoned("n", "x").zoned("m", "x");
    story.pod("a", "1", &apart(ZONE, "b"));
    assert!(story.next().starts_with("a -> "));
    // The other one says nothing, and is kept off all the same.
    story.pod("b", "1", &json!({}));
    assert_eq!(
        story.next(),
        "b: 0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules. \
         preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    story.zoned("o", "y");
    assert_eq!(story.next(), "b -> o");
}

#[tokio::test]
async fn pods_come_together() {
    let mut story = Story::new(vec![]);
    story.zoned("n", "x").zoned("m", "y");
    story.pod("a1", "1", &beside(ZONE, "a"));
    let first = story.next();
    // The first of its kind may be alone; the next ones join it.
    let zone_node = first.trim_start_matches("a1 -> ").to_owned();
    story
        .pod("a2", "1", &beside(ZONE, "a"))
        .pod("b1", "1", &beside(ZONE, "nobody"));
    assert_eq!(story.next(), format!("a2 -> {zone_node}"));
    assert!(
        story
            .next()
            .contains("2 node(s) didn't match pod affinity rules")
    );
}

#[tokio::test]
async fn spreads_hold() {
    let spread = json!({"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "a"}}}]});
    let mut story = Story::new(vec![]);
    story
        .zoned("n", "x")
        .zoned("m", "y")
        .node("bare", &json!({}));
    for number in 0..4 {
        story.pod(&format!("a{number}"), "1", &spread);
    }
    let all = story.all();
    let count = |node: &str| all.iter().filter(|one| one.ends_with(node)).count();
    assert_eq!((count("-> n"), count("-> m")), (2, 2), "{all:?}");
    // One zone is full: the other must not get ahead.
    story.node(
        "m",
        &json!({"metadata": {"labels": {ZONE: "y"}}, "spec": {"unschedulable": true}}),
    );
    story.pod("a5", "1", &spread).pod("a6", "1", &spread);
    assert_eq!(story.next(), "a5 -> n");
    assert_eq!(
        story.next(),
        "a6: 0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, \
         1 node(s) didn't match pod topology spread constraints (missing required label), \
         1 node(s) were unschedulable. preemption: 0/3 nodes are available: \
         1 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling."
    );
}

#[tokio::test]
async fn replicas_spread_by_themselves() {
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "set", "namespace": "d"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}}});
    let mut story = Story::new(vec![set]);
    story
        .zoned("n1", "x")
        .zoned("n2", "x")
        .zoned("m1", "y")
        .zoned("m2", "y");
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set", "uid": "s",
        "controller": true}]);
    for number in 0..8 {
        story.pod(
            &format!("a{number}"),
            "100m",
            &json!({"schedulingGates": [{"name": "g"}]}),
        );
        let owner = owner.clone();
        story.change(&format!("a{number}"), |pod| {
            pod["metadata"]["ownerReferences"] = owner;
            pod["spec"]["schedulingGates"] = json!([]);
        });
    }
    let all = story.all();
    for node in ["n1", "n2", "m1", "m2"] {
        let count = all
            .iter()
            .filter(|one| one.ends_with(&format!("-> {node}")))
            .count();
        assert_eq!(count, 2, "{node}: {all:?}");
    }
}

#[tokio::test]
async fn gates_are_waited_for() {
    let mut story = Story::new(vec![]);
    story.node("n", &json!({}));
    story.pod("a", "1", &json!({"schedulingGates": [{"name": "g"}]}));
    assert_eq!(story.next(), "nothing");
    story.change("a", |pod| pod["spec"]["schedulingGates"] = json!([]));
    assert_eq!(story.next(), "a -> n");
}

#[tokio::test]
async fn the_important_evict_the_unimportant() {
    let mut story = Story::new(vec![]);
    story.node("n", &json!({})).node("m", &json!({}));
    for (name, node, priority) in [("low", "n", 1), ("mid", "m", 5)] {
        let spec = json!({"priority": priority, "nodeName": node});
        story.pod(name, "4", &spec);
    }
    story.pod("high", "4", &json!({"priority": 10}));
    assert_eq!(story.next(), "high evicts low from n");
    // Until the other has gone there is nothing to do; then the place is kept for it.
    assert_eq!(story.next(), "nothing");
    story.pod("second", "4", &json!({"priority": 3}));
    story.delete("low");
    // Who comes in between finds the place taken already.
    assert!(
        story
            .next()
            .starts_with("second: 0/2 nodes are available: 2 Insufficient cpu.")
    );
    assert_eq!(story.next(), "high -> n");
}

#[tokio::test]
async fn as_few_as_will_do_are_evicted_and_budgets_are_kept() {
    let mut story = Story::new(vec![]);
    story.node("n", &json!({})).node("m", &json!({}));
    for (name, node, priority) in [
        ("kept1", "n", 1),
        ("free1", "n", 1),
        ("small", "m", 1),
        ("web", "m", 0),
    ] {
        let spec = json!({"priority": priority, "nodeName": node});
        story.pod(name, "2", &spec);
    }
    story
        .budgets
        .push(json!({"metadata": {"namespace": "d", "name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": 0}}));
    // `web` is the least important, but a budget protects it, as long as there is another way.
    story.pod("high", "2", &json!({"priority": 10}));
    let decision = story.next();
    assert!(
        [
            "high evicts kept1 from n",
            "high evicts free1 from n",
            "high evicts small from m"
        ]
        .contains(&decision.as_str()),
        "{decision}"
    );
}

fn waiting_claim() -> Vec<Value> {
    vec![
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer"}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c", "namespace": "d", "uid": "claim"},
            "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
            "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "2Gi"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["m"]}]}]}}},
            "status": {"phase": "Available"}}),
    ]
}

#[tokio::test]
async fn claims_that_wait_decide_the_node() {
    let mut story = Story::new(waiting_claim());
    story
        .node("n", &json!({}))
        .node("m", &json!({}))
        .node("o", &json!({}));
    let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
    story.pod("a", "1", &volumes);
    let Some(Step::Bind { pod, node, needs }) = story.step() else {
        panic!("a node has the volume");
    };
    assert_eq!(
        (node.as_str(), needs.bind.len(), needs.provision.len()),
        ("m", 1, 0)
    );
    // The volume is taken while the decision is on its way.
    story.pod("b", "1", &volumes);
    assert!(
        story
            .next()
            .contains("3 node(s) didn't find available persistent volumes to bind")
    );
    story
        .state
        .not_bound(&pod, &needs, Some(&pod.object), story.now);
}

#[tokio::test]
async fn named_nodes_alone_are_asked() {
    let mut story = Story::new(vec![]);
    story
        .node("n", &json!({"spec": {"unschedulable": true}}))
        .node("m", &json!({}));
    let named = json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}});
    story.pod("a", "1", &named);
    assert_eq!(
        story.next(),
        "a: 0/2 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], \
         1 node(s) were unschedulable. preemption: 0/2 nodes are available: \
         2 Preemption is not helpful for scheduling."
    );
}

#[tokio::test]
async fn wishes_count() {
    let mut story = Story::new(vec![]);
    story.zoned("n", "x").zoned("m", "y");
    let wish = json!({"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference":
            {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["y"]}]}}]}}});
    story.pod("a", "1", &wish);
    assert_eq!(story.next(), "a -> m");
    // And the advice of taints.
    let advice = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    let mut story = Story::new(vec![]);
    story
        .node("n", &json!({}))
        .node("m", &advice)
        .pod("a", "1", &json!({}));
    assert_eq!(story.next(), "a -> n");
}

#[tokio::test]
async fn many_pods_share_many_nodes() {
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "set", "namespace": "d"},
        "spec": {"selector": {"matchLabels": {"app": "p"}}}});
    let mut story = Story::new(vec![set]);
    for number in 0..300 {
        story.zoned(&format!("n{number}"), &format!("z{}", number % 3));
    }
    for number in 0..300 {
        let name = format!("p{number}");
        story.pod(&name, "1m", &json!({"schedulingGates": [{"name": "g"}]}));
        story.change(&name, |pod| {
            pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1",
                "kind": "ReplicaSet", "name": "set", "uid": "s", "controller": true}]);
            pod["spec"]["schedulingGates"] = json!([]);
        });
    }
    let mut on_node: BTreeMap<String, usize> = BTreeMap::new();
    for decision in story.all() {
        let (_, node) = decision.split_once(" -> ").expect("a node");
        *on_node.entry(node.to_owned()).or_default() += 1;
    }
    // Only part of the nodes is looked at each time, so some may have two.
    assert_eq!(on_node.values().sum::<usize>(), 300);
    assert!(on_node.values().all(|count| *count <= 2), "{on_node:?}");
}
