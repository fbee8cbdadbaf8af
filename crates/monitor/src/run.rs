//! The HTTP side: routers, and the loops that serve them.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use trilith_telemetry::{MetricsText, Telemetry};

use crate::api::{ClusterStatus, ServerState, ServerStatus};
use crate::checks;
use crate::limits::HEADER_TIMEOUT;
use crate::metrics::{self, Reading};

/// Who knows the state. `node` implements it.
pub trait Source: Send + Sync + 'static {
    /// This server, now. Must not wait for anything.
    fn server(&self) -> ServerStatus;

    /// What was last read from the local PostgreSQL for Prometheus. Must not wait for anything.
    fn postgres_readings(&self) -> Vec<Reading> {
        Vec::new()
    }

    /// All servers; asks the others, so it may take a second.
    fn cluster(&self) -> impl Future<Output = ClusterStatus> + Send;
}

/// What the admin port answers: `/metrics`, `/healthz`, `/api/v1/status`, `/v1/server`, and the checks of
/// the database (`/primary`, `/replica`, `/cluster`, ...).
pub fn admin_router<S: Source>(source: Arc<S>, telemetry: Telemetry) -> Router {
    Router::new()
        .route("/healthz", get(healthz::<S>))
        .route("/api/v1/status", get(cluster::<S>))
        .route("/v1/server", get(server::<S>))
        .with_state(source.clone())
        .merge(checks::router(source.clone()))
        .route(
            "/metrics",
            get(metrics::<S>).with_state((source, telemetry)),
        )
        .fallback(not_found)
}

/// What peers may ask over mTLS: `/v1/server`.
pub fn peer_router<S: Source>(source: Arc<S>) -> Router {
    Router::new()
        .route("/v1/server", get(server::<S>))
        .with_state(source)
        .fallback(not_found)
}

/// Serves the admin port until `shutdown` returns and what was asked is answered.
pub async fn serve_admin(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

/// Serves one connection, such as a TLS stream whose ALPN protocol was the peer API's, until its
/// end. An error is the connection's alone.
pub async fn serve_connection<IO>(io: IO, router: Router) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router))
        .await
        .map_err(io::Error::other)
}

async fn server<S: Source>(State(source): State<Arc<S>>) -> Json<ServerStatus> {
    Json(source.server())
}

async fn cluster<S: Source>(State(source): State<Arc<S>>) -> Json<ClusterStatus> {
    Json(source.cluster().await)
}

/// 200 while this server does what it should, else 503 with the reason; for the probes of load
/// balancers and service managers.
async fn healthz<S: Source>(State(source): State<Arc<S>>) -> Response {
    let status = source.server();
    let code = match status.state {
        ServerState::Ready => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut text = status.state.as_str().to_owned();
    if !status.problems.is_empty() {
        text.push_str(": ");
        text.push_str(&status.problems.join("; "));
    }
    text.push('\n');
    (code, text).into_response()
}

async fn metrics<S: Source>(State((source, telemetry)): State<(Arc<S>, Telemetry)>) -> Response {
    let headers = [(header::CONTENT_TYPE, MetricsText::CONTENT_TYPE)];
    let mut text = telemetry.metrics_text().encode();
    metrics::insert(&mut text, &source.server(), &source.postgres_readings());
    (headers, text).into_response()
}

async fn not_found() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "not found: try /metrics, /healthz, /v1/server, /api/v1/status, /primary, /replica or \
         /cluster\n",
    )
}

#[cfg(test)]
mod tests;
