//! `corvus up`: a control plane in this process, until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{AccessArguments, ElectionArguments, GraphArguments, NodeArguments, TuningArguments};
use crate::monitoring;
use crate::plane::{self, Plane, StoreKind};

/// The arguments of `corvus up`.
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  corvus up                                   a cluster on 127.0.0.1:6443, data in .corvus/
  KUBECONFIG=.corvus/kubeconfig kubectl get nodes
  corvus up --store memory --listen 127.0.0.1:0 --kubeconfig /tmp/kc    forgets everything at the end")]
pub struct Arguments {
    /// Where certificates, the kubeconfig and the data are kept.
    #[arg(long, default_value = ".corvus", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDR:PORT", value_parser = address)]
    pub listen: SocketAddr,
    /// Where to write the kubeconfig of the administrator [default: DIR/kubeconfig].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where objects are kept: `embedded` (in DIR, durable), `memory`, or
    /// `etcd://HOST:PORT`, which several servers may share.
    #[arg(long, default_value = "embedded", value_name = "STORE")]
    pub store: StoreKind,
    /// Controllers to run: `*` for all, `name` for one, `-name` for all but one; `graph` is the name of
    /// those of ResourceGraphDefinitions.
    #[arg(long, default_value = "*", value_delimiter = ',', value_name = "LIST")]
    pub controllers: Vec<String>,
    /// Features to switch on or off, of the cluster and of graphs: `MaxUnavailableStatefulSet=true,
    /// CELOmitFunction=true`.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub feature_gates: Vec<String>,
    /// Admission plugins to switch on besides the default ones.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins to switch off.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub disable_admission_plugins: Vec<String>,
    /// The range cluster IPs of Services are taken from.
    #[arg(long, default_value = "10.96.0.0/12", value_name = "CIDR")]
    pub service_cluster_ip_range: String,
    /// Who may come in, and what they may do.
    #[command(flatten)]
    pub access: AccessArguments,
    /// How graphs are run.
    #[command(flatten)]
    pub graph: GraphArguments,
    /// Where the graph controllers are watched over; the server has `/metrics` and `/readyz` of its own.
    #[command(flatten)]
    pub monitoring: monitoring::Arguments,
    /// Who runs the controllers.
    #[command(flatten)]
    pub election: ElectionArguments,
    /// How some of them work.
    #[command(flatten)]
    pub tuning: TuningArguments,
    /// Where Pods run.
    #[command(flatten)]
    pub nodes: NodeArguments,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "name an IP address and a port, such as 127.0.0.1:6443 or [::1]:6443".to_owned()
    })
}

/// Runs until Ctrl-C.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let runtime = plane::runtime()?;
    runtime.block_on(async {
        // Whoever reads that it is ready may end it in the same moment.
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let plane = Plane::start(arguments).await?;
        println!("ready in {} ms", started.elapsed().as_millis());
        eprintln!("listening on {}", plane.url());
        eprintln!("export KUBECONFIG={}", plane.kubeconfig().display());
        tokio::select! {
            outcome = tokio::signal::ctrl_c() => outcome.context("waiting for Ctrl-C")?,
            _ = terminate.recv() => {}
        }
        plane.stop().await;
        Ok(())
    })
}
