//! `corvus graph diagram`: a picture of a graph.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use graph::{Features, diagram};

use super::documents;

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// A picture.
    Svg,
    /// For Mermaid, which Markdown viewers draw.
    Mermaid,
    /// For Graphviz.
    Dot,
}

/// The arguments of `corvus graph diagram`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corvus graph diagram rgd.yaml > graph.svg
  corvus graph diagram rgd.yaml -o dot | dot -Tpng > graph.png")]
pub struct Arguments {
    /// A file with one ResourceGraphDefinition, and what else it needs.
    #[arg(value_name = "RGD")]
    definition: PathBuf,
    /// The language of the picture.
    #[arg(short, long, value_enum, default_value = "svg")]
    output: Output,
}

/// Draws.
pub fn run(arguments: &Arguments, features: Features) -> anyhow::Result<ExitCode> {
    let graph = documents::one_graph(&arguments.definition, features, |_| true, "")?;
    let text = match arguments.output {
        Output::Svg => diagram::svg(&graph),
        Output::Mermaid => diagram::mermaid(&graph),
        Output::Dot => diagram::dot(&graph),
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}
