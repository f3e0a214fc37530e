//! Metrics and health for those who watch over the controllers: `/metrics` on one address, `/healthz` and `/readyz` on
//! another, as kro's controller has them.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use graph::Metrics;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Who monitors sends short requests; whoever takes longer does something else.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to listen.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Monitoring")]
#[group(id = "monitoring")]
pub struct Arguments {
    /// Where `/metrics` of the controllers is served, such as :8078; 0 is nowhere [default: 0].
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    metrics_bind_address: Option<Place>,
    /// Where `/healthz` and `/readyz` are served, such as :8079; 0 is nowhere [default: 0].
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    health_probe_bind_address: Option<Place>,
}

/// An address, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(Option<SocketAddr>);

/// `:8078` listens on every address, as Go's servers do.
fn address(text: &str) -> Result<Place, String> {
    if text == "0" {
        return Ok(Place(None));
    }
    let full = match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.to_owned(),
    };
    let parsed = full.parse().map_err(
        |_| "name an IP address and a port, such as 127.0.0.1:8078, or a port alone, such as :8078",
    );
    Ok(Place(Some(parsed?)))
}

#[derive(Clone, Copy)]
enum Pages {
    Metrics,
    Health,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metrics => "metrics",
            Self::Health => "health",
        })
    }
}

impl Arguments {
    /// Listens until `shutdown`; an error if an address is taken.
    pub async fn serve(
        &self,
        metrics: &Metrics,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<JoinSet<()>> {
        let mut running = JoinSet::new();
        let places = [
            (
                self.metrics_bind_address,
                Pages::Metrics,
                "--metrics-bind-address",
            ),
            (
                self.health_probe_bind_address,
                Pages::Health,
                "--health-probe-bind-address",
            ),
        ];
        for (place, pages, flag) in places {
            let Some(Place(Some(address))) = place else {
                continue;
            };
            let listener = listen(address)
                .await
                .with_context(|| format!("{flag}: listening on {address}"))?;
            let local = listener.local_addr().with_context(|| flag.to_owned())?;
            eprintln!("{pages} on http://{local}");
            let (metrics, shutdown) = (metrics.clone(), shutdown.clone());
            running.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = accept(listener, pages, metrics) => {}
                }
            });
        }
        Ok(running)
    }
}

async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        // A machine without IPv6 has only the other kind of "every address".
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let other = SocketAddr::from(([0, 0, 0, 0], address.port()));
            TcpListener::bind(other).await.map_err(|_| error)
        }
        outcome => outcome,
    }
}

async fn accept(listener: TcpListener, pages: Pages, metrics: Metrics) {
    let metrics = Arc::new(metrics);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; others free some.
                tracing::warn!(%error, "accepting a connection for monitoring");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(pages, request.uri().path(), &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "a connection for monitoring");
            }
        });
    }
}

/// Those of the graph controllers, and those of every controller's queue and of the election.
fn all_metrics(graph: &str) -> String {
    const END: &str = "# EOF\n";
    let graph = graph.strip_suffix(END).unwrap_or(graph);
    format!("{graph}{}{END}", controller::metrics())
}

fn answer(pages: Pages, path: &str, metrics: &Metrics) -> Response<String> {
    let (status, text, kind) = match (pages, path) {
        (Pages::Metrics, "/metrics") => (
            StatusCode::OK,
            all_metrics(&metrics.encode()),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (Pages::Health, "/healthz" | "/readyz") => {
            (StatusCode::OK, "ok".to_owned(), "text/plain; charset=utf-8")
        }
        _ => (
            StatusCode::NOT_FOUND,
            "404 page not found\n".to_owned(),
            "text/plain; charset=utf-8",
        ),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        let check = |text: &str, expect: Option<&str>| {
            let place = address(text).expect(text);
            assert_eq!(
                place.0.map(|address| address.to_string()).as_deref(),
                expect
            );
        };
        check("0", None);
        check(":8078", Some("[::]:8078"));
        check("127.0.0.1:9", Some("127.0.0.1:9"));
        assert!(address("8078").is_err());
        assert!(address("localhost:8078").is_err());
    }

    #[test]
    fn queues_are_told_with_the_graphs() {
        let queue: controller::WorkQueue<String> =
            controller::WorkQueue::new("test-of-monitoring", controller::Backoff::default());
        queue.add("key".to_owned());
        let page = answer(Pages::Metrics, "/metrics", &Metrics::default());
        let text = page.body();
        let line = "\nworkqueue_depth{name=\"test-of-monitoring\"} 1\n";
        assert!(text.contains(line), "{text}");
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.ends_with("# EOF\n"));
        drop(queue);
        let page = answer(Pages::Metrics, "/metrics", &Metrics::default());
        assert!(!page.body().contains("test-of-monitoring"));
    }

    #[test]
    fn pages_are_told_apart() {
        let metrics = Metrics::default();
        let check = |pages: Pages, path: &str, status: u16| {
            assert_eq!(answer(pages, path, &metrics).status(), status, "{path}");
        };
        check(Pages::Metrics, "/metrics", 200);
        check(Pages::Metrics, "/healthz", 404);
        check(Pages::Health, "/healthz", 200);
        check(Pages::Health, "/readyz", 200);
        check(Pages::Health, "/metrics", 404);
    }
}
