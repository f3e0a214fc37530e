//! What `corvus up` reads for its virtual nodes and its scheduler.

use std::path::Path;

use anyhow::Context as _;
use kubernetes::SchedulerConfiguration;
use node::virtual_nodes::{Options, Scenario, Template};
use serde_json::Value;

use super::files::DataDir;
use crate::commands::{UpArguments, read_documents};

/// The name of this server among those that share a store; kept in the data directory.
fn server(data: &DataDir) -> anyhow::Result<String> {
    const FILE: &str = "server-id";
    if let Some(name) = data.read(FILE)? {
        return Ok(name.trim().to_owned());
    }
    let name = pki::new_token();
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(16)
        .collect();
    data.write(FILE, &name)?;
    Ok(name)
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

/// The virtual nodes asked for. `pod_cidrs` says whether nodes get ranges for their Pods.
pub fn virtual_nodes(
    arguments: &UpArguments,
    data: &DataDir,
    pod_cidrs: bool,
) -> anyhow::Result<Options> {
    let mut templates = Vec::new();
    let plain = arguments.virtual_nodes;
    // Who describes nodes in a file gets those, and plain ones only when asked for, too.
    let plain = plain.unwrap_or(u32::from(arguments.virtual_nodes_file.is_none()));
    if plain > 0 {
        templates.push(Template::plain(plain));
    }
    if let Some(path) = &arguments.virtual_nodes_file {
        for document in documents(path)?
            .iter()
            .filter(|document| !document.is_null())
        {
            let template =
                Template::of(document).with_context(|| format!("reading {}", path.display()))?;
            templates.push(template);
        }
    }
    Ok(Options {
        server: server(data)?,
        templates,
        pod_cidrs,
        scenario: arguments
            .virtual_nodes_scenario
            .as_deref()
            .map(scenario)
            .transpose()?,
    })
}

/// How the scheduler is set up.
pub fn scheduler(arguments: &UpArguments) -> anyhow::Result<SchedulerConfiguration> {
    let Some(path) = &arguments.scheduler_config else {
        return Ok(SchedulerConfiguration::default());
    };
    let documents = documents(path)?;
    let [document] = documents.as_slice() else {
        anyhow::bail!("{}: want one KubeSchedulerConfiguration", path.display());
    };
    SchedulerConfiguration::parse(document).with_context(|| format!("reading {}", path.display()))
}
