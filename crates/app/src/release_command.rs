//! The `release` line of a Procfile: run once, before the instances of a new release start.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use trilith_base::{ServerName, format_duration};
use trilith_telemetry::Telemetry;

use crate::environment::{self, Contract};
use crate::limits::{OUTPUT_DRAIN, RELEASE_COMMAND_TAIL_LINES_MAX};
use crate::log::{LogSink, Stream, Tail, copy_lines};
use crate::run::prepare_dir;
use crate::spawn::{Plan, Running, Spawner, describe};
use crate::user::is_root;
use crate::{CommandLine, Release, RunAs, first_closed_folder};

/// What to run, and as whom.
#[derive(Clone, Debug)]
pub struct ReleaseCommand {
    pub server: ServerName,
    pub release: Release,
    pub command: CommandLine,
    /// As for instances, such as `DATABASE_URL`. `INSTANCE` is `release`; there is no `PORT`.
    pub env: BTreeMap<String, String>,
    /// Used only when this process is root.
    pub user: Option<RunAs>,
    /// It is killed after this long:
    /// [`limits::RELEASE_COMMAND_TIMEOUT`](crate::limits::RELEASE_COMMAND_TIMEOUT) unless there is
    /// a reason.
    pub timeout: Duration,
    /// Its output goes to `app-release.log` here.
    pub log_dir: PathBuf,
    pub tmp_dir: PathBuf,
}

/// A release command that failed: the release must not go live.
#[derive(Debug, thiserror::Error)]
#[error(
    "the release command `{command}` failed: {problem}{}",
    output_text(output)
)]
pub struct ReleaseCommandError {
    pub command: String,
    /// `exit code 1`, ...
    pub problem: String,
    /// The last lines it wrote to stdout and stderr.
    pub output: Vec<String>,
}

fn output_text(output: &[String]) -> String {
    if output.is_empty() {
        ", and wrote nothing".to_owned()
    } else {
        format!(". It wrote last:\n  {}", output.join("\n  "))
    }
}

/// Runs it to its end. That it runs once and not on every server at a time is the caller's
/// business. Dropping the future kills it.
///
/// # Errors
/// Any end but exit code 0 in time, with the last lines of its output.
pub async fn run_release_command(
    options: ReleaseCommand,
    telemetry: &Telemetry,
) -> Result<(), ReleaseCommandError> {
    let command = options.command.to_string();
    let fail = |problem: String, output: Vec<String>| ReleaseCommandError {
        command: command.clone(),
        problem,
        output,
    };
    prepare_dir(&options.log_dir, 0o750)
        .and_then(|()| prepare_dir(&options.tmp_dir, 0o711))
        .map_err(|error| fail(error.to_string(), Vec::new()))?;
    let user = options.user.filter(|_| is_root());
    if let Some(user) = &user
        && let Some(folder) = first_closed_folder(&options.release.dir, user)
    {
        let problem = format!("user `{}` cannot enter {}", user.name, folder.display());
        return Err(fail(problem, Vec::new()));
    }
    let name = "release";
    let tmp_dir = options.tmp_dir.join(name);
    let contract = Contract {
        server: options.server.as_str(),
        instance: name,
        release: options.release.id.as_str(),
        listen: None,
        tmp_dir: &tmp_dir,
        user: user.as_ref().map(|user| user.name.as_str()),
    };
    let env = environment::build(
        environment::ours(),
        &options.env,
        &BTreeMap::new(),
        &contract,
    );
    let plan = Plan {
        app: name.to_owned(),
        instance: name.to_owned(),
        release: options.release.id.to_string(),
        command: options.command,
        env,
        dir: options.release.dir,
        tmp_dir,
        user,
    };
    let start = async {
        let spawner = Spawner::start(None)?;
        let (sink, _log) = LogSink::open(&options.log_dir, name, telemetry.clone())?;
        let spawned = spawner.handle().spawn(plan).await?;
        let (running, stdout, stderr) = Running::new(spawned)?;
        Ok((running, stdout, stderr, sink))
    };
    let (running, stdout, stderr, sink) = start
        .await
        .map_err(|error: std::io::Error| fail(error.to_string(), Vec::new()))?;
    let tail = Tail::new(RELEASE_COMMAND_TAIL_LINES_MAX);
    let mut readers: VecDeque<_> = [(stdout, Stream::Stdout), (stderr, Stream::Stderr)]
        .into_iter()
        .map(|(pipe, stream)| {
            tokio::spawn(copy_lines(
                pipe,
                name.into(),
                stream,
                sink.clone(),
                tail.clone(),
            ))
        })
        .collect();
    let in_time = tokio::time::timeout(options.timeout, running.leader_ended())
        .await
        .is_ok();
    // What it left running in the background must not outlive it, nor keep the pipes open.
    let _ = running.signal(nix::sys::signal::Signal::SIGKILL);
    let until = tokio::time::Instant::now() + OUTPUT_DRAIN;
    while let Some(mut reader) = readers.pop_front() {
        if tokio::time::timeout_at(until, &mut reader).await.is_err() {
            reader.abort();
        }
    }
    let status = tokio::task::spawn_blocking(move || running.reap()).await;
    let end = match status {
        Ok(Ok(status)) if status.success() && in_time => return Ok(()),
        _ if !in_time => format!("killed after {}", format_duration(options.timeout)),
        Ok(Ok(status)) => describe(status),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(fail(end, tail.take()))
}
