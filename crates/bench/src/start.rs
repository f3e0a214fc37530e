//! Starting: a test cluster in this process, and `corvus up` in one of its own.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use testkit::Cluster;

use crate::machine::{fsync_latency, median, ms, weight};

/// The arguments of `corvus-bench test-cluster`.
#[derive(clap::Args)]
pub struct TestCluster {
    /// How often.
    #[arg(long, default_value_t = 50)]
    times: usize,
}

/// Starts test clusters one after another.
pub async fn test_cluster(arguments: &TestCluster) -> Value {
    let mut taken = Vec::with_capacity(arguments.times);
    for _ in 0..arguments.times.max(1) {
        let started = Instant::now();
        drop(Cluster::start().await);
        taken.push(started.elapsed());
    }
    let first = taken[0];
    let middle = median(&mut taken);
    let longest = taken.last().copied().unwrap_or_default();
    json!({
        "bench": "test-cluster",
        "times": taken.len(),
        "first_ms": ms(first),
        "median_ms": ms(middle),
        "longest_ms": ms(longest),
    })
}

/// The arguments of `corvus-bench up`.
#[derive(clap::Args)]
pub struct Up {
    /// The program.
    #[arg(long, default_value = "target/release/corvus")]
    program: PathBuf,
    /// How often.
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// Seconds to sit idle before weighing, in the last run.
    #[arg(long, default_value_t = 5)]
    idle_seconds: u64,
}

/// Starts `corvus up` on empty data directories.
pub fn up(arguments: &Up) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let fsync = fsync_latency(folder.path())?;
    let mut taken = Vec::new();
    let mut idle = None;
    for round in 0..arguments.times.max(1) {
        let data = folder.path().join(round.to_string());
        let started = Instant::now();
        let mut child = Command::new(&arguments.program)
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", arguments.program.display()))?;
        let stdout = child.stdout.take().context("piped")?;
        let line = BufReader::new(stdout)
            .lines()
            .next()
            .context("it says nothing")??;
        taken.push(started.elapsed());
        if !line.starts_with("ready in ") {
            bail!("it said {line:?}");
        }
        if round + 1 == arguments.times.max(1) {
            let (_, before) = weight(child.id())?;
            std::thread::sleep(Duration::from_secs(arguments.idle_seconds));
            let (resident, after) = weight(child.id())?;
            let share =
                after.saturating_sub(before).as_secs_f64() / arguments.idle_seconds.max(1) as f64;
            idle = Some((resident, share));
        }
        child.kill()?;
        child.wait()?;
    }
    let middle = median(&mut taken);
    let (resident, share) = idle.unwrap_or_default();
    Ok(json!({
        "bench": "up",
        "times": taken.len(),
        "median_ms": ms(middle),
        "longest_ms": ms(taken.last().copied().unwrap_or_default()),
        "idle_resident_mib": resident,
        "idle_cpu_percent": (share * 1_000.0).round() / 10.0,
        "fsync_ms": ms(fsync),
    }))
}
