//! What a config file says, in types that cannot say anything else.
//!
//! All of it is built by [`Config::parse`] alone (`#[non_exhaustive]`), so whoever holds a
//! [`Config`] may rely on what `read/` checked: references lead somewhere, names and addresses are
//! unique, what needs an edge, a web server or a database server has one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use trilith_base::{ByteSize, ServerName};

use crate::diagnostics::Diagnostics;
use crate::values::{
    AppName, CodePath, HostName, PathPattern, RedirectStatus, UpstreamName, UrlPath,
};

/// The whole file. File system paths are absolute or relative to the `base_dir` given to
/// [`Config::parse`], which is joined to them already.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    pub cluster: Cluster,
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
    pub vip: Option<Vip>,
    /// What every server keeps its state below; see [`Config::state_dir`].
    pub data: PathBuf,
    /// Folder with the cluster's CA and the database passwords, the same on every server.
    pub secrets: PathBuf,
    pub workers: Workers,
}

/// The floating address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vip {
    pub address: IpAddr,
    /// Bits of the network part; 32 or 128 where the file gives the bare address.
    pub prefix_len: u8,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Edge,
    Web,
    Db,
}

/// A set of roles.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Roles(u8);

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

/// How a server is picked for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    #[default]
    RoundRobin,
    LeastConnections,
    IpHash,
}

/// Whether all servers take traffic, or one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    #[default]
    ActiveActive,
    /// The first healthy one in file order takes everything.
    ActivePassive,
}

/// One process type of the code base.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct App {
    /// Command line for the shell. `None`: the Procfile has it.
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

impl Config {
    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == *name)
    }

    /// Servers that have the role, in file order.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Server> {
        self.servers
            .iter()
            .filter(move |server| server.roles.has(role))
    }

    /// The server whose PostgreSQL is the primary: the first `db` server of the file. `None`
    /// without `[database]`.
    pub fn primary(&self) -> Option<&Server> {
        self.database.as_ref()?;
        self.with_role(Role::Db).next()
    }

    pub fn floating_address(&self) -> Option<IpAddr> {
        self.cluster.vip.map(|vip| vip.address)
    }

    /// The server that holds the floating address: the first `edge` server of the file. `None`
    /// without `vip`.
    pub fn floating_holder(&self) -> Option<&Server> {
        self.cluster.vip?;
        self.with_role(Role::Edge).next()
    }

    /// Addresses on which a server's edge listens: its own, and the floating one where it holds
    /// that. Empty for a server without the role.
    pub fn edge_addresses(&self, server: &Server) -> Vec<IpAddr> {
        if !server.roles.has(Role::Edge) {
            return Vec::new();
        }
        let floating = self
            .floating_holder()
            .filter(|holder| holder.name == server.name)
            .and_then(|_| self.floating_address());
        std::iter::once(server.address).chain(floating).collect()
    }

    /// Where a server keeps its state: `<data>/<server name>`.
    pub fn state_dir(&self, server: &ServerName) -> PathBuf {
        self.cluster.data.join(server.as_str())
    }

    /// An app as declared, or with every default: an app that only the Procfile knows.
    pub fn app(&self, name: &AppName) -> App {
        self.apps.get(name).cloned().unwrap_or_default()
    }

    /// The apps that routes name.
    pub fn routed_apps(&self) -> std::collections::BTreeSet<&AppName> {
        let routes = self.sites.iter().flat_map(|site| &site.routes);
        routes
            .filter_map(|route| match &route.action {
                RouteAction::App { app, .. } => Some(app),
                _ => None,
            })
            .collect()
    }

    pub fn upstream(&self, name: &UpstreamName) -> Option<&Upstream> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.name == *name)
    }

    /// A path in the code base.
    pub fn code_path(&self, path: &CodePath) -> PathBuf {
        self.code.path.join(path.as_path())
    }
}

impl Server {
    /// Where what only this server may reach listens: its own address when that is in 127.0.0.0/8
    /// (several servers on one machine), else 127.0.0.1.
    pub fn loopback(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) if address.is_loopback() => self.address,
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    pub fn has(&self, role: Role) -> bool {
        self.roles.has(role)
    }
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Edge, Self::Web, Self::Db];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Web => "web",
            Self::Db => "db",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Roles {
    pub const ALL: Self = Self(0b111);

    pub const fn has(self, role: Role) -> bool {
        self.0 & Self::bit(role) != 0
    }

    /// In the order edge, web, db.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn bit(role: Role) -> u8 {
        1 << role as u8
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(
            roles
                .into_iter()
                .fold(0, |bits, role| bits | Self::bit(role)),
        )
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for Roles {
    /// `edge, web, db`; `witness` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("witness");
        }
        for (index, role) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(role.as_str())?;
        }
        Ok(())
    }
}

impl Balance {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::IpHash => "ip-hash",
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ActiveActive => "active-active",
            Self::ActivePassive => "active-passive",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl Default for App {
    /// Every key at its default. `keys/tests.rs` holds this against the key table.
    fn default() -> Self {
        Self {
            run: None,
            instances: 2,
            env: BTreeMap::new(),
            health: Some(UrlPath::root()),
            start_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(15),
            user: "nobody".to_owned(),
        }
    }
}
