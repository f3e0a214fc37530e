//! Expressions on a cluster: `format_test`, `two_var_comprehensions_test`, `kubernetes_time_test`, `schema_aware_cel_test`,
//! `metadata_fields_test`, `instance_expression_isolation_test`, `cel-random-namespaced-function`, `omit_test`.

use controller::{ObjectKey, Resource};
use serde_json::json;

use super::{defined, namespace, served, wait_status};
use crate::world::{app, apps, config, config_map, config_maps, it};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_formatted_and_maps_transformed() {
    let rgd = app(
        json!({"ports": "map[string]integer"}),
        json!({"sum": "${schema.spec.ports.transformList(name, port, port).sum()}"}),
        json!([{"id": "map", "template": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"},
            "data": "${schema.spec.ports.transformMapEntry(name, port, {name.upperAscii(): '%s is %d (%x)'.format([name, port, port])})}"}}]),
    );
    let world = served(rgd, json!({"ports": {"http": 80, "https": 443}})).await;
    let map = world.wait(&config_maps(), &config("map"), |_| true).await;
    assert_eq!(
        map.value()["data"],
        json!({"HTTP": "http is 80 (50)", "HTTPS": "https is 443 (1bb)"})
    );
    wait_status(&world, "/sum", &json!(523)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_and_bytes_have_their_types() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"password": "p w"}});
    let rgd = app(
        json!({}),
        json!({
            "created": "${map.metadata.creationTimestamp}",
            "year": "${map.metadata.creationTimestamp.getFullYear()}",
            "password": "${string(secret.data.password)}",
        }),
        json!([
            {"id": "map", "template": config_map("map", json!({}))},
            {"id": "secret", "template": secret},
        ]),
    );
    let world = served(rgd, json!({})).await;
    let active = world.wait_active().await;
    assert_eq!(active.status()["password"], "p w");
    let map = world.get(&config_maps(), &config("map")).await.unwrap();
    let created = &map.value()["metadata"]["creationTimestamp"];
    assert_eq!(active.status()["created"], *created);
    let year: i64 = created.as_str().unwrap()[..4].parse().unwrap();
    assert_eq!(active.status()["year"], year);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_metadata_of_the_instance_can_be_read() {
    let data = json!({
        "name": "${schema.metadata.name}",
        "namespace": "${schema.metadata.namespace}",
        "uid": "${schema.metadata.uid}",
        "label": "${schema.metadata.labels['example.com/team']}",
        "annotation": "${schema.metadata.annotations['example.com/note']}",
        "generation": "${string(schema.metadata.generation)}",
        "created": "${string(schema.metadata.creationTimestamp)}",
        "kind": "${schema.kind}",
        "version": "${schema.apiVersion}",
    });
    let rgd = app(
        json!({}),
        json!({}),
        json!([{"id": "map", "template": config_map("map", data)}]),
    );
    let world = defined(rgd).await;
    let object = json!({"apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "it", "namespace": "default",
        "labels": {"example.com/team": "t"}, "annotations": {"example.com/note": "n"}}});
    world.create(&apps(), object).await;
    let instance = world.wait_active().await;
    let map = world.get(&config_maps(), &config("map")).await.unwrap();
    let metadata = &instance.value()["metadata"];
    assert_eq!(
        map.value()["data"],
        json!({"name": "it", "namespace": "default", "uid": instance.uid(), "label": "t", "annotation": "n", "generation": "1",
            "created": metadata["creationTimestamp"], "kind": "App", "version": "kro.run/v1"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expressions_in_the_data_of_an_instance_stay_text() {
    let rgd = app(
        json!({"text": "string"}),
        json!({"text": "${map.data.text}"}),
        json!([{"id": "map", "template": config_map("map", json!({"text": "${schema.spec.text}", "mixed": "-${schema.spec.text}-"}))}]),
    );
    let world = served(rgd, json!({"text": "${schema.metadata.name}"})).await;
    wait_status(&world, "/text", &json!("${schema.metadata.name}")).await;
    let map = world.get(&config_maps(), &config("map")).await.unwrap();
    assert_eq!(map.value()["data"]["mixed"], "-${schema.metadata.name}-");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeded_name_stays_the_same_in_the_namespace_and_group_that_were_asked_for() {
    let mut template = config_map(
        "${schema.metadata.name}-${random.seededString(6, schema.metadata.uid)}",
        json!({}),
    );
    template["metadata"]["namespace"] = json!("${schema.spec.space}");
    let mut rgd = app(
        json!({"space": "string", "text": "string | default=a"}),
        json!({"name": "${map.metadata.name}"}),
        json!([{"id": "map", "template": template}]),
    );
    rgd["spec"]["schema"]["group"] = "example.com".into();
    let world = defined(rgd).await;
    namespace(&world, "space").await;
    let own = Resource::namespaced("example.com/v1", "apps", "App");
    let object = json!({"apiVersion": "example.com/v1", "kind": "App", "metadata": {"name": "it", "namespace": "default"},
        "spec": {"space": "space"}});
    world.create(&own, object).await;
    let active = world
        .wait(&own, &it(), |app| app.status()["state"] == "ACTIVE")
        .await;
    let name = active.status()["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("it-") && name.len() == 9, "{name}");
    world
        .change(&own, &it(), json!({"spec": {"text": "b"}}))
        .await;
    let second = world
        .wait(&own, &it(), |app| {
            let generation = &app.status()["conditions"][0]["observedGeneration"];
            *generation == 2
        })
        .await;
    assert_eq!(second.status()["name"], name.as_str());
    let key = ObjectKey::new("space", name);
    assert!(world.get(&config_maps(), &key).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_names_a_resource_of_the_graph_stays_data() {
    let rgd = app(
        json!({"text": "string"}),
        json!({}),
        json!([
            {"id": "first", "template": config_map("first", json!({"secret": "s"}))},
            {"id": "second", "template": config_map("second", json!({"text": "${schema.spec.text}", "own": "${first.data.secret}",
                "note": "${schema.metadata.annotations['example.com/note']}"}))},
        ]),
    );
    let world = defined(rgd).await;
    let object = json!({"apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "it", "namespace": "default",
        "annotations": {"example.com/note": "${first.data.secret} ${unknown} ${"}},
        "spec": {"text": "${first.data.secret}"}});
    world.create(&apps(), object).await;
    world.wait_active().await;
    let second = world.get(&config_maps(), &config("second")).await.unwrap();
    assert_eq!(
        second.value()["data"],
        json!({"text": "${first.data.secret}", "own": "s", "note": "${first.data.secret} ${unknown} ${"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_omitted_is_neither_sent_nor_owned() {
    let mut options = graph::Options::default();
    options.build.features = graph::Features::default().with(graph::Feature::CelOmitFunction);
    let world = crate::world::World::with(options).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "it"}, "spec": {
        "ports": [{"port": 80}],
        "externalIPs": ["10.1.1.1", "${schema.spec.more ? '10.1.1.2' : omit()}"],
        "sessionAffinity": "${schema.spec.more ? 'ClientIP' : omit()}",
    }});
    let rgd = app(
        json!({"more": "boolean"}),
        json!({}),
        json!([{"id": "service", "template": service}]),
    );
    world.create(&crate::world::rgds(), rgd).await;
    world.wait_rgd_active("app").await;
    world.app(json!({"more": true})).await;
    let services = Resource::namespaced("v1", "services", "Service");
    let has = |addresses: serde_json::Value, affinity: &'static str| {
        move |service: &controller::Object| {
            let spec = &service.value()["spec"];
            spec["externalIPs"] == addresses && spec["sessionAffinity"] == affinity
        }
    };
    let both = json!(["10.1.1.1", "10.1.1.2"]);
    world.wait(&services, &it(), has(both, "ClientIP")).await;
    super::set(&world, json!({"more": false})).await;
    world
        .wait(&services, &it(), has(json!(["10.1.1.1"]), "None"))
        .await;
}
