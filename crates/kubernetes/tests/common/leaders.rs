//! Several instances of the controllers of which one leads, each on a line of its own that can be cut.
//!
//! ```text
//!  controllers --fence, faults--> the instance's line --> witness --> API server
//!  Lease       -----------------> the instance's line ------------->
//! ```
//!
//! The witness looks at every request of controllers that arrives: only the instance that leads writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{Api, CutPlan, LeaderElector, Leadership, Line, Loss};
use http::{Method, Request};
use kube::client::Body;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::task::AbortOnDropHandle;

use super::{Harness, NAMESPACE};

/// Long enough that a leader renews its Lease in time on a busy machine, and no longer: a test waits for it to end.
const LEASE_DURATION: Duration = Duration::from_secs(5);
const RENEW_DEADLINE: Duration = Duration::from_secs(4);
const RETRY_PERIOD: Duration = Duration::from_millis(250);

/// Who led, in order, and who wrote without leading.
#[derive(Default)]
struct Witness {
    leaders: Vec<&'static str>,
    trespasses: Vec<String>,
    writes: BTreeMap<&'static str, usize>,
}

type Shared = Arc<Mutex<Witness>>;

/// The instances.
pub struct Leaders {
    witness: Shared,
    lines: BTreeMap<&'static str, Line>,
    running: Vec<AbortOnDropHandle<()>>,
}

impl Leaders {
    /// None yet.
    pub fn new() -> Self {
        Self {
            witness: Arc::default(),
            lines: BTreeMap::new(),
            running: Vec::new(),
        }
    }

    /// Starts an instance, which runs the controllers whenever it leads.
    pub fn start(&mut self, h: &Harness, name: &'static str) {
        let line = Line::new();
        let mut elector = LeaderElector::new(
            Api::new(line.wrap(h.cluster.client())),
            NAMESPACE,
            "controllers",
            name,
        );
        elector.lease_duration = LEASE_DURATION;
        elector.renew_deadline = RENEW_DEADLINE;
        elector.retry_period = RETRY_PERIOD;
        let seen = witnessed(h.cluster.client(), name, self.witness.clone());
        let client = h.faulty(line.wrap(seen));
        let (witness, shutdown) = (self.witness.clone(), h.cluster.shutdown());
        let setup = h.setup.clone();
        self.lines.insert(name, line);
        let running = async move {
            while !shutdown.is_cancelled() {
                let lead = |leadership: Leadership| {
                    witness.lock().leaders.push(name);
                    let (client, ended) =
                        (leadership.fence(client.clone()), leadership.ended().clone());
                    let options = super::options(&setup, &client, &ended);
                    async move { kubernetes::run(client, &options, ended).await }
                };
                elector.run(shutdown.clone(), lead).await;
            }
        };
        self.running
            .push(AbortOnDropHandle::new(tokio::spawn(running)));
    }

    /// Waits until an instance leads.
    pub async fn leads(&self, name: &'static str) {
        testkit::eventually(&format!("{name} leads"), || async {
            (self.witness.lock().leaders.last() == Some(&name)).then_some(())
        })
        .await;
    }

    /// Cuts the line of an instance in the middle of what it does, waits until the other one leads, and mends the line:
    /// whatever the first one still has to say gets through then.
    pub async fn change_in_the_middle(
        &self,
        seed: u64,
        from: &'static str,
        to: &'static str,
        most: u64,
    ) {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = CutPlan {
            at: random.random_range(1..=most),
            arrives: random.random(),
            loss: if random.random() {
                Loss::Fail
            } else {
                Loss::Hang
            },
        };
        let line = &self.lines[from];
        line.plan(plan);
        line.cut().await;
        self.leads(to).await;
        line.mend();
    }

    /// Nobody wrote who did not lead, and everybody else did.
    pub fn check(&self) {
        let witness = self.witness.lock();
        assert_eq!(
            witness.trespasses,
            Vec::<String>::new(),
            "leaders were {:?}",
            witness.leaders
        );
        for name in self.lines.keys() {
            let writes = witness.writes.get(name).copied().unwrap_or(0);
            assert!(
                writes > 0,
                "{name} wrote nothing; leaders were {:?}",
                witness.leaders
            );
        }
    }
}

/// A client whose writes are looked at when they arrive.
fn witnessed(client: kube::Client, name: &'static str, witness: Shared) -> kube::Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        if request.method() != Method::GET {
            let mut witness = witness.lock();
            *witness.writes.entry(name).or_default() += 1;
            if witness.leaders.last() != Some(&name) {
                let text = format!("{name}: {} {}", request.method(), request.uri());
                witness.trespasses.push(text);
            }
        }
        async move { client.send(request).await }
    });
    kube::Client::new(service, namespace)
}
