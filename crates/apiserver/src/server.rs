//! The server: its state, and the tower service around it.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use model::Status;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::{self, Plugins};
use crate::allocate::Allocator;
use crate::audit::AuditLog;
use crate::body::Body;
use crate::catalog::Catalog;
use crate::flow::{Flow, FlowLimits};
use crate::identity::{
    Authentication, Authorizer, Certified, Mode, User, note_used, populate_secrets,
};
use crate::metrics::Metrics;
use crate::openapi::Documents;
use crate::webhook_client::WebhookClient;
use crate::{bootstrap, custom, dispatch, respond};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// How a server is set up.
#[derive(Clone)]
pub struct Options {
    /// Who may come in.
    pub authentication: Authentication,
    /// Who may do what; asked in order.
    pub authorization: Vec<Mode>,
    /// How much is done at once.
    pub flow: FlowLimits,
    /// How long a request may take that is no watch.
    pub request_timeout: Duration,
    /// Where requests are recorded.
    pub audit: Option<Arc<AuditLog>>,
    /// The certificate of the cluster's authority, as PEM.
    pub authority: Option<String>,
    /// Admission plugins that are switched on.
    pub admission: Plugins,
    /// Where the time comes from.
    pub clock: Clock,
    /// The range cluster IPs of Services are taken from.
    pub service_range: String,
    /// The range node ports are taken from.
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// Address and port clients reach the server at: what the `kubernetes` Service points to.
    pub advertise: Option<std::net::SocketAddr>,
    /// Whether `metrics.k8s.io` is answered with what virtual nodes and their Pods would use.
    pub virtual_metrics: bool,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An object every cluster has could not be made.
    #[error("creating {what}")]
    Bootstrap {
        /// The object.
        what: String,
        /// Why.
        source: Box<Status>,
    },
    /// A setting does not make sense.
    #[error("{0}")]
    Option(String),
    /// The listener.
    #[error("listening on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate or key of the listener.
    #[error("serving certificate")]
    Certificate(#[source] rustls::Error),
}

/// What the parts of the server share.
pub(crate) struct State {
    pub store: Arc<dyn Store>,
    pub catalog: ArcSwap<Catalog>,
    pub options: Options,
    pub authorizer: Authorizer,
    pub flow: Flow,
    pub allocator: Allocator,
    pub admission: admission::Memory,
    pub webhooks: WebhookClient,
    pub metrics: Metrics,
    pub documents: Documents,
    pub shutdown: CancellationToken,
}

/// A Kubernetes API server without a socket. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) state: Arc<State>,
}

impl ApiServer {
    /// Starts a server on a store: makes what every cluster has, serves the custom resources that
    /// are defined there, and keeps serving until `shutdown`.
    pub async fn start(
        store: Arc<dyn Store>,
        options: Options,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let allocator = Allocator::new(
            &options.service_range,
            options.node_ports.clone(),
            store.clone(),
            options.clock.clone(),
        )
        .map_err(Error::Option)?;
        let mut catalog = Catalog::built_in();
        if options.virtual_metrics {
            for definition in crate::simulated::definitions() {
                catalog.insert(definition);
            }
        }
        allocator.prepare().await.map_err(Error::Store)?;
        let authorizer = Authorizer::new(store.clone(), &options.authorization);
        let state = Arc::new(State {
            store,
            authorizer,
            flow: Flow::new(options.flow),
            catalog: ArcSwap::from_pointee(catalog),
            allocator,
            metrics: Metrics::default(),
            documents: Documents::default(),
            admission: admission::Memory::default(),
            webhooks: WebhookClient::default(),
            shutdown,
            options,
        });
        bootstrap::run(&state).await?;
        custom::load(&state)?;
        tokio::spawn(custom::run(state.clone()));
        tokio::spawn(populate_secrets(state.clone()));
        tokio::spawn(note_used(state.clone()));
        let repaired = state.clone();
        tokio::spawn(async move {
            let shutdown = repaired.shutdown.clone();
            repaired.allocator.keep_repaired(shutdown).await;
        });
        tokio::spawn(bootstrap::follow_definitions(state.clone()));
        Ok(Self { state })
    }

    /// The server as a tower service in which every request comes from `user`: what an in-process
    /// client is built on.
    pub fn service(&self, user: User) -> Service {
        Service {
            server: self.clone(),
            user: Arc::new(user),
        }
    }

    /// Answers one request of a user who is known, or else of whoever its headers say.
    pub async fn handle<B>(&self, request: Request<B>, user: Option<Arc<User>>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::fmt::Display,
    {
        self.handle_certified(request, user.map(Certified::User))
            .await
    }

    /// Answers one request that came with what a verified client certificate says.
    pub async fn handle_certified<B>(
        &self,
        request: Request<B>,
        certificate: Option<Certified>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::fmt::Display,
    {
        let outcome = dispatch::handle(self.state.clone(), request, certificate.as_ref());
        // A panic in one request ends that one only.
        match AssertUnwindSafe(outcome).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                tracing::error!("a request panicked");
                respond::status(&Status::internal("the server hit a defect; see its log"))
            }
        }
    }

    /// The store behind the server.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.state.store
    }
}

/// The server as a tower service, for requests of one user.
#[derive(Clone)]
pub struct Service {
    server: ApiServer,
    user: Arc<User>,
}

impl<B> tower::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, user) = (self.server.clone(), self.user.clone());
        Box::pin(async move { Ok(server.handle(request, Some(user)).await) })
    }
}
