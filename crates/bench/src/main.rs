//! `corvus-bench`: measurements anyone can repeat. Each prints one JSON line.
//!
//! Left out on purpose: judging. Bars and ratios are for who reads the numbers.

mod api;
mod cluster;
mod definitions;
mod graph;
mod instances;
mod machine;
mod schedule;
mod start;

use clap::{Parser, Subcommand};

/// Servers that run in this process have what `corvus` has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measurements of Corvus and of any cluster.
#[derive(Parser)]
#[command(name = "corvus-bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How fast an API server answers, whichever it is.
    Api(api::Arguments),
    /// How long an event takes to reach many watchers, beside many connections.
    Crowd(api::crowd::Arguments),
    /// How long an in-process test cluster takes to start.
    TestCluster(start::TestCluster),
    /// How long `corvus up` takes on an empty data directory, and what it weighs idle.
    Up(start::Up),
    /// How fast Pods are scheduled and run, what the cluster costs at rest, and whether a rollout keeps
    /// its bounds.
    Cluster(cluster::Arguments),
    /// How fast the scheduler alone finds nodes for Pods that wait.
    Schedule(schedule::Arguments),
    /// How long instances of a resource graph take to converge on a cluster.
    Instances(instances::Arguments),
    /// How long instances of a graph of a chosen size and shape take, and what they cost.
    Graph(graph::Arguments),
    /// How long a definition takes to compile.
    Compile(definitions::Compile),
    /// How long many definitions take to become Active, and what they weigh.
    Definitions(definitions::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let line = match Arguments::parse().command {
        Command::Api(arguments) => api::run(&arguments).await?,
        Command::Crowd(arguments) => api::crowd::run(&arguments).await?,
        Command::TestCluster(arguments) => start::test_cluster(&arguments).await,
        Command::Up(arguments) => start::up(&arguments)?,
        Command::Cluster(arguments) => cluster::run(&arguments).await?,
        Command::Schedule(arguments) => schedule::run(&arguments).await?,
        Command::Instances(arguments) => instances::run(&arguments).await?,
        Command::Graph(arguments) => graph::run(&arguments).await?,
        Command::Compile(arguments) => definitions::compile(&arguments)?,
        Command::Definitions(arguments) => definitions::run(&arguments).await?,
    };
    println!("{line}");
    Ok(())
}
