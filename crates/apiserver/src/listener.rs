//! The listener: TLS 1.2 and 1.3, HTTP/1.1 and 2, client certificates, an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::RemoteAddress;
use crate::identity::{Certified, user_of_certificate};
use crate::server::{ApiServer, Error};
use crate::simulated::Spoken;

/// Most connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16_384;
/// How long a client may take for its TLS handshake, and for the head of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that has been answered over a WebSocket has so long to close it.
const SPEAK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connections may take to end when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How a listener is set up.
pub struct ListenerOptions {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The serving certificate and those that sign it.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The authority that signs client certificates.
    pub client_authority: CertificateDer<'static>,
    /// The one that signs certificates of front proxies.
    pub proxy_authority: Option<CertificateDer<'static>>,
}

/// A bound socket that is not served yet.
pub struct Listener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    authorities: Authorities,
    address: SocketAddr,
}

impl Listener {
    /// Binds the socket.
    pub async fn bind(options: ListenerOptions) -> Result<Self, Error> {
        let address = options.address;
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let authorities = Authorities::of(&options)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls(options)?));
        Ok(Self {
            listener,
            acceptor,
            authorities,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets running requests end.
    pub async fn serve(self, server: ApiServer, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                break;
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((socket, _)) => {
                    let (server, acceptor) = (server.clone(), self.acceptor.clone());
                    let authorities = self.authorities.clone();
                    let shutdown = shutdown.clone();
                    connections.spawn(async move {
                        connection(socket, acceptor, authorities, server, shutdown).await;
                        drop(place);
                    });
                }
                // Out of file descriptors, most likely: the next accept may work.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        connections.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait())
            .await
            .is_err()
        {
            tracing::warn!("connections were cut off at the end");
        }
    }
}

/// Believes certificates that one of these has signed, and whoever presents none.
fn verifier(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(Error::Certificate)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::Option(format!("client certificates: {error}")))
}

/// Tells the certificates of one authority from those of another.
#[derive(Clone)]
struct Authorities {
    clients: Arc<dyn ClientCertVerifier>,
    proxies: Option<Arc<dyn ClientCertVerifier>>,
}

impl Authorities {
    fn of(options: &ListenerOptions) -> Result<Self, Error> {
        let proxies = options.proxy_authority.clone();
        Ok(Self {
            clients: verifier([options.client_authority.clone()])?,
            proxies: proxies.map(|own| verifier([own])).transpose()?,
        })
    }

    /// What a client's certificate says, which one of them, or both, have signed.
    fn certified(&self, chain: &[CertificateDer<'_>]) -> Option<Certified> {
        let (own, rest) = chain.split_first()?;
        let has_signed = |authority: &Arc<dyn ClientCertVerifier>| {
            let now = UnixTime::now();
            authority.verify_client_cert(own, rest, now).is_ok()
        };
        let user = Arc::new(user_of_certificate(own)?);
        if !self.proxies.as_ref().is_some_and(has_signed) {
            return Some(Certified::User(user));
        }
        Some(Certified::Proxy {
            name: user.name.as_str().into(),
            user: has_signed(&self.clients).then_some(user),
        })
    }
}

fn tls(options: ListenerOptions) -> Result<rustls::ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authorities = [options.client_authority].into_iter();
    let verifier = verifier(authorities.chain(options.proxy_authority))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Certificate)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(options.certificates, options.key)
        .map_err(Error::Certificate)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Writes on a connection that has been taken over, and waits until the client has read it.
async fn speak(upgrade: hyper::upgrade::OnUpgrade, Spoken(bytes): Spoken) {
    let spoken = async {
        let mut stream = TokioIo::new(upgrade.await.map_err(std::io::Error::other)?);
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        // What the client still says is of no interest, but closing over it could lose the answer.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = tokio::time::timeout(SPEAK_TIMEOUT, spoken).await {
        tracing::debug!(%error, "an upgraded connection");
    }
}

async fn connection(
    socket: TcpStream,
    acceptor: TlsAcceptor,
    authorities: Authorities,
    server: ApiServer,
    shutdown: CancellationToken,
) {
    // Small answers must not wait for more to send.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "setting TCP_NODELAY");
    }
    let remote = socket
        .peer_addr()
        .ok()
        .map(|remote| RemoteAddress(remote.ip()));
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake");
            return;
        }
        Err(_) => return,
    };
    let presented = stream.get_ref().1.peer_certificates();
    let certificate = presented.and_then(|chain| authorities.certified(chain));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (server, certificate) = (server.clone(), certificate.clone());
        if let Some(remote) = remote {
            request.extensions_mut().insert(remote);
        }
        let upgrade = request
            .headers()
            .contains_key(http::header::UPGRADE)
            .then(|| hyper::upgrade::on(&mut request));
        async move {
            let mut response = server.handle_certified(request, certificate).await;
            if let Some((spoken, upgrade)) =
                response.extensions_mut().remove::<Spoken>().zip(upgrade)
            {
                tokio::spawn(speak(upgrade, spoken));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1_000);
    let running = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(running);
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        () = shutdown.cancelled() => {
            running.as_mut().graceful_shutdown();
            running.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}
