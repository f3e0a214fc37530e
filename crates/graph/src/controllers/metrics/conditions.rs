//! `instance_condition_current_status_seconds`: how long each condition of each instance has been what it is, behind kro's
//! feature gate `InstanceConditionMetrics`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use controller::{ObjectKey, Resource};
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::Value;

use super::{Book, Labels, Metrics, form_b};

#[derive(Debug)]
struct Standing {
    type_: String,
    status: String,
    reason: String,
    since: Timestamp,
}

type Table = Mutex<HashMap<(Resource, ObjectKey), Vec<Standing>>>;

#[derive(Clone, Debug)]
pub(super) struct Conditions(Arc<Table>);

impl Conditions {
    pub fn new(book: &mut Book<'_>) -> Self {
        let table = Arc::new(Table::default());
        book.collector(Ages(table.clone()));
        Self(table)
    }
}

impl Metrics {
    /// Notes what the conditions of an instance are.
    pub(crate) fn conditions_are(&self, resource: &Resource, key: &ObjectKey, conditions: &Value) {
        let list = conditions.as_array().into_iter().flatten();
        let standing = list.filter_map(|condition| {
            let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
            Some(Standing {
                type_: text("type"),
                status: text("status"),
                reason: text("reason"),
                since: text("lastTransitionTime").parse().ok()?,
            })
        });
        let place = (resource.clone(), key.clone());
        self.conditions.0.lock().insert(place, standing.collect());
    }

    /// Forgets the conditions of an instance that is gone.
    pub(crate) fn conditions_gone(&self, resource: &Resource, key: &ObjectKey) {
        let place = (resource.clone(), key.clone());
        self.conditions.0.lock().remove(&place);
    }
}

#[derive(Debug)]
struct Ages(Arc<Table>);

impl Collector for Ages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.0.lock();
        if table.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        let mut gauge = encoder.encode_descriptor(
            "instance_condition_current_status_seconds",
            "How long a condition has been what it is",
            None,
            MetricType::Gauge,
        )?;
        for ((resource, key), standing) in table.iter() {
            for condition in standing {
                let labels: Labels = vec![
                    ("gvr", form_b(resource)),
                    ("namespace", key.namespace.clone()),
                    ("name", key.name.clone()),
                    ("condition_type", condition.type_.clone()),
                    ("condition_status", condition.status.clone()),
                    ("reason", condition.reason.clone()),
                ];
                let age = now.duration_since(condition.since).as_secs_f64();
                // A clock that runs ahead makes no negative ages.
                ConstGauge::new(age.max(0.0)).encode(gauge.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_condition_has_one_series_as_long_as_its_instance_is_there() {
        let metrics = Metrics::default();
        let apps = Resource::namespaced("kro.run/v1", "apps", "App");
        let key = ObjectKey::new("default", "a");
        let conditions = |status: &str| {
            json!([{"type": "Ready", "status": status, "reason": "Because",
                "lastTransitionTime": "2020-01-01T00:00:00Z"}])
        };
        metrics.conditions_are(&apps, &key, &conditions("False"));
        metrics.conditions_are(&apps, &key, &conditions("True"));
        let series = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| line.starts_with("instance_condition_current_status_seconds{"))
                .map(str::to_owned)
                .collect()
        };
        let found = series(&metrics.encode());
        assert_eq!(found.len(), 1, "{found:?}");
        let labels = "{gvr=\"kro.run/v1, Resource=apps\",namespace=\"default\",name=\"a\",\
            condition_type=\"Ready\",condition_status=\"True\",reason=\"Because\"}";
        assert!(found[0].contains(labels), "{found:?}");
        let age: f64 = found[0]
            .rsplit(' ')
            .next()
            .and_then(|age| age.parse().ok())
            .unwrap_or(0.0);
        assert!(age > 1e8, "{found:?}");
        metrics.conditions_gone(&apps, &key);
        assert!(series(&metrics.encode()).is_empty());
    }
}
