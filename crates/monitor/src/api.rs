//! What `/api/v1/status` and `/v1/server` answer: the state of a cluster as JSON.
//!
//! Fields may be added under the same [`SCHEMA`]; readers ignore what they do not know. Servers of
//! different versions read each other, so every field that is not essential has a default.

mod config;
mod database;

use serde::{Deserialize, Serialize};

pub use config::{
    CONFIG_SCHEMA, ConfigAnswer, ConfigChange, ConfigEntry, ConfigQuery, ConfigState,
    ConfigVersion, HistoryAnswer, ReloadAnswer, ReloadRequest, ReloadServer, RollbackRequest,
};
pub use database::{
    Agreed, DATABASE_SCHEMA, DatabaseAnswer, DatabaseLocal, DatabaseOrder, DatabasePart,
    DatabaseRequest, EndedRequest, PausedStatus, PlanStatus, PlanStep, ReplicaStatus, ReportStatus,
    RestartStatus, SlotStatus, SyncSetStatus,
};

/// Grows when a field is removed or changes its meaning.
pub const SCHEMA: u32 = 2;

/// The whole cluster, as gathered by the server that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub schema: u32,
    pub cluster: String,
    /// The server that was asked.
    pub asked: String,
    /// When it was asked, in milliseconds since 1970 UTC.
    pub time_unix_ms: u64,
    /// In the order of the config file.
    #[serde(default)]
    pub floating_addresses: Vec<FloatingAddress>,
    /// The cluster store, as the server that was asked sees it.
    #[serde(default)]
    pub store: Option<StoreStatus>,
    /// In the order of the config file.
    pub servers: Vec<ServerStatus>,
    pub database: Option<DatabaseStatus>,
    pub sites: Vec<SiteStatus>,
    /// Servers outside the cluster, as each edge sees them, are in [`ServerStatus::pools`].
    pub survives_one_loss: Survival,
}

/// A floating address and who says that it holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloatingAddress {
    pub address: String,
    /// `loopback`, `l2`, `hook` or `none`.
    pub mode: String,
    /// The server on which it is up.
    pub holder: Option<String>,
    /// The fencing token of its lease; none while nobody holds that.
    #[serde(default)]
    pub epoch: Option<u64>,
    /// It is held without a lease, because there was no majority to grant one.
    #[serde(default)]
    pub orphan: bool,
    /// Where it is about to be moved.
    #[serde(default)]
    pub wanted: Option<String>,
}

/// One server's part in a floating address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    pub address: String,
    /// `held` and `orphan` mean that it is up here.
    pub state: String,
    #[serde(default)]
    pub epoch: Option<u64>,
    /// What is left of the lease without another renewal, in milliseconds.
    #[serde(default)]
    pub lease_left_ms: Option<u64>,
    /// Since when it is so, in milliseconds since 1970 UTC.
    #[serde(default)]
    pub since_unix_ms: Option<u64>,
    /// What last went wrong.
    #[serde(default)]
    pub problem: Option<String>,
}

/// The cluster store, as one server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `embedded` or `etcd`.
    pub kind: String,
    pub leader: Option<String>,
    pub term: u64,
    /// Whether it can decide anything at the moment.
    pub has_quorum: bool,
    /// Position of this server in the log.
    pub revision: u64,
    #[serde(default)]
    pub members: Vec<StoreMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreMember {
    pub name: String,
    pub voter: bool,
}

/// Whether the cluster would go on serving after the loss of any one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survival {
    pub yes: bool,
    /// Why not; empty when `yes`.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// One server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    pub schema: u32,
    pub name: String,
    pub address: String,
    /// `edge`, `web`, `db`.
    pub roles: Vec<String>,
    pub state: ServerState,
    /// What is missing of what this server should do, the first cause first; why it is down.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What waiting does not cure: an app that fails again and again, a failed release command.
    #[serde(default)]
    pub failing: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub pid: Option<u32>,
    /// Milliseconds since 1970 UTC.
    #[serde(default)]
    pub started_unix_ms: Option<u64>,
    /// The release in use on this server.
    #[serde(default)]
    pub release: Option<String>,
    #[serde(default)]
    pub instances: Vec<InstanceStatus>,
    /// Of a server with the role `db`.
    #[serde(default)]
    pub postgres: Option<PostgresStatus>,
    /// The database's failover, with `[database]`.
    #[serde(default)]
    pub database: Option<DatabasePart>,
    /// The database servers as this server sees them.
    #[serde(default)]
    pub database_view: Vec<DatabaseServer>,
    /// Where this server's sql entry leads now.
    #[serde(default)]
    pub sql_entry: Option<SqlEntry>,
    /// What this server's edge balances over.
    #[serde(default)]
    pub pools: Vec<PoolStatus>,
    /// Its part in the floating addresses; of a server with the role `edge`.
    #[serde(default)]
    pub addresses: Vec<AddressStatus>,
    /// Its part in the cluster store.
    #[serde(default)]
    pub store: Option<StoreStatus>,
    /// The cluster's config that it runs with.
    #[serde(default)]
    pub config: Option<ConfigState>,
    /// What an operator should know, though nothing is missing.
    #[serde(default)]
    pub notices: Vec<String>,
}

impl AddressStatus {
    /// Whether the address is up on that server.
    pub fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "held" | "orphan")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// Not everything it should do is up yet.
    Starting,
    Ready,
    /// It was ready, and something is missing since.
    Degraded,
    Draining,
    /// It does not answer the server that was asked.
    #[default]
    Down,
    /// Said by a newer version than this one.
    #[serde(other)]
    Unknown,
}

impl ServerState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the server answered at all.
    pub fn is_up(self) -> bool {
        self != Self::Down
    }
}

/// One process of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// `web.1`.
    pub name: String,
    pub app: String,
    /// `starting`, `live`, `unhealthy`, `backoff`, `draining` or `stopped`.
    pub state: String,
    pub since_unix_ms: u64,
    pub release: String,
    #[serde(default)]
    pub pid: Option<u32>,
    #[serde(default)]
    pub address: Option<String>,
    #[serde(default)]
    pub restarts: u32,
    #[serde(default)]
    pub last_failure: Option<String>,
}

/// PostgreSQL on one server, as its manager sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresStatus {
    /// One word: `running`, `copying`, ...
    pub phase: String,
    /// The same for people: `copying the primary: 40 %`.
    pub detail: String,
    /// `primary` or `replica`, as PostgreSQL itself says; none while it does not run.
    #[serde(default)]
    pub role: Option<String>,
    #[serde(default)]
    pub pid: Option<u32>,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub timeline: Option<u32>,
    /// `16/B374D848`.
    #[serde(default)]
    pub lsn: Option<String>,
    #[serde(default)]
    pub streaming: Option<bool>,
    #[serde(default)]
    pub restarts: u32,
}

/// The database of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// Name of the primary's server; none while there is none.
    pub primary: Option<String>,
    /// Whether a replica is promoted when the primary's server dies.
    pub fails_over: bool,
    /// What the cluster store says, in the newest view of it.
    #[serde(default)]
    pub agreed: Option<Agreed>,
    /// The view of the server that was asked.
    pub servers: Vec<DatabaseServer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseServer {
    pub server: String,
    pub reachable: bool,
    /// `primary` or `replica`; none while it is unknown.
    #[serde(default)]
    pub role: Option<String>,
    /// Primary: written up to. Replica: replayed up to.
    #[serde(default)]
    pub lsn: Option<String>,
    /// Bytes of WAL that a replica has not replayed yet.
    #[serde(default)]
    pub lag_bytes: Option<u64>,
    #[serde(default)]
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlEntry {
    pub address: String,
    pub replica_address: String,
    /// Server names.
    #[serde(default)]
    pub writes_to: Option<String>,
    #[serde(default)]
    pub reads_from: Option<String>,
}

/// A set of servers that an edge balances over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub name: String,
    pub balance: String,
    pub mode: String,
    pub members: Vec<PoolMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMember {
    pub name: String,
    pub address: String,
    /// `up`, `down`, `ejected`, `unknown`.
    pub health: String,
    #[serde(default)]
    pub backup: bool,
    /// Requests under way from this edge.
    #[serde(default)]
    pub active: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteStatus {
    pub host: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `internal`, `files` or `off`.
    pub tls: String,
    pub urls: Vec<String>,
    /// Apps that its routes name, with how many live instances there are on how many servers.
    #[serde(default)]
    pub apps: Vec<SiteApp>,
    pub state: SiteState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteApp {
    pub app: String,
    pub instances_live: u32,
    pub instances_wanted: u32,
    pub servers_live: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteState {
    Healthy,
    /// It answers, but something of it is missing.
    Degraded,
    Down,
    #[serde(other)]
    Unknown,
}

impl SiteState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// `POST /v1/drain` of the admin socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRequest {
    pub server: String,
    /// False: take it into use again.
    pub drain: bool,
}

/// `POST /v1/vip/move` of the admin socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRequest {
    /// May be left out when there is only one.
    #[serde(default)]
    pub address: Option<String>,
    /// The server that is to hold it.
    pub server: String,
}

impl ServerStatus {
    /// A server of which nothing is known but what the config file says.
    pub fn down(name: &str, address: &str, roles: Vec<String>, problem: String) -> Self {
        Self {
            schema: SCHEMA,
            name: name.to_owned(),
            address: address.to_owned(),
            roles,
            state: ServerState::Down,
            problems: vec![problem],
            failing: None,
            version: None,
            pid: None,
            started_unix_ms: None,
            release: None,
            instances: Vec::new(),
            postgres: None,
            database: None,
            database_view: Vec::new(),
            sql_entry: None,
            pools: Vec::new(),
            addresses: Vec::new(),
            store: None,
            config: None,
            notices: Vec::new(),
        }
    }

    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r == role)
    }
}

impl ClusterStatus {
    pub fn server(&self, name: &str) -> Option<&ServerStatus> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// Every server ready, every site healthy, every database server reachable.
    pub fn is_healthy(&self) -> bool {
        let databases = self.database.iter().flat_map(|d| &d.servers);
        self.servers.iter().all(|s| s.state == ServerState::Ready)
            && self.sites.iter().all(|s| s.state == SiteState::Healthy)
            && databases.into_iter().all(|d| d.reachable)
    }
}

#[cfg(test)]
mod tests;
