//! A client that costs next to nothing: one HTTP/1.1 connection over TLS, bodies counted, not parsed.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where the server is and who asks.
#[derive(Clone)]
pub struct Target {
    server: Uri,
    token: String,
    tls: TlsConnector,
}

/// One connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
}

impl Target {
    /// A server by its URL.
    pub fn new(server: &str, token: &str) -> anyhow::Result<Self> {
        let server: Uri = server.parse().context("--server")?;
        if server.scheme_str() != Some("https") || server.host().is_none() {
            bail!("--server {server}: give a URL such as https://127.0.0.1:6443");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(schemes)))
            .with_no_client_auth();
        Ok(Self {
            server,
            token: token.to_owned(),
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let host = self.server.host().unwrap_or_default().to_owned();
        let port = self.server.port_u16().unwrap_or(443);
        let socket = TcpStream::connect((host.as_str(), port)).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(host).context("the server's name")?;
        let stream = self.tls.connect(name, socket).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            target: self.clone(),
        })
    }
}

impl Connection {
    /// Sends a request and waits for the head of its answer.
    pub async fn open(
        &mut self,
        method: &Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> anyhow::Result<Incoming> {
        self.sender.ready().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "kubernetes")
            .header(USER_AGENT, "corvus-bench")
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", self.target.token));
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let response = self
            .sender
            .send_request(request.body(Full::new(body))?)
            .await?;
        let status = response.status();
        let mut body = response.into_body();
        if status.is_success() {
            return Ok(body);
        }
        let text = drain_text(&mut body).await?;
        bail!("{method} {path}: {status}: {text}");
    }

    /// Sends a request and reads all of its answer; gives the length.
    pub async fn send(
        &mut self,
        method: &Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> anyhow::Result<usize> {
        let mut body = self.open(method, path, content_type, body).await?;
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }
}

async fn drain_text(body: &mut Incoming) -> anyhow::Result<String> {
    let bytes = body.collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Takes any certificate: a bench measures, it does not trust.
#[derive(Debug)]
struct Anyone(Vec<SignatureScheme>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
