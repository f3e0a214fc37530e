//! A control plane put together: store, certificates, API server, controllers, virtual nodes.

mod access;
mod files;
mod nodes;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use apiserver::admission::Plugins;
use apiserver::identity::{MASTERS, User};
use apiserver::{ApiServer, Listener, ListenerOptions, Options};
use controller::{Api, Informers};
use http::Request;
use http::header::{HeaderValue, USER_AGENT};
use http::uri::Authority;
use pki::Identity;
use store::{EmbeddedOptions, EtcdOptions, Store};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::commands::{Controllers, LEASE, Term, UpArguments, switch_features};
use files::Credentials;

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// In a file, durable.
    Embedded,
    /// In memory, forgotten at the end.
    Memory,
    /// In the etcd at `HOST:PORT`, which other servers may share.
    Etcd(String),
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "memory" => Ok(Self::Memory),
            _ => match text.strip_prefix("etcd://") {
                Some(endpoint) if is_endpoint(endpoint) => Ok(Self::Etcd(endpoint.to_owned())),
                Some(_) => {
                    Err("name etcd by host and port, such as etcd://127.0.0.1:2379".to_owned())
                }
                None => Err("use embedded, memory or etcd://HOST:PORT".to_owned()),
            },
        }
    }
}

/// Whether it is one host and its port, such as `etcd-0:2379` or `[::1]:2379`.
fn is_endpoint(text: &str) -> bool {
    let parsed = text.parse::<Authority>().ok();
    parsed.is_some_and(|authority| {
        let named = !authority.host().is_empty() && authority.port_u16().is_some();
        named && !text.contains('@')
    })
}

/// The embedded store in the data directory.
pub const STORE_FILE: &str = "store.redb";
/// How long controllers may take to end.
const CONTROLLERS_END: Duration = Duration::from_secs(3);

/// A running control plane.
pub struct Plane {
    server: ApiServer,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    controllers: JoinSet<()>,
    /// Ends with the plane.
    _monitoring: JoinSet<()>,
    url: String,
    kubeconfig: PathBuf,
}

/// The runtime a control plane runs on.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")
}

impl Plane {
    /// Starts everything; when this returns, `/readyz` answers ok.
    pub async fn start(arguments: &UpArguments) -> anyhow::Result<Self> {
        let selection = Controllers::parse(&arguments.controllers)?;
        let features = switch_features(&arguments.feature_gates)?;
        arguments.graph.tell_unneeded();
        arguments.election.check()?;
        let data = files::DataDir::open(&arguments.data_dir)?;
        let scheduler = arguments.nodes.scheduler()?;
        let node_cidrs = arguments
            .tuning
            .own_node_cidrs(&arguments.service_cluster_ip_range)?;
        let has_cidrs =
            node_cidrs.is_some() && selection.kubernetes.names().any(|name| name == "nodeipam");
        let virtual_nodes = arguments
            .nodes
            .virtual_nodes(nodes::server(&data)?, 1, has_cidrs)?;
        let store = open_store(arguments, &data).await?;
        let credentials = Credentials::load_or_make(&data, arguments.listen.ip())?;
        let proxies = access::proxy_authority(&arguments.access, &credentials.proxies.certificate)?;
        let proxy = Identity {
            certificate: proxies.clone(),
            key: String::new(),
        };
        let proxy_authority = proxy.certificate_der();
        let proxy_authority = proxy_authority.context("the authority of front proxies")?;
        let listener = Listener::bind(ListenerOptions {
            address: arguments.listen,
            certificates: vec![credentials.serving.certificate_der()?],
            key: credentials.serving.key_der()?,
            client_authority: credentials.authority.certificate_der()?,
            proxy_authority: Some(proxy_authority),
        })
        .await?;
        let shutdown = CancellationToken::new();
        let admission = Plugins::with(
            &arguments.enable_admission_plugins,
            &arguments.disable_admission_plugins,
        )
        .map_err(anyhow::Error::msg)?;
        // Other servers may share an etcd, and no other store.
        let shared = matches!(arguments.store, StoreKind::Etcd(_));
        let options = Options {
            authentication: access::authentication(
                &arguments.access,
                &data,
                &credentials.token,
                proxies,
                shared,
            )?,
            authorization: arguments.access.authorization_mode.clone(),
            flow: access::flow(&arguments.access),
            request_timeout: Duration::from_secs(arguments.access.request_timeout),
            audit: access::audit(&arguments.access)?,
            authority: Some(credentials.authority.certificate.clone()),
            admission,
            clock: Arc::new(jiff::Timestamp::now),
            service_range: arguments.service_cluster_ip_range.clone(),
            node_ports: 30000..=32767,
            advertise: Some(listener.address()),
            virtual_metrics: !virtual_nodes.templates.is_empty(),
        };
        let server = ApiServer::start(store.clone(), options, shutdown.clone()).await?;
        let url = format!("https://{}", listener.address());
        let kubeconfig = arguments
            .kubeconfig
            .clone()
            .unwrap_or_else(|| data.path().join("kubeconfig"));
        credentials.write_kubeconfig(&kubeconfig, &url)?;
        let graph = arguments.graph.options(features);
        let monitoring = arguments
            .monitoring
            .serve(&graph.metrics, &shutdown)
            .await?;
        let controllers = start_controllers(
            &server,
            &selection,
            selection.graph.then_some(graph),
            arguments,
            &credentials.authority.certificate,
            (scheduler, node_cidrs, virtual_nodes),
            &shutdown,
        );
        let serving = tokio::spawn(listener.serve(server.clone(), shutdown.clone()));
        Ok(Self {
            server,
            store,
            shutdown,
            serving,
            controllers,
            _monitoring: monitoring,
            url,
            kubeconfig,
        })
    }

    /// An administrator's client, wired to the server without a socket.
    pub fn client(&self, name: &str) -> kube::Client {
        client(&self.server, name)
    }

    /// The URL of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the kubeconfig was written.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Ends in order: watches first, then connections, then the store.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let ending = async { while self.controllers.join_next().await.is_some() {} };
        if tokio::time::timeout(CONTROLLERS_END, ending).await.is_err() {
            tracing::warn!("controllers were cut off at the end");
            self.controllers.abort_all();
        }
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the listener");
        }
        self.store.close();
    }
}

/// A client of the server with all rights, without a socket. Its name is that of the field manager too.
fn client(server: &ApiServer, name: &str) -> kube::Client {
    let user = User::new(&format!("system:{name}"), &[MASTERS]);
    let agent = HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("corvus"));
    let named = move |mut request: Request<kube::client::Body>| {
        let headers = request.headers_mut();
        headers.entry(USER_AGENT).or_insert_with(|| agent.clone());
        request
    };
    kube::Client::new(server.service(user).map_request(named), "default")
}

/// Starts what runs beside the server; each is a client of it, without a socket.
fn start_controllers(
    server: &ApiServer,
    selection: &Controllers,
    graph: Option<graph::Options>,
    arguments: &UpArguments,
    authority: &str,
    (scheduler, node_cidrs, virtual_nodes): (
        kubernetes::SchedulerConfiguration,
        Option<kubernetes::NodeCidrs>,
        node::virtual_nodes::Options,
    ),
    shutdown: &CancellationToken,
) -> JoinSet<()> {
    let mut running = JoinSet::new();
    // Other servers may share an etcd, and no other store.
    let shared = matches!(arguments.store, StoreKind::Etcd(_));
    // All Pods are held once, for the controllers and for the nodes; a term that may end before the
    // process does reads for itself.
    let reader = Api::new(client(server, "kube-controller-manager"));
    let informers = Informers::new(reader, shutdown.clone());
    let builtin = kubernetes::Options {
        informers: (!shared).then(|| informers.clone()),
        selection: selection.kubernetes.clone(),
        root_certificate: Some(authority.to_owned()),
        node_cidrs,
        scheduler,
        ..arguments.tuning.controllers()
    };
    let (election, server_of) = (arguments.election.clone(), server.clone());
    let token = shutdown.clone();
    running.spawn(async move {
        let own = client(&server_of, "corvus-leader-election");
        let controllers = |term: Term| run_controllers(&server_of, &builtin, graph.as_ref(), term);
        election.run(own, shared, LEASE, token, controllers).await;
    });
    let own = client(server, "virtual-nodes");
    running.spawn(node::virtual_nodes::run(
        own,
        informers,
        virtual_nodes,
        shutdown.clone(),
    ));
    running
}

/// Runs the controllers for a term.
async fn run_controllers(
    server: &ApiServer,
    builtin: &kubernetes::Options,
    graph: Option<&graph::Options>,
    term: Term,
) {
    let own = term.client(client(server, "kube-controller-manager"));
    let builtin = kubernetes::run(own, builtin, term.ended.clone());
    let graph = async {
        let Some(options) = graph else {
            return;
        };
        let own = term.client(client(server, "corvus-graph"));
        match graph::start(own, options.clone(), term.ended.clone()).await {
            Ok(controllers) => controllers.stopped().await,
            Err(error) => tracing::error!(%error, "the graph controllers"),
        }
    };
    futures::future::join(builtin, graph).await;
}

async fn open_store(
    arguments: &UpArguments,
    data: &files::DataDir,
) -> anyhow::Result<Arc<dyn Store>> {
    match &arguments.store {
        StoreKind::Memory => Ok(Arc::new(store::memory())),
        StoreKind::Embedded => {
            let path = data.path().join(STORE_FILE);
            match store::open_embedded(&EmbeddedOptions { path }) {
                Ok(store) => Ok(Arc::new(store)),
                Err(store::Error::InUse(path)) => bail!(
                    "another process is using {path}: stop it, or name another directory with --data-dir"
                ),
                Err(other) => Err(other).context("opening the store"),
            }
        }
        StoreKind::Etcd(endpoint) => {
            let options = EtcdOptions {
                endpoint: endpoint.clone(),
            };
            let store = store::open_etcd(&options).await;
            Ok(Arc::new(store.context("opening the store in etcd")?))
        }
    }
}
