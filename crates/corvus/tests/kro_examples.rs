//! The examples kro publishes, applied with unmodified kubectl: definition, instance, deletion.

mod support;

use std::path::Path;

use support::{Running, cases, has};

/// A definition with its instance, and what becomes of it.
struct Example {
    definitions: &'static [&'static str],
    instance: &'static str,
    resource: &'static str,
    name: &'static str,
    /// Children by resource and name; they must be there and go with the instance.
    children: &'static [&'static str],
}

const EXAMPLES: &[Example] = &[
    Example {
        definitions: &["webapp/rg.yaml"],
        instance: "webapp/instance.yaml",
        resource: "webapps.kro.run",
        name: "test-app",
        children: &[
            "deployment/test-app",
            "service/test-app",
            "ingress/test-app",
        ],
    },
    Example {
        definitions: &["additionalPrinterColumns/rg.yaml"],
        instance: "additionalPrinterColumns/instance.yaml",
        resource: "applications.kro.run",
        name: "test-app",
        children: &["deployment/test-app"],
    },
    Example {
        definitions: &["cel-functions/rg.yaml"],
        instance: "cel-functions/instance.yaml",
        resource: "somethings.kro.run",
        name: "my-instance-will-cel-functions",
        children: &[],
    },
    Example {
        definitions: &["defaults/rg.yaml"],
        instance: "defaults/instance.yaml",
        resource: "somethings.kro.run",
        name: "my-instance-will-cel-functions",
        children: &[],
    },
    Example {
        definitions: &["dogsvscats/vote-app/rg.yaml"],
        instance: "dogsvscats/vote-app/instance.yaml",
        resource: "voteapps.kro.run",
        name: "vote-app-demo",
        children: &["deployment/vote-app-demo-vote"],
    },
    Example {
        definitions: &["dogsvscats/result-app/rg.yaml"],
        instance: "dogsvscats/result-app/instance.yaml",
        resource: "resultapps.kro.run",
        name: "result-app-demo",
        children: &["deployment/result-app-demo-result"],
    },
    Example {
        definitions: &["dogsvscats/worker-app/rg.yaml"],
        instance: "dogsvscats/worker-app/instance.yaml",
        resource: "workerapps.kro.run",
        name: "worker-app-demo",
        children: &["deployment/worker-app-demo-worker"],
    },
    Example {
        definitions: &["job-example/rgd.yaml"],
        instance: "job-example/instance.yaml",
        resource: "jobdeployments.kro.run",
        name: "example-job-deployment",
        children: &[
            "job/example-job-deployment-job",
            "deployment/example-job-deployment",
        ],
    },
    Example {
        definitions: &["core-dns/core-dns.yaml"],
        instance: "core-dns/coredns-instance.yaml",
        resource: "corednsdeployments.kro.run",
        name: "mynameis",
        children: &[
            "deployment/mynameis",
            "service/mynameis",
            "configmap/mynameis",
        ],
    },
    Example {
        definitions: &[
            "saas-multi-tenant/tenant-environment-rgd.yaml",
            "saas-multi-tenant/tenant-application-rgd.yaml",
            "saas-multi-tenant/tenant-rgd.yaml",
        ],
        instance: "saas-multi-tenant/tenant-instance.yaml",
        resource: "tenants.kro.run",
        name: "tenant001",
        children: &[
            "tenantenvironments.kro.run/tenant001",
            "tenantapplications.kro.run/tenant001",
        ],
    },
];

fn play(cluster: &Running, folder: &Path, example: &Example) {
    let file = |name: &str| folder.join(name).display().to_string();
    for definition in example.definitions {
        cluster.must(&["apply", "-f", &file(definition)]);
        let state = [
            "get",
            "-f",
            &file(definition),
            "-o",
            "jsonpath={.status.state}",
        ];
        cluster.until(&state, |text| text == "Active");
    }
    let established = [
        "wait",
        "--for=condition=Established",
        &format!("crd/{}", example.resource),
        "--timeout=60s",
    ];
    cluster.must(&established);
    cluster.must(&["apply", "-f", &file(example.instance)]);
    let object = format!("{}/{}", example.resource, example.name);
    cluster.until(
        &["get", &object, "-o", "jsonpath={.status.state}"],
        |text| text == "ACTIVE",
    );
    for child in example.children {
        let manager = [
            "get",
            child,
            "-o",
            r"jsonpath={.metadata.labels.app\.kubernetes\.io/managed-by}",
        ];
        assert_eq!(cluster.must(&manager), "kro", "{child}");
    }
    cluster.must(&["delete", "-f", &file(example.instance), "--timeout=60s"]);
    for child in example.children {
        assert!(
            !cluster.kubectl(&["get", child]).status.success(),
            "{child} has stayed"
        );
    }
    for definition in example.definitions.iter().rev() {
        cluster.must(&["delete", "-f", &file(definition), "--timeout=60s"]);
        // The CRD stays, as kro leaves it; the next example may declare the same kind anew.
    }
    cluster.must(&["delete", "crd", example.resource, "--timeout=60s"]);
}

#[test]
fn the_examples_of_kro_become_active_and_go() {
    let test = "the_examples_of_kro_become_active_and_go";
    let Some(folder) = cases("kro-examples", test) else {
        return;
    };
    if !has("kubectl", test) {
        return;
    }
    let data = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(data.path(), &[]);
    for example in EXAMPLES {
        println!("{}", example.instance);
        play(&cluster, &folder, example);
    }
}

/// The example templates an annotation that the Deployment controller sets back.
#[test]
fn a_quarrel_with_the_deployment_controller_is_told() {
    let test = "a_quarrel_with_the_deployment_controller_is_told";
    let Some(folder) = cases("kro-examples", test) else {
        return;
    };
    if !has("kubectl", test) {
        return;
    }
    let data = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(data.path(), &[]);
    let file = |name: &str| folder.join("core-dns").join(name).display().to_string();
    cluster.must(&["apply", "-f", &file("core-dns.yaml")]);
    // The kind is served a moment later.
    let instance = file("coredns-instance.yaml");
    cluster.until(&["apply", "-f", &instance], |_| true);
    let events = [
        "get",
        "events",
        "--field-selector=reason=CorrectionUndone,involvedObject.name=mynameis",
        "-o",
        "jsonpath={.items[*].message}",
    ];
    cluster.until(&events, |text| {
        text.contains("metadata.annotations[\"deployment.kubernetes.io/revision\"] is changed by \"kube-controller-manager\"")
    });
}

#[test]
fn the_examples_of_this_repository_become_active() {
    if !has("kubectl", "the_examples_of_this_repository_become_active") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let data = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(data.path(), &[]);
    let site = Example {
        definitions: &["site/rgd.yaml"],
        instance: "site/instance.yaml",
        resource: "sites.kro.run",
        name: "hello",
        children: &[
            "deployment/hello",
            "service/hello",
            "configmap/hello-config",
        ],
    };
    play(&cluster, &folder, &site);
}
