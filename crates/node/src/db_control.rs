//! What operators ask of the database through the admin socket. The checks are in [`trilith_ha::operator`].

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use trilith_base::ServerName;
use trilith_config::Config;
use trilith_consensus::{Key, Outcome, Store, StoreError, Write};
use trilith_ha::operator::{self, Ask, Checked, Order, Paused, Refusal};
use trilith_ha::{StoreView, request_key, restart_key};
use trilith_monitor::api::{DATABASE_SCHEMA, DatabaseAnswer, DatabaseOrder};

use crate::board::unix_ms;
use crate::control::{TRIES, known, refusal, store_refusal};
use crate::database;

/// The config in force.
pub(crate) type ConfigNow = Arc<dyn Fn() -> Arc<Config> + Send + Sync>;

struct Desk {
    config: ConfigNow,
    store: Arc<dyn Store>,
}

/// `POST /v1/db/switchover`, `/v1/db/failover`, `/v1/db/reinit`, `/v1/db/restart`, `/v1/db/pause`,
/// `/v1/db/resume`.
pub(crate) fn router(config: ConfigNow, store: Arc<dyn Store>) -> Router {
    Router::new()
        .route("/v1/db/switchover", post(switchover))
        .route("/v1/db/failover", post(failover))
        .route("/v1/db/reinit", post(reinit))
        .route("/v1/db/restart", post(restart))
        .route("/v1/db/pause", post(pause))
        .route("/v1/db/resume", post(resume))
        .with_state(Arc::new(Desk { config, store }))
}

async fn switchover(State(desk): State<Arc<Desk>>, Json(order): Json<DatabaseOrder>) -> Response {
    let to = desk.named(&order).transpose();
    desk.answer(&order, to.map(|to| Ask::Switchover { to }))
        .await
}

async fn failover(State(desk): State<Arc<Desk>>, Json(order): Json<DatabaseOrder>) -> Response {
    let accept_loss = order.accept_loss;
    let ask = desk
        .must_name(&order)
        .map(|to| Ask::Failover { to, accept_loss });
    desk.answer(&order, ask).await
}

async fn reinit(State(desk): State<Arc<Desk>>, Json(order): Json<DatabaseOrder>) -> Response {
    let ask = desk.must_name(&order).map(|server| Ask::Reinit { server });
    desk.answer(&order, ask).await
}

async fn restart(State(desk): State<Arc<Desk>>, Json(order): Json<DatabaseOrder>) -> Response {
    let config = (desk.config)();
    let servers = order.servers.iter().map(|name| known(&config, name));
    let servers: Result<Vec<ServerName>, Refused> = servers.collect();
    let ask = servers.map(|servers| Ask::Restart { servers });
    desk.answer(&order, ask).await
}

async fn pause(State(desk): State<Arc<Desk>>, Json(order): Json<DatabaseOrder>) -> Response {
    let note = Paused {
        by: order.by.clone(),
        since_unix_ms: unix_ms(SystemTime::now()),
    };
    desk.answer(&order, Ok(Ask::Pause { note })).await
}

async fn resume(State(desk): State<Arc<Desk>>, Json(order): Json<DatabaseOrder>) -> Response {
    desk.answer(&order, Ok(Ask::Resume)).await
}

/// A refusal, ready to be sent.
type Refused = Box<Response>;

impl Desk {
    /// The server that the order names, which the file lists.
    fn named(&self, order: &DatabaseOrder) -> Option<Result<ServerName, Refused>> {
        let name = order.server.as_deref()?;
        Some(known(&(self.config)(), name))
    }

    fn must_name(&self, order: &DatabaseOrder) -> Result<ServerName, Refused> {
        self.named(order).unwrap_or_else(|| {
            let error = "say which server";
            Err(Box::new(refusal(
                StatusCode::UNPROCESSABLE_ENTITY,
                error,
                &[],
            )))
        })
    }

    async fn answer(&self, order: &DatabaseOrder, ask: Result<Ask, Refused>) -> Response {
        let ask = match ask {
            Ok(ask) => ask,
            Err(refused) => return *refused,
        };
        if (self.config)().database.is_none() {
            let error = "this cluster has no [database]";
            return refusal(
                StatusCode::UNPROCESSABLE_ENTITY,
                error,
                &["trilith explain database"],
            );
        }
        match self.carry_out(&ask, order.dry_run).await {
            Ok(Ok(answer)) => Json(answer).into_response(),
            Ok(Err(Refusal { why, next })) => {
                let next: Vec<&str> = next.iter().map(String::as_str).collect();
                refusal(StatusCode::CONFLICT, why, &next)
            }
            Err(StoreError::NoLeader { reason }) => {
                let error = format!("no majority of the servers can be reached: {reason}");
                refusal(StatusCode::SERVICE_UNAVAILABLE, error, &["trilith status"])
            }
            Err(error) => store_refusal(&error),
        }
    }

    async fn carry_out(
        &self,
        ask: &Ask,
        dry_run: bool,
    ) -> Result<Result<DatabaseAnswer, Refusal>, StoreError> {
        let servers = database::servers(&(self.config)());
        for _ in 0..TRIES {
            let view = StoreView::read(&*self.store.read().await?);
            let order = match operator::check(ask, &view, &servers) {
                Ok(Checked::Do(order)) => order,
                Ok(Checked::Already(says)) => return Ok(Ok(nothing_to_do(says, &view, dry_run))),
                Err(refused) => return Ok(Err(refused)),
            };
            if dry_run {
                return Ok(Ok(answer(*order, None, true)));
            }
            if let Outcome::Done { revision } = self.store.commit(order.txn.clone()).await? {
                return Ok(Ok(answer(*order, Some(revision.0), false)));
            }
        }
        Err(StoreError::Invalid {
            reason: "somebody else keeps changing the same thing; try again".to_owned(),
        })
    }
}

/// `revision`: at which it was written.
fn answer(order: Order, revision: Option<u64>, dry_run: bool) -> DatabaseAnswer {
    let mut keys: Vec<Key> = order.servers.iter().map(restart_key).collect();
    keys.push(request_key());
    let asks = order
        .txn
        .writes
        .iter()
        .any(|write| matches!(write, Write::Put { key, .. } if keys.contains(key)));
    DatabaseAnswer {
        schema: DATABASE_SCHEMA,
        changed: revision.is_some(),
        dry_run,
        says: order.then,
        warnings: order.warnings,
        server: order.server.map(|server| server.to_string()),
        servers: order.servers.iter().map(ServerName::to_string).collect(),
        term: order.term,
        request: revision.filter(|_| asks),
    }
}

fn nothing_to_do(says: String, view: &StoreView, dry_run: bool) -> DatabaseAnswer {
    DatabaseAnswer {
        schema: DATABASE_SCHEMA,
        dry_run,
        says,
        term: view.term(),
        ..DatabaseAnswer::default()
    }
}

#[cfg(test)]
mod tests;
