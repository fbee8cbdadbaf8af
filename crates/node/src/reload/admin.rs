//! What the admin socket answers about the config: reload, show, history, rollback.

use std::sync::{Arc, OnceLock};

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::time::{Instant, sleep};
use trilith_config::limits::FILE_BYTES_MAX;
use trilith_config::{Change, Effect};
use trilith_monitor::Source;
use trilith_monitor::api::{
    CONFIG_SCHEMA, ConfigAnswer, ConfigChange, ConfigQuery, HistoryAnswer, ReloadAnswer,
    ReloadRequest, ReloadServer, RollbackRequest, ServerStatus,
};

use crate::config_sync::{ConfigSync, PublishError, Published};
use crate::control::{refusal, store_refusal};
use crate::limits::{CONFIG_OTHERS_POLL, CONFIG_OTHERS_WAIT};

struct Admin<S> {
    /// Set once the services are up.
    sync: Arc<OnceLock<Arc<ConfigSync>>>,
    source: Arc<S>,
}

/// `POST /v1/reload`, `GET /v1/config`, `GET /v1/config/history`, `POST /v1/config/rollback`: for the
/// admin socket, never for a port. `source` is asked how far the other servers are. Until `sync` is set
/// everything is answered with 503.
pub(crate) fn router<S: Source>(sync: Arc<OnceLock<Arc<ConfigSync>>>, source: Arc<S>) -> Router {
    Router::new()
        .route("/v1/reload", post(reload::<S>))
        .route("/v1/config", get(show::<S>))
        .route("/v1/config/history", get(history::<S>))
        .route("/v1/config/rollback", post(rollback::<S>))
        // A text as JSON is at most six times as long.
        .layer(DefaultBodyLimit::max(6 * FILE_BYTES_MAX + 1024))
        .with_state(Arc::new(Admin { sync, source }))
}

async fn reload<S: Source>(
    State(admin): State<Arc<Admin<S>>>,
    Json(request): Json<ReloadRequest>,
) -> Response {
    let sync = match admin.sync() {
        Ok(sync) => sync,
        Err(refused) => return *refused,
    };
    let by = admin.by(&request.by);
    let published = sync.publish(request.text, by, request.dry_run).await;
    admin.answer(published, request.dry_run).await
}

async fn rollback<S: Source>(
    State(admin): State<Arc<Admin<S>>>,
    Json(request): Json<RollbackRequest>,
) -> Response {
    let sync = match admin.sync() {
        Ok(sync) => sync,
        Err(refused) => return *refused,
    };
    let by = admin.by(&request.by);
    let published = sync.rollback(request.version, by, request.dry_run).await;
    admin.answer(published, request.dry_run).await
}

async fn show<S: Source>(
    State(admin): State<Arc<Admin<S>>>,
    Query(query): Query<ConfigQuery>,
) -> Response {
    let sync = match admin.sync() {
        Ok(sync) => sync,
        Err(refused) => return *refused,
    };
    let found = match query.version {
        Some(version) => sync.version(version),
        None => sync.current().ok_or(PublishError::NoConfig),
    };
    match found {
        Ok(current) => Json(ConfigAnswer {
            schema: CONFIG_SCHEMA,
            current,
            server: sync.state(),
        })
        .into_response(),
        Err(error) => refused(&error),
    }
}

async fn history<S: Source>(State(admin): State<Arc<Admin<S>>>) -> Response {
    match admin.sync() {
        Ok(sync) => Json(HistoryAnswer {
            schema: CONFIG_SCHEMA,
            current: sync.current().map(|current| current.version),
            versions: sync.history(),
        })
        .into_response(),
        Err(refused) => *refused,
    }
}

impl<S: Source> Admin<S> {
    fn sync(&self) -> Result<Arc<ConfigSync>, Box<Response>> {
        let sync = self.sync.get().cloned();
        sync.ok_or_else(|| {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let next = ["trilith status"];
            Box::new(refusal(status, "this server is still starting", &next))
        })
    }

    /// `root@one`. What the other side says is for people; who may ask at all is the socket's business.
    fn by(&self, user: &str) -> String {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
        let user: String = user.chars().filter(plain).take(64).collect();
        let server = self.source.server().name;
        match user.is_empty() {
            true => server,
            false => format!("{user}@{server}"),
        }
    }

    async fn answer(&self, published: Result<Published, PublishError>, dry_run: bool) -> Response {
        let published = match published {
            Ok(published) => published,
            Err(error) => return refused(&error),
        };
        let servers = match (dry_run, published.version) {
            (false, Some(version)) => self.others(version).await,
            _ => Vec::new(),
        };
        Json(ReloadAnswer {
            schema: CONFIG_SCHEMA,
            dry_run,
            version: published.version,
            published: published.is_new,
            changes: published.changes.list.iter().map(change).collect(),
            warnings: published.warnings.to_string(),
            servers,
        })
        .into_response()
    }

    /// How far each server is, once all that answer have the version or the time is up.
    async fn others(&self, version: u64) -> Vec<ReloadServer> {
        let end = Instant::now() + CONFIG_OTHERS_WAIT;
        loop {
            let status = self.source.cluster().await;
            let servers: Vec<_> = status
                .servers
                .iter()
                .map(|s| progress(s, version))
                .collect();
            let waiting = servers.iter().any(|server| server.state == "pending");
            if !waiting || Instant::now() >= end {
                return servers;
            }
            sleep(CONFIG_OTHERS_POLL).await;
        }
    }
}

fn progress(server: &ServerStatus, version: u64) -> ReloadServer {
    let config = server.config.clone().unwrap_or_default();
    let has_it = config.version.is_some_and(|has| has >= version);
    let (state, detail) = match (server.state.is_up(), &config.failed, has_it) {
        (false, _, _) => ("down", server.problems.clone()),
        (true, Some(failed), _) => ("failed", vec![failed.clone()]),
        (true, None, false) => ("pending", Vec::new()),
        (true, None, true) if config.restart.is_empty() => ("applied", Vec::new()),
        (true, None, true) => ("restart", config.restart),
    };
    ReloadServer {
        name: server.name.clone(),
        state: state.to_owned(),
        detail,
    }
}

fn change(change: &Change) -> ConfigChange {
    ConfigChange {
        path: change.path.clone(),
        old: change.old.clone(),
        new: change.new.clone(),
        restart: match &change.effect {
            Effect::Live => Vec::new(),
            Effect::Restart { servers } => servers.iter().map(ToString::to_string).collect(),
        },
        line: change.to_string(),
    }
}

fn refused(error: &PublishError) -> Response {
    match error {
        PublishError::Invalid(diagnostics) => {
            let text = format!("{}\n\n{diagnostics}", diagnostics.summary());
            refusal(
                StatusCode::UNPROCESSABLE_ENTITY,
                text,
                &["trilith check FILE"],
            )
        }
        PublishError::Refused(_) => refusal(StatusCode::UNPROCESSABLE_ENTITY, error, &[]),
        PublishError::NoConfig => {
            refusal(StatusCode::SERVICE_UNAVAILABLE, error, &["trilith status"])
        }
        PublishError::NoSuchVersion { .. } => {
            let next = ["trilith config history"];
            refusal(StatusCode::UNPROCESSABLE_ENTITY, error, &next)
        }
        PublishError::Conflict { .. } => {
            let next = ["trilith config show", "trilith reload --dry-run"];
            refusal(StatusCode::CONFLICT, error, &next)
        }
        PublishError::Apply(_) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            error,
            &["trilith status"],
        ),
        PublishError::Store(error) => store_refusal(error),
    }
}

#[cfg(test)]
mod tests;
