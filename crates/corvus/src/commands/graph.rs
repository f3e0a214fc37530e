//! `corvus graph`: work on ResourceGraphDefinitions without a cluster.

mod diagram;
mod documents;
mod finding;
mod lint;
mod marks;
mod render;

use std::process::ExitCode;

use clap::Subcommand;

/// The arguments of `corvus graph`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check ResourceGraphDefinitions, and instances of them, as the server would.
    Lint(lint::Arguments),
    /// Print what an instance would become.
    Render(render::Arguments),
    /// Draw a graph.
    Diagram(diagram::Arguments),
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Lint(arguments) => lint::run(arguments),
        Command::Render(arguments) => render::run(arguments),
        Command::Diagram(arguments) => diagram::run(arguments),
    }
}
