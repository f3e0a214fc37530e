//! What each metric of an autoscaler proposes; the highest proposal counts.

use std::sync::Arc;

use controller::Object;
use model::{LabelSelector, Quantity, object};
use serde_json::{Value, json};

use super::calculate::{self, Samples, Tolerances, Usage};
use super::{Autoscalers, Look, Target};

/// By how much usage may differ where an autoscaler does not say.
const TOLERANCE: f64 = 0.1;

/// What a metric proposes.
struct Proposal {
    replicas: i64,
    /// What the metric is called in conditions and events.
    name: String,
    /// The metric as it is told in the status.
    status: Value,
}

/// Why a metric proposes nothing.
struct Refusal {
    reason: &'static str,
    /// For the condition.
    why: String,
    /// For the event about the whole.
    context: String,
}

/// What all metrics of an autoscaler are judged by.
struct Scene<'a> {
    look: &'a Look<'a>,
    selector: LabelSelector,
    pods: Vec<Arc<Object>>,
    current: i64,
    status_replicas: i64,
    tolerances: Tolerances,
}

impl Autoscalers {
    /// The number of Pods the metrics ask for, and the metric that asks; none where they cannot be read.
    pub(super) async fn propose(
        &self,
        look: &mut Look<'_>,
        target: &Target,
    ) -> Option<(i64, String)> {
        let autoscaler = look.autoscaler;
        let (selector, pods) = self.pods(look, target)?;
        let specs = object::list(autoscaler.value(), &["spec", "metrics"]).to_vec();
        let current = target.replicas("spec");
        let (mut best, mut first, mut statuses) = (None, None, Vec::new());
        let mut refused = 0;
        let scene = Scene {
            look,
            selector,
            pods,
            current,
            status_replicas: target.replicas("status"),
            tolerances: tolerances(autoscaler),
        };
        for spec in &specs {
            match self.metric(&scene, spec).await {
                Ok(proposal) => {
                    statuses.push(proposal.status);
                    let higher = |(replicas, _): &(i64, String)| proposal.replicas > *replicas;
                    if best.as_ref().is_none_or(higher) {
                        best = Some((proposal.replicas, proposal.name));
                    }
                }
                Err(refusal) => {
                    // As upstream tells what it could not read.
                    statuses.push(json!({"type": ""}));
                    let text = refusal.why.as_str();
                    self.recorder.warning(autoscaler, refusal.reason, text);
                    refused += 1;
                    first.get_or_insert(refusal);
                }
            }
        }
        drop(scene);
        look.metrics = statuses;
        let all = specs.len();
        let error = first.as_ref().map(|first| {
            format!(
                "invalid metrics ({refused} invalid out of {all}), first error is: {}",
                first.context
            )
        });
        let shrinks = best
            .as_ref()
            .is_none_or(|(replicas, _)| *replicas < current);
        if let Some(refusal) = first.filter(|_| shrinks) {
            let text = format!(
                "the HPA was unable to compute the replica count: {}",
                refusal.why
            );
            look.set("ScalingActive", false, refusal.reason, &text);
            self.failed(autoscaler, error.as_deref().unwrap_or_default());
            return None;
        }
        let (replicas, name) = best.unwrap_or_default();
        let text =
            format!("the HPA was able to successfully calculate a replica count from {name}");
        look.set("ScalingActive", true, "ValidMetricFound", &text);
        Some((replicas, name))
    }

    async fn metric(&self, scene: &Scene<'_>, spec: &Value) -> Result<Proposal, Refusal> {
        let refuse = |reason, context: &str| {
            let context = context.to_owned();
            move |why: String| Refusal {
                reason,
                context: format!("{context}: {why}"),
                why,
            }
        };
        match object::text(spec, &["type"]) {
            "Resource" => {
                let name = object::text(spec, &["resource", "name"]);
                let context = format!("failed to get {name} resource metric value");
                let found = self.resource(scene, &spec["resource"], "").await;
                let (replicas, name, current) =
                    found.map_err(refuse("FailedGetResourceMetric", &context))?;
                let told = json!({"name": spec["resource"]["name"], "current": current});
                let status = json!({"type": "Resource", "resource": told});
                Ok(Proposal {
                    replicas,
                    name,
                    status,
                })
            }
            "ContainerResource" => {
                let own = &spec["containerResource"];
                let container = object::text(own, &["container"]);
                let context = format!("failed to get {container} container metric value");
                let found = self.resource(scene, own, container).await;
                let (replicas, name, current) =
                    found.map_err(refuse("FailedGetContainerResourceMetric", &context))?;
                let told = json!({"name": own["name"], "container": container, "current": current});
                let status = json!({"type": "ContainerResource", "containerResource": told});
                Ok(Proposal {
                    replicas,
                    name,
                    status,
                })
            }
            "Pods" => {
                let found = self.of_pods(scene, &spec["pods"]).await;
                found.map_err(refuse(
                    "FailedGetPodsMetric",
                    "failed to get pods metric value",
                ))
            }
            "Object" => {
                let found = self.of_object(scene, &spec["object"]).await;
                found.map_err(refuse(
                    "FailedGetObjectMetric",
                    "failed to get object metric value",
                ))
            }
            "External" => {
                let name = object::text(spec, &["external", "metric", "name"]);
                let context = format!("failed to get {name} external metric value");
                let found = self.of_external(scene, &spec["external"]).await;
                found.map_err(refuse("FailedGetExternalMetric", &context))
            }
            other => {
                let why = format!("unknown metric source type {other:?}");
                Err(Refusal {
                    reason: "InvalidMetricSourceType",
                    context: why.clone(),
                    why,
                })
            }
        }
    }

    async fn resource(
        &self,
        scene: &Scene<'_>,
        spec: &Value,
        container: &str,
    ) -> Result<(i64, String, Value), String> {
        let name = object::text(spec, &["name"]);
        let average = quantity(spec, "averageValue");
        let percent = object::number(spec, &["target", "averageUtilization"]);
        if average.is_none() && percent.is_none() {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".to_owned());
        }
        let what = if average.is_some() {
            "usage"
        } else {
            "utilization"
        };
        let told = |why: String| format!("failed to get {name} {what}: {why}");
        let namespace = scene.namespace();
        let samples = self
            .metrics
            .resource(namespace, &scene.selector, name, container)
            .await
            .map_err(|why| told(format!("unable to get metrics for resource {name}: {why}")))?;
        let target = match (average, percent) {
            (Some(average), _) => calculate::Target::Average(average),
            (None, percent) => {
                let requests = || calculate::requests(&scene.pods, name, container);
                // Numbers come before requests, as upstream asks.
                let requests = requests().map_err(told)?;
                calculate::Target::Utilization(percent.unwrap_or(0), requests)
            }
        };
        let cpu = name == "cpu";
        let (replicas, usage) = scene.replicas(&samples, &target, cpu).map_err(told)?;
        let metric = match (usage.percent, container.is_empty()) {
            (None, _) => format!("{name} resource"),
            (Some(_), true) => format!("{name} resource utilization (percentage of request)"),
            (Some(_), false) => {
                format!("{name} container resource utilization (percentage of request)")
            }
        };
        let mut current = json!({"averageValue": amount(name, usage.average)});
        if let Some(percent) = usage.percent {
            current["averageUtilization"] = json!(percent);
        }
        Ok((replicas, metric, current))
    }

    async fn of_pods(&self, scene: &Scene<'_>, spec: &Value) -> Result<Proposal, String> {
        let name = object::text(spec, &["metric", "name"]);
        let selector = metric_selector(spec)?;
        let samples = self
            .metrics
            .pods(scene.namespace(), &scene.selector, name, &selector)
            .await
            .map_err(|why| format!("unable to get metric {name}: {why}"))?;
        let target = quantity(spec, "averageValue")
            .ok_or("invalid pods metric source: no average value target was set")?;
        let target = calculate::Target::Average(target);
        let (replicas, usage) = scene.replicas(&samples, &target, false)?;
        let current = json!({"averageValue": amount("", usage.average)});
        Ok(Proposal {
            replicas,
            name: format!("pods metric {name}"),
            status: json!({"type": "Pods", "pods": {"metric": spec["metric"], "current": current}}),
        })
    }

    async fn of_object(&self, scene: &Scene<'_>, spec: &Value) -> Result<Proposal, String> {
        let name = object::text(spec, &["metric", "name"]);
        let described = &spec["describedObject"];
        let kind = object::text(described, &["kind"]);
        let selector = metric_selector(spec)?;
        let read = async {
            let namespace = scene.namespace();
            let milli = self
                .metrics
                .object(namespace, described, name, &selector)
                .await;
            milli.map_err(|why| {
                let object = object::text(described, &["name"]);
                format!("unable to get metric {name}: {kind} on {namespace} {object}/{why}")
            })
        };
        let (replicas, metric, current) = match object::text(spec, &["target", "type"]) {
            "Value" if quantity(spec, "value").is_some() => {
                let target = quantity(spec, "value").unwrap_or(1);
                let milli = read.await?;
                let replicas = scene.replicas_for_value(milli, target)?;
                let metric = format!("{kind} metric {name}");
                (replicas, metric, json!({"value": amount("", milli)}))
            }
            "AverageValue" if quantity(spec, "averageValue").is_some() => {
                let target = quantity(spec, "averageValue").unwrap_or(1);
                let told = |why| format!("failed to get {name} object metric: {why}");
                let milli = read.await.map_err(told)?;
                let (replicas, share) = scene.share(milli, target);
                let metric = format!("external metric {name}({})", go_selector(&spec["metric"]));
                (replicas, metric, json!({"averageValue": amount("", share)}))
            }
            _ => return Err("invalid object metric source: neither a value target nor an average value target was set".to_owned()),
        };
        let told =
            json!({"describedObject": described, "metric": spec["metric"], "current": current});
        Ok(Proposal {
            replicas,
            name: metric,
            status: json!({"type": "Object", "object": told}),
        })
    }

    async fn of_external(&self, scene: &Scene<'_>, spec: &Value) -> Result<Proposal, String> {
        let name = object::text(spec, &["metric", "name"]);
        let selector = metric_selector(spec)?;
        let printed = go_selector(&spec["metric"]);
        let namespace = scene.namespace();
        let read = async {
            let milli = self.metrics.external(namespace, name, &selector).await;
            milli.map_err(|why| {
                format!("unable to get external metric {namespace}/{name}/{printed}: {why}")
            })
        };
        let (replicas, current) = if let Some(target) = quantity(spec, "averageValue") {
            let told = |why| format!("failed to get {name} external metric: {why}");
            let milli = read.await.map_err(told)?;
            let (replicas, share) = scene.share(milli, target);
            (replicas, json!({"averageValue": amount("", share)}))
        } else if let Some(target) = quantity(spec, "value") {
            let told = |why| format!("failed to get external metric {name}: {why}");
            let milli = read.await.map_err(told)?;
            let replicas = scene.replicas_for_value(milli, target).map_err(told)?;
            (replicas, json!({"value": amount("", milli)}))
        } else {
            return Err("invalid external metric source: neither a value target nor an average value target was set".to_owned());
        };
        let told = json!({"metric": spec["metric"], "current": current});
        Ok(Proposal {
            replicas,
            name: format!("external metric {name}({printed})"),
            status: json!({"type": "External", "external": told}),
        })
    }
}

impl Scene<'_> {
    fn namespace(&self) -> &str {
        self.look.autoscaler.namespace().unwrap_or_default()
    }

    fn replicas(
        &self,
        samples: &Samples,
        target: &calculate::Target,
        cpu: bool,
    ) -> Result<(i64, Usage), String> {
        let (pods, now) = (&self.pods, self.look.now);
        calculate::replicas(
            self.current,
            pods,
            samples,
            target,
            self.tolerances,
            cpu,
            now,
        )
    }

    fn replicas_for_value(&self, milli: i64, target: i64) -> Result<i64, String> {
        calculate::replicas_for_value(self.current, &self.pods, milli, target, self.tolerances)
    }

    fn share(&self, milli: i64, target: i64) -> (i64, i64) {
        calculate::replicas_for_share(self.status_replicas, milli, target, self.tolerances)
    }
}

fn tolerances(autoscaler: &Object) -> Tolerances {
    let of = |direction: &str| {
        let path = ["spec", "behavior", direction, "tolerance"];
        let text = object::text(autoscaler.value(), &path);
        text.parse::<Quantity>()
            .map_or(TOLERANCE, |tolerance| tolerance.as_f64())
    };
    Tolerances {
        down: of("scaleDown"),
        up: of("scaleUp"),
    }
}

fn quantity(spec: &Value, field: &str) -> Option<i64> {
    let text = object::text(spec, &["target", field]);
    text.parse::<Quantity>()
        .ok()
        .map(|amount| amount.milli_value())
}

/// Thousandths as they are written into a status: memory in powers of two.
fn amount(resource: &str, milli: i64) -> String {
    if resource == "memory" {
        Quantity::from_milli(milli).binary().to_string()
    } else {
        Quantity::from_milli(milli).to_string()
    }
}

fn metric_selector(spec: &Value) -> Result<LabelSelector, String> {
    match object::at(spec, &["metric", "selector"]).filter(|selector| !selector.is_null()) {
        None => Ok(LabelSelector::everything()),
        selector => LabelSelector::from_object(selector).map_err(|error| error.to_string()),
    }
}

/// A selector as upstream's messages print it.
fn go_selector(metric: &Value) -> String {
    let Some(selector) = metric
        .get("selector")
        .filter(|selector| !selector.is_null())
    else {
        return "nil".to_owned();
    };
    let labels: String = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default()))
        .collect();
    let expressions: String = object::list(selector, &["matchExpressions"])
        .iter()
        .map(|one| {
            let values: Vec<&str> = object::list(one, &["values"])
                .iter()
                .filter_map(Value::as_str)
                .collect();
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                object::text(one, &["key"]),
                object::text(one, &["operator"]),
                values.join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_upstream_writes_them() {
        let check = |resource: &str, milli: i64, expect: &str| {
            assert_eq!(amount(resource, milli), expect);
        };
        check("cpu", 150, "150m");
        check("cpu", 2000, "2");
        check("memory", 1_048_576_000, "1Mi");
        check("", 1500, "1500m");
    }

    #[test]
    fn selectors_are_printed_as_upstream_prints_them() {
        assert_eq!(go_selector(&json!({"name": "m"})), "nil");
        let selector = json!({"matchLabels": {"a": "b"}});
        let expect = "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}";
        assert_eq!(go_selector(&json!({"selector": selector})), expect);
    }
}
