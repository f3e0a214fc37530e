//! In-process clusters for tests: a whole control plane is a function call.
//!
//! [`Cluster::start`] gives an API server on a memory store, with no socket; [`Cluster::listen`] puts
//! it behind HTTPS on a free port for clients that need one. Everything ends when the cluster is
//! dropped. [`eventually`] waits for what comes a moment later, and [`seeds`] are those of a test of chance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::identity::{Authentication, Mode, Tokens, User};
use apiserver::{ApiServer, Listener, ListenerOptions, Options};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A cluster of one process and one test.
pub struct Cluster {
    server: ApiServer,
    shutdown: CancellationToken,
    _guard: DropGuard,
}

/// How clients reach a listening cluster.
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// A kubeconfig with a certificate and a token of an administrator.
    pub kubeconfig: serde_json::Value,
}

/// The bearer token of the administrator.
pub const TOKEN: &str = "testkit-token";

/// The options tests start from.
pub fn options() -> Options {
    let mut tokens = Tokens::default();
    tokens.insert(TOKEN, User::admin());
    Options {
        authentication: Authentication {
            tokens,
            ..Authentication::default()
        },
        authorization: vec![Mode::Node, Mode::Rbac],
        flow: apiserver::FlowLimits::default(),
        request_timeout: Duration::from_mins(1),
        audit: None,
        authority: None,
        admission: apiserver::admission::Plugins::default(),
        clock: Arc::new(jiff::Timestamp::now),
        service_range: "10.96.0.0/12".to_owned(),
        node_ports: 30000..=32767,
        advertise: None,
        virtual_metrics: false,
    }
}

impl Cluster {
    /// An empty cluster: no controllers, no nodes.
    pub async fn start() -> Self {
        Self::with(options()).await
    }

    /// An empty cluster of other options.
    ///
    /// # Panics
    /// If the server does not start.
    pub async fn with(options: Options) -> Self {
        Self::on(Arc::new(store::memory()), options).await
    }

    /// A cluster on a store of one's own.
    ///
    /// # Panics
    /// If the server does not start.
    pub async fn on(store: Arc<dyn store::Store>, options: Options) -> Self {
        let shutdown = CancellationToken::new();
        let server = ApiServer::start(store, options, shutdown.clone())
            .await
            .expect("a server starts on a store that works");
        Self {
            server,
            _guard: shutdown.clone().drop_guard(),
            shutdown,
        }
    }

    /// The server.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Cancelled when the cluster goes: for whatever runs beside it.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// A client with all rights, wired to the server without a socket.
    pub fn client(&self) -> kube::Client {
        self.client_of(User::admin())
    }

    /// A client of another user.
    pub fn client_of(&self, user: User) -> kube::Client {
        kube::Client::new(self.server.service(user), "default")
    }

    /// Listens on a free port of the loopback address.
    ///
    /// # Panics
    /// If there is none.
    pub async fn listen(&self) -> Endpoint {
        let authority = pki::Authority::new("testkit").expect("an authority can be made");
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let serving = authority
            .server("testkit", &names)
            .expect("a certificate can be signed");
        let client = authority
            .client("admin", &["system:masters"])
            .expect("likewise");
        let listener = Listener::bind(ListenerOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificates: vec![serving.certificate_der().expect("own PEM")],
            key: serving.key_der().expect("own PEM"),
            client_authority: authority.identity().certificate_der().expect("own PEM"),
            proxy_authority: None,
        })
        .await
        .expect("a free port");
        let address = listener.address();
        tokio::spawn(listener.serve(self.server.clone(), self.shutdown.clone()));
        let kubeconfig = pki::kubeconfig(&pki::Access {
            name: "testkit",
            server: &format!("https://{address}"),
            authority: &authority.identity().certificate,
            client: &client,
            token: Some(TOKEN),
        });
        Endpoint {
            address,
            kubeconfig,
        }
    }
}

/// Waits until `probe` gives a value, looking again every few milliseconds.
///
/// # Panics
/// If it gives none within half a minute; `what` says what was waited for.
pub async fn eventually<T, F>(what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    const STEP: Duration = Duration::from_millis(5);
    const LIMIT: Duration = Duration::from_secs(30);
    let started = tokio::time::Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(started.elapsed() < LIMIT, "waited in vain until {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// A seed a test runs under; says how to repeat the test when it fails.
#[derive(Debug)]
pub struct Seed {
    /// What generators are seeded with.
    pub number: u64,
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}", self.number)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {self}; CORVUS_SEED={} repeats it", self.number);
        }
    }
}

/// The seeds of a test, `count` of them. The environment variable `CORVUS_SEEDS` asks for another number of them, and
/// `CORVUS_SEED` for a certain one.
pub fn seeds(count: u64) -> impl Iterator<Item = Seed> {
    let asked = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let numbers = match asked("CORVUS_SEED") {
        Some(number) => number..=number,
        None => 1..=asked("CORVUS_SEEDS").unwrap_or(count),
    };
    numbers.map(|number| Seed { number })
}
