//! Addresses and ports handed out one by one, at once, by two servers, and taken back.

use std::collections::BTreeSet;

use super::*;
use crate::catalog::Catalog;

fn clock() -> Clock {
    Arc::new(|| jiff::Timestamp::UNIX_EPOCH)
}

fn allocator(ranges: &str, ports: RangeInclusive<u16>, store: &Arc<dyn Store>) -> Allocator {
    Allocator::new(ranges, ports, store.clone(), clock()).expect("ranges")
}

fn store() -> Arc<dyn Store> {
    Arc::new(store::memory())
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})
}

async fn reserve(
    allocator: &Allocator,
    service: &mut Value,
    dry_run: bool,
) -> Result<Reservation, Status> {
    let catalog = Catalog::built_in();
    let definition = catalog.get("", "v1", "services").expect("built in");
    allocator.reserve(definition, service, None, dry_run).await
}

#[tokio::test]
async fn addresses_are_unique_and_come_back() {
    let store = store();
    let allocator = allocator("10.0.0.0/29", 30000..=30001, &store);
    let mut given = BTreeSet::new();
    let spec = json!({"type": "ClusterIP"});
    for number in 0..6 {
        let mut service = service(&format!("s{number}"), spec.clone());
        reserve(&allocator, &mut service, false)
            .await
            .expect("free")
            .keep();
        given.insert(object::text(&service, &["spec", "clusterIP"]).to_owned());
    }
    assert_eq!(given.len(), 6);
    let full = reserve(&allocator, &mut service("x", spec.clone()), false).await;
    let text = full.err().map(|status| status.message).unwrap_or_default();
    assert!(text.contains("range is full"), "{text}");
    let mut gone = service("s0", json!({}));
    let entries = store.list("/networking.k8s.io/ipaddresses/", &Default::default());
    let claim = crate::envelope::decode(&entries.expect("a list").entries[0]).expect("JSON");
    gone["metadata"]["name"] = claim["spec"]["parentRef"]["name"].clone();
    gone["spec"]["clusterIP"] = claim["metadata"]["name"].clone();
    allocator.release(&gone, None).await;
    let mut again = service("x", spec);
    reserve(&allocator, &mut again, false)
        .await
        .expect("it was given back")
        .keep();
    assert_eq!(again["spec"]["clusterIP"], gone["spec"]["clusterIP"]);
}

#[tokio::test]
async fn what_is_not_kept_comes_back() {
    let store = store();
    let allocator = allocator("10.0.0.0/29", 30000..=30001, &store);
    let mut wanted = service("x", json!({"type": "ClusterIP", "clusterIP": "10.0.0.3"}));
    drop(reserve(&allocator, &mut wanted, false).await.expect("free"));
    while store.count("/networking.k8s.io/ipaddresses/") > 0 {
        tokio::task::yield_now().await;
    }
    reserve(&allocator, &mut wanted, false)
        .await
        .expect("free again")
        .keep();
    let other = reserve(&allocator, &mut service("y", wanted["spec"].clone()), false).await;
    let text = other.err().map(|status| status.message).unwrap_or_default();
    assert!(
        text.contains("failed to allocate IP 10.0.0.3: provided IP is already allocated"),
        "{text}"
    );
}

#[tokio::test]
async fn dry_runs_take_nothing() {
    let store = store();
    let allocator = allocator("10.0.0.0/29", 30000..=30001, &store);
    for _ in 0..10 {
        let mut service = service("x", json!({"type": "NodePort", "ports": [{"port": 1}]}));
        reserve(&allocator, &mut service, true)
            .await
            .expect("free")
            .keep();
        assert_eq!(service["spec"]["clusterIP"], "10.0.0.1");
    }
    assert_eq!(store.count("/networking.k8s.io/ipaddresses/"), 0);
    assert_eq!(store.count("/internal/nodeports/"), 0);
}

#[tokio::test]
async fn node_ports_stay_in_their_range() {
    let store = store();
    let allocator = allocator("10.0.0.0/24", 30000..=30001, &store);
    let of = |ports: Value| service("x", json!({"type": "NodePort", "ports": ports}));
    let mut low = of(json!([{"port": 1, "nodePort": 80}]));
    assert!(reserve(&allocator, &mut low, false).await.is_err());
    let mut two = of(json!([{"port": 1}, {"port": 2}]));
    reserve(&allocator, &mut two, false)
        .await
        .expect("two are free")
        .keep();
    let mut three = of(json!([{"port": 3}]));
    assert!(
        reserve(&allocator, &mut three, false).await.is_err(),
        "none is left"
    );
}

#[tokio::test]
async fn a_service_of_two_families_gets_two_addresses() {
    let store = store();
    let allocator = allocator("10.0.0.0/24,fd00::/112", 30000..=30001, &store);
    let mut both = service(
        "x",
        json!({"type": "ClusterIP", "ipFamilies": ["IPv6", "IPv4"]}),
    );
    reserve(&allocator, &mut both, false)
        .await
        .expect("free")
        .keep();
    let addresses = object::list(&both, &["spec", "clusterIPs"]);
    assert!(
        addresses[0]
            .as_str()
            .is_some_and(|a| a.starts_with("fd00::")),
        "{addresses:?}"
    );
    assert!(
        addresses[1]
            .as_str()
            .is_some_and(|a| a.starts_with("10.0.0.")),
        "{addresses:?}"
    );
    assert_eq!(both["spec"]["clusterIP"], addresses[0]);
}

/// Two servers that know nothing of each other but the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_store_never_give_the_same_twice() {
    let store = store();
    let servers: Vec<Arc<Allocator>> = (0..2)
        .map(|_| Arc::new(allocator("10.0.0.0/26", 30000..=30079, &store)))
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    // 62 addresses and 80 ports for 60 Services, asked for at once.
    for number in 0..60 {
        let allocator = servers[number % 2].clone();
        tasks.spawn(async move {
            let spec = json!({"type": "NodePort", "ports": [{"port": 1}]});
            let mut service = service(&format!("s{number}"), spec);
            reserve(&allocator, &mut service, false)
                .await
                .expect("free")
                .keep();
            things_of(&service)
        });
    }
    let (mut all, mut count) = (BTreeSet::new(), 0);
    while let Some(things) = tasks.join_next().await {
        let things = things.expect("no panic");
        count += things.len();
        all.extend(things);
    }
    assert_eq!((all.len(), count), (120, 120));
}

#[tokio::test]
async fn claims_follow_services() {
    let store = store();
    let allocator = allocator("10.0.0.0/24", 30000..=30010, &store);
    // A Service without claims, as from a backup, and a claim without a Service.
    let there = service(
        "there",
        json!({"clusterIP": "10.0.0.5", "ports": [{"nodePort": 30001}]}),
    );
    let document = crate::envelope::encode(&there).expect("JSON");
    let write = store::Write {
        key: crate::envelope::key("", "services", Some("n"), "there"),
        expect: store::Expect::Absent,
        change: store::Change::Put(document),
    };
    store.commit(write).await.expect("written");
    let mut lost = service(
        "lost",
        json!({"type": "ClusterIP", "clusterIP": "10.0.0.9"}),
    );
    reserve(&allocator, &mut lost, false)
        .await
        .expect("free")
        .keep();
    let taken = |text: &str| {
        allocator
            .claims
            .is_taken(Thing::Address(text.parse().expect("an address")))
    };
    let suspects = allocator
        .claims
        .repair(&Default::default())
        .await
        .expect("it works");
    assert!(
        taken("10.0.0.5") && taken("10.0.0.9") && allocator.claims.is_taken(Thing::Port(30001))
    );
    let suspects = allocator.claims.repair(&suspects).await.expect("it works");
    assert!(taken("10.0.0.5") && !taken("10.0.0.9") && suspects.is_empty());
}
