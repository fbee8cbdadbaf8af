//! What operators ask for through the admin socket: drain a server, move a floating address.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use trilith_base::ServerName;
use trilith_config::{Config, Role, VipMode};
use trilith_consensus::{Key, Outcome, Store, StoreError, Txn, View, Write};
use trilith_monitor::api::{DrainRequest, MoveRequest};

use crate::board::Board;

/// Somebody else may change the same entry in between; then it is read again.
pub(crate) const TRIES: u32 = 5;

struct Control {
    board: Arc<Board>,
    store: Arc<dyn Store>,
}

/// `POST /v1/drain`, `POST /v1/vip/move`.
pub(crate) fn router(board: Arc<Board>, store: Arc<dyn Store>) -> Router {
    Router::new()
        .route("/v1/drain", post(drain))
        .route("/v1/vip/move", post(move_address))
        .with_state(Arc::new(Control { board, store }))
}

/// The entry that is there while a server is to be left alone.
pub(crate) fn drain_key(server: &ServerName) -> Key {
    Key::new(&format!("drain/{server}")).expect("a server name fits a key")
}

/// A refusal as the command line understands it: what is wrong, and what to type.
pub(crate) fn refusal(status: StatusCode, error: impl ToString, next: &[&str]) -> Response {
    let body = serde_json::json!({ "error": error.to_string(), "next": next });
    (status, Json(body)).into_response()
}

/// The store could not do it.
pub(crate) fn store_refusal(error: &StoreError) -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, error, &["trilith status"])
}

async fn drain(State(control): State<Arc<Control>>, Json(request): Json<DrainRequest>) -> Response {
    let config = control.board.config();
    let server = match known(&config, &request.server) {
        Ok(server) => server,
        Err(refused) => return *refused,
    };
    let key = drain_key(&server);
    let wanted = request.drain;
    let changed = control.change(|view| {
        if view.get(key.as_str()).is_some() == wanted {
            return None;
        }
        Some(match wanted {
            true => Txn::compare_and_set(key.clone(), None, b"drain".as_slice()),
            false => Txn::new().then(Write::Delete { key: key.clone() }),
        })
    });
    match changed.await {
        Ok(changed) => Json(serde_json::json!({ "changed": changed })).into_response(),
        Err(error) => store_refusal(&error),
    }
}

async fn move_address(
    State(control): State<Arc<Control>>,
    Json(request): Json<MoveRequest>,
) -> Response {
    let config = control.board.config();
    let (ip, server) = match movable(&config, &request) {
        Ok(both) => both,
        Err(refused) => return *refused,
    };
    let key = trilith_vip::wanted_key(ip);
    let lease = trilith_vip::lease_key(ip);
    let changed = control.change(|view| {
        let held = view.lease(lease.as_str());
        if held.is_some_and(|lease| lease.holder == server) {
            return None;
        }
        let version = view.get(key.as_str()).map(|entry| entry.version);
        let name = server.as_str().as_bytes();
        Some(Txn::compare_and_set(key.clone(), version, name))
    });
    match changed.await {
        Ok(changed) => Json(serde_json::json!({ "changed": changed })).into_response(),
        Err(error) => store_refusal(&error),
    }
}

impl Control {
    /// Commits what `plan` makes of the state, again when that has changed meanwhile. `None` of it: there
    /// is nothing to do, and false is returned.
    async fn change(&self, plan: impl Fn(&View) -> Option<Txn>) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            let view = self.store.read().await?;
            let Some(txn) = plan(&view) else {
                return Ok(false);
            };
            if let Outcome::Done { .. } = self.store.commit(txn).await? {
                return Ok(true);
            }
        }
        Err(StoreError::Invalid {
            reason: "somebody else keeps changing the same thing; try again".to_owned(),
        })
    }
}

/// That server of the file, or the refusal.
pub(crate) fn known(config: &Config, name: &str) -> Result<ServerName, Box<Response>> {
    let found = config.servers.iter().find(|s| s.name.as_str() == name);
    found.map(|server| server.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = config.servers.iter().map(|s| s.name.as_str()).collect();
        let error = format!("no server is called {name}: there are {}", names.join(", "));
        Box::new(refusal(StatusCode::UNPROCESSABLE_ENTITY, error, &[]))
    })
}

/// The address and the server of the request, if the one can hold the other.
fn movable(config: &Config, request: &MoveRequest) -> Result<(IpAddr, ServerName), Box<Response>> {
    let no = |error: String| Box::new(refusal(StatusCode::UNPROCESSABLE_ENTITY, error, &[]));
    let server = known(config, &request.server)?;
    if config.vip.mode == VipMode::None {
        return Err(no(
            "there is no floating address that Trilith could move".to_owned()
        ));
    }
    let addresses: Vec<String> = config
        .addresses()
        .iter()
        .map(|a| a.ip.to_string())
        .collect();
    let ip = match &request.address {
        None if addresses.len() == 1 => config.addresses()[0].ip,
        None => {
            let error = format!("say which: {}", addresses.join(", "));
            return Err(no(error));
        }
        Some(text) => {
            let found = config
                .addresses()
                .iter()
                .find(|a| a.ip.to_string() == *text);
            let unknown = || {
                no(format!(
                    "{text} is not a floating address: there is {}",
                    addresses.join(", ")
                ))
            };
            found.ok_or_else(unknown)?.ip
        }
    };
    let is_edge = config.with_role(Role::Edge).any(|s| s.name == server);
    match is_edge {
        true => Ok((ip, server)),
        false => Err(no(format!(
            "{server} is no edge: it cannot hold an address"
        ))),
    }
}
