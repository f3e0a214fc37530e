//! How commands reach a cluster that is there already: as kubectl does.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Which cluster.
#[derive(clap::Args)]
pub struct Cluster {
    /// The kubeconfig of the cluster [default: as kubectl finds it, or the Pod's service account].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use instead of its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl Cluster {
    /// How to reach it.
    pub async fn config(&self) -> anyhow::Result<kube::Config> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        if let Some(path) = &self.kubeconfig {
            let kubeconfig = read(path)?;
            return kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .with_context(|| format!("the kubeconfig {}", path.display()));
        }
        if self.context.is_some() {
            return kube::Config::from_kubeconfig(&options)
                .await
                .context("the kubeconfig");
        }
        kube::Config::infer()
            .await
            .context("no cluster is configured: name a kubeconfig with --kubeconfig or KUBECONFIG")
    }

    /// A client of it.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        let config = self.config().await?;
        kube::Client::try_from(config).context("making a client of the cluster")
    }
}

fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    // Asked first, as the reader's own message leaves out why.
    std::fs::metadata(path)
        .with_context(|| format!("reading the kubeconfig {}", path.display()))?;
    Kubeconfig::read_from(path)
        .with_context(|| format!("reading the kubeconfig {}", path.display()))
}
