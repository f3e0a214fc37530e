//! Virtual nodes and how Pods come to nodes: the flags, and the files they name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use kubernetes::SchedulerConfiguration;
use node::virtual_nodes::{LEASE_DURATION, Options, Scenario, Template};
use serde_json::Value;

use super::duration;
use super::graph::read as read_documents;

/// Virtual nodes, and how Pods come to nodes.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Nodes")]
#[group(id = "nodes")]
pub struct Arguments {
    /// How many virtual nodes the cluster has. They simulate a kubelet and run no containers
    /// [default with `corvus up`: 1, or none with --virtual-nodes-file].
    #[arg(long, value_name = "N")]
    pub virtual_nodes: Option<u32>,
    /// A file of Node manifests: virtual nodes with chosen capacity, labels, taints and zones.
    #[arg(long, value_name = "FILE")]
    pub virtual_nodes_file: Option<PathBuf>,
    /// A file that says what happens to virtual nodes and their Pods, and when.
    #[arg(long, value_name = "FILE")]
    pub virtual_nodes_scenario: Option<PathBuf>,
    /// How long the Leases of virtual nodes last, which are renewed twice in that time [default: 40s].
    #[arg(long, value_name = "DURATION", value_parser = lease_duration)]
    pub virtual_nodes_lease_duration: Option<Duration>,
    /// A KubeSchedulerConfiguration: profiles, plugins and their weights.
    #[arg(long, value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,
}

impl Arguments {
    /// The virtual nodes of a server. Who describes nodes in a file gets those, and plain ones only when asked for, too; without
    /// either there are `usual` many. `pod_cidrs` says whether nodes get ranges for their Pods.
    pub fn virtual_nodes(
        &self,
        server: String,
        usual: u32,
        pod_cidrs: bool,
    ) -> anyhow::Result<Options> {
        let usual = if self.virtual_nodes_file.is_some() {
            0
        } else {
            usual
        };
        let plain = self.virtual_nodes.unwrap_or(usual);
        let mut templates = Vec::new();
        if plain > 0 {
            templates.push(Template::plain(plain));
        }
        if let Some(path) = &self.virtual_nodes_file {
            for document in documents(path)?
                .iter()
                .filter(|document| !document.is_null())
            {
                let template = Template::of(document);
                templates.push(template.with_context(|| format!("reading {}", path.display()))?);
            }
        }
        let scenario = self.virtual_nodes_scenario.as_deref().map(scenario);
        Ok(Options {
            server,
            templates,
            pod_cidrs,
            lease_duration: self.virtual_nodes_lease_duration.unwrap_or(LEASE_DURATION),
            scenario: scenario.transpose()?,
        })
    }

    /// How the scheduler is set up.
    pub fn scheduler(&self) -> anyhow::Result<SchedulerConfiguration> {
        let read = self.scheduler_config.as_deref().map(configuration);
        Ok(read.transpose()?.unwrap_or_default())
    }
}

/// A Lease says in whole seconds how long it lasts.
fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text)?;
    if duration < Duration::from_secs(1) || duration.subsec_nanos() != 0 {
        return Err("write whole seconds, such as 40s".to_owned());
    }
    Ok(duration)
}

fn documents(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_multiple_with_options(&text, options)
        .with_context(|| format!("reading {}", path.display()))
}

/// The scenario of a file; what is wrong with it is told with its place.
fn scenario(path: &Path) -> anyhow::Result<Scenario> {
    let documents = read_documents(path)?;
    let [document] = documents.as_slice() else {
        anyhow::bail!("{}: want one Scenario", path.display());
    };
    Scenario::parse(&document.value).map_err(|error| {
        let place = document.marks.find(&error.field);
        let (line, column) = place.map_or((1, 1), |field| (field.name.line, field.name.column));
        anyhow::anyhow!("{}:{line}:{column}: {error}", path.display())
    })
}

/// The scheduler's configuration in a file.
fn configuration(path: &Path) -> anyhow::Result<SchedulerConfiguration> {
    let documents = documents(path)?;
    let [document] = documents.as_slice() else {
        anyhow::bail!("{}: want one KubeSchedulerConfiguration", path.display());
    };
    SchedulerConfiguration::parse(document).with_context(|| format!("reading {}", path.display()))
}
