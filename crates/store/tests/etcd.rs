//! The etcd engine against a real etcd: the conformance suite, two stores on one etcd, an etcd that is
//! killed. Says by name that it needs `etcd` where that is missing.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use store::{
    Change, Document, EtcdOptions, EtcdStore, Expect, ListOptions, Revision, Store, Write,
    conformance, open_etcd,
};

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// An etcd of its own, killed at the end.
struct Etcd {
    child: Child,
    folder: tempfile::TempDir,
    client: u16,
    peer: u16,
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

fn is_missing() -> bool {
    let found = Command::new("etcd").arg("--version").output().is_ok();
    if !found {
        println!("SKIPPED tests/etcd.rs: `etcd` is not on PATH (Debian: etcd-server)");
    }
    !found
}

impl Etcd {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (client, peer) = (free_port(), free_port());
        let child = Self::spawn(folder.path(), client, peer);
        let etcd = Self {
            child,
            folder,
            client,
            peer,
        };
        etcd.wait();
        etcd
    }

    fn spawn(folder: &std::path::Path, client: u16, peer: u16) -> Child {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &url(client)])
            .args(["--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer)])
            .args(["--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &format!("default={}", url(peer))])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts")
    }

    fn wait(&self) {
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.client)).is_err() {
            assert!(Instant::now() < until, "etcd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`, and up again on the same data.
    fn crash(&mut self) {
        self.child.kill().expect("running");
        self.child.wait().expect("killed");
        self.child = Self::spawn(self.folder.path(), self.client, self.peer);
        self.wait();
    }

    fn options(&self) -> EtcdOptions {
        EtcdOptions {
            endpoint: format!("127.0.0.1:{}", self.client),
        }
    }

    async fn open(&self) -> EtcdStore {
        // It listens a moment before it has elected itself.
        let until = Instant::now() + PATIENCE;
        loop {
            match open_etcd(&self.options()).await {
                Ok(store) => return store,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn put(key: &str, expect: Expect, text: &str) -> Write {
    let change = Change::Put(Document::plain(text.as_bytes().to_vec()));
    Write {
        key: key.into(),
        expect,
        change,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_etcd_engine_conforms() {
    if is_missing() {
        return;
    }
    let running = std::sync::Mutex::new(Vec::new());
    let fresh = || {
        let etcd = Etcd::start();
        let opening = etcd.open();
        let store =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(opening));
        running.lock().expect("not poisoned").push(etcd);
        store
    };
    conformance::run(fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_one_etcd_see_the_same() {
    if is_missing() {
        return;
    }
    let etcd = Etcd::start();
    let (one, other) = (etcd.open().await, etcd.open().await);
    let mut watch = other
        .watch("//pods/", other.revision())
        .expect("from now on");
    let mut last = Revision(0);
    for number in 0..50 {
        let key = format!("//pods/a/{number}");
        let entry = one.commit(put(&key, Expect::Absent, "x")).await;
        last = entry.expect("fresh").revision();
        other.barrier().expect("etcd has one").await.expect("up");
        assert_eq!(
            other.get(&key).expect("written before").revision(),
            last,
            "a read after the barrier sees what was acknowledged"
        );
    }
    let mut seen = Vec::new();
    while seen.len() < 50 {
        seen.extend(watch.next().await.expect("watching"));
    }
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].revision() < pair[1].revision()),
        "in order"
    );
    // Both believe to be first; one is.
    let write = || put("//pods/a/0", Expect::Revision(seen[0].revision()), "y");
    let (first, second) = tokio::join!(one.commit(write()), other.commit(write()));
    assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1);
    assert!(other.revision() > last);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_outlives_etcd_and_the_store_follows_again() {
    if is_missing() {
        return;
    }
    let mut etcd = Etcd::start();
    let store = etcd.open().await;
    let entry = store
        .commit(put("//pods/a", Expect::Absent, "1"))
        .await
        .expect("fresh");
    etcd.crash();
    let update = || put("//pods/a", Expect::Revision(entry.revision()), "2");
    let until = Instant::now() + PATIENCE;
    let updated = loop {
        match store.commit(update()).await {
            Ok(updated) => break updated,
            // A write whose answer was lost has happened all the same.
            Err(store::Error::Conflict {
                current: Some(current),
                ..
            }) => break current,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(updated.revision() > entry.revision());
    let again = etcd.open().await;
    let listing = again.list("//pods/", &ListOptions::default()).expect("now");
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.entries[0].bytes().as_ref(), b"2");
    assert!(again.revision() >= updated.revision());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_not_there_is_named() {
    let port = free_port();
    let options = EtcdOptions {
        endpoint: format!("127.0.0.1:{port}"),
    };
    let Err(error) = open_etcd(&options).await else {
        panic!("nobody listens there");
    };
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}
