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
                    board.set_release_failure(None);
                    return;
                }
                Err(Problem::Failed(error)) => {
                    let short = format!("`{}` failed: {}", error.command, error.problem);
                    board.set_release_failure(Some(format!("the release command {short}")));
                    error.to_string()
                }
                Err(Problem::MustWait(problem)) => problem,
            };
            let retry_in = backoff.delay(attempt, 1.0);
            tracing::warn!(
                problem,
                retry_in = format_duration(retry_in),
                "the release is not live yet"
            );
            board.set_step(Some(first_line(&problem)));
            sleep(retry_in).await;
        }
    }

    /// Whether it was this server that ran it.
    async fn run_once(&self) -> Result<bool, Problem> {
        let Some(url) = self.env.get("DATABASE_URL") else {
            return self.run_without_database().await;
        };
        let key = format!("release {}", self.release.id);
        let once = run_once(url, &key, OnceOptions::default(), self.run()).await;
        match once {
            Ok(Once::Done(())) => Ok(true),
            Ok(Once::AlreadyDone) => Ok(false),
            Err(OnceError::Work(error)) => Err(Problem::Failed(error)),
            Err(error) => {
                let problem = format!("the release command has to wait: {error}");
                Err(Problem::MustWait(problem))
            }
        }
    }

    /// Nothing remembers what was done, so one server is always the one to do it.
    async fn run_without_database(&self) -> Result<bool, Problem> {
        let first = self.config.with_role(Role::Web).next();
        if first.is_none_or(|first| first.name != self.server.name) {
            return Ok(false);
        }
        let ran = self.run().await;
        ran.map_err(Problem::Failed)?;
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

/// Why the release is not live yet.
enum Problem {
    /// The command itself.
    Failed(ReleaseCommandError),
    /// What it needs.
    MustWait(String),
}

/// Enough for a table; the log has the rest.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
