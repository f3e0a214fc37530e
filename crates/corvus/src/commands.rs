//! The commands, one file each.

mod access;
mod attach;
mod backup;
mod completion;
mod controllers;
mod demo;
mod duration;
mod election;
mod features;
mod graph;
mod graph_arguments;
mod image;
mod nodes;
mod run;
mod tuning;
mod up;
mod version;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use access::Arguments as AccessArguments;
pub use controllers::Controllers;
pub use election::{Arguments as ElectionArguments, LEASE, Term};
pub use features::switch as switch_features;
pub use graph_arguments::Arguments as GraphArguments;
pub use nodes::Arguments as NodeArguments;
pub use tuning::Arguments as TuningArguments;
pub use up::Arguments as UpArguments;

/// One program that composes, runs and hosts Kubernetes workloads.
#[derive(Parser)]
#[command(name = "corvus", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How much to log to stderr: error, warn, info, debug or trace, or a filter such as
    /// `warn,graph=debug`.
    #[arg(
        long,
        global = true,
        default_value = "warn",
        env = "CORVUS_LOG",
        value_name = "LEVEL"
    )]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Bring up a Kubernetes control plane with everything Corvus does, in this process.
    Up(Box<up::Arguments>),
    /// Watch Corvus turn a ResourceGraphDefinition into an API and an instance of it into an
    /// application.
    Demo(demo::Arguments),
    /// Run the controllers on a cluster that is there already.
    Run(Box<run::Arguments>),
    /// Take a backup of a running control plane.
    Backup(backup::BackupArguments),
    /// Make a data directory of a backup.
    Restore(backup::RestoreArguments),
    /// Work on ResourceGraphDefinitions, and see what they do on a cluster.
    Graph(graph::Arguments),
    /// Write a container image of this program.
    Image(image::Arguments),
    /// Print the version.
    Version(version::Arguments),
    /// Print a completion script for a shell.
    Completion(completion::Arguments),
}

/// Runs the command of the command line.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = start_log(&arguments.log) {
        return fail(&error);
    }
    let outcome = match arguments.command {
        Command::Up(arguments) => up::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Backup(arguments) => backup::backup(&arguments),
        Command::Restore(arguments) => backup::restore(&arguments),
        // Its exit code says what was found.
        Command::Graph(arguments) => {
            return graph::run(&arguments).unwrap_or_else(|error| fail(&error));
        }
        Command::Image(arguments) => image::run(&arguments),
        Command::Version(arguments) => version::run(&arguments),
        Command::Completion(arguments) => completion::run::<Arguments>(&arguments),
    };
    outcome.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

/// One clear line: what failed, and why, down to the cause.
fn fail(error: &anyhow::Error) -> ExitCode {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !parts.last().is_some_and(|last| last.ends_with(&text)) {
            parts.push(text);
        }
    }
    eprintln!("corvus: {}", parts.join(": "));
    ExitCode::FAILURE
}

/// The client logs every failure that it also returns, and what is returned is told where it matters.
const TOLD_TWICE: &str = "kube_client::client::builder=off";

fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(format!("{TOLD_TWICE},{filter}"))
        .map_err(|error| anyhow::anyhow!("--log {filter:?}: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for people: in a file they are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
