//! Waits for something to change of an instance, its objects, its definition, or what is recorded about it.
//!
//! Only metadata is watched: whoever is woken reads for himself.

use std::sync::Arc;
use std::time::Duration;

use controller::{Api, HandlerGuard, Informer, InformerOptions, Informers, Resource};
use graph::Graph;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::live;

/// Changes come in bursts; one look is enough for each.
const BURST: Duration = Duration::from_millis(100);

/// What is watched.
pub struct Follow {
    changed: Arc<Notify>,
    watched: Vec<(Resource, InformerOptions)>,
    /// An informer nobody holds ends.
    _informers: Vec<(Informer, HandlerGuard)>,
    _end: DropGuard,
}

impl Follow {
    /// Watches all that an instance is about.
    pub fn start(api: &Api, graph: &Graph, instance: &Value) -> Self {
        let shutdown = CancellationToken::new();
        let informers = Informers::new(api.clone(), shutdown.clone());
        let changed = Arc::new(Notify::new());
        let watched = wanted(graph, instance);
        let running = watched.iter().map(|(resource, options)| {
            let changed = changed.clone();
            let informer = informers.informer(resource, options.clone());
            let handler = informer.add_handler(move |_| changed.notify_one());
            (informer, handler)
        });
        Self {
            _informers: running.collect(),
            changed,
            watched,
            _end: shutdown.drop_guard(),
        }
    }

    /// Whether this is all that the instance is about still.
    pub fn is_about(&self, graph: &Graph, instance: &Value) -> bool {
        self.watched == wanted(graph, instance)
    }

    /// Returns once something has changed since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
        tokio::time::sleep(BURST).await;
    }
}

fn wanted(graph: &Graph, instance: &Value) -> Vec<(Resource, InformerOptions)> {
    let metadata = &instance["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let namespace = metadata["namespace"].as_str().map(str::to_owned);
    let selected = |field: &str, value: &str| InformerOptions {
        namespace: namespace.clone(),
        field_selector: Some(format!("{field}={value}")),
        ..InformerOptions::metadata_only()
    };
    let events = Resource::namespaced("v1", "events", "Event");
    let mut wanted = vec![
        (
            graph.schema.resource(),
            selected("metadata.name", text("name")),
        ),
        (events, selected("involvedObject.uid", text("uid"))),
        (live::definitions(), InformerOptions::metadata_only()),
    ];
    for (resource, label_selector) in live::kinds_of(graph, text("uid")) {
        let options = InformerOptions {
            label_selector,
            ..InformerOptions::metadata_only()
        };
        wanted.push((resource, options));
    }
    wanted
}
