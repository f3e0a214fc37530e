//! The objects of an instance: `check-multi-resource-rgd`, `instance_resource_watch_test`, `nested_test`,
//! `unknown_fields_test`, `resource_shape_compatibility_test`, `status_*_test`, `webhook_denial_test`, `lifecycle_test`.

use controller::{ObjectKey, Resource};
use serde_json::{Value, json};

use super::{redefine, served, set, wait_status};
use crate::world::{World, app, apps, condition, config, config_map, config_maps, crds, it, rgds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_resources_are_made_in_order_and_follow_the_instance() {
    let labels = json!({"app": "${schema.metadata.name}"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "${config.metadata.name}-app"},
        "spec": {"replicas": "${schema.spec.replicas}", "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "nginx",
                "envFrom": [{"configMapRef": {"name": "${config.metadata.name}"}}]}]}}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "${config.metadata.name}-svc"},
        "spec": {"selector": labels, "ports": [{"port": 80}]}});
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "${service.metadata.name}-hpa"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "${deployment.metadata.name}"}}});
    let rgd = app(
        json!({"replicas": "integer | default=1"}),
        json!({}),
        json!([
            {"id": "autoscaler", "template": autoscaler},
            {"id": "config", "template": config_map("${schema.metadata.name}", json!({"a": "b"}))},
            {"id": "service", "template": service},
            {"id": "deployment", "template": deployment},
        ]),
    );
    let world = served(rgd, json!({})).await;
    world.wait_active().await;
    let rgd = world
        .get(&rgds(), &ObjectKey::cluster("app"))
        .await
        .unwrap();
    assert_eq!(
        rgd.status()["topologicalOrder"],
        json!(["config", "service", "deployment", "autoscaler"])
    );
    let deployments = Resource::namespaced("apps/v1", "deployments", "Deployment");
    let autoscalers = Resource::namespaced(
        "autoscaling/v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
    );
    let services = Resource::namespaced("v1", "services", "Service");
    let all = [
        (&config_maps(), "it", "1"),
        (&services, "it-svc", "2"),
        (&deployments, "it-app", "2"),
        (&autoscalers, "it-svc-hpa", "3"),
    ];
    for (resource, name, wave) in all {
        let found = world.get(resource, &config(name)).await.unwrap();
        assert_eq!(found.label("kro.run/instance-name"), Some("it"));
        assert_eq!(found.label("kro.run/owned"), Some("true"));
        assert_eq!(
            found.annotation("internal.kro.run/apply-order"),
            Some(wave),
            "{name}"
        );
    }
    set(&world, json!({"replicas": 3})).await;
    world
        .wait(&deployments, &config("it-app"), |found| {
            found.value()["spec"]["replicas"] == 3
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_changed_or_deleted_is_put_right() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"key": "value"}});
    let rgd = app(
        json!({}),
        json!({}),
        json!([{"id": "secret", "template": secret}]),
    );
    let world = served(rgd, json!({})).await;
    world.wait_active().await;
    let secrets = Resource::namespaced("v1", "secrets", "Secret");
    let key = config("secret");
    let is_right = |secret: &controller::Object| secret.value()["data"]["key"] == "dmFsdWU=";
    world
        .change(&secrets, &key, json!({"data": {"key": "d3Jvbmc="}}))
        .await;
    world.wait(&secrets, &key, is_right).await;
    world.delete(&secrets, &key).await;
    world.wait(&secrets, &key, is_right).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_can_make_definitions() {
    let nested = json!({
        "apiVersion": "kro.run/v1alpha1", "kind": "ResourceGraphDefinition", "metadata": {"name": "${schema.metadata.name}-made"},
        "spec": {
            "schema": {"apiVersion": "v1", "kind": "Made", "spec": "${schema.spec.fields}"},
            "resources": [{"id": "map", "template": config_map("${\"${schema.metadata.name}-map\"}", json!({"of": "${schema.metadata.name}"}))}],
        },
    });
    let rgd = app(
        json!({"fields": "object"}),
        json!({"state": "${made.status.state}"}),
        json!([{"id": "made", "template": nested}]),
    );
    let world = served(rgd, json!({"fields": {"size": "integer | default=4"}})).await;
    world.wait_rgd_active("it-made").await;
    let mades = Resource::namespaced("kro.run/v1", "mades", "Made");
    let object = json!({"apiVersion": "kro.run/v1", "kind": "Made", "metadata": {"name": "x", "namespace": "default"}});
    world.create(&mades, object).await;
    let made = world
        .wait(&mades, &config("x"), |made| {
            made.status()["state"] == "ACTIVE"
        })
        .await;
    assert_eq!(made.value()["spec"], json!({"size": 4}));
    let map = world.get(&config_maps(), &config("x-map")).await.unwrap();
    assert_eq!(map.value()["data"]["of"], "it");
}

/// A kind with any fields and of an unusual version.
async fn open_kind(world: &World) -> Resource {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1api20200601", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open}}}}]}});
    world.create(&crds(), crd).await;
    let key = ObjectKey::cluster("things.example.com");
    world
        .wait(&crds(), &key, |crd| {
            controller::condition::is_true(crd.status(), "Established")
        })
        .await;
    Resource::namespaced("example.com/v1api20200601", "things", "Thing")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_kinds_take_and_give_any_fields() {
    let world = World::start().await;
    let things = open_kind(&world).await;
    let thing = json!({"apiVersion": "example.com/v1api20200601", "kind": "Thing", "metadata": {"name": "thing"},
        "spec": {"deep": {"list": [{"any": "${schema.spec.free.a.b}"}], "whole": "${schema.spec.free}"}}});
    let rgd = app(
        json!({"free": "object"}),
        json!({"back": "${thing.spec.deep.list[0].any}"}),
        json!([
            {"id": "thing", "template": thing},
            {"id": "map", "template": config_map("map", json!({"n": "${string(thing.spec.deep.whole.n)}"}))},
        ]),
    );
    world.define(rgd).await;
    let free = json!({"a": {"b": "c"}, "n": 7});
    world.app(json!({"free": free})).await;
    let active = world.wait_active().await;
    assert_eq!(active.status()["back"], "c");
    let thing = world.get(&things, &config("thing")).await.unwrap();
    assert_eq!(thing.value()["spec"]["deep"]["whole"], free);
    let map = world.get(&config_maps(), &config("map")).await.unwrap();
    assert_eq!(map.value()["data"]["n"], "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_of_a_definition_of_kinds_has_expressions_in_its_metadata_only() {
    let made = |kind: &str| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com", "labels": {"of": "${schema.metadata.name}"}},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": kind, "plural": "gadgets"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "description": "costs $5 {or more}"}}}]}})
    };
    let rgd = app(
        json!({}),
        json!({}),
        json!([{"id": "made", "template": made("Gadget")}]),
    );
    let world = served(rgd, json!({})).await;
    world.wait_active().await;
    let key = ObjectKey::cluster("gadgets.example.com");
    let found = world.get(&crds(), &key).await.unwrap();
    assert_eq!(found.label("of"), Some("it"));
    redefine(
        &world,
        json!({"resources": [{"id": "made", "template": made("${schema.metadata.name}")}]}),
    )
    .await;
    world
        .wait(&rgds(), &ObjectKey::cluster("app"), |rgd| {
            let message = condition(rgd, "GraphAccepted")["message"].to_string();
            message.contains("only supported for metadata fields")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_the_status_come_and_go_with_their_data() {
    let rgd = app(
        json!({"text": "string"}),
        json!({
            "text": "${schema.spec.text}",
            "mixed": "${map.metadata.name}: ${map.data.later}",
            "nested": {"later": "${map.data.later}"},
            "list": ["${map.data.text}", "${schema.spec.text}"],
            "maybe": "${map.data.?later.orValue('not yet')}",
        }),
        json!([{"id": "map", "template": config_map("map", json!({"text": "${schema.spec.text}"}))}]),
    );
    let world = served(rgd, json!({"text": "a"})).await;
    let without = |app: &controller::Object| {
        let status = app.status();
        status["maybe"] == "not yet"
            && status.get("mixed").is_none()
            && status["nested"].get("later").is_none()
            && status["list"] == json!(["a", "a"])
    };
    world.wait(&apps(), &it(), without).await;
    world
        .change(
            &config_maps(),
            &config("map"),
            json!({"data": {"later": "now"}}),
        )
        .await;
    let with = wait_status(&world, "/mixed", &json!("map: now")).await;
    assert_eq!(with.status()["nested"]["later"], "now");
    assert_eq!(with.status()["maybe"], "now");
    world
        .change(
            &config_maps(),
            &config("map"),
            json!({"data": {"later": null}}),
        )
        .await;
    world.wait(&apps(), &it(), without).await;
    set(&world, json!({"text": "b"})).await;
    wait_status(&world, "/list", &json!(["b", "b"])).await;
    wait_status(&world, "/text", &json!("b")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_definition_reaches_the_instances_there_are() {
    let resources =
        |text: &str| json!([{"id": "map", "template": config_map("map", json!({"text": text}))}]);
    let world = served(app(json!({}), json!({}), resources("one")), json!({})).await;
    world.wait_active().await;
    redefine(&world, json!({"resources": resources("two")})).await;
    world
        .wait(&config_maps(), &config("map"), |map| {
            map.value()["data"]["text"] == "two"
        })
        .await;
    let rgd = world.wait_rgd_active("app").await;
    assert_eq!(rgd.status()["lastIssuedRevision"], 2);
    assert_eq!(
        condition(&rgd, "GraphRevisionsResolved")["message"],
        "revision 2 compiled and active"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_denies_is_told_in_its_words_and_made_when_it_is_lifted() {
    let options = graph::Options {
        retry_interval: std::time::Duration::from_millis(50),
        ..graph::Options::default()
    };
    let world = World::with(options).await;
    let policies = Resource::cluster(
        "admissionregistration.k8s.io/v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
    );
    let bindings = Resource::cluster(
        "admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
    );
    let group = "admissionregistration.k8s.io/v1";
    let policy = json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "deny"},
        "spec": {"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "object.metadata.name != 'denied'", "message": "nobody makes that"}]}});
    let binding = json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "deny"},
        "spec": {"policyName": "deny", "validationActions": ["Deny"]}});
    world.create(&policies, policy).await;
    world.create(&bindings, binding).await;
    let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "denied", "namespace": "default"}});
    testkit::eventually("the policy holds", || async {
        let made = world.api.create(&config_maps(), &probe).await;
        if made.is_ok() {
            world.delete(&config_maps(), &config("denied")).await;
        }
        made.err().map(drop)
    })
    .await;
    let rgd = app(
        json!({}),
        json!({}),
        json!([{"id": "map", "template": config_map("denied", json!({}))}]),
    );
    world.define(rgd).await;
    world.app(json!({})).await;
    let failed = wait_status(&world, "/state", &json!("ERROR")).await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(message.contains("nobody makes that"), "{message}");
    world.delete(&bindings, &ObjectKey::cluster("deny")).await;
    world.wait_active().await;
    let map: Option<Value> = world
        .get(&config_maps(), &config("denied"))
        .await
        .map(controller::Object::into_value);
    assert!(map.is_some());
}
