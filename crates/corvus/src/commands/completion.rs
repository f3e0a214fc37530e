//! `corvus completion`.

use clap::CommandFactory;
use clap_complete::Shell;

/// The arguments of `corvus completion`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  source <(corvus completion bash)")]
pub struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
#[expect(clippy::unnecessary_wraps, reason = "commands look alike")]
pub fn run<C: CommandFactory>(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = C::command();
    clap_complete::generate(
        arguments.shell,
        &mut command,
        "corvus",
        &mut std::io::stdout(),
    );
    Ok(())
}
