//! Bad input, and what a user with kubectl is told about it.

mod support;

use std::fmt::Write as _;
use std::process::Output;
use std::time::Instant;

use support::{Running, has};

/// A definition that is fine; tests replace one part of it.
const GOOD: &str = r#"
apiVersion: kro.run/v1alpha1
kind: ResourceGraphDefinition
metadata: {name: NAME}
spec:
  schema:
    apiVersion: v1alpha1
    kind: Shop
    spec:
      name: string
      replicas: integer | default=1
    status:
      ready: ${deployment.status.readyReplicas}
  resources:
  - id: deployment
    readyWhen: ["${deployment.status.readyReplicas == 1}"]
    template:
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: "${schema.spec.name}"}
      spec:
        replicas: ${schema.spec.replicas}
        selector: {matchLabels: {app: shop}}
        template:
          metadata: {labels: {app: shop}}
          spec: {containers: [{name: web, image: "nginx:1"}]}
  - id: config
    template:
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: "${deployment.metadata.name}-config"}
      data: {replicas: "${string(schema.spec.replicas)}"}
"#;

/// A mistake: its name, what is replaced by what, and what `kubectl describe` must say.
struct Mistake {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    told: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "template-field",
        from: "replicas: ${schema.spec.replicas}\n",
        to: "replica: ${schema.spec.replicas}\n",
        told: &[
            "resource \"deployment\"",
            "path \"spec.replica\"",
            "did you mean \"replicas\"?",
        ],
    },
    Mistake {
        name: "expression-field",
        from: "string(schema.spec.replicas)",
        to: "string(schema.spec.replica)",
        told: &[
            "resource \"config\"",
            "path \"data.replicas\"",
            "expression \"string(schema.spec.replica)\"",
            "1:19",
            "undefined field 'replica'; did you mean 'replicas'?",
        ],
    },
    Mistake {
        name: "schema-type",
        from: "replicas: integer | default=1",
        to: "replicas: integr | default=1",
        told: &["replicas", "integr", "did you mean \"integer\"?"],
    },
    Mistake {
        name: "kind",
        from: "kind: ConfigMap",
        to: "kind: ConfigMpa",
        told: &[
            "resource \"config\"",
            "ConfigMpa",
            "did you mean \"ConfigMap\"?",
        ],
    },
    Mistake {
        name: "cycle",
        from: "selector: {matchLabels: {app: shop}}",
        to: "selector: {matchLabels: {app: \"${config.metadata.name}\"}}",
        told: &["graph contains a cycle: deployment -> config -> deployment"],
    },
    Mistake {
        name: "unparsable",
        from: "string(schema.spec.replicas)",
        to: "string(schema.spec.replicas",
        told: &[
            "resource \"config\"",
            "path \"data.replicas\"",
            "expression \"string(schema.spec.replicas\"",
            "1:28",
        ],
    },
    Mistake {
        name: "reference",
        from: "${deployment.metadata.name}-config",
        to: "${deploymnt.metadata.name}-config",
        told: &[
            "resource \"config\"",
            "path \"metadata.name\"",
            "references unknown identifiers: [deploymnt]",
            "did you mean \"deployment\"?",
        ],
    },
    Mistake {
        name: "ready-when",
        from: "${deployment.status.readyReplicas == 1}",
        to: "${deployment.status.readyReplicas}",
        told: &[
            "resource \"deployment\"",
            "readyWhen[0]",
            "deployment.status.readyReplicas",
            "bool",
            "int",
        ],
    },
];

#[test]
fn a_mistake_in_a_definition_is_told_where_it_is() {
    if !has("kubectl", "a_mistake_in_a_definition_is_told_where_it_is") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &[]);
    let mut wrong = Vec::new();
    for mistake in MISTAKES {
        assert!(GOOD.contains(mistake.from), "{}", mistake.name);
        let text = GOOD.replacen(mistake.from, mistake.to, 1);
        cluster.apply(&text.replace("NAME", mistake.name));
        let table = ["get", "rgd", mistake.name, "--no-headers"];
        cluster.until(&table, |line| line.contains("Inactive"));
        let said = cluster.must(&["describe", "rgd", mistake.name]);
        let missing: Vec<_> = mistake
            .told
            .iter()
            .filter(|part| !said.contains(**part))
            .collect();
        if !missing.is_empty() {
            let message = said.lines().find(|line| line.contains("Message:"));
            wrong.push(format!("{}: {missing:?} in {message:?}", mistake.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What is right is not held up by what is wrong.
    cluster.apply(&GOOD.replace("NAME", "good"));
    let state = ["get", "rgd", "good", "-o", "jsonpath={.status.state}"];
    cluster.until(&state, |text| text == "Active");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// kubectl fails, and says all of `expect`.
#[track_caller]
fn check_refused(cluster: &Running, arguments: &[&str], input: &str, expect: &[&str]) {
    let output = cluster.kubectl_with(arguments, input);
    let said = stderr(&output);
    assert!(!output.status.success(), "{}: {said}", arguments.join(" "));
    for part in expect {
        let shown: String = said.chars().take(2000).collect();
        assert!(said.contains(part), "{part:?} is missing in: {shown}");
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn bad_requests_are_refused_with_upstreams_words() {
    if !has("kubectl", "bad_requests_are_refused_with_upstreams_words") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &["--virtual-nodes", "0"]);
    let raw = ["create", "--raw", MAPS, "-f", "-"];
    let broken = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},}"#;
    check_refused(
        &cluster,
        &raw,
        broken,
        &["(BadRequest)", "invalid character '}'"],
    );
    check_refused(&cluster, &raw, "", &["(BadRequest)"]);
    let big = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"big"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    // A file, as kubectl stops reading stdin when the server answers early.
    let file = folder.path().join("big.json");
    std::fs::write(&file, big).expect("written");
    let raw = ["create", "--raw", MAPS, "-f", &file.display().to_string()];
    check_refused(&cluster, &raw, "", &["limit is 3145728"]);

    let name =
        |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name:?}}}\n");
    let server = ["create", "--validate=false", "-f", "-"];
    let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'";
    let absurd = format!("{}a", "a.".repeat(126));
    for bad in ["Not_A_Name", "-a", "a b", "ä", "a..b"] {
        let expect = ["is invalid: metadata.name: Invalid value:", rule];
        check_refused(&cluster, &server, &name(bad), &expect);
    }
    let expect = [
        "is invalid: metadata.name: Invalid value:",
        "must be no more than 253",
    ];
    check_refused(&cluster, &server, &name(&format!("{absurd}a")), &expect);

    let misspelt = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: misspelt}\ndatta: {a: b}\n";
    let mode = |mode: &str| format!("--validate={mode}");
    let strict = ["create", &mode("strict"), "-f", "-"];
    let unknown = "unknown field \"datta\"";
    check_refused(
        &cluster,
        &strict,
        misspelt,
        &["strict decoding error", unknown],
    );
    let warned = cluster.kubectl_with(&["create", &mode("warn"), "-f", "-"], misspelt);
    assert!(
        warned.status.success() && stderr(&warned).contains(unknown),
        "{}",
        stderr(&warned)
    );
    cluster.must(&["delete", "configmap", "misspelt"]);
    let ignored = cluster.kubectl_with(&["create", &mode("ignore"), "-f", "-"], misspelt);
    assert!(
        ignored.status.success() && stderr(&ignored).is_empty(),
        "{}",
        stderr(&ignored)
    );

    let selector = format!("{MAPS}?labelSelector=a%20in%20(b");
    let expect = ["(BadRequest)", "unable to parse requirement"];
    check_refused(&cluster, &["get", "--raw", &selector], "", &expect);
    cluster.must(&["get", "namespaces"]);
}

/// Nested aliases: a few hundred bytes that stand for billions of strings.
fn alias_bomb() -> String {
    let mut text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nx0: &x0 [lol]\n".to_owned();
    for level in 1..=9 {
        let below = vec![format!("*x{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "x{level}: &x{level} [{below}]");
    }
    text
}

#[test]
fn a_yaml_bomb_is_refused_at_once() {
    if !has("kubectl", "a_yaml_bomb_is_refused_at_once") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &["--virtual-nodes", "0"]);
    // kubectl reads YAML itself and refuses it before the server sees it.
    let apply = ["apply", "--server-side", "-f", "-"];
    check_refused(
        &cluster,
        &apply,
        &alias_bomb(),
        &["document contains excessive aliasing"],
    );
    let started = Instant::now();
    cluster.must(&["get", "namespaces"]);
    assert!(started.elapsed().as_secs() < 20);
}
