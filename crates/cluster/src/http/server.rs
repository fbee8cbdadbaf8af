//! What other servers may ask of the store.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use tokio::time::timeout;
use trilith_base::{BootTime, ServerName};
use trilith_consensus::BoxFuture;
use trilith_telemetry::Telemetry;

use super::event::PeerMessageRefused;
use crate::environment::Environment;
use crate::limits::{MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX, SNAPSHOT_TIMEOUT};
use crate::msg::{Malformed, Reply, Request};
use crate::run::Cluster;
use crate::seldom::Seldom;

/// Who speaks: the name in the certificate that the handshake verified. The listener puts it into
/// the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName(pub ServerName);

/// Who answers. The store does, or a test.
pub trait Answer: Send + Sync + 'static {
    /// Bounded in time.
    fn answer<'a>(&'a self, from: &'a ServerName, request: Request) -> BoxFuture<'a, Reply>;
}

impl<E: Environment> Answer for Cluster<E> {
    fn answer<'a>(&'a self, from: &'a ServerName, request: Request) -> BoxFuture<'a, Reply> {
        Box::pin(self.handle(from, request))
    }
}

/// Answers `POST /v1/cluster/<kind>`, for connections with the ALPN protocol `trilith-peer`. Needs
/// [`PeerName`] in the extensions of each request. To be merged with what else peers may ask.
pub fn router<E: Environment>(cluster: Arc<Cluster<E>>, telemetry: Telemetry) -> Router {
    router_for(cluster, telemetry)
}

/// [`router`] in front of anything.
pub fn router_for(answer: Arc<dyn Answer>, telemetry: Telemetry) -> Router {
    let desk = Arc::new(Desk {
        answer,
        telemetry,
        complaints: Seldom::new(),
    });
    Router::new()
        .route("/v1/cluster/{kind}", post(ask))
        .with_state(desk)
}

/// Reads a message of that kind.
///
/// # Errors
/// It is not JSON, not a message, or one of another kind.
pub fn decode(kind: &str, body: &[u8]) -> Result<Request, Malformed> {
    let request: Request = serde_json::from_slice(body).map_err(Malformed::new)?;
    if request.kind() == kind {
        Ok(request)
    } else {
        Err(Malformed::new("it is of another kind than its address"))
    }
}

struct Desk {
    answer: Arc<dyn Answer>,
    telemetry: Telemetry,
    complaints: Seldom<ServerName>,
}

async fn ask(
    State(desk): State<Arc<Desk>>,
    Path(kind): Path<String>,
    request: HttpRequest,
) -> Response {
    let Some(PeerName(from)) = request.extensions().get().cloned() else {
        // A mistake of ours: without a name nobody gets here.
        return StatusCode::FORBIDDEN.into_response();
    };
    match read(&kind, request).await {
        Ok(request) => Json(desk.answer.answer(&from, request).await).into_response(),
        Err((status, reason)) => {
            desk.telemetry.emit(&PeerMessageRefused {
                peer: &from,
                kind: &kind,
                reason: &reason,
                quiet: !desk.complaints.allows(from.clone(), BootTime::now()),
            });
            (status, reason).into_response()
        }
    }
}

async fn read(kind: &str, request: HttpRequest) -> Result<Request, (StatusCode, String)> {
    let max = match kind {
        "snapshot" => MESSAGE_BYTES_MAX,
        _ => SMALL_MESSAGE_BYTES_MAX,
    };
    let body = timeout(SNAPSHOT_TIMEOUT, to_bytes(request.into_body(), max))
        .await
        .map_err(|_| (StatusCode::REQUEST_TIMEOUT, "it never ends".to_owned()))?
        // Broken off, or, as the sender will want to know, too long.
        .map_err(|error| (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
    decode(kind, &body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}
