//! Of several processes on one cluster, one runs the controllers: upstream's flags of leader election.

use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use controller::{Api, LeaderElector, Leadership};
use tokio_util::sync::CancellationToken;

use super::duration;

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
    #[arg(long, alias = "leader-election-lease-duration", default_value = "15s", value_name = "DURATION", value_parser = duration::parse)]
    pub leader_elect_lease_duration: Duration,
    /// How long a leader tries to say something before it gives up.
    #[arg(long, alias = "leader-election-renew-deadline", default_value = "10s", value_name = "DURATION", value_parser = duration::parse)]
    pub leader_elect_renew_deadline: Duration,
    /// How long to wait between attempts.
    #[arg(long, alias = "leader-election-retry-period", default_value = "2s", value_name = "DURATION", value_parser = duration::parse)]
    pub leader_elect_retry_period: Duration,
    /// The name of the Lease [default: corvus-controllers; controller.kro.run, which is kro's, where only graphs
    /// are served].
    #[arg(long, value_name = "NAME")]
    pub leader_elect_resource_name: Option<String>,
    /// The namespace of the Lease [default: that of the Pod, or else kube-system].
    #[arg(long, alias = "leader-election-namespace", value_name = "NAMESPACE")]
    pub leader_elect_resource_namespace: Option<String>,
}

/// The Lease of Kubernetes' own controllers and of all together.
pub const LEASE: &str = "corvus-controllers";
/// The Lease of the controllers of graphs alone: kro's, so that one of the two runs while a cluster is switched.
pub const GRAPH_LEASE: &str = "controller.kro.run";
/// Where the Lease is where no Pod says otherwise.
const NAMESPACE: &str = "kube-system";
/// Where a Pod finds its namespace.
const POD_NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

impl Default for Arguments {
    /// What the flags say by default.
    fn default() -> Self {
        Self {
            leader_elect: None,
            leader_elect_lease_duration: Duration::from_secs(15),
            leader_elect_renew_deadline: Duration::from_secs(10),
            leader_elect_retry_period: Duration::from_secs(2),
            leader_elect_resource_name: None,
            leader_elect_resource_namespace: None,
        }
    }
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
    /// `by_default` says whether there is an election where the flag does not, `lease` what it is about.
    pub async fn run<F: Future<Output = ()>>(
        &self,
        client: kube::Client,
        by_default: bool,
        lease: &str,
        shutdown: CancellationToken,
        controllers: impl Fn(Term) -> F,
    ) {
        if !self.leader_elect.unwrap_or(by_default) {
            let ended = shutdown.clone();
            let leadership = None;
            return controllers(Term { leadership, ended }).await;
        }
        let namespace = self.leader_elect_resource_namespace.clone();
        let namespace = namespace.unwrap_or_else(own_namespace);
        let name = self.leader_elect_resource_name.as_deref();
        let name = name.unwrap_or(lease);
        let mut elector = LeaderElector::new(Api::new(client), &namespace, name, identity());
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

fn own_namespace() -> String {
    let found = std::fs::read_to_string(POD_NAMESPACE_FILE);
    let found = found.ok().map(|text| text.trim().to_owned());
    found
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| NAMESPACE.to_owned())
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
    fn a_leader_gives_up_before_others_take_over() {
        assert!(Arguments::default().check().is_ok());
        let late = Arguments {
            leader_elect_renew_deadline: Duration::from_secs(15),
            ..Arguments::default()
        };
        assert!(late.check().is_err());
    }
}
