//! Unmodified kubectl against `corvus up`.

mod support;

use support::{Running, has};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: "nginx:1"}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
"#;

fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Commands run over WebSockets, which kubectl speaks since 1.31; an older one is told so.
#[test]
fn a_command_is_answered_by_a_text() {
    if !has("kubectl", "a_command_is_answered_by_a_text") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &[]);
    cluster.apply(WEB);
    cluster.must(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let ran = cluster.kubectl_with(&["exec", "deploy/web", "--", "ls", "-l"], "");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&ran.stdout).into_owned(),
        String::from_utf8_lossy(&ran.stderr).into_owned(),
    );
    if ran.status.success() {
        assert!(
            stdout.starts_with("Nothing runs here: pod default/web-"),
            "{stdout}"
        );
        assert!(stdout.contains("container c: ls -l\n"), "{stdout}");
    } else {
        assert!(stderr.contains("kubectl has them since 1.31"), "{stderr}");
    }
    let failed = cluster.kubectl_with(&["exec", "nobody", "--", "ls"], "");
    assert!(!failed.status.success(), "there is no such Pod");
}

/// kubectl checks lists by the older OpenAPI document, which it takes as protobuf alone.
#[test]
fn lists_are_validated_and_created() {
    if !has("kubectl", "lists_are_validated_and_created") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &["--virtual-nodes", "0"]);
    let list = |field: &str| {
        format!(
            "apiVersion: v1\nkind: List\nitems:\n\
             - {{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, {field}: {{k: v}}}}\n\
             - {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: b}}}}\n"
        )
    };
    let refused = cluster.kubectl_with(&["create", "-f", "-"], &list("dta"));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        message.contains("unknown field \"dta\" in io.k8s.api.core.v1.ConfigMap"),
        "{message}"
    );
    cluster.apply(&list("data"));
    assert_eq!(
        cluster.must(&["get", "configmap", "a", "-o", "jsonpath={.data.k}"]),
        "v"
    );
}

#[test]
fn a_deployment_lives_its_life() {
    if !has("kubectl", "a_deployment_lives_its_life") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &[]);
    cluster.apply(WEB);
    cluster.must(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let names = [
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ];
    assert_eq!(count(&cluster.must(&names)), 2);

    cluster.must(&["scale", "deployment/web", "--replicas=3"]);
    cluster.until(&names, |text| count(text) == 3);
    cluster.must(&["set", "image", "deployment/web", "c=nginx:2"]);
    cluster.must(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let images = [
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].spec.containers[0].image}",
    ];
    cluster.until(&images, |text| text == "nginx:2 nginx:2 nginx:2");
    cluster.must(&["rollout", "undo", "deployment/web"]);
    cluster.must(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    cluster.until(&images, |text| text == "nginx:1 nginx:1 nginx:1");

    let slices = [
        "get",
        "endpointslices",
        "-l",
        "kubernetes.io/service-name=web",
        "-o",
        "jsonpath={.items[*].endpoints[*].conditions.ready}",
    ];
    cluster.until(&slices, |text| text == "true true true");
    cluster.must(&[
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=60s",
    ]);
    assert!(
        cluster
            .must(&["describe", "deployment", "web"])
            .contains("3 available")
    );

    cluster.must(&["delete", "deployment", "web", "--timeout=60s"]);
    // What it owned goes with it.
    cluster.until(&names, |text| text.trim().is_empty());
    let sets = ["get", "replicasets", "-o", "name"];
    cluster.until(&sets, |text| text.trim().is_empty());
}

#[test]
fn the_ways_to_write_work() {
    if !has("kubectl", "the_ways_to_write_work") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &["--virtual-nodes", "0"]);
    cluster.must(&["create", "configmap", "a", "--from-literal=key=value"]);
    assert_eq!(
        cluster.must(&["get", "configmap", "a", "-o", "jsonpath={.data.key}"]),
        "value"
    );
    cluster.must(&["label", "configmap", "a", "tier=front"]);
    cluster.must(&["annotate", "configmap", "a", "note=x"]);
    assert_eq!(
        cluster.must(&["get", "configmap", "-l", "tier=front", "-o", "name"]),
        "configmap/a\n"
    );
    cluster.must(&[
        "patch",
        "configmap",
        "a",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/data/key","value":"other"}]"#,
    ]);
    assert_eq!(
        cluster.must(&["get", "configmap", "a", "-o", "jsonpath={.data.key}"]),
        "other"
    );

    let one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {k: v}\n";
    let two = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {k: w}\n";
    let apply = |manager: &str, text: &str| {
        let manager = format!("--field-manager={manager}");
        cluster.kubectl_with(&["apply", "--server-side", &manager, "-f", "-"], text)
    };
    assert!(apply("one", one).status.success());
    let conflict = apply("two", two);
    assert!(!conflict.status.success());
    let said = String::from_utf8_lossy(&conflict.stderr).into_owned();
    assert!(
        said.contains("Apply failed with 1 conflict") && said.contains(".data.k"),
        "{said}"
    );

    let diff = cluster.kubectl_with(&["diff", "-f", "-"], two);
    assert_eq!(diff.status.code(), Some(1), "diff finds a difference");
    assert!(String::from_utf8_lossy(&diff.stdout).contains("+  k: w"));

    let typo = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndate: {k: v}\n";
    let refused = cluster.kubectl_with(&["create", "-f", "-"], typo);
    assert!(String::from_utf8_lossy(&refused.stderr).contains(r#"unknown field "date""#));

    cluster.must(&["create", "namespace", "temporary"]);
    cluster.must(&["create", "configmap", "x", "-n", "temporary"]);
    cluster.must(&["delete", "namespace", "temporary", "--timeout=60s"]);
    assert!(
        !cluster
            .kubectl(&["get", "namespace", "temporary"])
            .status
            .success()
    );
}

#[test]
fn what_there_is_can_be_looked_up() {
    if !has("kubectl", "what_there_is_can_be_looked_up") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &[]);
    let resources = cluster.must(&["api-resources", "-o", "name"]);
    for name in [
        "pods",
        "deployments.apps",
        "customresourcedefinitions.apiextensions.k8s.io",
    ] {
        assert!(
            resources.lines().any(|line| line == name),
            "{name} is missing"
        );
    }
    assert!(cluster.must(&["api-versions"]).contains("apps/v1\n"));
    assert!(
        cluster
            .must(&["explain", "deployment.spec.replicas"])
            .contains("<integer>")
    );
    assert!(cluster.must(&["version"]).contains("+corvus-"));
    let node = [
        "get",
        "node",
        "virtual-0",
        "-o",
        r"jsonpath={.metadata.labels.node\.corvus\.dev/virtual}",
    ];
    cluster.until(&node, |text| text == "true");
    assert_eq!(
        cluster.must(&["auth", "can-i", "delete", "nodes"]).trim(),
        "yes"
    );
    assert!(cluster.must(&["get", "--raw", "/readyz"]).contains("ok"));
}

#[test]
fn acknowledged_objects_survive_a_kill() {
    if !has("kubectl", "acknowledged_objects_survive_a_kill") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let quiet = &["--virtual-nodes", "0"];
    let mut version = String::new();
    for round in 0..5 {
        let cluster = Running::start(folder.path(), quiet);
        for earlier in 0..round {
            let name = format!("round-{earlier}");
            cluster.must(&["get", "configmap", &name]);
        }
        let name = format!("round-{round}");
        cluster.must(&["create", "configmap", &name, "--from-literal=key=value"]);
        let path = [
            "get",
            "configmap",
            &name,
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ];
        let next = cluster.must(&path);
        assert!(
            next.parse::<u64>().ok() > version.parse::<u64>().ok(),
            "revisions only grow"
        );
        version = next;
        cluster.kill();
    }
}
