//! Two servers on one etcd: the one that leads is killed in the middle of its work, and the other one carries it on.

mod support;

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Running, has};

/// An etcd of its own, killed at the end.
struct Etcd {
    child: Child,
    port: u16,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
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
        ],
    )
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
    metadata: {labels: {app: web}, annotations: {virtual.corvus.dev/ready-seconds: "1"}}
    spec: {containers: [{name: c, image: "web:1"}]}
"#;

#[test]
fn a_killed_leader_leaves_nothing_undone() {
    if !has("etcd", "two_servers") || !has("kubectl", "two_servers") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let etcd = Etcd::start(&folder.path().join("etcd"));
    let (first, second) = (folder.path().join("s1"), folder.path().join("s2"));
    let leader = server(&first, &etcd, "0");
    std::fs::create_dir(&second).expect("a folder");
    for shared in ["ca.crt", "ca.key", "service-account.key", "admin.token"] {
        std::fs::copy(first.join(shared), second.join(shared)).expect(shared);
    }
    let other = server(&second, &etcd, "3");
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
    // The rollout has begun; Pods take a second to be ready, so it has not ended.
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
