//! Join tokens: made, listed and revoked through the admin socket; and what a server that brings one
//! is given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Json, Router};
use tokio::sync::watch;
use trilith_base::ServerName;
use trilith_cluster::join::msg::{CreateToken, CreatedToken, TOKENS_SCHEMA, TokenList};
use trilith_cluster::join::{House, TokenError, Tokens, Welcome};
use trilith_config::Config;

use crate::secrets::Bundle;

/// The config that is in force, and the text it was read from.
#[derive(Clone)]
pub(crate) struct InForce {
    pub config: Arc<Config>,
    pub text: Arc<str>,
}

/// This server as [`Tokens`] see it.
pub(crate) struct Household {
    pub in_force: watch::Receiver<InForce>,
}

impl House for Household {
    fn lists(&self, server: &ServerName) -> bool {
        self.in_force.borrow().config.server(server).is_some()
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let in_force = self.in_force.borrow();
        let port = in_force.config.ports.cluster;
        let servers = in_force.config.servers.iter();
        servers
            .map(|server| SocketAddr::new(server.address, port))
            .collect()
    }

    fn welcome(&self) -> Result<Welcome, String> {
        let InForce { config, text } = self.in_force.borrow().clone();
        let bundle = Bundle::read(&config).map_err(|error| error.to_string())?;
        Ok(Welcome {
            cluster: config.cluster.name.to_string(),
            config: text.to_string(),
            ca_certificate: bundle.ca_certificate,
            ca_key: bundle.ca_key,
            database_passwords: bundle.database_passwords,
        })
    }
}

/// `POST /v1/tokens`, `GET /v1/tokens`, `DELETE /v1/tokens/ID`: for the admin socket, never for a
/// port.
pub(crate) fn router(tokens: Arc<Tokens>) -> Router {
    Router::new()
        .route("/v1/tokens", post(create).get(list))
        .route("/v1/tokens/{id}", delete(revoke))
        .with_state(tokens)
}

async fn create(State(tokens): State<Arc<Tokens>>, Json(wanted): Json<CreateToken>) -> Response {
    let server = match ServerName::new(&wanted.server) {
        Ok(server) => server,
        Err(error) => return refusal(StatusCode::UNPROCESSABLE_ENTITY, error, &[]),
    };
    let ttl = Duration::from_secs(wanted.ttl_seconds);
    match tokens.create(&server, ttl, SystemTime::now()).await {
        Ok((token, expires)) => Json(CreatedToken {
            schema: TOKENS_SCHEMA,
            id: token.id.to_string(),
            server: server.to_string(),
            expires,
            token: token.to_string(),
        })
        .into_response(),
        Err(error) => refused(&error),
    }
}

async fn list(State(tokens): State<Arc<Tokens>>) -> Response {
    match tokens.list(SystemTime::now()).await {
        Ok(tokens) => Json(TokenList {
            schema: TOKENS_SCHEMA,
            tokens,
        })
        .into_response(),
        Err(error) => refused(&error),
    }
}

async fn revoke(State(tokens): State<Arc<Tokens>>, Path(id): Path<String>) -> Response {
    match tokens.revoke(&id).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &TokenError) -> Response {
    let (status, next) = match error {
        TokenError::UnknownServer(_) => (StatusCode::UNPROCESSABLE_ENTITY, "trilith reload"),
        TokenError::Ttl => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "trilith token create --help",
        ),
        TokenError::TooMany | TokenError::NoSuchToken(_) => {
            (StatusCode::CONFLICT, "trilith token list")
        }
        TokenError::Conflict => (StatusCode::CONFLICT, "trilith token list"),
        TokenError::Random(_) => (StatusCode::INTERNAL_SERVER_ERROR, "trilith status"),
        TokenError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "trilith status"),
    };
    refusal(status, error, &[next])
}

/// As the command line understands it: what is wrong, and what to type.
fn refusal(status: StatusCode, error: impl ToString, next: &[&str]) -> Response {
    let body = serde_json::json!({ "error": error.to_string(), "next": next });
    (status, Json(body)).into_response()
}
