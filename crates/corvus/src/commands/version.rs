//! `corvus version`.

use clap::ValueEnum;
use serde_json::json;

/// How to print.
#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The arguments of `corvus version`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// Prints the version.
#[expect(clippy::unnecessary_wraps, reason = "commands look alike")]
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let kubernetes = apiserver::KUBERNETES_VERSION;
    match arguments.output {
        Output::Text => println!("corvus {version} (Kubernetes API {kubernetes})"),
        Output::Json => println!("{}", json!({"version": version, "kubernetes": kubernetes})),
    }
    Ok(())
}
