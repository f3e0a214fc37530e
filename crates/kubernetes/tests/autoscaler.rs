//! Autoscalers under faults: they follow the load, keep their limits and say what they found.

mod common;

use std::time::Duration;

use common::autoscaling::{autoscaler, autoscalers, serve};
use common::objects::{DEPLOYMENTS, condition, number, workload};
use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::Resource;
use serde_json::{Value, json};

const CONTROLLERS: &[&str] = &["deployment", "replicaset", "horizontalpodautoscaler"];

fn pod_metrics() -> Resource {
    Resource::namespaced("metrics.k8s.io/v1beta1", "pods", "PodMetrics")
}

/// Every Pod uses so much CPU.
async fn use_cpu(h: &Harness, cpu: &str) {
    let names: Vec<String> = h
        .recorder
        .with(|w| w.pods().map(|pod| pod.name().to_owned()).collect());
    for name in names {
        let metrics = json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "web"}},
            "timestamp": "2999-01-01T00:00:00Z", "window": "15s",
            "containers": [{"name": "main", "usage": {"cpu": cpu, "memory": "10Mi"}}],
        });
        h.create(&pod_metrics(), &metrics).await;
    }
}

fn web(replicas: i64) -> Value {
    let mut web = workload("Deployment", "web", &json!({"replicas": replicas}));
    web["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "100m", "memory": "20Mi"}});
    web
}

/// Two Pods are ready, and the controllers know: their status is read off the same cache.
async fn two_run(h: &Harness) {
    h.until("two run", |w| {
        w.get("deployments", "web")
            .is_some_and(|web| number(web, "/status/readyReplicas") == 2)
    })
    .await;
}

fn by_cpu(most: i64, percent: i64) -> Value {
    let metric = json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent},
    }});
    autoscaler(1, most, &metric)
}

#[test]
fn load_makes_more_pods() {
    each_seed(1, |_| async move {
        // One look, whose findings stay: the next would find four Pods where this one found two.
        let setup = Setup::calm(CONTROLLERS).autoscaler_period(Duration::from_hours(1));
        let h = Harness::start(setup).await;
        serve(&h, &pod_metrics()).await;
        h.always(|w| match w.get("deployments", "web") {
            Some(web) if number(web, "/spec/replicas") > 6 => Err("more than it may".to_owned()),
            _ => Ok(()),
        });
        h.create(&DEPLOYMENTS(), &web(2)).await;
        two_run(&h).await;
        use_cpu(&h, "150m").await;
        h.create(&autoscalers(), &by_cpu(6, 60)).await;
        h.until("more are wanted", |w| {
            w.get("deployments", "web")
                .is_some_and(|web| number(web, "/spec/replicas") == 4)
        })
        .await;
        let scaled = testkit::eventually("the status tells", || async {
            let found = h.get(&autoscalers(), "web").await;
            (number(&found, "/status/desiredReplicas") == 4).then_some(found)
        })
        .await;
        let status = scaled.status();
        assert_eq!(number(&scaled, "/status/currentReplicas"), 2);
        assert_eq!(
            status["currentMetrics"],
            json!([{"type": "Resource", "resource": {
                "name": "cpu", "current": {"averageUtilization": 150, "averageValue": "150m"},
            }}])
        );
        let told = |kind: &str| {
            let condition = condition(&scaled, kind).expect(kind);
            format!("{} {}", condition["status"], condition["reason"])
        };
        assert_eq!(told("AbleToScale"), r#""True" "SucceededRescale""#);
        assert_eq!(told("ScalingActive"), r#""True" "ValidMetricFound""#);
        assert_eq!(told("ScalingLimited"), r#""True" "ScaleUpLimit""#);
        h.until("the event tells", |w| {
            w.all("events").any(|event| {
                event.value()["message"]
                    == "New size: 4; reason: cpu resource utilization (percentage of request) above target"
            })
        })
        .await;
    });
}

#[test]
fn limits_are_kept_whatever_goes_wrong() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        serve(&h, &pod_metrics()).await;
        h.always(|w| match w.get("deployments", "web") {
            Some(web) if !(2..=4).contains(&number(web, "/spec/replicas")) => {
                Err("not within the limits".to_owned())
            }
            _ => Ok(()),
        });
        h.create(&DEPLOYMENTS(), &web(2)).await;
        two_run(&h).await;
        use_cpu(&h, "500m").await;
        h.requests();
        h.create(&autoscalers(), &by_cpu(4, 60)).await;
        testkit::eventually("a first look", || async {
            let asked = h.requests().into_iter();
            asked
                .filter(|(_, path)| path.contains("/scale"))
                .count()
                .checked_sub(1)
        })
        .await;
        h.calm();
        h.until("as many as may be run", |w| {
            w.pods().filter(|p| common::objects::is_ready(p)).count() == 4
        })
        .await;
    });
}

#[test]
fn what_cannot_be_known_is_told() {
    each_seed(1, |_| async move {
        let h = Harness::start(Setup::calm(CONTROLLERS)).await;
        h.create(&autoscalers(), &by_cpu(6, 60)).await;
        let condition_of = |kind: &'static str| {
            let h = &h;
            async move {
                testkit::eventually("a condition", || async {
                    let found = h.get(&autoscalers(), "web").await;
                    let condition = condition(&found, kind)?;
                    Some(format!("{}: {}", condition["reason"], condition["message"]))
                })
                .await
            }
        };
        assert_eq!(
            condition_of("AbleToScale").await,
            r#""FailedGetScale": "the HPA controller was unable to get the target's current scale: deployments.apps \"web\" not found""#
        );
        h.create(&DEPLOYMENTS(), &web(2)).await;
        two_run(&h).await;
        // A change is looked at at once.
        h.patch(&autoscalers(), "web", &json!({"spec": {"maxReplicas": 7}}))
            .await;
        assert_eq!(
            condition_of("ScalingActive").await,
            r#""FailedGetResourceMetric": "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)""#
        );
        h.until("the Deployment stays", |w| {
            w.get("deployments", "web")
                .is_some_and(|web| number(web, "/spec/replicas") == 2)
        })
        .await;
        h.patch(&autoscalers(), "web", &json!({"spec": {"maxReplicas": 1}}))
            .await;
        h.until("it is held", |w| {
            w.get("deployments", "web")
                .is_some_and(|web| number(web, "/spec/replicas") == 1)
        })
        .await;
    });
}
