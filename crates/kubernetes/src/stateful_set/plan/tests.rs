//! Plans of invented sets: tables, and whole histories whose Pods come, fail and go.

use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn set(spec: &Value) -> Object {
    let mut spec = spec.clone();
    if spec.get("updateStrategy").is_none() {
        spec["updateStrategy"] =
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
    }
    Object::new(json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "n", "uid": "u", "generation": 1},
        "spec": spec,
    }))
}

/// A Pod as a word: ordinal, revision, state: `r`eady, `p`ending, `u`nready, `f`ailed, `t`erminating.
fn pod(word: &str) -> Arc<Object> {
    let (ordinal, rest) = word.split_once(':').expect("ordinal:revision:state");
    let (revision, state) = rest.split_once(':').expect("revision:state");
    let name = format!("web-{ordinal}");
    let phase = match state {
        "p" => "Pending",
        "f" => "Failed",
        _ => "Running",
    };
    let ready = if state == "r" || state == "t" {
        "True"
    } else {
        "False"
    };
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "n", "uid": word,
            "labels": {history::HASH: revision, super::super::identity::POD_NAME: name}},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    if state == "t" {
        pod["metadata"]["deletionTimestamp"] = json!(NOW);
    }
    Arc::new(Object::new(pod))
}

fn planned(set: &Object, words: &str, max_unavailable: bool) -> Plan {
    let pods: Vec<Arc<Object>> = words.split_whitespace().map(pod).collect();
    plan(&Situation {
        set,
        pods: &pods,
        revisions: Revisions {
            current: "a",
            update: "b",
        },
        claims_match: &|_| true,
        is_blocked: &|_| false,
        max_unavailable,
        now: now(),
    })
}

/// The steps of a plan in words, groups apart by `;`.
fn words(plan: &Plan) -> String {
    let step = |step: &Step| match step {
        Step::Create { ordinal, updated } => {
            format!("create {ordinal} {}", if *updated { "b" } else { "a" })
        }
        Step::Delete(pod) => format!("delete {}", pod.name()),
        Step::MakeClaims(pod) => format!("claims {}", pod.name()),
        Step::Conform(pod) => format!("conform {}", pod.name()),
        Step::Release(pod) => format!("release {}", pod.name()),
    };
    let groups = plan.groups.iter().filter(|group| !group.is_empty());
    let groups: Vec<String> = groups
        .map(|group| group.iter().map(step).collect::<Vec<_>>().join(", "))
        .collect();
    groups.join("; ")
}

#[test]
fn ordered_sets_go_one_pod_at_a_time() {
    let check = |pods: &str, expect: &str| {
        let plan = planned(&set(&json!({"replicas": 3})), pods, false);
        assert_eq!(words(&plan), expect, "{pods}");
    };
    check("", "create 0 b");
    check("0:b:p", "claims web-0");
    check("0:b:u", "");
    check("0:b:r", "create 1 b");
    check("0:b:r 1:b:u", "");
    check("0:b:r 2:b:r", "create 1 b");
    check("0:b:f 1:b:r", "delete web-0");
    check("0:b:t 1:b:r", "");
    check("0:b:r 1:b:r 2:b:r", "");
    // Too many: the highest first, and only while all others are well.
    check("0:b:r 1:b:r 2:b:r 3:b:r 4:b:r", "delete web-4");
    check("0:b:r 1:b:r 2:b:r 3:b:u 4:b:r", "delete web-4");
    check("0:b:r 1:b:r 2:b:r 3:b:r 4:b:u", "delete web-4");
    check("0:b:r 1:b:r 2:b:r 3:b:u 4:b:u", "");
    check("0:b:r 1:b:r 2:b:r 3:b:u", "delete web-3");
    check("0:b:r 1:b:u 2:b:r 3:b:r", "");
    check("0:b:r 1:b:r 2:b:r 4:b:t", "");
    // Of another revision: from the highest ordinal down, one at a time.
    check("0:a:r 1:a:r 2:a:r", "delete web-2");
    check("0:a:r 1:a:r 2:b:u", "");
    check("0:a:r 1:a:r 2:b:r", "delete web-1");
    check("0:a:r 1:a:u 2:b:r", "");
}

#[test]
fn parallel_sets_wait_for_updates_alone() {
    let check = |pods: &str, expect: &str| {
        let spec = json!({"replicas": 3, "podManagementPolicy": "Parallel"});
        assert_eq!(words(&planned(&set(&spec), pods, false)), expect, "{pods}");
    };
    check("", "create 0 b, create 1 b, create 2 b");
    check("0:b:u 1:b:f", "delete web-1, create 2 b");
    check(
        "0:b:u 1:b:u 2:b:u 3:b:r 4:b:t 5:b:u",
        "delete web-5, delete web-3",
    );
    check("0:a:r 1:a:r 2:a:r", "delete web-2");
    check("0:a:r 1:a:r", "create 2 b");
}

#[test]
fn partitions_ordinals_and_strategies_are_kept() {
    let rolling = |partition: i64| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    let spec = json!({"replicas": 3, "updateStrategy": rolling(2)});
    let check = |spec: &Value, pods: &str, expect: &str| {
        assert_eq!(
            words(&planned(&set(spec), pods, false)),
            expect,
            "{spec} {pods}"
        );
    };
    check(&spec, "0:a:r 1:a:r 2:a:r", "delete web-2");
    check(&spec, "0:a:r 1:a:r 2:b:r", "");
    check(&spec, "0:a:r 2:b:r", "create 1 a");
    check(&spec, "0:a:r 1:a:r", "create 2 b");
    let spec = json!({"replicas": 2, "ordinals": {"start": 3}});
    check(&spec, "", "create 3 b");
    check(&spec, "0:b:r 3:b:r 4:b:r", "delete web-0");
    let spec = json!({"replicas": 2, "updateStrategy": {"type": "OnDelete"}});
    check(&spec, "0:a:r 1:a:r", "");
    check(&spec, "0:a:r", "create 1 b");
    let spec = json!({"replicas": 2, "minReadySeconds": 7200});
    check(&spec, "0:b:r", "");
}

#[test]
fn several_pods_may_be_down_where_the_feature_is_on() {
    let rolling =
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}});
    let spec = json!({"replicas": 4, "updateStrategy": rolling, "podManagementPolicy": "Parallel"});
    let check = |pods: &str, expect: &str| {
        assert_eq!(words(&planned(&set(&spec), pods, true)), expect, "{pods}");
    };
    check("0:a:r 1:a:r 2:a:r 3:a:r", "delete web-3; delete web-2");
    check("0:a:r 1:a:r 2:a:r 3:b:u", "delete web-2");
    check("0:a:r 1:a:r 2:b:u 3:b:u", "");
    let of = |value: Value| {
        max_unavailable(&set(
            &json!({"replicas": 10, "updateStrategy": {"rollingUpdate": {"maxUnavailable": value}}}),
        ))
    };
    assert_eq!([of(json!("25%")), of(json!("1%")), of(json!(3))], [2, 1, 3]);
}

#[test]
fn the_status_counts_and_completes() {
    let status_of = |pods: &str| {
        let set = set(&json!({"replicas": 2}));
        let plan = planned(&set, pods, false);
        let revisions = Revisions {
            current: "a",
            update: "b",
        };
        status(&set, revisions, plan.counts, 0)
    };
    assert_eq!(
        status_of("0:a:r 1:b:r"),
        json!({"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2,
               "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b", "collisionCount": 0})
    );
    let done = status_of("0:b:r 1:b:r");
    assert_eq!(
        [&done["currentRevision"], &done["currentReplicas"]],
        [&json!("b"), &json!(2)]
    );
    assert!(differs(&set(&json!({"replicas": 2})), &done));
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    BecomesReady,
    Fails,
    Goes,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens to its Pods, an ordered set never has two Pods going by its own doing, makes no Pod before those
    /// below it are well, and gets there in the end.
    #[test]
    fn an_ordered_set_converges(
        replicas in 0_i64..5,
        partition in 0_i64..3,
        first in proptest::collection::vec("[ab]:[rpuf]", 0..7),
        happenings in proptest::collection::vec(prop_oneof![
            3 => Just(Happening::BecomesReady), 1 => Just(Happening::Fails), 2 => Just(Happening::Goes),
        ], 0..20),
    ) {
        let spec = json!({"replicas": replicas, "updateStrategy":
            {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}});
        let set = set(&spec);
        let mut pods: Vec<String> =
            first.iter().enumerate().map(|(ordinal, rest)| format!("{ordinal}:{rest}")).collect();
        let mut happenings = happenings.into_iter();
        for round in 0..500 {
            let plan = planned(&set, &pods.join(" "), false);
            let deletions = plan.groups.iter().flatten().filter(|step| matches!(step, Step::Delete(_)));
            prop_assert!(deletions.count() <= 1);
            let before = pods.clone();
            for step in plan.groups.iter().flatten() {
                match step {
                    Step::Create { ordinal, updated } => {
                        for below in 0..*ordinal {
                            let well = ["a", "b"].iter().any(|r| pods.contains(&format!("{below}:{r}:r")));
                            prop_assert!(well, "{below} is not well: {pods:?}");
                        }
                        pods.push(format!("{ordinal}:{}:p", if *updated { "b" } else { "a" }));
                    }
                    Step::Delete(pod) => {
                        let gone = pod.uid().to_owned();
                        for word in &mut pods {
                            if *word == gone {
                                word.replace_range(word.len() - 1.., "t");
                            }
                        }
                    }
                    _ => {}
                }
            }
            let happening = happenings.next();
            let state = |word: &String| word.chars().last();
            match happening {
                Some(Happening::Fails) => {
                    if let Some(word) = pods.iter_mut().find(|word| state(word) == Some('r')) {
                        word.replace_range(word.len() - 1.., "f");
                    }
                }
                Some(Happening::Goes) => pods.retain(|word| state(word) != Some('t')),
                _ => {
                    pods.retain(|word| state(word) != Some('t'));
                    for word in &mut pods {
                        if matches!(state(word), Some('p' | 'u')) {
                            word.replace_range(word.len() - 1.., "r");
                        }
                    }
                }
            }
            // Two that failed and are too many wait for one another, as upstream's do.
            let ordinal = |word: &String| -> i64 {
                let (ordinal, _) = word.split_once(':').expect("a Pod");
                ordinal.parse().expect("a number")
            };
            let stuck = pods.iter().filter(|w| state(w) == Some('f') && ordinal(w) >= replicas);
            if stuck.count() > 1 {
                return Ok(());
            }
            if happening.is_none() && pods == before {
                prop_assert_eq!(pods.len() as i64, replicas);
                for word in &pods {
                    let is_updated = word.ends_with(":b:r");
                    prop_assert!(ordinal(word) < partition || is_updated, "{word}");
                }
                return Ok(());
            }
            prop_assert!(round < 499, "it never ends: {pods:?}");
        }
    }
}
