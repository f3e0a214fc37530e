//! Of several processes on one cluster, one runs the controllers: upstream's flags of leader election.

use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use controller::{Api, LeaderElector, Leadership};
use tokio_util::sync::CancellationToken;

/// Who runs the controllers.
#[derive(clap::Args, Debug, Clone)]
#[command(next_help_heading = "Leader election")]
#[group(id = "leader-election")]
pub struct Arguments {
    /// Run the controllers only while no other process does [default: where others may be there: on a cluster that is
    /// there already, and with etcd].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_elect: Option<bool>,
    /// How long others wait for a leader that says nothing any more.
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_lease_duration: Duration,
    /// How long a leader tries to say something before it gives up.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_renew_deadline: Duration,
    /// How long to wait between attempts.
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_retry_period: Duration,
    /// The name of the Lease.
    #[arg(long, default_value = LEASE, value_name = "NAME")]
    pub leader_elect_resource_name: String,
    /// The namespace of the Lease.
    #[arg(long, default_value = NAMESPACE, value_name = "NAMESPACE")]
    pub leader_elect_resource_namespace: String,
}

const LEASE: &str = "corvus-controllers";
const NAMESPACE: &str = "kube-system";

impl Default for Arguments {
    /// What the flags say by default.
    fn default() -> Self {
        Self {
            leader_elect: None,
            leader_elect_lease_duration: Duration::from_secs(15),
            leader_elect_renew_deadline: Duration::from_secs(10),
            leader_elect_retry_period: Duration::from_secs(2),
            leader_elect_resource_name: LEASE.to_owned(),
            leader_elect_resource_namespace: NAMESPACE.to_owned(),
        }
    }
}

/// A length of time as Go writes it: `15s`, `1m30s`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "write a duration such as 15s, 1m30s or 500ms".to_owned();
    let (mut rest, mut sum) = (text, Duration::ZERO);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(milliseconds).ok_or_else(bad)?;
        sum = sum
            .checked_add(Duration::from_millis(part))
            .ok_or_else(bad)?;
        rest = next;
    }
    Ok(sum)
}

/// A time in which this process runs the controllers.
pub struct Term {
    leadership: Option<Leadership>,
    /// Cancelled when it is over.
    pub ended: CancellationToken,
}

impl Term {
    /// A client that works as long as nobody else runs the controllers.
    pub fn client(&self, client: kube::Client) -> kube::Client {
        match &self.leadership {
            Some(leadership) => leadership.fence(client),
            None => client,
        }
    }
}

impl Arguments {
    /// Checks what the flags say together.
    pub fn check(&self) -> anyhow::Result<()> {
        let (lease, renew, retry) = (
            self.leader_elect_lease_duration,
            self.leader_elect_renew_deadline,
            self.leader_elect_retry_period,
        );
        if renew >= lease {
            bail!("--leader-elect-renew-deadline must be less than --leader-elect-lease-duration");
        }
        if retry >= renew || retry.is_zero() {
            bail!(
                "--leader-elect-retry-period must be less than --leader-elect-renew-deadline, and not 0"
            );
        }
        if lease < Duration::from_secs(1) {
            bail!("--leader-elect-lease-duration must be at least 1s");
        }
        Ok(())
    }

    /// Runs `controllers` whenever this process may, until `shutdown`.
    ///
    /// `by_default` says whether there is an election where the flag does not.
    pub async fn run<F: Future<Output = ()>>(
        &self,
        client: kube::Client,
        by_default: bool,
        shutdown: CancellationToken,
        controllers: impl Fn(Term) -> F,
    ) {
        if !self.leader_elect.unwrap_or(by_default) {
            let ended = shutdown.clone();
            let leadership = None;
            return controllers(Term { leadership, ended }).await;
        }
        let mut elector = LeaderElector::new(
            Api::new(client),
            &self.leader_elect_resource_namespace,
            &self.leader_elect_resource_name,
            identity(),
        );
        elector.lease_duration = self.leader_elect_lease_duration;
        elector.renew_deadline = self.leader_elect_renew_deadline;
        elector.retry_period = self.leader_elect_retry_period;
        while !shutdown.is_cancelled() {
            let lead = |leadership: Leadership| {
                let ended = leadership.ended().clone();
                let leadership = Some(leadership);
                controllers(Term { leadership, ended })
            };
            if elector.run(shutdown.clone(), lead).await {
                return;
            }
        }
    }
}

/// Who this process is: its machine and a number that no other process has.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.ok().map(|host| host.trim().to_owned());
    let host = host.or_else(|| std::env::var("HOSTNAME").ok());
    let host = host.filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "corvus".to_owned());
    format!("{host}_{}", uuid::Uuid::new_v4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_upstream_writes_them() {
        let check = |text: &str, expect: Option<u64>| {
            let milliseconds = duration(text).ok().map(|d| d.as_millis() as u64);
            assert_eq!(milliseconds, expect, "{text}");
        };
        check("15s", Some(15_000));
        check("1m30s", Some(90_000));
        check("500ms", Some(500));
        check("1h", Some(3_600_000));
        check("", None);
        check("15", None);
        check("s", None);
        check("99999999999999999999s", None);
    }

    #[test]
    fn a_leader_gives_up_before_others_take_over() {
        assert!(Arguments::default().check().is_ok());
        let late = Arguments {
            leader_elect_renew_deadline: Duration::from_secs(15),
            ..Arguments::default()
        };
        assert!(late.check().is_err());
    }
}
