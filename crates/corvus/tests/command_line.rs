//! The command line: what scripts rely on, and what wrong use says.

mod support;

use std::net::TcpListener;
use std::process::Command;

use support::{Running, corvus};

/// Wrong use ends with code 1 and one line that says what to do.
fn check_refused(arguments: &[&str], expect: &[&str]) {
    let (code, _, stderr) = corvus(arguments);
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one line, got: {stderr}");
    for part in expect {
        assert!(stderr.contains(part), "{part:?} is missing in: {stderr}");
    }
}

#[test]
fn a_taken_port_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    check_refused(
        &["up", "--listen", &address, "--data-dir", &data],
        &["listening on", &address, "in use"],
    );
}

#[test]
fn a_data_directory_has_one_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = Running::start(folder.path(), &["--virtual-nodes", "0"]);
    let data = folder.path().display().to_string();
    check_refused(
        &["up", "--listen", "127.0.0.1:0", "--data-dir", &data],
        &["another process is using", "--data-dir"],
    );
}

#[test]
fn a_data_directory_that_cannot_be_made_is_one_clear_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").expect("written");
    let below = file.join("data").display().to_string();
    check_refused(
        &["up", "--data-dir", &below],
        &["making the data directory", &below],
    );
}

#[test]
fn unknown_names_are_listed_with_the_known_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    check_refused(
        &["up", "--data-dir", &data, "--controllers", "nonsense"],
        &["nonsense", "replicaset"],
    );
    check_refused(
        &[
            "up",
            "--data-dir",
            &data,
            "--disable-admission-plugins",
            "Nonsense",
        ],
        &["Nonsense", "NamespaceLifecycle"],
    );
}

#[test]
fn wrong_values_say_what_is_wanted() {
    let etcd = "by host and port, such as etcd://127.0.0.1:2379";
    for (flag, value, expect) in [
        ("--store", "floppy", "embedded, memory or etcd://HOST:PORT"),
        ("--store", "etcd://a:1,b:2", etcd),
        ("--store", "etcd://user@a:1", etcd),
        ("--store", "etcd://http://a:1", etcd),
        ("--listen", "localhost:1", "an IP address and a port"),
        ("--authorization-mode", "rbac", "Node, RBAC, AlwaysAllow"),
        ("--request-timeout", "60s", "a whole number of seconds"),
        ("--request-timeout", "0", "at least a second"),
        ("--service-account-issuer", "", "a value is required"),
        (
            "--service-account-max-token-expiration",
            "1h",
            "a whole number of seconds",
        ),
    ] {
        let (code, _, stderr) = corvus(&["up", flag, value]);
        assert_eq!(code, Some(2), "{flag} {value}: {stderr}");
        assert!(stderr.contains(expect), "{flag} {value}: {stderr}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let backup = folder.path().join("backup");
    std::fs::write(&backup, "something else entirely, but long enough").expect("a file");
    check_refused(
        &[
            "restore",
            "--from",
            &backup.display().to_string(),
            "--data-dir",
            &data,
        ],
        &["is no whole backup"],
    );
}

#[test]
fn the_demo_tells_its_story_and_ends_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig").display().to_string();
    let (code, stdout, stderr) = corvus(&["demo", "--kubeconfig", &kubeconfig]);
    assert_eq!(code, Some(0), "{stderr}");
    for part in [
        "a new API, Site",
        "Deployment",
        "2 of 2 Pods available",
        "state ACTIVE",
        "kubectl apply",
    ] {
        assert!(stdout.contains(part), "{part:?} is missing in: {stdout}");
    }
}

#[test]
fn versions_and_completions_are_printed() {
    let (code, stdout, _) = corvus(&["version", "-o", "json"]);
    assert_eq!(code, Some(0));
    let version: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert!(version["version"].is_string() && version["kubernetes"].is_string());
    let (code, stdout, _) = corvus(&["completion", "bash"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("_corvus"));
}

/// The example of `docs/api-server/operating.md`.
#[test]
fn a_front_proxy_says_who_asks() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("SKIPPED a_front_proxy_says_who_asks: curl is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(folder.path(), &["--virtual-nodes", "0"]);
    let kubeconfig = std::fs::read_to_string(running.kubeconfig()).expect("written");
    let mut words = kubeconfig
        .split_whitespace()
        .map(|word| word.trim_matches(['"', ',']));
    let server = words
        .find(|word| word.starts_with("https://"))
        .expect("it names the server");
    let file = |name: &str| folder.path().join(name);
    let output = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--cacert"])
        .arg(file("ca.crt"))
        .arg("--cert")
        .arg(file("front-proxy-client.crt"))
        .arg("--key")
        .arg(file("front-proxy-client.key"))
        .args(["-H", "X-Remote-User: jane", "-H", "X-Remote-Group: dev"])
        .arg(format!("{server}/api/v1/namespaces"))
        .output()
        .expect("curl runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let expect = "User \\\"jane\\\" cannot list resource \\\"namespaces\\\"";
    assert!(said.contains(expect), "{said}");
}

#[test]
fn an_orderly_end_is_a_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(folder.path(), &[]);
    assert_eq!(running.terminate(), Some(0));
}
