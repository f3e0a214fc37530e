//! `corvus graph`: work on ResourceGraphDefinitions, and see what they do on a cluster.

mod diagram;
mod difference;
mod documents;
mod explain;
mod finding;
mod fmt;
mod follow;
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

pub use documents::read;

/// The arguments of `corvus graph`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Features to switch on, as they are on the cluster's controllers: `CELOmitFunction=true`, or
    /// `AllAlpha=true`.
    #[arg(long, global = true, value_delimiter = ',', value_name = "LIST")]
    feature_gates: Vec<String>,
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
    let features = super::features::switch(&arguments.feature_gates)?;
    match &arguments.command {
        Command::Lint(arguments) => lint::run(arguments, features),
        Command::Render(arguments) => render::run(arguments, features),
        Command::Diagram(arguments) => diagram::run(arguments, features),
        Command::Explain(arguments) => explain::run(arguments, features),
        Command::Test(arguments) => test::run(arguments, features),
        Command::Fmt(arguments) => fmt::run(arguments),
        Command::Schema(arguments) => schema::run(arguments, features),
        Command::Plan(arguments) => plan::run(arguments, features),
        Command::Status(arguments) => status::run(arguments),
    }
}
