//! What has to stand beside every number: the machine's own speed, and a process's weight; and how a
//! cluster is reached.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Writes of the fsync probe.
const PROBES: usize = 200;

/// The median time of a 4 KiB overwrite with fdatasync in a folder.
pub fn fsync_latency(folder: &Path) -> anyhow::Result<Duration> {
    let path = folder.join("fsync-probe");
    let mut file = File::create(&path).context("the fsync probe")?;
    let block = [7_u8; 4096];
    file.write_all(&block)?;
    file.sync_all()?;
    let mut taken = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let started = Instant::now();
        std::os::unix::fs::FileExt::write_all_at(&file, &block, 0)?;
        file.sync_data()?;
        taken.push(started.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(median(&mut taken))
}

/// The middle of some durations.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Milliseconds with a fraction.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Resident memory and used CPU time of a process.
pub fn weight(process: u32) -> anyhow::Result<(f64, Duration)> {
    /// Ticks of `/proc` a second, on every Linux there is.
    const TICKS: f64 = 100.0;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let resident: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
        .context("VmRSS")?;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let used = Duration::from_secs_f64((ticks(11) + ticks(12)) / TICKS);
    Ok(((resident / 102.4).round() / 10.0, used))
}

/// A client of the cluster a kubeconfig names.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
