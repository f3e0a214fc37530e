//! Two servers on one etcd: the one that leads is killed in the middle of its work, and the other one carries it on.

mod support;

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use support::{Running, has};

/// An etcd of its own, killed at the end.
struct Etcd {
    child: Child,
    port: u16,
}

/// A port that nobody listens on. It is below those the system gives to outgoing connections, so that none of them takes
/// it before a server does.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 64 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(number % 22_000).expect("small");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Etcd {
    /// Starts one, on other ports where somebody else was faster to take one.
    fn start(folder: &Path) -> Self {
        support::eventually("etcd is healthy", || {
            let mut etcd = Self::spawn(folder);
            while matches!(etcd.child.try_wait(), Ok(None)) {
                if etcd.is_healthy() {
                    return Some(etcd);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            None
        })
    }

    fn spawn(folder: &Path) -> Self {
        let (port, peer) = (free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder)
            .args(["--listen-client-urls", &url(port)])
            .args(["--advertise-client-urls", &url(port)])
            .args(["--listen-peer-urls", &url(peer)])
            .args(["--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &format!("default={}", url(peer))])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        Self { child, port }
    }

    /// Whether it has a leader: it listens a moment before it has.
    fn is_healthy(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let asked = stream.write_all(b"GET /health HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("true")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that is soon missed when it is gone.
fn server(folder: &Path, etcd: &Etcd, nodes: &str) -> Running {
    let store = format!("etcd://127.0.0.1:{}", etcd.port);
    Running::start(
        folder,
        &[
            "--store",
            &store,
            "--virtual-nodes",
            nodes,
            "--leader-elect-lease-duration=3s",
            "--leader-elect-renew-deadline=2s",
            "--leader-elect-retry-period=500ms",
            "--virtual-nodes-lease-duration=2s",
            "--node-monitor-grace-period=8s",
        ],
    )
}

/// Two servers on one etcd with so many virtual nodes; the first one leads.
fn two_servers(folder: &Path, etcd: &Etcd, nodes: [&str; 2]) -> (Running, Running) {
    let (first, second) = (folder.join("s1"), folder.join("s2"));
    let leader = server(&first, etcd, nodes[0]);
    let holder = [
        "get",
        "lease",
        "corvus-controllers",
        "-n",
        "kube-system",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ];
    leader.until(&holder, |holder| !holder.is_empty());
    std::fs::create_dir(&second).expect("a folder");
    for shared in [
        "ca.crt",
        "ca.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "service-account.key",
        "admin.token",
    ] {
        std::fs::copy(first.join(shared), second.join(shared)).expect(shared);
    }
    let other = server(&second, etcd, nodes[1]);
    (leader, other)
}

const WORK: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: counted}
spec:
  completionMode: Indexed
  completions: 24
  parallelism: 4
  template:
    metadata: {annotations: {virtual.corvus.dev/run-seconds: "1"}}
    spec: {restartPolicy: Never, containers: [{name: c, image: job}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 6
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}, annotations: {virtual.corvus.dev/ready-seconds: "1"}}
    spec: {containers: [{name: c, image: "db:1"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 20
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {virtual.corvus.dev/ready-seconds: "3"}}
    spec: {containers: [{name: c, image: "web:1"}]}
"#;

#[test]
fn a_killed_leader_leaves_nothing_undone() {
    if !has("etcd", "two_servers") || !has("kubectl", "two_servers") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let etcd = Etcd::start(&folder.path().join("etcd"));
    let (leader, other) = two_servers(folder.path(), &etcd, ["0", "3"]);
    other.apply(WORK);
    let ready = [
        "get",
        "deployment/web",
        "-o",
        "jsonpath={.status.readyReplicas}",
    ];
    other.until(&ready, |ready| ready == "20");
    other.must(&["set", "image", "deployment/web", "c=web:2"]);
    let updated = [
        "get",
        "deployment/web",
        "-o",
        "jsonpath={.status.updatedReplicas}",
    ];
    // It takes a quarter at a time, each for three seconds.
    other.until(&updated, |count| {
        count.parse().is_ok_and(|count: u32| count > 0)
    });
    leader.kill();

    let rollout = |kind: &str| {
        other.until(&["rollout", "status", kind, "--timeout=50s"], |said| {
            said.contains("success") || said.contains("complete")
        })
    };
    rollout("deployment/web");
    rollout("statefulset/db");
    let done = [
        "get",
        "job/counted",
        "-o",
        "jsonpath={.status.succeeded} {.status.completedIndexes} {.status.failed} {.status.conditions[-1].type}",
    ];
    other.until(&done, |said| said == "24 0-23  Complete");
    // Nobody was counted twice, nor runs beside its successor for long, nor shares an address.
    let pods = [
        "get",
        "pods",
        "-o",
        r#"jsonpath={range .items[*]}{.metadata.labels.app} {.spec.containers[0].image} {.status.phase} {.status.podIP}{"\n"}{end}"#,
    ];
    let pods = other.until(&pods, |pods| !pods.contains("web:1"));
    let count = |text: &str| pods.lines().filter(|line| line.contains(text)).count();
    assert_eq!(
        (
            count("web:2 Running"),
            count("db:1 Running"),
            count("job Succeeded")
        ),
        (20, 6, 24),
        "{pods}"
    );
    let running = pods.lines().filter(|line| line.contains("Running"));
    let addresses: BTreeSet<&str> = running
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(addresses.len(), 26, "{pods}");
}

const SPREAD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 6
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      containers: [{name: c, image: "spread:1"}]
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {app: spread}}
"#;

/// The one that is killed leads, too, so that the other one has to find out about everything.
#[test]
fn a_killed_servers_nodes_go_with_their_pods() {
    if !has("etcd", "two_servers") || !has("kubectl", "two_servers") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let etcd = Etcd::start(&folder.path().join("etcd"));
    let (killed, other) = two_servers(folder.path(), &etcd, ["2", "2"]);
    let nodes = ["get", "nodes", "-o", "jsonpath={.items[*].metadata.uid}"];
    let before = other.until(&nodes, |nodes| nodes.split(' ').count() == 4);
    let killed_id = std::fs::read_to_string(folder.path().join("s1/server-id")).expect("its name");
    let selector = format!("node.corvus.dev/server={}", killed_id.trim());
    let mut of_killed = nodes.to_vec();
    of_killed.extend(["-l", &selector]);
    let lost = other.must(&of_killed);
    assert_eq!(lost.split(' ').count(), 2, "{before}");
    other.apply(SPREAD);
    let where_to = [
        "get",
        "pods",
        "-l",
        "app=spread",
        "-o",
        r#"jsonpath={range .items[?(@.status.phase=="Running")]}{.spec.nodeName} {end}"#,
    ];
    let placed = other.until(&where_to, |placed| placed.split_whitespace().count() == 6);
    let names: BTreeSet<&str> = placed.split_whitespace().collect();
    assert_eq!(names.len(), 4, "{placed}");
    killed.kill();

    // Nobody speaks for them any more; the next leader finds that out, and their Pods are made anew on the others.
    let left = other.until(&nodes, |nodes| nodes.split(' ').count() == 2);
    for node in left.split(' ') {
        assert!(before.contains(node) && !lost.contains(node), "{left}");
    }
    let names = [
        "get",
        "nodes",
        "-o",
        r"jsonpath={range .items[*]}{.metadata.name} {end}",
    ];
    let names = other.must(&names);
    let names: BTreeSet<&str> = names.split_whitespace().collect();
    // A minute goes by before Pods of a node that is not there are believed to be lost.
    let collected = |placed: &str| {
        let placed: Vec<&str> = placed.split_whitespace().collect();
        placed.len() == 6 && placed.iter().all(|node| names.contains(node))
    };
    other.until_within(Duration::from_mins(3), &where_to, collected);
    other.must(&["rollout", "status", "deployment/spread", "--timeout=60s"]);
}
