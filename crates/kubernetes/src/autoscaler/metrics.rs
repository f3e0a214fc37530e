//! Numbers from the metrics APIs.

use controller::{Api, Discovery, Error, ListOptions, ObjectKey, Resource, escape};
use jiff::SignedDuration;
use model::{GroupVersionKind, LabelSelector, Quantity, object};
use serde_json::Value;

use super::calculate::{Sample, Samples};

const RESOURCE_METRICS: &str = "metrics.k8s.io";
const CUSTOM_METRICS: &str = "custom.metrics.k8s.io";
const EXTERNAL_METRICS: &str = "external.metrics.k8s.io";
/// How long a sample is taken for where it does not say.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Reads metrics.
#[derive(Clone)]
pub struct Metrics {
    api: Api,
    discovery: Discovery,
}

impl Metrics {
    /// Reads through `api`.
    pub fn new(api: Api, discovery: Discovery) -> Self {
        Self { api, discovery }
    }

    /// What Pods use of a resource; of one of their containers, where one is named.
    pub async fn resource(
        &self,
        namespace: &str,
        selector: &LabelSelector,
        resource: &str,
        container: &str,
    ) -> Result<Samples, String> {
        let pods = Resource::namespaced("metrics.k8s.io/v1beta1", "pods", "PodMetrics");
        let options = ListOptions {
            namespace: Some(namespace.to_owned()),
            label_selector: Some(selector.to_string()),
            ..ListOptions::default()
        };
        let list = self.api.list(&pods, &options).await.map_err(|error| {
            let why = explain(&error, &format!("pods.{RESOURCE_METRICS}"));
            format!("unable to fetch metrics from resource metrics API: {why}")
        })?;
        if list.items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        let items = list.items.iter();
        Ok(items
            .filter_map(|item| {
                let milli = usage(item.value(), resource, container)?;
                Some((item.name().to_owned(), sample(item.value(), milli)))
            })
            .collect())
    }

    /// A metric of Pods.
    pub async fn pods(
        &self,
        namespace: &str,
        selector: &LabelSelector,
        metric: &str,
        metric_selector: &LabelSelector,
    ) -> Result<Samples, String> {
        let query = format!("?labelSelector={}", escape(&selector.to_string()));
        let path = format!("namespaces/{}/pods/*", escape(namespace));
        let items = self.custom(&path, metric, metric_selector, &query).await?;
        let named = items.iter().filter_map(|item| {
            let name = object::text(item, &["describedObject", "name"]).to_owned();
            Some((name, sample(item, milli(item)?)))
        });
        Ok(named.collect())
    }

    /// A metric of an object.
    pub async fn object(
        &self,
        namespace: &str,
        described: &Value,
        metric: &str,
        metric_selector: &LabelSelector,
    ) -> Result<i64, String> {
        let text = |name: &str| object::text(described, &[name]);
        let (kind, name) = (text("kind"), text("name"));
        let (group, version) = text("apiVersion")
            .rsplit_once('/')
            .unwrap_or(("", text("apiVersion")));
        let path = if kind == "Namespace" && group.is_empty() {
            format!("namespaces/{}/metrics", escape(namespace))
        } else {
            let wanted = GroupVersionKind::new(group, version, kind);
            let resource = self.discovery.resolve(&wanted).await;
            let resource = resource.map_err(|error| error.message())?;
            let mut plural = resource.plural.to_string();
            if !group.is_empty() {
                plural = format!("{plural}.{group}");
            }
            format!("namespaces/{}/{plural}/{}", escape(namespace), escape(name))
        };
        let items = self.custom(&path, metric, metric_selector, "?").await?;
        let found = items.first().and_then(milli);
        found.ok_or_else(|| no_metrics("custom"))
    }

    async fn custom(
        &self,
        path: &str,
        metric: &str,
        metric_selector: &LabelSelector,
        query: &str,
    ) -> Result<Vec<Value>, String> {
        let told = |why: String| format!("unable to fetch metrics from custom metrics API: {why}");
        let group = self.api.get_path(&format!("/apis/{CUSTOM_METRICS}")).await;
        let group = group.map_err(|_| {
            told(format!(
                "no custom metrics API ({CUSTOM_METRICS}) registered"
            ))
        })?;
        let version = match object::text(&group, &["preferredVersion", "version"]) {
            "" => "v1beta2",
            version => version,
        };
        let mut path = format!(
            "/apis/{CUSTOM_METRICS}/{version}/{path}/{}{query}",
            escape(metric)
        );
        if !metric_selector.is_everything() {
            let selector = escape(&metric_selector.to_string());
            path = format!("{path}&metricLabelSelector={selector}");
        }
        let list = self.api.get_path(path.trim_end_matches('?')).await;
        let list = list.map_err(|error| told(error.message()))?;
        let items = object::list(&list, &["items"]).to_vec();
        if items.is_empty() {
            return Err(no_metrics("custom"));
        }
        Ok(items)
    }

    /// All values of a metric of something outside of the cluster.
    pub async fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &LabelSelector,
    ) -> Result<i64, String> {
        let mut path = format!(
            "/apis/{EXTERNAL_METRICS}/v1beta1/namespaces/{}/{}",
            escape(namespace),
            escape(metric)
        );
        if !selector.is_everything() {
            path = format!("{path}?labelSelector={}", escape(&selector.to_string()));
        }
        let list = self.api.get_path(&path).await.map_err(|error| {
            let why = explain(&error, &format!("{metric}.{EXTERNAL_METRICS}"));
            format!("unable to fetch metrics from external metrics API: {why}")
        })?;
        let items = object::list(&list, &["items"]);
        if items.is_empty() {
            return Err(no_metrics("external"));
        }
        Ok(items.iter().filter_map(milli).fold(0, i64::saturating_add))
    }

    /// The `scale` of an object and its resource.
    pub async fn scale(&self, resource: &Resource, key: &ObjectKey) -> Result<Value, Error> {
        self.api.get_path(&resource.path(key, Some("scale"))).await
    }
}

fn no_metrics(api: &str) -> String {
    format!("no metrics returned from {api} metrics API")
}

/// What a client says of an API that is not there.
fn explain(error: &Error, resource: &str) -> String {
    if error.is_not_found() {
        format!("the server could not find the requested resource (get {resource})")
    } else {
        error.message()
    }
}

fn milli(item: &Value) -> Option<i64> {
    let text = object::text(item, &["value"]);
    text.parse::<Quantity>()
        .ok()
        .map(|value| value.milli_value())
}

fn sample(item: &Value, milli: i64) -> Sample {
    let window = object::number(item, &["windowSeconds"]).map(SignedDuration::from_secs);
    let written = object::text(item, &["window"]).parse().ok();
    Sample {
        milli,
        at: object::text(item, &["timestamp"]).parse().ok(),
        window: window.or(written).unwrap_or(WINDOW),
    }
}

/// What the containers of a Pod use together; none where one does not say.
fn usage(item: &Value, resource: &str, container: &str) -> Option<i64> {
    let of = |one: &Value| {
        let text = object::text(one, &["usage", resource]);
        text.parse::<Quantity>()
            .ok()
            .map(|usage| usage.milli_value())
    };
    let containers = object::list(item, &["containers"]);
    if !container.is_empty() {
        let named = |one: &&Value| object::text(one, &["name"]) == container;
        return containers.iter().find(named).and_then(of);
    }
    if containers.is_empty() {
        return None;
    }
    containers
        .iter()
        .map(of)
        .try_fold(0_i64, |sum, usage| Some(sum.saturating_add(usage?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let item = json!({
            "metadata": {"name": "p"}, "timestamp": "2026-01-01T00:00:00Z", "window": "10s",
            "containers": [
                {"name": "a", "usage": {"cpu": "120m", "memory": "1Mi"}},
                {"name": "b", "usage": {"cpu": "30m"}},
            ],
        });
        assert_eq!(usage(&item, "cpu", ""), Some(150));
        assert_eq!(usage(&item, "cpu", "b"), Some(30));
        assert_eq!(usage(&item, "memory", ""), None);
        assert_eq!(usage(&item, "memory", "a"), Some(1_048_576_000));
        assert_eq!(usage(&json!({"containers": []}), "cpu", ""), None);
        assert_eq!(sample(&item, 1).window, SignedDuration::from_secs(10));
        assert_eq!(
            sample(&json!({"windowSeconds": 30}), 1).window,
            SignedDuration::from_secs(30)
        );
    }
}
