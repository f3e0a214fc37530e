//! The Python client from PyPI, unmodified, against `corvus up`.

mod support;

use std::process::Command;

use support::Running;

const PROGRAM: &str = r#"
import sys
from kubernetes import client, config, watch
config.load_kube_config(sys.argv[1])
core, apps = client.CoreV1Api(), client.AppsV1Api()

core.create_namespaced_config_map("default", client.V1ConfigMap(
    metadata=client.V1ObjectMeta(name="a", labels={"app": "x"}), data={"k": "v"}))
assert core.read_namespaced_config_map("a", "default").data == {"k": "v"}
core.patch_namespaced_config_map("a", "default", {"data": {"l": "w"}})
assert [m.metadata.name for m in core.list_namespaced_config_map("default", label_selector="app=x").items] == ["a"]
try:
    core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a")))
    raise SystemExit("a name was taken twice")
except client.ApiException as e:
    assert e.status == 409 and "already exists" in e.body, e

labels = {"app": "web"}
apps.create_namespaced_deployment("default", client.V1Deployment(
    metadata=client.V1ObjectMeta(name="web"),
    spec=client.V1DeploymentSpec(
        replicas=2,
        selector=client.V1LabelSelector(match_labels=labels),
        template=client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels),
            spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="nginx")])))))
for event in watch.Watch().stream(apps.list_namespaced_deployment, "default", timeout_seconds=60):
    status = event["object"].status
    if status and status.available_replicas == 2:
        break
else:
    raise SystemExit("the deployment never became available")
assert len(core.list_namespaced_pod("default", label_selector="app=web").items) == 2

apiextensions = client.ApiextensionsV1Api()
names = client.V1CustomResourceDefinitionNames(plural="things", kind="Thing")
schema = client.V1CustomResourceValidation(open_apiv3_schema=client.V1JSONSchemaProps(
    type="object", properties={"spec": client.V1JSONSchemaProps(
        type="object", properties={"size": client.V1JSONSchemaProps(type="integer", default=3)})}))
version = client.V1CustomResourceDefinitionVersion(name="v1", served=True, storage=True, schema=schema)
apiextensions.create_custom_resource_definition(client.V1CustomResourceDefinition(
    metadata=client.V1ObjectMeta(name="things.example.com"),
    spec=client.V1CustomResourceDefinitionSpec(
        group="example.com", scope="Namespaced", names=names, versions=[version])))
for event in watch.Watch().stream(apiextensions.list_custom_resource_definition, timeout_seconds=60):
    conditions = (event["object"].status and event["object"].status.conditions) or []
    if event["object"].metadata.name == "things.example.com" and any(
            c.type == "Established" and c.status == "True" for c in conditions):
        break
else:
    raise SystemExit("the definition was never established")
custom = client.CustomObjectsApi()
thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {}}
made = custom.create_namespaced_custom_object("example.com", "v1", "default", "things", thing)
assert made["spec"] == {"size": 3}, made
print("python client: ok")
"#;

#[test]
fn a_python_program_works_unmodified() {
    let packages = std::env::var("CORVUS_TEST_PYTHONPATH").unwrap_or_default();
    let probe = Command::new("python3")
        .env("PYTHONPATH", &packages)
        .args(["-c", "import kubernetes"])
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!(
            "SKIPPED a_python_program_works_unmodified: python3 has no kubernetes package \
             (pip install kubernetes; .ci/run does)"
        );
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Running::start(folder.path(), &[]);
    let output = Command::new("python3")
        .env("PYTHONPATH", &packages)
        .args(["-c", PROGRAM])
        .arg(cluster.kubeconfig())
        .output()
        .expect("python3 runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
