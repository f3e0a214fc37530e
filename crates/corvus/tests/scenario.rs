//! `corvus up --virtual-nodes-scenario`: the example of `docs/virtual-nodes.md` is played, and files that make no sense are refused.

mod support;

use std::process::Command;

use support::{CORVUS, Running, has};

/// The scenario the documentation shows.
fn example() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/virtual-nodes.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let blocks = page.split("```yaml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let found = blocks.find(|block| block.contains("kind: Scenario"));
    found.expect("an example").to_owned()
}

const WEB: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: web}]}
";

#[test]
fn the_example_is_played() {
    if !has("kubectl", "scenario") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("scenario.yaml");
    std::fs::write(&file, example()).expect("a file");
    let file = file.to_str().expect("text");
    let data = folder.path().join("data");
    let arguments = ["--virtual-nodes", "3", "--virtual-nodes-scenario", file];
    let corvus = Running::start(&data, &arguments);
    corvus.apply(WEB);
    let pods = |path: &str| {
        let path = format!("jsonpath={{range .items[*]}}{{{path}}} {{end}}");
        ["get".to_owned(), "pods".to_owned(), "-o".to_owned(), path]
    };
    let until = |path: &str, wanted: &dyn Fn(&[&str]) -> bool| {
        let pods = pods(path);
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        corvus.until(&pods, |said| {
            wanted(&said.split_whitespace().collect::<Vec<_>>())
        });
    };
    let ready = ".status.containerStatuses[0].ready";
    until(ready, &|ready| ready == ["false"; 3]);
    let ended = ".status.containerStatuses[0].lastState.terminated.reason";
    until(ended, &|ended| ended == ["OOMKilled"]);
    // Nobody hears of the node any more; its objects say why, and nothing else of them has changed.
    let annotations = [
        "get",
        "node",
        "virtual-1",
        "-o",
        "jsonpath={.metadata.annotations}",
    ];
    let told = corvus.until(&annotations, |said| {
        said.contains("node.corvus.dev/silenced")
    });
    assert!(!told.contains("virtual.corvus.dev/outage"), "{told}");
    until(ready, &|ready| {
        ready.iter().filter(|ready| **ready == "true").count() > 0
    });
    let annotated = corvus.must(&[
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].metadata.annotations}",
    ]);
    assert_eq!(annotated, "");
}

#[test]
fn nonsense_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |from: &str, to: &str, expect: &str| {
        let text = example();
        assert!(text.contains(from), "{from}");
        let file = folder.path().join("scenario.yaml");
        std::fs::write(&file, text.replacen(from, to, 1)).expect("a file");
        let output = Command::new(CORVUS)
            .args([
                "up",
                "--store",
                "memory",
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(folder.path().join("data"))
            .arg("--virtual-nodes-scenario")
            .arg(&file)
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.replace(&format!("{}/", folder.path().display()), "");
        assert!(said.contains(expect), "{said}");
        assert_eq!(output.status.code(), Some(1));
    };
    check(
        "for: 20s",
        "for: soon",
        "corvus: scenario.yaml:5:3: steps[0].for: write a duration such as 15s, 1m30s or 500ms",
    );
    check(
        "outage: true",
        "outtage: true",
        "corvus: scenario.yaml:19:9: steps[2].set[\"outtage\"]: there is no such setting; there are outage,",
    );
    check(
        "kind: Scenario",
        "kind: Story",
        "scenario.yaml:2:1: kind: write Scenario",
    );
    check("steps:", "steps: [", "scenario.yaml");
}
