//! What a config file says, in types that cannot say anything else.
//!
//! All of it is built by [`Config::parse`] alone (`#[non_exhaustive]`), so whoever holds a
//! [`Config`] may rely on what `read/` checked: references lead somewhere, names and addresses are
//! unique, what needs an edge, a web server or a database server has one.

mod lookup;
mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use trilith_base::{ByteSize, ServerName};

use crate::diagnostics::Diagnostics;
use crate::values::{
    AppName, CodePath, HostName, PathPattern, RedirectStatus, UpstreamName, UrlPath,
};

pub use words::{Balance, Mode, Role, Roles};

/// The whole file. File system paths are absolute or relative to the `base_dir` given to
/// [`Config::parse`], which is joined to them already.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    pub cluster: Cluster,
    /// `cluster.vip` and `[vip]`.
    pub vip: VipConfig,
    /// `cluster.store`.
    pub store: StoreKind,
    pub ports: Ports,
    pub code: Code,
    /// In file order; never empty; names and addresses are unique.
    pub servers: Vec<Server>,
    /// In file order; no host or alias stands twice.
    pub sites: Vec<Site>,
    /// The `[app.NAME]` tables. A route may name an app that is not here: then a Procfile has to.
    pub apps: BTreeMap<AppName, App>,
    /// `None`: nothing of PostgreSQL runs. `Some`: at least one server has the role `db`.
    pub database: Option<Database>,
    /// In file order; names are unique.
    pub upstreams: Vec<Upstream>,
    pub edge: Edge,
}

/// A config, and what its author should know about it all the same.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Empty, or warnings only.
    pub warnings: Diagnostics,
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cluster {
    /// A DNS label, like a server's name.
    pub name: ServerName,
    /// What every server keeps its state below; see [`Config::state_dir`].
    pub data: PathBuf,
    /// Folder with the cluster's CA and the database passwords, the same on every server.
    pub secrets: PathBuf,
    pub workers: Workers,
}

/// The floating addresses and how they are held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VipConfig {
    /// In file order; unique, none is a server's; empty without `cluster.vip`. All are loopback
    /// addresses or none is, like the servers'.
    pub addresses: Vec<FloatingAddress>,
    /// As written, or what fits the addresses; [`VipMode::None`] where there are none.
    pub mode: VipMode,
    pub on_quorum_loss: OnQuorumLoss,
}

/// An address that moves from edge to edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct FloatingAddress {
    pub ip: IpAddr,
    /// Bits of the network part; 32 or 128 where the file gives the bare address.
    pub prefix: u8,
}

/// What makes an edge reachable under a floating address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VipMode {
    /// The address is there on every server (127.0.0.0/8); the holder alone listens on it.
    Loopback,
    /// The holder puts the address on a network interface. `None`: on the one whose network has
    /// it, else the one of the server's own address.
    L2 { interface: Option<String> },
    /// The holder runs a program. Both are argument lists, an absolute path first; `release` may be
    /// empty: then nothing is run.
    Hook {
        take: Vec<String>,
        release: Vec<String>,
    },
    /// Trilith leaves the addresses alone.
    None,
}

/// What a holder does when the servers cannot agree any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnQuorumLoss {
    /// Keep or take an address that nobody answers for, and yield at the first conflict.
    #[default]
    Orphan,
    /// Give it up when the lease ends.
    Release,
}

/// Where the cluster's agreement is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In Trilith itself. Then there are not exactly two servers.
    Embedded,
    /// In an etcd that runs already. Endpoints as `http://host:port`; never empty; unique.
    Etcd { endpoints: Vec<String> },
}

/// How many data plane threads a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One per core that the process may use.
    Auto,
    Count(NonZeroUsize),
}

/// The ports of every server. No two are equal, none is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ports {
    pub http: u16,
    pub https: u16,
    /// mTLS between servers.
    pub cluster: u16,
    pub postgres: u16,
    /// sql entry to the primary; loopback only.
    pub sql: u16,
    /// sql entry to a replica; loopback only.
    pub sql_replica: u16,
    /// Metrics and admin API; loopback only.
    pub admin: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Code {
    /// The code base's folder.
    pub path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    pub name: ServerName,
    /// Reachable from the other servers. Loopback for all servers, or for none.
    pub address: IpAddr,
    /// Empty for a witness.
    pub roles: Roles,
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Site {
    pub host: HostName,
    /// Redirected to `host`.
    pub aliases: Vec<HostName>,
    pub tls: SiteTls,
    /// Whether plain HTTP is answered by a redirect to HTTPS. Always false with [`SiteTls::Off`].
    pub https_redirect: bool,
    /// Page in the code base for each status (400 to 599) that has one.
    pub error_pages: BTreeMap<u16, CodePath>,
    /// In file order; never empty; patterns are unique.
    pub routes: Vec<Route>,
}

/// Where a site's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteTls {
    /// From the cluster's own CA.
    Internal,
    /// HTTP only.
    Off,
    /// PEM files: the chain, leaf first, and the leaf's private key.
    Files { certificate: PathBuf, key: PathBuf },
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Route {
    pub path: PathPattern,
    pub action: RouteAction,
    /// Taken off the front of the path before it becomes a file name, goes to an app or an upstream,
    /// or into a redirect. Whole segments, no slash at the end; every path of the route begins with
    /// it. `/`: take nothing off. `None`: the prefix of `path` for files, nothing for the rest.
    pub strip_prefix: Option<String>,
    /// `Cache-Control` of files and fixed responses. A valid header value.
    pub cache_control: Option<String>,
    /// Longest request body for an app or an upstream; a longer one is 413.
    pub body_max: ByteSize,
}

/// What answers a route.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// Files of the code base, by the web servers: a folder, or for an exact path one file.
    Files {
        root: CodePath,
        /// Tried in this order for a folder. File names without slashes.
        index: Vec<String>,
        balance: Balance,
        mode: Mode,
    },
    /// Instances of an app, by the web servers.
    App {
        app: AppName,
        balance: Balance,
        mode: Mode,
    },
    /// One of [`Config::upstreams`], which has its own balance and mode.
    Upstream { upstream: UpstreamName },
    Redirect {
        /// `http://...`, `https://...`, or a path of the same site; a valid header value. `{path}` in
        /// it stands for the request's path with its leading slash, and then the query goes along.
        location: String,
        status: RedirectStatus,
    },
    Respond {
        /// 200 to 599.
        status: u16,
        body: String,
        /// A valid header value.
        content_type: String,
    },
}

/// One process type of the code base.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct App {
    /// One line, as for a shell. `None`: the Procfile has it.
    pub run: Option<String>,
    /// Per web server. 0: not run (never 0 for an app that a route names).
    pub instances: u16,
    /// Added to what every instance gets.
    pub env: BTreeMap<String, String>,
    /// Must answer below 500 before an instance takes traffic. `None`: it does not speak HTTP and is
    /// ready when it runs (never `None` for an app that a route names).
    pub health: Option<UrlPath>,
    pub start_timeout: Duration,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// Who runs the instances when Trilith was started as root.
    pub user: String,
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Database {
    /// 1 to 63 of `A-Z`, `a-z`, `0-9`, `_` and `-`, not beginning with a digit or `-`.
    pub name: String,
    /// Of the same form.
    pub user: String,
    pub synchronous: Synchronous,
    /// For postgresql.conf; none that Trilith sets itself. Values as text, not yet quoted.
    pub parameters: BTreeMap<String, String>,
    /// Folder with `initdb` and `postgres`. `None`: look for it.
    pub bin_dir: Option<PathBuf>,
    /// Who runs PostgreSQL when Trilith was started as root.
    pub os_user: String,
    /// Created in the apps' database. Names are unique.
    pub extensions: Vec<String>,
    /// Besides the apps' own. Names are unique; owners are [`Database::user`] or one of `users`.
    pub databases: Vec<FurtherDatabase>,
    /// Besides the apps' own. Names are unique.
    pub users: Vec<DatabaseUser>,
}

/// A database besides the one of the apps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FurtherDatabase {
    /// Of the same form as [`Database::name`].
    pub name: String,
    pub owner: String,
    /// Created in it.
    pub extensions: Vec<String>,
}

/// A user of the database besides the one of the apps. Its password is the cluster's to make.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseUser {
    /// Of the same form as [`Database::user`].
    pub name: String,
    /// Where it may connect, besides those that it owns. All of them exist.
    pub databases: Vec<String>,
    /// Whether it may create databases.
    pub createdb: bool,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// A quorum of the replicas has flushed it, where there are enough of them.
    Quorum,
    /// The primary alone has flushed it.
    Off,
}

/// Servers outside the cluster.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Upstream {
    pub name: UpstreamName,
    /// In file order; never empty; addresses are unique; at least one is no backup.
    pub servers: Vec<UpstreamServer>,
    pub balance: Balance,
    pub mode: Mode,
    /// `None`: not probed; only failed requests tell.
    pub health: Option<HealthCheck>,
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's first.
    pub response_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UpstreamServer {
    pub address: SocketAddr,
    /// 1 to 1000; share of the requests in relation to the others'.
    pub weight: NonZeroU16,
    /// Used when no other server can be.
    pub backup: bool,
    /// Per edge. `None`: no limit.
    pub max_connections: Option<NonZeroU32>,
}

/// An active probe: `GET path`, answered by 2xx or 3xx.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HealthCheck {
    pub path: UrlPath,
    pub interval: Duration,
    /// Good probes in a row until a server counts as up; 1 to 100.
    pub rise: NonZeroU32,
    /// Bad probes in a row until a server counts as down; 1 to 100.
    pub fall: NonZeroU32,
    /// Not longer than `interval`.
    pub timeout: Duration,
}

/// What holds for every client connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Edge {
    /// Whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// For a whole request head.
    pub header_timeout: Duration,
    /// Longest silence within a body, either way.
    pub body_idle_timeout: Duration,
    /// How long an idle connection stays open.
    pub keep_alive_timeout: Duration,
    /// Bytes per second that a request body must reach on average; 0 is no limit.
    pub body_rate_min: ByteSize,
    /// For a whole request head.
    pub header_bytes_max: ByteSize,
    pub headers_max: usize,
    /// For path and query.
    pub target_bytes_max: ByteSize,
    /// Client connections of one server at a time.
    pub connections_max: usize,
    /// The same for one client address; 0 is no limit.
    pub connections_per_ip_max: usize,
    /// How long open requests may take to finish when a server stops.
    pub drain_timeout: Duration,
    pub access_log: bool,
    /// Further tries after a failed one, each on another server.
    pub retries: u32,
    /// Retries may add this much to the load, in percent of the requests.
    pub retry_budget_percent: u32,
}
