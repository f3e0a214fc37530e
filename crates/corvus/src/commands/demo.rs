//! `corvus demo`: from nothing to a composed, running application, told as it happens.
//!
//! [`story`] is what happens, [`screen`] is how it is shown: a tree that fills in on a terminal, plain
//! lines elsewhere.

mod screen;
mod story;

use std::path::PathBuf;

use anyhow::Context as _;

use super::{
    AccessArguments, ElectionArguments, GraphArguments, NodeArguments, TuningArguments, UpArguments,
};
use crate::monitoring;
use crate::plane::{self, Plane, StoreKind};
use screen::Screen;

/// The arguments of `corvus demo`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corvus demo            plays the demo and ends
  corvus demo --keep     leaves the cluster running at the end, for kubectl")]
pub struct Arguments {
    /// Leave the cluster running at the end, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Where to write the kubeconfig of the demo's cluster.
    #[arg(long, default_value = ".corvus/demo-kubeconfig", value_name = "FILE")]
    kubeconfig: PathBuf,
}

/// Plays the demo.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("corvus-demo-{}", std::process::id()));
    let outcome = plane::runtime()?.block_on(play(arguments, folder.clone()));
    // The demo's cluster forgets everything; so does its folder.
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        tracing::debug!(%error, "removing the demo's folder");
    }
    outcome
}

async fn play(arguments: &Arguments, folder: PathBuf) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let up = UpArguments {
        data_dir: folder,
        listen: ([127, 0, 0, 1], 0).into(),
        kubeconfig: Some(arguments.kubeconfig.clone()),
        store: StoreKind::Memory,
        nodes: NodeArguments::default(),
        controllers: vec!["*".to_owned()],
        feature_gates: Vec::new(),
        enable_admission_plugins: Vec::new(),
        disable_admission_plugins: Vec::new(),
        access: AccessArguments::default(),
        graph: GraphArguments::default(),
        monitoring: monitoring::Arguments::default(),
        election: ElectionArguments::default(),
        tuning: TuningArguments::default(),
        service_cluster_ip_range: "10.96.0.0/12".to_owned(),
    };
    let started = std::time::Instant::now();
    let plane = Plane::start(&up).await?;
    screen.done(
        "a Kubernetes control plane, in this process",
        started.elapsed(),
    );
    let told = story::tell(&plane, &mut screen).await;
    if told.is_ok() {
        Screen::next(&arguments.kubeconfig, arguments.keep);
        if arguments.keep {
            tokio::signal::ctrl_c()
                .await
                .context("waiting for Ctrl-C")?;
        }
    }
    plane.stop().await;
    if !arguments.keep
        && let Err(error) = std::fs::remove_file(&arguments.kubeconfig)
    {
        tracing::debug!(%error, "removing the demo's kubeconfig");
    }
    told
}
