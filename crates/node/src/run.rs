//! The life of a server process.

use std::path::PathBuf;
use std::process::abort;
use std::sync::Arc;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use trilith_base::{ServerName, format_duration};
use trilith_config::Config;
use trilith_net::drain_pair;

use crate::config_sync::at_start;
use crate::error::NodeError;
use crate::limits::CONTROL_THREADS;
use crate::pidfile::PidFile;
use crate::privileges;
use crate::services::Services;
use crate::tokens::InForce;

/// The config file that a server is started with.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    pub text: String,
    /// What the text says.
    pub config: Config,
    /// Start with it even if the cluster agreed on another one meanwhile, and make it the next version.
    pub publish: bool,
}

/// [`run`] on a runtime of its own. A panic anywhere ends the process from now on.
pub fn run_blocking(file: ConfigFile, server: &str) -> Result<(), NodeError> {
    abort_on_panic();
    // While there is one thread.
    privileges::keep_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(NodeError::service)?;
    let ended = runtime.block_on(run(file, server));
    // What still blocks a thread now (a slow disk) is of no use to anybody.
    runtime.shutdown_background();
    ended
}

/// Runs the server of that name until SIGTERM or SIGINT, which stop it in an orderly way; a second
/// one makes it quicker. Returns when everything it started has ended.
///
/// # Errors
/// Whatever keeps it from starting. What had been started by then is stopped.
pub async fn run(file: ConfigFile, server: &str) -> Result<(), NodeError> {
    let begin = Instant::now();
    let mut signals = Signals::listen()?;
    let in_file = InForce {
        config: Arc::new(file.config),
        text: file.text.into(),
    };
    let server = find(&in_file.config, server)?;
    let state = privileges::prepare_state(&in_file.config, &server)?;
    let pid_file = PidFile::acquire(&state.join("run"))?;
    let start = at_start(in_file, &file.path, &state, &server.name, file.publish);
    let server = find(&start.in_force.config, server.name.as_str())?;
    tracing::info!(
        server = %server.name, address = %server.address, roles = %server.roles,
        version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting"
    );
    let mut services = Services::prepare(start, file.path, server, state)?;
    let started = tokio::select! {
        started = services.start() => Some(started),
        () = signals.next() => None,
    };
    match &started {
        Some(Ok(())) => {
            tracing::info!(took = format_duration(begin.elapsed()), "started");
            signals.next().await;
            tracing::info!("stopping");
        }
        Some(Err(_)) => tracing::info!("the start failed, stopping"),
        None => tracing::info!("told to stop while starting"),
    }
    let (trigger, hurry) = drain_pair();
    let stopping = services.stop(hurry);
    tokio::pin!(stopping);
    tokio::select! {
        () = &mut stopping => {}
        () = signals.next() => {
            tracing::info!("told again: stopping without waiting for anybody");
            trigger.start();
            stopping.await;
        }
    }
    drop(pid_file);
    tracing::info!("stopped");
    started.unwrap_or(Ok(()))
}

fn find(config: &Config, name: &str) -> Result<trilith_config::Server, NodeError> {
    let server = ServerName::new(name)
        .ok()
        .and_then(|name| config.server(&name).cloned());
    server.ok_or_else(|| NodeError::NoSuchServer {
        name: name.to_owned(),
        known: config
            .servers
            .iter()
            .map(|server| server.name.to_string())
            .collect(),
    })
}

/// Half a server is worse than none: others take over from one that is gone, not from one that lost
/// a thread. The first panic is reported, then the process ends.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        tracing::error!(%panic, "this is a bug: the process ends now");
        abort();
    }));
}

/// The signals that mean "stop". SIGHUP does when a terminal goes away; a process that was told to
/// ignore it (`nohup`) goes on doing so.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    fn listen() -> Result<Self, NodeError> {
        let listen = |kind| signal(kind).map_err(NodeError::service);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: match ignores_hangup() {
                true => None,
                false => Some(listen(SignalKind::hangup())?),
            },
        })
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Reads the mask of ignored signals from `/proc` (proc(5)): bit n - 1 is signal n, and SIGHUP is
/// 1.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}
