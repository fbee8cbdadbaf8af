//! The code base's way to the apps: a copy of it, and its release command once in the cluster.

use std::path::Path;
use std::sync::Arc;

use tokio::time::{Instant, sleep};
use trilith_app::{
    CommandLine, Release, ReleaseCommand, ReleaseCommandError, Releases, RunAs, limits,
    run_release_command,
};
use trilith_base::{Backoff, format_duration};
use trilith_config::{Config, Role, Server};
use trilith_postgres::{Once, OnceError, OnceOptions, run_once};
use trilith_telemetry::Telemetry;

use crate::board::Board;
use crate::error::NodeError;
use crate::limits::{RELEASE_RETRY_MAX, RELEASE_RETRY_MIN};

/// Copies the code base into the server's state folder, unless that copy is there already.
pub(crate) async fn install(config: &Config, state: &Path) -> Result<Release, NodeError> {
    let source = config.code.path.clone();
    let releases = Releases::new(state.join("releases"));
    let begin = Instant::now();
    let installed = {
        let source = source.clone();
        tokio::task::spawn_blocking(move || {
            let release = releases.install(&source)?;
            // Old ones only take room; a folder that cannot be removed is no reason not to start.
            let _ = releases.remove_old(std::slice::from_ref(&release.id));
            Ok(release)
        })
        .await
    };
    let release: Release =
        installed
            .map_err(NodeError::service)?
            .map_err(|error: trilith_app::ReleaseError| NodeError::CodeBase {
                path: source,
                reason: error.to_string(),
            })?;
    let took = format_duration(begin.elapsed());
    tracing::info!(release = %release.id, took, "the code base is in place");
    Ok(release)
}

/// Everything needed to run the release command.
pub(crate) struct Command {
    pub config: Arc<Config>,
    pub server: Server,
    pub release: Release,
    pub command: CommandLine,
    pub user: Option<RunAs>,
    pub telemetry: Telemetry,
    /// What the apps get for the database; empty without one.
    pub env: std::collections::BTreeMap<String, String>,
}

impl Command {
    /// Returns when the release may go live: its command was run, by this server or another. Tries
    /// again for as long as it takes; `board` tells why.
    pub async fn run_until_done(self, board: &Board) {
        let backoff = Backoff::new(RELEASE_RETRY_MIN, RELEASE_RETRY_MAX);
        for attempt in 0.. {
            board.set_step(Some("running the release command".to_owned()));
            let problem = match self.run_once().await {
                Ok(ran) => {
                    let release = &self.release.id;
                    tracing::info!(%release, here = ran, "the release command is done");
                    return;
                }
                Err(problem) => problem,
            };
            let retry_in = backoff.delay(attempt, 1.0);
            tracing::warn!(
                problem,
                retry_in = format_duration(retry_in),
                "the release is not live yet"
            );
            // The first line is enough for a table; the log has the rest.
            let first = problem.lines().next().unwrap_or_default();
            board.set_step(Some(first.to_owned()));
            sleep(retry_in).await;
        }
    }

    /// Whether it was this server that ran it.
    async fn run_once(&self) -> Result<bool, String> {
        let Some(url) = self.env.get("DATABASE_URL") else {
            return self.run_without_database().await;
        };
        let key = format!("release {}", self.release.id);
        let once = run_once(url, &key, OnceOptions::default(), self.run()).await;
        match once {
            Ok(Once::Done(())) => Ok(true),
            Ok(Once::AlreadyDone) => Ok(false),
            Err(OnceError::Work(error)) => Err(error.to_string()),
            Err(error) => Err(format!("the release command has to wait: {error}")),
        }
    }

    /// Nothing remembers what was done, so one server is always the one to do it.
    async fn run_without_database(&self) -> Result<bool, String> {
        let first = self.config.with_role(Role::Web).next();
        if first.is_none_or(|first| first.name != self.server.name) {
            return Ok(false);
        }
        self.run().await.map_err(|error| error.to_string())?;
        Ok(true)
    }

    async fn run(&self) -> Result<(), ReleaseCommandError> {
        let state = self.config.state_dir(&self.server.name);
        let command = ReleaseCommand {
            server: self.server.name.clone(),
            release: self.release.clone(),
            command: self.command.clone(),
            env: self.env.clone(),
            user: self.user.clone(),
            timeout: limits::RELEASE_COMMAND_TIMEOUT,
            log_dir: state.join("log"),
            tmp_dir: state.join("tmp"),
        };
        run_release_command(command, &self.telemetry).await
    }
}
