//! What a supervisor is told. Plain values: `node` lowers the config file into them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use trilith_base::ServerName;

use crate::limits;
use crate::{CommandLine, Release, RunAs};

/// Everything a [`Supervisor`](crate::Supervisor) needs to run the instances of one release.
#[derive(Clone, Debug)]
pub struct Options {
    /// This server. Goes into `SERVER`, and into the choice of ports.
    pub server: ServerName,
    /// What to run: `RELEASE`, and the working directory of every instance.
    pub release: Release,
    pub apps: Vec<AppOptions>,
    /// The loopback address instances listen on (`HOST`).
    pub host: IpAddr,
    /// Where `PORT` is chosen from. Below the kernel's ephemeral range, so that no outgoing
    /// connection takes a port first: [`limits::PORTS`] unless there is a reason.
    pub ports: RangeInclusive<u16>,
    /// `app-<name>.log` and its rotated predecessors are written here.
    pub log_dir: PathBuf,
    /// `instances.json` is kept here: what must be cleaned up should this process be killed.
    pub run_dir: PathBuf,
    /// Each instance gets a folder of its own here, as `TMPDIR` and `HOME`.
    pub tmp_dir: PathBuf,
    /// Given to every instance, such as `DATABASE_URL`. An app's own `env` wins over it; what the
    /// contract promises (`PORT`, `HOST`, `RELEASE`, ...) wins over both.
    pub env: BTreeMap<String, String>,
}

/// One named process type.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// `web`, `worker`, ...: 1 to 63 of letters, digits, `-` and `_`. Unique among the apps.
    pub name: String,
    pub command: CommandLine,
    pub kind: AppKind,
    /// How many processes of it run on this server, 0 to [`limits::INSTANCES_MAX`].
    pub instances: u16,
    pub env: BTreeMap<String, String>,
    /// Path asked for by the health check of a [`AppKind::Web`] app. Starts with `/`.
    pub health_path: String,
    /// An instance that is not ready after this long is stopped and tried again.
    pub start_timeout: Duration,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// Who runs it. Used only when this process is root; otherwise apps run as we do.
    pub user: Option<RunAs>,
}

/// What readiness means for an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppKind {
    /// Listens on `$HOST:$PORT` and speaks HTTP. Ready when `GET <health_path>` gets any status
    /// below 500.
    Web,
    /// Has no port. Ready once it has run for [`limits::WORKER_READY_AFTER`].
    Worker,
}

impl AppOptions {
    /// An app with the defaults of the config file: two instances, health `/`, 60 s to start, 15 s
    /// to stop, and a port when it is called `web` (the Procfile convention).
    pub fn new(name: &str, command: CommandLine) -> Self {
        let kind = if name == "web" {
            AppKind::Web
        } else {
            AppKind::Worker
        };
        Self {
            name: name.to_owned(),
            command,
            kind,
            instances: 2,
            env: BTreeMap::new(),
            health_path: "/".to_owned(),
            start_timeout: limits::START_TIMEOUT,
            stop_grace: limits::STOP_GRACE,
            user: None,
        }
    }
}
