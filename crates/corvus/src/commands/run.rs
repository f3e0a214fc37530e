//! `corvus run`: the controllers, attached to a cluster that is there already.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use controller::{Api, Informers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::attach::Cluster;
use super::election::{GRAPH_LEASE, LEASE};
use super::{Controllers, ElectionArguments, GraphArguments, NodeArguments, Term, TuningArguments};
use crate::{monitoring, plane};

/// How long the cluster may take to answer for the first time.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// Whose virtual nodes those of an attached process are.
const SERVER: &str = "corvus-run";
/// How long controllers may take to end.
const CONTROLLERS_END: Duration = Duration::from_secs(3);

/// The arguments of `corvus run`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corvus run                               on the cluster of the current kubectl context
  corvus run --kubeconfig /etc/corvus/kubeconfig
  corvus run --controllers graph,job       some of Kubernetes' own controllers too
  corvus run --virtual-nodes 5             nodes that simulate a kubelet, on that cluster")]
pub struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    /// Controllers to run: `*` for all, `name` for one, `-name` for all but one. Kubernetes' own run in
    /// most clusters already.
    #[arg(
        long,
        default_value = "graph",
        value_delimiter = ',',
        value_name = "LIST"
    )]
    controllers: Vec<String>,
    /// Features to switch on or off: those of graphs, such as `CELOmitFunction=true`, and, as on the
    /// cluster's servers, `MaxUnavailableStatefulSet=true`.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    feature_gates: Vec<String>,
    /// How graphs are run.
    #[command(flatten)]
    graph: GraphArguments,
    /// Where they are watched over.
    #[command(flatten)]
    monitoring: monitoring::Arguments,
    /// Who runs the controllers.
    #[command(flatten)]
    election: ElectionArguments,
    /// How some of them work.
    #[command(flatten)]
    tuning: TuningArguments,
    /// Where Pods run.
    #[command(flatten)]
    nodes: NodeArguments,
}

/// What is run.
struct Work {
    kubernetes: kubernetes::Options,
    graph: Option<graph::Options>,
    /// They go with the leadership: two processes never play the same ones.
    virtual_nodes: Option<node::virtual_nodes::Options>,
}

/// Runs until Ctrl-C.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let controllers = Controllers::parse(&arguments.controllers)?;
    let features = super::features::switch(&arguments.feature_gates)?;
    arguments.election.check()?;
    arguments.graph.tell_unneeded();
    let graph = arguments.graph.options(features);
    let metrics = graph.metrics.clone();
    let node_cidrs = arguments.tuning.node_cidrs()?;
    let has_cidrs = node_cidrs.is_some()
        && controllers
            .kubernetes
            .names()
            .any(|name| name == "nodeipam");
    let virtual_nodes = arguments
        .nodes
        .virtual_nodes(SERVER.to_owned(), 0, has_cidrs)?;
    let work = Work {
        virtual_nodes: (!virtual_nodes.templates.is_empty()).then_some(virtual_nodes),
        kubernetes: kubernetes::Options {
            selection: controllers.kubernetes,
            // Whoever runs the cluster tells its authority.
            root_certificate: None,
            node_cidrs,
            scheduler: arguments.nodes.scheduler()?,
            ..arguments.tuning.controllers()
        },
        graph: controllers.graph.then_some(graph),
    };
    plane::runtime()?.block_on(async {
        let config = arguments.cluster.config().await?;
        let url = config.cluster_url.to_string();
        let client = kube::Client::try_from(config).context("making a client of the cluster")?;
        let version = tokio::time::timeout(FIRST_ANSWER, client.apiserver_version())
            .await
            .with_context(|| format!("{url} has not answered in {FIRST_ANSWER:?}"))?
            .with_context(|| format!("reaching the cluster at {url}"))?;
        eprintln!("attached to {url} (Kubernetes {})", version.git_version);
        let shutdown = CancellationToken::new();
        let _monitoring = arguments.monitoring.serve(&metrics, &shutdown).await?;
        attend(client, &work, &arguments.election, shutdown).await
    })
}

async fn attend(
    client: kube::Client,
    work: &Work,
    election: &ElectionArguments,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let failure = Mutex::new(None);
    let lead = |term: Term| {
        let (client, failure) = (&client, &failure);
        async move {
            if let Err(error) = lead(client, work, &term).await {
                // Trying again would end the same way.
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    };
    let lease =
        if work.kubernetes.selection.names().next().is_none() && work.virtual_nodes.is_none() {
            GRAPH_LEASE
        } else {
            LEASE
        };
    {
        let running = election.run(client.clone(), true, lease, shutdown.clone(), lead);
        tokio::pin!(running);
        tokio::select! {
            () = &mut running => {}
            outcome = end_is_asked() => {
                outcome?;
                shutdown.cancel();
                if tokio::time::timeout(CONTROLLERS_END, running).await.is_err() {
                    tracing::warn!("controllers were cut off at the end");
                }
            }
        }
    }
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)
}

/// Runs the controllers for a term.
async fn lead(client: &kube::Client, work: &Work, term: &Term) -> anyhow::Result<()> {
    let mut running = JoinSet::new();
    if work.kubernetes.selection.names().next().is_some() {
        let (own, options) = (term.client(client.clone()), work.kubernetes.clone());
        let token = term.ended.clone();
        running.spawn(async move { kubernetes::run(own, &options, token).await });
    }
    if let Some(graph) = &work.graph {
        let own = term.client(client.clone());
        let started = graph::start(own, graph.clone(), term.ended.clone()).await;
        let graph = started.context("starting the graph controllers")?;
        running.spawn(graph.stopped());
    }
    if let Some(options) = &work.virtual_nodes {
        let (own, options) = (term.client(client.clone()), options.clone());
        let token = term.ended.clone();
        let informers = Informers::new(Api::new(own.clone()), token.clone());
        running.spawn(node::virtual_nodes::run(own, informers, options, token));
    }
    println!("running");
    while running.join_next().await.is_some() {}
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
async fn end_is_asked() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome.context("waiting for Ctrl-C")?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
