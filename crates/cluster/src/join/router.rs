//! The server's side: the only thing that a stranger without a certificate can reach.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use trilith_base::BootTime;

use super::Joined;
use super::event::{JoinRefused, ServerJoined};
use super::judge::Refusal;
use super::msg::{JoinReply, JoinRequest, Problem};
use super::pace::Pace;
use super::tokens::Tokens;
use crate::limits::JOIN_REQUEST_BYTES_MAX;
use crate::seldom::Seldom;
use crate::token::{TokenId, TokenSecret};

/// Who speaks, as far as TCP knows. The listener puts it into the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub IpAddr);

/// Where new servers knock.
pub struct Door {
    tokens: Arc<Tokens>,
    pace: Mutex<Pace>,
    complaints: Seldom<(&'static str, IpAddr)>,
}

impl Door {
    pub fn new(tokens: Arc<Tokens>) -> Arc<Self> {
        Arc::new(Self {
            tokens,
            pace: Mutex::new(Pace::new()),
            complaints: Seldom::new(),
        })
    }

    /// Answers `POST /v1/join`, for connections with the ALPN protocol `trilith-join`. Needs
    /// [`Caller`] in the extensions of the request.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/v1/join", post(join))
            .fallback(async || StatusCode::NOT_FOUND)
            .with_state(Arc::clone(self))
    }

    async fn enter(&self, from: IpAddr, request: Request) -> Result<Joined, Refused> {
        let refused = |token| move |reason| Refused { token, reason };
        let now = BootTime::now();
        let admitted = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.admit(from, now)
        };
        if !admitted {
            return Err(refused(None)(Refusal::TooOften));
        }
        let body = to_bytes(request.into_body(), JOIN_REQUEST_BYTES_MAX)
            .await
            .map_err(|_| refused(None)(Refusal::Malformed))?;
        let request: JoinRequest =
            serde_json::from_slice(&body).map_err(|_| refused(None)(Refusal::Malformed))?;
        let (Some(id), Some(secret)) = (
            TokenId::parse(&request.id),
            TokenSecret::parse(&request.secret),
        ) else {
            return Err(refused(None)(Refusal::Malformed));
        };
        let joined = self.tokens.redeem(id, &secret, SystemTime::now()).await;
        let joined = joined.map_err(refused(Some(id)))?;
        self.tokens.telemetry.emit(&ServerJoined {
            server: &joined.server,
            from,
            token: id,
        });
        Ok(joined)
    }
}

struct Refused {
    token: Option<TokenId>,
    reason: Refusal,
}

async fn join(State(door): State<Arc<Door>>, request: Request) -> Response {
    let Some(&Caller(from)) = request.extensions().get() else {
        // A mistake of ours, not of the caller.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match door.enter(from, request).await {
        Ok(joined) => Json(JoinReply {
            cluster: joined.welcome.cluster,
            server: joined.server.to_string(),
            config: joined.welcome.config,
            ca_certificate: joined.welcome.ca_certificate,
            ca_key: joined.welcome.ca_key,
            database_passwords: joined.welcome.database_passwords,
        })
        .into_response(),
        Err(Refused { token, reason }) => {
            let label = reason.label();
            door.tokens.telemetry.emit(&JoinRefused {
                from,
                token,
                reason: &reason,
                quiet: !door.complaints.allows((label, from), BootTime::now()),
            });
            let status = match reason {
                Refusal::Malformed => StatusCode::BAD_REQUEST,
                Refusal::TooOften => StatusCode::TOO_MANY_REQUESTS,
                Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::FORBIDDEN,
            };
            let error = reason.to_string();
            (status, Json(Problem { error })).into_response()
        }
    }
}
