//! `corvus graph`: work on ResourceGraphDefinitions, and see what they do on a cluster.

mod diagram;
mod difference;
mod documents;
mod explain;
mod finding;
mod fmt;
mod lint;
mod live;
mod marks;
mod plan;
mod render;
mod schema;
mod status;
mod test;

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
    /// Tell the fields of the API a definition makes.
    Explain(explain::Arguments),
    /// Check what instances become against what is expected of them.
    Test(test::Arguments),
    /// Write definitions in one way.
    Fmt(fmt::Arguments),
    /// Print a JSON schema for editors.
    Schema(schema::Arguments),
    /// Say what a changed definition would do to the instances on a cluster.
    Plan(plan::Arguments),
    /// Say why an instance on a cluster is where it is.
    Status(status::Arguments),
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Lint(arguments) => lint::run(arguments),
        Command::Render(arguments) => render::run(arguments),
        Command::Diagram(arguments) => diagram::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Fmt(arguments) => fmt::run(arguments),
        Command::Schema(arguments) => schema::run(arguments),
        Command::Plan(arguments) => plan::run(arguments),
        Command::Status(arguments) => status::run(arguments),
    }
}
