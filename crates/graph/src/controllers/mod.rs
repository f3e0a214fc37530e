//! The controllers: ResourceGraphDefinitions, their revisions, and the instances of the APIs they define.
//!
//! ```text
//!  RGD --issues--> GraphRevision --compiles--> Registry --newest graph--> instance controller --applies--> children
//!   |                                                                          ^
//!   '--ensures CRD, serves its kind--------------------------------------------'
//! ```
//!
//! All of them are woken by events alone; a timer runs only after something failed.

mod caches;
mod cluster_kinds;
mod context;
mod ensure_crd;
mod instance;
mod interests;
mod metrics;
mod options;
mod registry;
mod revision;
mod rgd;
mod rgd_deletion;
mod rgd_plan;
mod rgd_status;
mod rollout;
mod serving;
mod watches;

use std::time::Duration;

use controller::{Api, Backoff, Controller, enqueue};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::manifests;
use context::Context;

pub use metrics::Metrics;
pub use options::Options;

/// Why the controllers did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One of our own CustomResourceDefinitions could not be installed.
    #[error("install {name}: {source}")]
    Install {
        /// Which.
        name: String,
        /// Why.
        source: controller::Error,
    },
}

/// The running controllers; dropping it aborts them.
pub struct GraphControllers {
    tasks: JoinSet<()>,
}

impl GraphControllers {
    /// Waits until all have ended, after the shutdown.
    pub async fn stopped(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Installs the CustomResourceDefinitions and runs all controllers until `shutdown`.
pub async fn start(
    client: kube::Client,
    options: Options,
    shutdown: CancellationToken,
) -> Result<GraphControllers, StartError> {
    // Before anything watches these kinds: a watch that finds nothing comes back only after a while.
    let api = Api::new(client.clone());
    for crd in [
        manifests::resource_graph_definition_crd(),
        manifests::graph_revision_crd(),
    ] {
        install(&api, &crd, &shutdown).await?;
    }
    let (context, recorder) = Context::new(client, options, shutdown.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = recorder.await;
    });
    let rgds = context.rgds.clone();
    rgds.add_handler(rgd::wake_on_own_events(&context)).forget();
    let revisions = context.revisions.clone();
    revisions
        .add_handler(enqueue::mapped(&context.rgd_queue, rgd::keys_of_revision))
        .forget();
    revisions
        .add_handler(revision::wake_on_own_events(&context))
        .forget();
    let crds = context.crds.clone();
    crds.add_handler(rgd::wake_on_crd_events(&context)).forget();
    let informers = || [rgds.clone(), revisions.clone(), crds.clone()];

    let rgd_controller = Controller::new(
        "resourcegraphdefinition",
        context.rgd_queue.clone(),
        rgd::RgdReconciler::new(&context),
    )
    .workers(context.options.rgd_workers)
    .wait_for(informers());
    let revision_controller = Controller::new(
        "graphrevision",
        context.revision_queue.clone(),
        revision::RevisionReconciler::new(&context),
    )
    .workers(context.options.revision_workers)
    .wait_for(informers());
    let instance_controller = Controller::new(
        "instance",
        context.instance_queue.clone(),
        instance::InstanceReconciler::new(&context),
    )
    .workers(context.options.instance_workers)
    .max_retries(context.options.max_retries)
    .wait_for(informers());
    tasks.spawn(rgd_controller.run(shutdown.clone()));
    tasks.spawn(revision_controller.run(shutdown.clone()));
    tasks.spawn(instance_controller.run(shutdown.clone()));
    let informers = context.informers.clone();
    tasks.spawn(async move {
        shutdown.cancelled().await;
        let _ = tokio::time::timeout(Duration::from_secs(5), informers.stopped()).await;
    });
    Ok(GraphControllers { tasks })
}

/// Installs one of our own definitions, trying again as long as that may help.
async fn install(api: &Api, crd: &Value, shutdown: &CancellationToken) -> Result<(), StartError> {
    const BACKOFF: Backoff = Backoff {
        base: Duration::from_millis(100),
        max: Duration::from_secs(5),
    };
    let mut failures = 0;
    loop {
        let Err(source) = ensure_crd::install(api, crd).await else {
            return Ok(());
        };
        let name = crd["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if !source.is_retryable() {
            return Err(StartError::Install { name, source });
        }
        tracing::warn!(name, error = %source, "definition not installed yet");
        tokio::select! {
            () = shutdown.cancelled() => return Err(StartError::Install { name, source }),
            () = tokio::time::sleep(BACKOFF.delay(failures)) => failures += 1,
        }
    }
}
