//! Metrics of watches and the queue: how many there are is looked up when somebody asks, what they bring is counted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use controller::{Event, Resource};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, counter::Counter};

use super::{Book, Counters, Histograms, Labels, Metrics, form_b};

/// What there is at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchCounts {
    /// Served kinds of instances.
    pub kinds: usize,
    /// Instances waiting to be worked on.
    pub queued: usize,
    /// Watches of anything.
    pub watches: usize,
    /// Instances that look at what they do not own, by their resource.
    pub watchers: Vec<(Resource, usize)>,
    /// What is looked at: by its resource, single objects and selections.
    pub requests: Vec<(Resource, [usize; 2])>,
}

type Source = Box<dyn Fn() -> WatchCounts + Send + Sync>;

#[derive(Clone)]
pub(super) struct Watching {
    source: Arc<Mutex<Option<Source>>>,
    events: Counters,
    routed: Counters,
    matched: Counters,
    sync_seconds: Histograms,
    attached: Counter,
    detached: Counter,
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").finish_non_exhaustive()
    }
}

impl Watching {
    pub fn new(book: &mut Book<'_>) -> Self {
        let source: Arc<Mutex<Option<Source>>> = Arc::default();
        book.collector(Lookup(source.clone()));
        let parent = || vec![("type", "parent".to_owned())];
        let attached = book.counters(
            "dynamic_controller_handler_attach",
            "Kinds that began to be served",
        );
        let detached = book.counters(
            "dynamic_controller_handler_detach",
            "Kinds that ceased to be served",
        );
        Self {
            source,
            events: book.counters(
                "dynamic_controller_informer_events",
                "Events of what instances look at, by type",
            ),
            routed: book.counters(
                "dynamic_controller_route",
                "Events of what instances look at",
            ),
            matched: book.counters(
                "dynamic_controller_route_match",
                "Events that concerned an instance",
            ),
            sync_seconds: book.durations(
                "dynamic_controller_informer_sync_duration_seconds",
                "Time until a watch has its first list",
            ),
            attached: attached.get_or_create_owned(&parent()),
            detached: detached.get_or_create_owned(&parent()),
        }
    }
}

impl Metrics {
    /// Says where the numbers of watches are looked up from now on.
    pub(crate) fn count_watches_with(
        &self,
        source: impl Fn() -> WatchCounts + Send + Sync + 'static,
    ) {
        *self.watches.source.lock() = Some(Box::new(source));
    }

    pub(crate) fn watch_synced(&self, resource: &Resource, took: Duration) {
        let labels = vec![("gvr", form_b(resource))];
        let histogram = self.watches.sync_seconds.get_or_create(&labels);
        histogram.observe(took.as_secs_f64());
    }

    /// An event of an instance that concerns it, or of what instances look at.
    pub(crate) fn event_seen(&self, resource: &Resource, event_type: &str) {
        let labels = vec![
            ("gvr", form_b(resource)),
            ("event_type", event_type.to_owned()),
        ];
        self.watches.events.get_or_create(&labels).inc();
    }

    pub(crate) fn event_routed(&self, resource: &Resource, event: &Event, has_matched: bool) {
        let gvr = || ("gvr", form_b(resource));
        self.event_seen(resource, event_type(event));
        self.watches.routed.get_or_create(&vec![gvr()]).inc();
        if has_matched {
            self.watches.matched.get_or_create(&vec![gvr()]).inc();
        }
    }

    pub(crate) fn kind_served(&self) {
        self.watches.attached.inc();
    }

    pub(crate) fn kind_left(&self) {
        self.watches.detached.inc();
    }
}

/// An event as kro calls it.
pub(crate) fn event_type(event: &Event) -> &'static str {
    match event {
        Event::Added(_) => "add",
        Event::Updated { .. } => "update",
        Event::Deleted(_) => "delete",
    }
}

/// Looks numbers up when metrics are read.
struct Lookup(Arc<Mutex<Option<Source>>>);

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

impl Collector for Lookup {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(counts) = self.0.lock().as_ref().map(|source| source()) else {
            return Ok(());
        };
        let mut gauge = |name: &str, help: &str, values: Vec<(Labels, usize)>| {
            if values.is_empty() {
                return Ok(());
            }
            let mut one = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in values {
                let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                // A family member without labels would still have its braces.
                if labels.is_empty() {
                    return value.encode(one);
                }
                value.encode(one.encode_family(&labels)?)?;
            }
            Ok(())
        };
        let alone = |value: usize| vec![(Labels::new(), value)];
        gauge(
            "dynamic_controller_gvr_count",
            "Served kinds of instances",
            alone(counts.kinds),
        )?;
        gauge(
            "dynamic_controller_handler_count_total",
            "Served kinds of instances, as handlers of their events",
            vec![(vec![("type", "parent".to_owned())], counts.kinds)],
        )?;
        gauge(
            "dynamic_controller_queue_length",
            "Instances waiting to be worked on",
            alone(counts.queued),
        )?;
        gauge(
            "dynamic_controller_watch_count",
            "Watches",
            alone(counts.watches),
        )?;
        let watchers = counts.watchers.iter();
        gauge(
            "dynamic_controller_instance_watch_count",
            "Instances that look at what they do not own",
            watchers
                .map(|(resource, count)| (vec![("parent_gvr", form_b(resource))], *count))
                .collect(),
        )?;
        let requests = counts.requests.iter().flat_map(|(resource, counts)| {
            ["scalar", "collection"]
                .into_iter()
                .zip(counts)
                .map(|(type_, count)| {
                    let labels = vec![("gvr", form_b(resource)), ("type", type_.to_owned())];
                    (labels, *count)
                })
        });
        gauge(
            "dynamic_controller_watch_request_count",
            "What instances look at without owning it",
            requests.collect(),
        )?;
        Ok(())
    }
}
