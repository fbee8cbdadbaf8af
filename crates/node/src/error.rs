//! Why a server cannot start or go on, with what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use trilith_tls::TlsError;

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("the config file has no server `{name}`; it has {}", known.join(", "))]
    NoSuchServer { name: String, known: Vec<String> },
    #[error("this server runs already{}; its lock is {}", as_process(*pid), path.display())]
    AlreadyRunning { pid: Option<u32>, path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("there are no database passwords: {} is missing", path.display())]
    NoPasswords { path: PathBuf },
    #[error("cannot listen on {address} ({what}): {source}")]
    Listen {
        what: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error(
        "{user} cannot enter {}, which is on the way to {}: let others enter it, or keep the state \
         elsewhere (`data` in `[cluster]`)",
        closed.display(), path.display()
    )]
    ClosedFolder {
        user: String,
        closed: PathBuf,
        path: PathBuf,
    },
    #[error("the code base {} cannot be read: {reason}", path.display())]
    CodeBase { path: PathBuf, reason: String },
    #[error("{}: {problems}", path.display())]
    Procfile { path: PathBuf, problems: String },
    #[error(
        "no command for the app `{app}`: neither has `[app.{app}]` a `run`, nor {} a line `{app}:`",
        procfile.display()
    )]
    NoCommand { app: String, procfile: PathBuf },
    #[error("[app.{app}]: {reason}")]
    App { app: String, reason: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Service(String),
}

impl NodeError {
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File {
            path: path.clone(),
            source,
        }
    }

    pub(crate) fn listen(what: &'static str, address: SocketAddr, source: io::Error) -> Self {
        Self::Listen {
            what,
            address,
            source,
        }
    }

    /// Whether the command line or the config file is to blame.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoSuchServer { .. }
                | Self::NoCommand { .. }
                | Self::App { .. }
                | Self::Procfile { .. }
        )
    }

    /// What to type next; `config` is the config file.
    pub fn next_command(&self, config: &Path) -> Option<String> {
        let config = config.display();
        Some(match self {
            Self::NoSuchServer { known, .. } => {
                let name = known.first().map_or("NAME", String::as_str);
                format!("trilith run --config {config} --server {name}")
            }
            Self::AlreadyRunning { pid: Some(pid), .. } => {
                format!("kill {pid}   (stops it in an orderly way)")
            }
            Self::AlreadyRunning { pid: None, .. } => format!("trilith status --config {config}"),
            Self::Tls(TlsError::NoCa { .. }) | Self::NoPasswords { .. } => {
                format!("trilith init --secrets --config {config}   (once, then copy the folder)")
            }
            Self::Tls(TlsError::Exposed { path }) => format!("chmod 600 {}", path.display()),
            Self::Listen { address, .. } => format!(
                "ss -ltnp 'sport = :{}'   (shows who has the port)",
                address.port()
            ),
            Self::ClosedFolder { closed, .. } => format!("chmod o+x {}", closed.display()),
            _ => format!("trilith check {config}"),
        })
    }

    /// An error of a service crate, whose text says it all.
    pub(crate) fn service(error: impl ToString) -> Self {
        Self::Service(error.to_string())
    }
}

fn as_process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" as process {pid}"))
        .unwrap_or_default()
}
