use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use trilith_base::ServerName;
use trilith_telemetry::Telemetry;

use crate::limits;

/// What the store of one server is to do. `node` lowers the config file into it.
#[derive(Clone)]
pub struct Options {
    pub me: ServerName,
    /// Where the others find this server.
    pub address: SocketAddr,
    /// The cluster's name: members of another one are refused.
    pub cluster: String,
    /// The servers that are to take part, in the order of the config file, this one included. It
    /// may change.
    pub servers: watch::Receiver<Vec<Listed>>,
    pub disk: DiskPlace,
    /// Called once when this server's part of the store cannot go on: the process must end. The
    /// argument says why.
    pub on_fatal: Arc<dyn Fn(String) + Send + Sync>,
    pub timing: Timing,
    pub telemetry: Telemetry,
}

/// A server of the config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: ServerName,
    pub address: SocketAddr,
    /// Whether it may vote. Of those that may, at most five do.
    pub votes: bool,
}

/// Where the store's file lies.
#[derive(Clone)]
pub enum DiskPlace {
    /// `store.redb` in this folder, which is made if it is not there.
    Folder(PathBuf),
    /// Somewhere else: a simulated disk.
    Medium(Arc<dyn Medium>),
}

/// A place that holds one file. All calls may block.
pub trait Medium: Send + Sync + 'static {
    /// Opens the file, or makes an empty one. One handle exists at a time.
    ///
    /// # Errors
    /// What the operating system says, for example that another process has it open.
    fn open(&self) -> std::io::Result<Box<dyn redb::StorageBackend>>;

    /// Moves the damaged file out of the way, so that the next [`Medium::open`] makes a new one.
    /// Says where it is now.
    ///
    /// # Errors What the operating system says.
    fn set_aside(&self) -> std::io::Result<String>;
}

/// How fast things happen. The default is for a local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two signs of life of the leader.
    pub heartbeat: Duration,
    /// How long a server waits for the leader before it wants to lead: each draws its own value
    /// between the two.
    pub election_min: Duration,
    pub election_max: Duration,
    /// How long one question to another server may take.
    pub call: Duration,
    /// How long a renewal may take in all.
    pub renew: Duration,
    /// How long a read or a commit may take in all.
    pub request: Duration,
    /// Between two looks at who should be a member.
    pub reconcile: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: limits::HEARTBEAT,
            election_min: limits::ELECTION_MIN,
            election_max: limits::ELECTION_MAX,
            call: limits::CALL_TIMEOUT,
            renew: limits::RENEW_TIMEOUT,
            request: limits::REQUEST_TIMEOUT,
            reconcile: limits::RECONCILE_EVERY,
        }
    }
}

impl fmt::Debug for DiskPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            Self::Medium(_) => f.write_str("Medium"),
        }
    }
}
