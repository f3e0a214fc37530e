//! Every request of the recorded exchanges is answered as the reference server has answered it.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Running, cases, has};

#[test]
fn every_recorded_exchange_is_answered_as_recorded() {
    let test = "every_recorded_exchange_is_answered_as_recorded";
    let Some(folder) = cases("api-exchanges", test) else {
        return;
    };
    if !has("python3", test) {
        return;
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tools/replay.py");
    let data = tempfile::tempdir().expect("a folder");
    // As the reference was run.
    let cluster = Running::start(
        data.path(),
        &[
            "--store",
            "memory",
            "--virtual-nodes",
            "0",
            "--disable-admission-plugins",
            "ServiceAccount",
        ],
    );
    // By token alone: what is asked without one, or with a wrong one, is part of it.
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig()).expect("written");
    let server = kubeconfig
        .split_whitespace()
        .find(|word| word.trim_matches('"').starts_with("https://"))
        .expect("it names the server");
    let token = std::fs::read_to_string(data.path().join("admin.token")).expect("written");
    let output = Command::new("python3")
        .arg(tool)
        .args(["replay", "--server", server.trim_matches('"')])
        .args(["--token", token.trim()])
        .args(["--patience", "10", "--diff"])
        .arg(folder)
        .output()
        .expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = told.lines().filter(|line| !line.starts_with("ok ")).collect();
    println!("{}", failed.join("\n"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
