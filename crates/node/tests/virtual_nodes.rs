//! Virtual nodes on a whole API server, with requests that fail: what is reported is right in the end, and never goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::{
    Api, Event, FaultPlan, Faults, InformerOptions, Informers, ListOptions, Object, ObjectKey,
    RequestLog, Resource, Subresource, condition,
};
use node::virtual_nodes::{self, Options, SERVER, Template};
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{Cluster, eventually};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn nodes() -> Resource {
    Resource::cluster("v1", "nodes", "Node")
}

fn pods() -> Resource {
    Resource::namespaced("v1", "pods", "Pod")
}

async fn cluster() -> Cluster {
    let mut options = testkit::options();
    let off = ["ServiceAccount".to_owned()];
    options.admission = apiserver::admission::Plugins::with(&[], &off).expect("a known plugin");
    Cluster::with(options).await
}

/// A server's virtual nodes.
struct Server {
    task: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Server {
    fn start(client: kube::Client, name: &str, templates: Vec<Template>) -> Self {
        let shutdown = CancellationToken::new();
        let informers = Informers::new(Api::new(client.clone()), shutdown.clone());
        let server = name.to_owned();
        let options = Options {
            server,
            templates,
            pod_cidrs: name.starts_with("ranged"),
            lease_duration: virtual_nodes::LEASE_DURATION,
            scenario: None,
        };
        let task = tokio::spawn(virtual_nodes::run(
            client,
            informers,
            options,
            shutdown.clone(),
        ));
        Self { task, shutdown }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("it ends");
    }
}

fn pod(name: &str, node: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i:1"}]},
    })
}

async fn names(api: &Api) -> BTreeMap<String, String> {
    let list = api
        .list(&nodes(), &ListOptions::default())
        .await
        .expect("a list");
    let owned = |node: &Object| {
        (
            node.name().to_owned(),
            node.label(SERVER).unwrap_or("").to_owned(),
        )
    };
    list.items.iter().map(owned).collect()
}

async fn count_ready(api: &Api) -> usize {
    let list = api
        .list(&pods(), &ListOptions::default())
        .await
        .expect("a list");
    let ready = |pod: &&Object| condition::is_true(pod.status(), "Ready");
    list.items.iter().filter(ready).count()
}

/// Watches that what is reported of a Pod never goes back.
fn watch_over(cluster: &Cluster) -> Arc<Mutex<Vec<String>>> {
    let broken: Arc<Mutex<Vec<String>>> = Arc::default();
    let informers = Informers::new(Api::new(cluster.client()), cluster.shutdown());
    let told = broken.clone();
    let informer = informers.informer(&pods(), InformerOptions::default());
    informer
        .add_handler(move |event| {
            let Event::Updated { old, new } = event else {
                return;
            };
            let address = |pod: &Object| pod.pointer("/status/podIP").cloned();
            if address(old).is_some() && address(old) != address(new) {
                told.lock()
                    .push(format!("{} changed its address", new.name()));
            }
            let restarts = |pod: &Object| {
                let count = pod.pointer("/status/containerStatuses/0/restartCount");
                count.and_then(Value::as_i64).unwrap_or(0)
            };
            if !(restarts(old)..=restarts(old) + 1).contains(&restarts(new)) {
                told.lock().push(format!(
                    "{} restarted {} times after {}",
                    new.name(),
                    restarts(new),
                    restarts(old)
                ));
            }
        })
        .forget();
    // The handle keeps it running as long as the test.
    std::mem::forget(informer);
    broken
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_become_ready_under_faults() {
    for seed in 1..=4 {
        let cluster = cluster().await;
        let api = Api::new(cluster.client());
        let broken = watch_over(&cluster);
        let faults = Faults::new(FaultPlan::evenly(seed, 0.05));
        let log = RequestLog::new();
        let client = log.wrap(faults.wrap(cluster.client()));
        let server = Server::start(client.clone(), "s", vec![Template::plain(4)]);
        for number in 0..20 {
            let made = pod(
                &format!("p{number}"),
                &format!("virtual-{}", number % 4),
                &json!({}),
            );
            api.create(&pods(), &made).await.expect("a Pod");
        }
        eventually(&format!("seed {seed}: all are ready"), async || {
            (count_ready(&api).await == 20).then_some(())
        })
        .await;
        server.stop().await;
        // It knows nothing any more and changes nothing.
        faults.stop();
        log.clear();
        let server = Server::start(client, "s", vec![Template::plain(4)]);
        let key = ObjectKey::new("default", "p0");
        let unready = json!({"metadata": {"annotations": {"virtual.corvus.dev/ready": "false"}}});
        api.merge_patch(&pods(), &key, Subresource::None, &unready)
            .await
            .expect("a patch");
        eventually("one is not ready any more", async || {
            (count_ready(&api).await == 19).then_some(())
        })
        .await;
        let writes = log
            .requests()
            .into_iter()
            .filter(|(method, path)| *method == http::Method::PUT && path.contains("/pods/"));
        assert!(writes.count() <= 2, "seed {seed}: Pods were written again");
        server.stop().await;
        assert_eq!(*broken.lock(), Vec::<String>::new(), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_fail_and_come_back_as_told() {
    let cluster = cluster().await;
    let api = Api::new(cluster.client());
    let broken = watch_over(&cluster);
    let server = Server::start(cluster.client(), "s", vec![Template::plain(1)]);
    let crash = json!({"virtual.corvus.dev/exit-code": "1", "virtual.corvus.dev/fail-times": "1"});
    let made = pod("crash", "virtual-0", &crash);
    api.create(&pods(), &made).await.expect("a Pod");
    let key = ObjectKey::new("default", "crash");
    eventually("it has been restarted once and runs", async || {
        let pod = api.get(&pods(), &key).await.expect("the Pod");
        let status = pod.pointer("/status/containerStatuses/0")?;
        let back = status["restartCount"] == 1 && status["ready"] == true;
        let why = &status["lastState"]["terminated"];
        (back && why["exitCode"] == 1 && why["reason"] == "Error").then_some(())
    })
    .await;
    // A new image restarts it again.
    let image = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "i:2"}]);
    api.json_patch(&pods(), &key, Subresource::None, &image)
        .await
        .expect("a patch");
    eventually("it runs the new image", async || {
        let pod = api.get(&pods(), &key).await.expect("the Pod");
        let status = pod.pointer("/status/containerStatuses/0")?;
        (status["restartCount"] == 2 && status["imageID"] == "virtual://i:2").then_some(())
    })
    .await;
    server.stop().await;
    assert_eq!(*broken.lock(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_cut_off_say_nothing_until_they_are_back() {
    let cluster = cluster().await;
    let api = Api::new(cluster.client());
    let server = Server::start(cluster.client(), "s", vec![Template::plain(2)]);
    let key = ObjectKey::cluster("virtual-0");
    eventually("the node is ready", async || {
        let node = api.get_opt(&nodes(), &key).await.expect("an answer")?;
        condition::is_true(node.status(), "Ready").then_some(())
    })
    .await;
    let out =
        |value: Value| json!({"metadata": {"annotations": {"virtual.corvus.dev/outage": value}}});
    api.merge_patch(&nodes(), &key, Subresource::None, &out(json!("true")))
        .await
        .expect("a patch");
    let lost = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    api.merge_patch(&nodes(), &key, Subresource::Status, &lost)
        .await
        .expect("a patch");
    for (name, node) in [("here", "virtual-1"), ("there", "virtual-0")] {
        api.create(&pods(), &pod(name, node, &json!({})))
            .await
            .expect("a Pod");
    }
    eventually("the other node goes on", async || {
        (count_ready(&api).await == 1).then_some(())
    })
    .await;
    let node = api.get(&nodes(), &key).await.expect("the node");
    assert!(!condition::is_true(node.status(), "Ready"));
    api.merge_patch(&nodes(), &key, Subresource::None, &out(Value::Null))
        .await
        .expect("a patch");
    eventually("both are back", async || {
        let node = api.get(&nodes(), &key).await.expect("the node");
        (condition::is_true(node.status(), "Ready") && count_ready(&api).await == 2).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_keep_their_nodes_apart() {
    let cluster = cluster().await;
    let api = Api::new(cluster.client());
    let first = Server::start(cluster.client(), "one", vec![Template::plain(3)]);
    eventually("the first has its nodes", async || {
        (names(&api).await.len() == 3).then_some(())
    })
    .await;
    let second = Server::start(cluster.client(), "two", vec![Template::plain(2)]);
    eventually("the second has its own", async || {
        (names(&api).await.len() == 5).then_some(())
    })
    .await;
    let of = |all: &BTreeMap<String, String>, server: &str| -> BTreeSet<String> {
        all.iter()
            .filter(|(_, own)| *own == server)
            .map(|(name, _)| name.clone())
            .collect()
    };
    let all = names(&api).await;
    let ones = of(&all, "one");
    assert_eq!((ones.len(), of(&all, "two").len()), (3, 2), "{all:?}");
    // Fewer for the second: only its own go, also when it begins anew.
    second.stop().await;
    let second = Server::start(cluster.client(), "two", vec![Template::plain(1)]);
    let left = eventually("one of them goes", async || {
        let all = names(&api).await;
        (all.len() == 4).then_some(all)
    })
    .await;
    assert_eq!(of(&left, "one"), ones);
    // A node that somebody applies is claimed by one of them.
    let applied = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "applied",
        "labels": {"node.corvus.dev/virtual": "true"}}, "status": {"capacity": {"cpu": "2"}}});
    api.create(&nodes(), &applied).await.expect("a node");
    eventually("it is ready", async || {
        let node = api
            .get(&nodes(), &ObjectKey::cluster("applied"))
            .await
            .expect("the node");
        let ready = condition::is_true(node.status(), "Ready");
        let cpu = node.pointer("/status/allocatable/cpu");
        (ready && cpu == Some(&json!("2")) && node.label(SERVER).is_some()).then_some(())
    })
    .await;
    // And a restart takes nothing away that nobody asked it to.
    first.stop().await;
    let (before, renewed) = (uids(&api).await, renewals(&api, &ones).await);
    assert_eq!((before.len(), renewed.len()), (5, 3), "{before:?}");
    let first = Server::start(cluster.client(), "one", vec![Template::plain(3)]);
    eventually("all its nodes speak again", async || {
        let now = renewals(&api, &ones).await;
        let again = |(node, at): (&String, &Value)| renewed.get(node) != Some(at);
        (now.len() == 3 && now.iter().all(again)).then_some(())
    })
    .await;
    assert_eq!(uids(&api).await, before);
    first.stop().await;
    second.stop().await;
}

async fn uids(api: &Api) -> BTreeMap<String, String> {
    let list = api
        .list(&nodes(), &ListOptions::default())
        .await
        .expect("a list");
    let uid = |node: &Object| (node.name().to_owned(), node.uid().to_owned());
    list.items.iter().map(uid).collect()
}

/// When each of these nodes renewed its Lease last.
async fn renewals(api: &Api, of: &BTreeSet<String>) -> BTreeMap<String, Value> {
    let leases = Resource::namespaced("coordination.k8s.io/v1", "leases", "Lease");
    let list = api
        .list(&leases, &ListOptions::default())
        .await
        .expect("a list");
    let renewal = |lease: &Object| (lease.name().to_owned(), lease.spec()["renewTime"].clone());
    let theirs = list.items.iter().filter(|lease| of.contains(lease.name()));
    theirs.map(renewal).collect()
}

fn addresses(pod: &Object) -> Vec<String> {
    let addresses = pod.pointer("/status/podIPs").and_then(Value::as_array);
    let text = |address: &Value| address["ip"].as_str().unwrap_or_default().to_owned();
    addresses.into_iter().flatten().map(text).collect()
}

async fn running(api: &Api, name: &str) -> Object {
    let key = ObjectKey::new("default", name);
    eventually(&format!("{name} runs"), || async {
        let pod = api.get(&pods(), &key).await.ok()?;
        (pod.pointer("/status/phase") == Some(&json!("Running"))).then_some(pod)
    })
    .await
}

/// Pods have addresses of their nodes' ranges and wait until there is a range, and an address in it.
#[tokio::test]
async fn pods_have_addresses_of_their_nodes() {
    let cluster = cluster().await;
    let api = Api::new(cluster.client());
    let server = Server::start(cluster.client(), "ranged", vec![Template::plain(2)]);
    for (name, node) in [("a", 0), ("b", 0), ("c", 0), ("d", 1)] {
        let pod = pod(name, &format!("virtual-{node}"), &json!({}));
        api.create(&pods(), &pod).await.expect("a Pod");
    }
    let ranges = [
        json!(["10.7.0.0/30", "fd00:7::/120"]),
        json!(["10.8.0.0/29"]),
    ];
    for (number, ranges) in ranges.iter().enumerate() {
        let key = ObjectKey::cluster(format!("virtual-{number}"));
        eventually("the node is there", || async {
            let waiting = api
                .get(&pods(), &ObjectKey::new("default", "a"))
                .await
                .ok()?;
            assert!(
                number > 0 || addresses(&waiting).is_empty(),
                "there is no range yet"
            );
            let patch = json!({"spec": {"podCIDR": ranges[0], "podCIDRs": ranges}});
            let patched = api
                .merge_patch(&nodes(), &key, Subresource::None, &patch)
                .await;
            patched.ok().map(drop)
        })
        .await;
        if number == 0 {
            // One of three finds the only address there is.
            eventually("one runs", || async {
                let list = api.list(&pods(), &ListOptions::default()).await.ok()?;
                let found: Vec<_> = list
                    .items
                    .iter()
                    .map(addresses)
                    .filter(|own| !own.is_empty())
                    .collect();
                (found == [["10.7.0.2", "fd00:7::2"]]).then_some(())
            })
            .await;
        }
    }
    assert_eq!(addresses(&running(&api, "d").await), ["10.8.0.2"]);
    let events = Resource::namespaced("v1", "events", "Event");
    eventually("the others are told why", || async {
        let list = api.list(&events, &ListOptions::default()).await.ok()?;
        let text = "Failed to create pod sandbox: no IP addresses available in range set: 10.7.0.0/30, fd00:7::/120";
        list.items.iter().any(|event| event.value()["message"] == text).then_some(())
    })
    .await;
    server.stop().await;
}

/// The nodes of a server that is gone go, too; those that somebody has applied change hands.
#[tokio::test]
async fn nodes_of_a_server_that_is_gone_are_taken_away() {
    let cluster = cluster().await;
    let api = Api::new(cluster.client());
    let gone = Server::start(cluster.client(), "gone", vec![Template::plain(2)]);
    let applied = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "applied", "labels": {"node.corvus.dev/virtual": "true"}},
    });
    api.create(&nodes(), &applied).await.expect("a node");
    eventually("its nodes are there", || async {
        let names = names(&api).await;
        (names.len() == 3 && names.values().all(|server| server == "gone")).then_some(())
    })
    .await;
    gone.stop().await;
    let stays = Server::start(cluster.client(), "stays", vec![Template::plain(1)]);
    eventually("there is another server's node", || async {
        names(&api).await.contains_key("virtual-2").then_some(())
    })
    .await;
    // As the node life cycle controller finds them; one is silent because it is told to be.
    for name in ["virtual-0", "virtual-1", "applied"] {
        let key = ObjectKey::cluster(name);
        if name == "virtual-1" {
            let out = json!({"metadata": {"annotations": {"virtual.corvus.dev/outage": "true"}}});
            let patched = api
                .merge_patch(&nodes(), &key, Subresource::None, &out)
                .await;
            patched.expect("a node");
        }
        let lost = json!({"status": {"conditions": [{
            "type": "Ready", "status": "Unknown", "lastTransitionTime": "2020-01-01T00:00:00Z",
        }]}});
        let patched = api
            .merge_patch(&nodes(), &key, Subresource::Status, &lost)
            .await;
        patched.expect("a node");
    }
    let expect: BTreeMap<String, String> = [
        ("applied", "stays"),
        ("virtual-1", "gone"),
        ("virtual-2", "stays"),
    ]
    .map(|(name, server)| (name.to_owned(), server.to_owned()))
    .into();
    eventually("only the silent one is left", || async {
        (names(&api).await == expect).then_some(())
    })
    .await;
    stays.stop().await;
}
