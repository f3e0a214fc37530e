//! `corvus graph` and `corvus run`.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{CORVUS, Running, corvus, has};

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/site");
    folder.join(name).display().to_string()
}

/// Applies the example to a cluster and waits until it is there.
fn apply_site(cluster: &Running) {
    // Where the controllers are attached, the kind of definitions is served a moment after they are.
    cluster.until(&["apply", "-f", &example("rgd.yaml")], |_| true);
    let state = [
        "get",
        "rgd",
        "site.kro.run",
        "-o",
        "jsonpath={.status.state}",
    ];
    cluster.until(&state, |text| text == "Active");
    cluster.until(&["apply", "-f", &example("instance.yaml")], |_| true);
    let state = [
        "get",
        "sites.kro.run",
        "hello",
        "-o",
        "jsonpath={.status.state}",
    ];
    cluster.until(&state, |text| text == "ACTIVE");
}

/// The example with one part replaced, in a file.
fn broken(folder: &Path, from: &str, to: &str) -> PathBuf {
    let text = std::fs::read_to_string(example("rgd.yaml")).expect("it is there");
    assert!(text.contains(from));
    let file = folder.join("broken.yaml");
    std::fs::write(&file, text.replacen(from, to, 1)).expect("written");
    file
}

#[test]
fn lint_finds_what_the_server_would() {
    let (definition, instance) = (example("rgd.yaml"), example("instance.yaml"));
    let (code, stdout, stderr) = corvus(&["graph", "lint", &definition, &instance]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("no problems"), "{stdout}");

    let folder = tempfile::tempdir().expect("a folder");
    let problems = |from: &str, to: &str| -> Value {
        let file = broken(folder.path(), from, to).display().to_string();
        let (code, stdout, stderr) = corvus(&["graph", "lint", &file, "-o", "json"]);
        assert_eq!(code, Some(1), "{stdout}{stderr}");
        serde_json::from_str(&stdout).expect("JSON")
    };
    let found = problems("replicas: ${schema.spec.replicas}", "replica: 1");
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found[0]["resource"], "app");
    assert_eq!(found[0]["path"], "spec.replica");
    let found = problems("  resources:\n", "  resorces:\n");
    assert!(found.to_string().contains("resorces"), "{found}");

    // An instance that does not fit its API.
    let wrong = folder.path().join("instance.yaml");
    let text = "apiVersion: kro.run/v1alpha1\nkind: Site\nmetadata: {name: a}\nspec: {replicas: 1000, greting: hi}\n";
    std::fs::write(&wrong, text).expect("written");
    let wrong = wrong.display().to_string();
    let (code, stdout, _) = corvus(&["graph", "lint", &definition, &wrong]);
    assert_eq!(code, Some(1));
    for part in [
        "Site \"a\"",
        "spec.replicas",
        "spec.greting",
        "spec.greeting",
    ] {
        assert!(stdout.contains(part), "{part:?} is missing in: {stdout}");
    }
    for unreadable in ["nowhere.yaml", &example("../../README.nowhere")] {
        assert_eq!(corvus(&["graph", "lint", unreadable]).0, Some(2));
    }
}

#[test]
fn lint_points_into_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let lint = |from: &str, to: &str, output: &str| {
        let file = broken(folder.path(), from, to).display().to_string();
        let (code, stdout, _) = corvus(&["graph", "lint", &file, "-o", output]);
        assert_eq!(code, Some(1), "{stdout}");
        stdout
    };
    let (from, to) = ("${schema.spec.replicas}", "${schema.spec.replicsa + 1}");
    let text = lint(from, to, "text");
    assert!(text.contains("broken.yaml:35:32: "), "{text}");
    assert!(text.contains("did you mean 'replicas'?"), "{text}");
    let (line, carets) = ("        replicas: ${schema.spec.replicsa + 1}", "^");
    let picture = format!("   |\n35 | {line}\n   | {}{carets}\n", " ".repeat(31));
    assert!(text.ends_with(&picture), "{text}");

    let found: Value = serde_json::from_str(&lint(from, to, "json")).expect("JSON");
    assert_eq!(
        (&found[0]["line"], &found[0]["column"]),
        (&json!(35), &json!(32))
    );

    let sarif: Value =
        serde_json::from_str(&lint("  resources:", "  resorces:", "sarif")).expect("JSON");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "definition");
    let region = &result["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        region,
        &json!({"startLine": 17, "startColumn": 3, "endColumn": 11})
    );
}

#[test]
fn definitions_in_the_same_files_know_each_other() {
    let test = "definitions_in_the_same_files_know_each_other";
    let Some(folder) = support::cases("kro-examples", test) else {
        return;
    };
    let file = |name: &str| {
        folder
            .join("saas-multi-tenant")
            .join(name)
            .display()
            .to_string()
    };
    // The one that needs the others comes first.
    let (first, second, third) = (
        file("tenant-rgd.yaml"),
        file("tenant-environment-rgd.yaml"),
        file("tenant-application-rgd.yaml"),
    );
    let (code, stdout, _) = corvus(&["graph", "lint", &first, &second, &third]);
    assert_eq!(code, Some(0), "{stdout}");
    assert_eq!(corvus(&["graph", "lint", &first]).0, Some(1));
}

#[test]
fn render_shows_what_an_instance_becomes() {
    let (definition, instance) = (example("rgd.yaml"), example("instance.yaml"));
    let (code, stdout, stderr) = corvus(&["graph", "render", &definition, &instance]);
    assert_eq!(code, Some(0), "{stderr}");
    for part in [
        "kind: ConfigMap",
        "name: hello-config",
        "kind: Deployment",
        "# app: WAITING_FOR_READINESS",
    ] {
        assert!(stdout.contains(part), "{part:?} is missing in: {stdout}");
    }
    // With what the cluster says, it goes to the end.
    let folder = tempfile::tempdir().expect("a folder");
    let observed = folder.path().join("observed.yaml");
    let state = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello", "namespace": "default"},
         "status": {"availableReplicas": 2}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello", "namespace": "default"},
         "spec": {"clusterIP": "10.0.0.7"}}]});
    std::fs::write(&observed, state.to_string()).expect("written");
    let observed = observed.display().to_string();
    let (code, stdout, stderr) = corvus(&[
        "graph",
        "render",
        &definition,
        &instance,
        "--observed",
        &observed,
        "-o",
        "json",
    ]);
    assert_eq!(code, Some(0), "{stderr}");
    let rendered: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(
        rendered["status"],
        json!({"address": "10.0.0.7", "ready": 2})
    );
    let states: Vec<&Value> = rendered["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|resource| &resource["state"])
        .collect();
    assert_eq!(states, ["SYNCED", "SYNCED", "SYNCED"]);
}

#[test]
fn instances_are_tested_against_what_is_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let definition = example("rgd.yaml");
    let test = |case: &str| {
        let file = folder.path().join("site_test.yaml");
        let text = format!("definition: {definition}\ncases:\n- name: one\n  {case}");
        std::fs::write(&file, text).expect("written");
        corvus(&["graph", "test", &file.display().to_string()])
    };
    let instance = "instance: {spec: {greeting: hi, replicas: 1}}";
    let observed = "observed:\n  - {apiVersion: apps/v1, kind: Deployment, metadata: {name: test, namespace: default}, status: {availableReplicas: 1}}";
    let (code, stdout, stderr) = test(&format!(
        "{instance}\n  {observed}\n  expect: {{resources: {{app: {{state: SYNCED, objects: [{{spec: {{replicas: 1, paused: null}}}}]}}}}, status: {{ready: 1}}}}\n"
    ));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("one: ok\n1 passed, 0 failed"), "{stdout}");
    let (code, stdout, _) = test(&format!(
        "{instance}\n  expect: {{resources: {{app: {{objects: [{{spec: {{replicas: 3}}}}]}}, nothing: {{}}}}}}\n"
    ));
    assert_eq!(code, Some(1), "{stdout}");
    for part in [
        "app.objects[0].spec.replicas: expected 3, found 1",
        "nothing: there is no such resource",
    ] {
        assert!(stdout.contains(part), "{part:?} is missing in: {stdout}");
    }
    assert_eq!(test("expects: {}").0, Some(2), "a typo is no passing test");
}

#[test]
fn definitions_are_explained_and_formatted() {
    let definition = example("rgd.yaml");
    let (code, stdout, _) = corvus(&["graph", "explain", &definition, "spec"]);
    assert_eq!(code, Some(0));
    for part in [
        "KIND:     Site",
        "replicas\t<integer> default=2 minimum=0 maximum=100",
        "greeting\t<string> -required-",
    ] {
        assert!(stdout.contains(part), "{part:?} is missing in: {stdout}");
    }
    let (code, _, stderr) = corvus(&["graph", "explain", &definition, "spec.replica"]);
    assert_eq!(code, Some(1));
    let told = "there is no field \"replica\" in spec; there are greeting, image, replicas";
    assert!(stderr.contains(told), "{stderr}");

    let (_, stdout, _) = corvus(&["graph", "schema", &definition]);
    let schema: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(schema["properties"]["kind"]["const"], "Site");
    assert_eq!(
        schema["properties"]["spec"]["properties"]["replicas"]["type"],
        "integer"
    );

    let folder = tempfile::tempdir().expect("a folder");
    let file = broken(
        folder.path(),
        "${service.spec.clusterIP}",
        "${ service.spec.clusterIP }  ",
    );
    let path = file.display().to_string();
    assert_eq!(corvus(&["graph", "fmt", "--check", &path]).0, Some(1));
    assert_eq!(corvus(&["graph", "fmt", &path]).0, Some(0));
    let text = std::fs::read_to_string(&file).expect("there");
    assert_eq!(text, std::fs::read_to_string(definition).expect("there"));
}

#[test]
fn a_plan_says_what_a_change_would_do() {
    if !has("kubectl", "a_plan_says_what_a_change_would_do") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &[]);
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let plan = |file: &str| {
        let (code, stdout, stderr) = corvus(&[
            "graph",
            "plan",
            file,
            "--kubeconfig",
            &kubeconfig,
            "-o",
            "json",
        ]);
        let plan: Value =
            serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        (code, plan)
    };
    let (code, new) = plan(&example("rgd.yaml"));
    assert_eq!((code, &new["new"]), (Some(0), &json!(true)));

    apply_site(&cluster);

    let (code, same) = plan(&example("rgd.yaml"));
    assert_eq!(
        (code, &same["instances"][0]["objects"]),
        (Some(0), &json!([]))
    );
    let changed = broken(folder.path(), "containerPort: 80", "containerPort: 8080");
    let (code, changed) = plan(&changed.display().to_string());
    assert_eq!(code, Some(0));
    let object = &changed["instances"][0]["objects"][0];
    assert_eq!(
        (&object["action"], &object["object"]),
        (&json!("change"), &json!("Deployment default/hello"))
    );
    let field = &object["fields"][0];
    assert_eq!(
        (&field["before"], &field["after"]),
        (&json!(80), &json!(8080))
    );
    let renamed = broken(folder.path(), "-config", "-settings");
    let (_, renamed) = plan(&renamed.display().to_string());
    let actions: Vec<&Value> = renamed["instances"][0]["objects"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|object| &object["action"])
        .collect();
    assert_eq!(actions, ["create", "change", "delete"]);
    let refused = broken(folder.path(), "maximum=100", "maximum=1");
    let (code, refused) = plan(&refused.display().to_string());
    assert_eq!((code, &refused["refused"]), (Some(1), &json!(true)));
    assert!(
        refused["instances"][0]["problems"]
            .to_string()
            .contains("spec.replicas"),
        "{refused}"
    );

    let (code, stdout, stderr) = corvus(&[
        "graph",
        "status",
        "site/hello",
        "--kubeconfig",
        &kubeconfig,
        "-o",
        "json",
    ]);
    assert_eq!(code, Some(0), "{stderr}");
    let told: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(told["state"], "ACTIVE");
    assert_eq!(told["resources"][1]["objects"][0]["name"], "hello");
    let (code, _, stderr) = corvus(&["graph", "status", "nobody", "--kubeconfig", &kubeconfig]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("there is no instance \"nobody\""),
        "{stderr}"
    );
    follow_to_the_end(&cluster, &kubeconfig);
}

/// A followed status tells of a change, and ends with its instance.
fn follow_to_the_end(cluster: &Running, kubeconfig: &str) {
    let mut following = Command::new(CORVUS)
        .args(["graph", "status", "hello", "-w", "--kubeconfig", kubeconfig])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(following.stdout.take().expect("piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    let mut until = |part: &str| {
        let found = lines.any(|line| line.contains(part));
        assert!(found, "nothing told of {part:?}");
    };
    until("ACTIVE");
    let suspend = ["annotate", "site", "hello", "kro.run/reconcile=suspended"];
    cluster.must(&suspend);
    until("suspended");
    cluster.must(&["annotate", "site", "hello", "kro.run/reconcile-"]);
    cluster.must(&["delete", "site", "hello", "--timeout", "60s"]);
    let ended = following.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("there is no instance \"hello\""),
        "{stderr}"
    );
}

#[test]
fn diagrams_are_drawn() {
    let definition = example("rgd.yaml");
    for (language, start) in [
        ("svg", "<svg "),
        ("mermaid", "flowchart TD"),
        ("dot", "digraph {"),
    ] {
        let (code, stdout, stderr) = corvus(&["graph", "diagram", &definition, "-o", language]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(
            stdout.starts_with(start) && stdout.contains("service"),
            "{stdout}"
        );
    }
    let (code, _, stderr) = corvus(&["graph", "diagram", &example("instance.yaml")]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("there is no ResourceGraphDefinition"),
        "{stderr}"
    );
}

#[test]
fn run_says_what_is_wrong_with_the_kubeconfig() {
    let (code, _, stderr) = corvus(&["run", "--kubeconfig", "nowhere/kubeconfig"]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(
        stderr.contains("reading the kubeconfig nowhere/kubeconfig")
            && stderr.contains("No such file"),
        "{stderr}"
    );
    // A cluster that was there once.
    let folder = tempfile::tempdir().expect("a folder");
    let gone = Running::start(folder.path(), &["--virtual-nodes", "0"]);
    let kubeconfig = gone.kubeconfig().display().to_string();
    gone.kill();
    let (code, _, stderr) = corvus(&["run", "--kubeconfig", &kubeconfig]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(
        stderr.contains("reaching the cluster at https://127.0.0.1:"),
        "{stderr}"
    );
}

#[test]
fn run_serves_graphs_on_another_cluster() {
    if !has("kubectl", "run_serves_graphs_on_another_cluster") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &["--controllers", "*,-graph"]);
    let unknown = cluster.kubectl(&["get", "rgd"]);
    assert!(!unknown.status.success(), "nothing serves graphs yet");
    let mut attached = Command::new(CORVUS)
        .args(["run", "--kubeconfig"])
        .arg(cluster.kubeconfig())
        .args(["--metrics-bind-address", "127.0.0.1:0"])
        .args(["--health-probe-bind-address", "127.0.0.1:0"])
        .args(["--feature-gates", "InstanceConditionMetrics=true"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(attached.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("it says that it runs").expect("text");
    assert_eq!(first, "running");
    let mut told = BufReader::new(attached.stderr.take().expect("piped")).lines();
    let mut address = |pages: &str| -> String {
        let mut lines = told.by_ref().map(|line| line.expect("text"));
        let start = format!("{pages} on http://");
        let found = lines.find_map(|line| Some(line.strip_prefix(&start)?.to_owned()));
        found.unwrap_or_else(|| panic!("{pages} are served nowhere"))
    };
    let (metrics, health) = (address("metrics"), address("health"));
    apply_site(&cluster);
    assert!(page(&health, "/readyz").ends_with("ok"));
    // A pass is counted when it is over, a moment after the status it wrote can be read.
    for series in [
        "dynamic_controller_gvr_count 1",
        "instance_reconcile_total{gvr=\"kro.run/v1alpha1, Resource=sites\"} ",
        "runtime_node_eval_total ",
        "cel_expr_eval_total ",
        "instance_condition_current_status_seconds{gvr=\"kro.run/v1alpha1, Resource=sites\",",
    ] {
        support::eventually(&format!("{series} is there"), || {
            page(&metrics, "/metrics").contains(series).then_some(())
        });
    }
    let interrupted = Command::new("kill")
        .args(["-INT", &attached.id().to_string()])
        .status()
        .expect("kill");
    assert!(interrupted.success());
    assert_eq!(attached.wait().expect("it ends").code(), Some(0));
}

#[test]
fn run_needs_no_more_than_the_roles_of_its_manifest() {
    if !has(
        "kubectl",
        "run_needs_no_more_than_the_roles_of_its_manifest",
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &["--controllers", "*,-graph"]);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/graphs.yaml");
    cluster.must(&["apply", "-f", manifest]);
    let roles = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/site/roles.yaml"
    );
    cluster.must(&["apply", "-f", roles]);
    // The account of the manifest, as its Pods would have it.
    let token = cluster.must(&["-n", "kro-system", "create", "token", "kro"]);
    let kubeconfig = folder.path().join("restricted");
    std::fs::copy(cluster.kubeconfig(), &kubeconfig).expect("a copy");
    let file = kubeconfig.display().to_string();
    let config =
        |words: &[&str]| cluster.must(&[&["config", "--kubeconfig", &file], words].concat());
    config(&["set-credentials", "kro", "--token", token.trim()]);
    config(&["set-context", "--current", "--user", "kro"]);
    let more = cluster.kubectl(&["--kubeconfig", &file, "auth", "can-i", "create", "secrets"]);
    assert_eq!(String::from_utf8_lossy(&more.stdout).trim(), "no");
    let mut attached = Command::new(CORVUS)
        .args(["run", "--kubeconfig", &file])
        .args(["--leader-election-namespace", "kro-system"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    apply_site(&cluster);
    let lease = [
        "-n",
        "kro-system",
        "get",
        "lease",
        "controller.kro.run",
        "-o",
        "name",
    ];
    cluster.must(&lease);
    cluster.must(&["delete", "site", "hello", "--timeout", "60s"]);
    attached.kill().expect("it is there");
    attached.wait().expect("it ends");
}

#[test]
fn a_key_that_is_there_twice_is_told_and_the_last_one_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = broken(
        folder.path(),
        "      apiVersion: v1\n",
        "      apiVersion: v2\n      apiVersion: v1\n",
    );
    let (code, stdout, stderr) = corvus(&["graph", "lint", &file.display().to_string()]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(
        stderr.contains("the key is there twice; the last one counts"),
        "{stderr}"
    );
}

#[test]
fn the_examples_behind_feature_gates_pass_their_tests() {
    for (name, gate) in [
        ("variables", "Variables=true"),
        ("propagation", "PropagationControl=true"),
        ("rollout", "PropagationControl=true"),
        ("scale", "ScaleSubresource=true"),
        ("external-fields", "ExternalFields=true"),
        ("lifecycles", "DeletionPolicy=true,ResourceLifecycles=true"),
        ("deferred-fields", "DeferredFields=true"),
        ("partial-dependencies", "PartialDependencies=true"),
        ("dynamic-keys", "DynamicTemplateKeys=true"),
        ("decorators", "Decorators=true"),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples")
            .join(name);
        let file = |name: &str| folder.join(name).display().to_string();
        let words = |command: &'static str| ["graph", command, "--feature-gates", gate];
        let test = file("test.yaml");
        let (code, stdout, stderr) = corvus(&[&words("test")[..], &[&test]].concat());
        assert_eq!(code, Some(0), "{name}: {stdout}{stderr}");
        let (rgd, instance) = (file("rgd.yaml"), file("instance.yaml"));
        for command in ["lint", "render"] {
            let (code, stdout, stderr) =
                corvus(&[&words(command)[..], &[&rgd, &instance]].concat());
            assert_eq!(code, Some(0), "{command} {name}: {stdout}{stderr}");
        }
        for command in ["explain", "diagram"] {
            let (code, stdout, stderr) = corvus(&[&words(command)[..], &[&rgd]].concat());
            assert_eq!(code, Some(0), "{command} {name}: {stdout}{stderr}");
        }
        if name == "partial-dependencies" {
            // It builds without its gate, and becomes something else.
            let (code, stdout, _) = corvus(&["graph", "test", &test]);
            assert_eq!(code, Some(1), "{stdout}");
            continue;
        }
        let (code, stdout, _) = corvus(&["graph", "lint", &rgd]);
        assert_eq!(code, Some(1), "{name} needs its gate: {stdout}");
        assert!(stdout.contains("feature gate to be enabled"), "{stdout}");
    }
}

/// What a page answers, head and body.
fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n"
    )
    .expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    text
}

#[test]
fn an_author_sees_who_is_on_which_revision() {
    if !has("kubectl", "an_author_sees_who_is_on_which_revision") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let gates = "PropagationControl=true,RevisionPinning=true";
    let cluster = Running::start(folder.path(), &["--feature-gates", gates]);
    let example = |file: &str| {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/rollout");
        examples.join(file).display().to_string()
    };
    cluster.must(&["apply", "-f", &example("rgd.yaml")]);
    cluster.must(&[
        "wait",
        "--for=condition=Ready",
        "rgd/branch.kro.run",
        "--timeout=60s",
    ]);
    cluster.until(&["apply", "-f", &example("instance.yaml")], |_| true);
    let branch = "branches.kro.run/berlin";
    cluster.must(&["wait", "--for=condition=Ready", branch, "--timeout=60s"]);
    cluster.must(&["annotate", branch, "kro.run/graph-revision=1"]);

    let text = std::fs::read_to_string(example("rgd.yaml")).expect("the example");
    let changed = folder.path().join("changed.yaml");
    std::fs::write(&changed, text.replace("motd: Welcome", "motd: Hello")).expect("written");
    let changed = changed.display().to_string();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let graph = |words: &[&str]| {
        let mut all = vec!["graph", "--feature-gates", gates];
        all.extend(words);
        all.extend(["--kubeconfig", &kubeconfig]);
        corvus(&all)
    };
    let (code, plan, stderr) = graph(&["plan", &changed]);
    assert_eq!(code, Some(0), "{plan}{stderr}");
    assert!(plan.contains("1 of 1 instances are not touched"), "{plan}");
    assert!(
        plan.contains("Instances are held back by: linearlyUpdated(branch, branches, 1);"),
        "{plan}"
    );

    cluster.must(&["apply", "-f", &changed]);
    cluster.must(&[
        "wait",
        "--for=jsonpath={.status.lastIssuedRevision}=2",
        "rgd/branch.kro.run",
        "--timeout=60s",
    ]);
    cluster.must(&[
        "annotate",
        branch,
        "kro.run/graph-revision=7",
        "--overwrite",
    ]);
    cluster.must(&[
        "wait",
        "--for=jsonpath={.status.state}=ERROR",
        branch,
        "--timeout=60s",
    ]);
    let (code, status, stderr) = graph(&["status", "berlin"]);
    assert_eq!(code, Some(1), "{status}{stderr}");
    assert!(
        status
            .contains("GraphResolved is False: graph revision 7 of branch.kro.run does not exist"),
        "{status}"
    );
    // It is shown by the revision it is on, so nothing is missing.
    assert!(status.contains("settings  SYNCED"), "{status}");
    cluster.must(&["annotate", branch, "kro.run/graph-revision-"]);
    cluster.must(&[
        "wait",
        "--for=jsonpath={.status.graphRevision}=2",
        branch,
        "--timeout=60s",
    ]);
}
