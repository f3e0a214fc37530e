//! Plans of invented sets, and whole rollouts whose bounds are checked at every step.

use proptest::prelude::*;

use super::*;
use crate::history;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn set(rolling: &Value) -> Object {
    Object::new(json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}, "template": {"spec": {}}},
    }))
}

fn nodes(count: usize) -> Vec<Arc<Object>> {
    (0..count)
        .map(|number| {
            Arc::new(Object::new(
                json!({"metadata": {"name": format!("n{number}")}}),
            ))
        })
        .collect()
}

/// A Pod as a word: node, hash, state: `r`eady, `u`nready, `f`ailed, `s`ucceeded, `t`erminating, `w`aiting for its node.
fn pod(number: usize, word: &str) -> Arc<Object> {
    let parts: Vec<&str> = word.split(':').collect();
    let [node, hash, state] = parts[..] else {
        panic!("node:hash:state");
    };
    let phase = match state {
        "f" => "Failed",
        "s" => "Succeeded",
        "w" => "Pending",
        _ => "Running",
    };
    let ready = if state == "r" || state == "t" {
        "True"
    } else {
        "False"
    };
    let mut pod = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": word,
            "labels": {history::HASH: hash}},
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    if state == "t" {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    if state == "w" {
        pod["spec"] = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [node]}]}]}}}});
    }
    Arc::new(Object::new(pod))
}

fn words(plan: &Plan) -> String {
    let create = plan.create.iter().map(|node| format!("+{node}"));
    let delete = plan.delete.iter().map(|pod| format!("-{}", pod.uid()));
    let useless = plan
        .delete_useless
        .iter()
        .map(|pod| format!("?{}", pod.uid()));
    let delete = delete.chain(useless);
    create.chain(delete).collect::<Vec<_>>().join(" ")
}

fn check(rolling: &Value, count: usize, pods: &str, managed: &str, rolled: &str) {
    let (set, nodes) = (set(rolling), nodes(count));
    let pods: Vec<_> = pods
        .split_whitespace()
        .enumerate()
        .map(|(i, word)| pod(i, word))
        .collect();
    let situation = Situation::of(&set, "b", &nodes, &pods, now());
    let found = (words(&situation.manage(|_| true)), words(&situation.roll()));
    assert_eq!(
        found,
        (managed.to_owned(), rolled.to_owned()),
        "{rolling} {:?}",
        situation.pods
    );
}

#[test]
fn every_node_has_one_pod() {
    let one = json!({"maxUnavailable": 1});
    check(&one, 2, "", "+n0 +n1", "");
    check(&one, 2, "n0:b:r", "+n1", "");
    check(&one, 1, "n0:b:t", "", "");
    check(&one, 1, "n0:b:f", "-n0:b:f", "");
    check(&one, 1, "n0:b:s", "-n0:b:s", "");
    check(&one, 1, "n0:b:r n0:b:u", "-n0:b:u", "");
    check(&one, 1, "n0:b:w", "", "");
    // A node that is gone: who waits for it goes, who ran on it is left to others.
    check(&one, 1, "n0:b:r n9:b:w n8:b:r", "-n9:b:w", "");
}

#[test]
fn old_pods_go_a_few_at_a_time() {
    let one = json!({"maxUnavailable": 1});
    check(&one, 3, "n0:a:r n1:a:r n2:a:r", "", "-n0:a:r");
    check(&one, 3, "n0:b:u n1:a:r n2:a:r", "", "");
    check(&one, 3, "n0:b:r n1:a:r n2:a:r", "", "-n1:a:r");
    // One that is not available costs nothing.
    check(&one, 3, "n0:b:u n1:a:u n2:a:r", "", "?n1:a:u");
    let half = json!({"maxUnavailable": "50%"});
    check(&half, 3, "n0:a:r n1:a:r n2:a:r", "", "-n0:a:r -n1:a:r");
    let neither = json!({"maxUnavailable": 0, "maxSurge": 0});
    check(&neither, 2, "n0:a:r n1:a:r", "", "-n0:a:r");
}

#[test]
fn new_pods_come_beside_the_old_ones() {
    let one = json!({"maxSurge": 1, "maxUnavailable": 0});
    check(&one, 2, "n0:a:r n1:a:r", "", "+n0");
    check(&one, 2, "n0:a:r n0:b:u n1:a:r", "", "");
    check(&one, 2, "n0:a:r n0:b:r n1:a:r", "-n0:a:r", "+n1 -n0:a:r");
    check(&one, 2, "n0:a:u n1:a:r", "", "+n0 +n1");
    check(&one, 2, "n0:a:u n0:b:u n1:a:r", "?n0:a:u", "");
    check(&one, 1, "n0:b:t", "+n0", "");
}

#[test]
fn the_status_counts_nodes() {
    let set = set(&json!({"maxUnavailable": 1}));
    let mut all = nodes(3);
    let tainted = json!({"metadata": {"name": "n3"}, "spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}});
    all.push(Arc::new(Object::new(tainted)));
    let pods: Vec<_> = ["n0:b:r", "n1:a:u", "n3:b:r"]
        .iter()
        .enumerate()
        .map(|(i, word)| pod(i, word))
        .collect();
    let status = Situation::of(&set, "b", &all, &pods, now()).status(true);
    assert_eq!(
        status,
        json!({"observedGeneration": 1, "desiredNumberScheduled": 3, "currentNumberScheduled": 2,
               "numberMisscheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1,
               "numberAvailable": 1, "numberUnavailable": 2})
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever the bounds, an update never has more Pods down or beside one another than it may, and ends.
    #[test]
    fn an_update_keeps_its_bounds_and_ends(count in 1_usize..7, surge in 0_usize..3, unavailable in 0_usize..3) {
        let rolling = json!({"maxSurge": surge, "maxUnavailable": if surge > 0 { 0 } else { unavailable }});
        let (set, nodes) = (set(&rolling), nodes(count));
        let mut pods: Vec<String> = (0..count).map(|node| format!("n{node}:a:r")).collect();
        for round in 0..200 {
            let made: Vec<_> = pods.iter().enumerate().map(|(i, word)| pod(i, word)).collect();
            let situation = Situation::of(&set, "b", &nodes, &made, now());
            let managed = situation.manage(|_| true);
            let plan = if managed.is_empty() { situation.roll() } else { managed };
            if plan.is_empty() && pods.iter().all(|word| word.ends_with('r')) {
                prop_assert!(pods.len() == count && pods.iter().all(|word| word.ends_with(":b:r")), "{pods:?}");
                return Ok(());
            }
            for gone in plan.delete.iter().chain(&plan.delete_useless) {
                pods.retain(|word| word != gone.uid());
            }
            let available = pods.iter().filter(|word| word.ends_with('r')).count();
            let least = if surge > 0 { count } else { count - unavailable.clamp(1, count) };
            prop_assert!(available >= least, "{available} of {count} available: {pods:?}");
            for word in &mut pods {
                word.replace_range(word.len() - 1.., "r");
            }
            pods.extend(plan.create.iter().map(|node| format!("{node}:b:u")));
            prop_assert!(pods.len() <= count + surge, "{pods:?}");
            prop_assert!(round < 199, "it never ends: {pods:?}");
        }
    }
}
