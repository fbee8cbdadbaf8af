//! What `node` tells the edge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use tokio_rustls::rustls;
use trilith_balance::{Algorithm, HealthPolicy, Mode};
use trilith_base::ServerName;
use trilith_http::StatusCode;
use trilith_route::PathPattern;

/// Everything an edge needs to know. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server this edge runs on. A web server of this name is called in-process.
    pub server: ServerName,
    /// Fixed once [`crate::Edge::serve`] has bound them.
    pub listeners: Vec<Listener>,
    /// The number of this set of sites; the web server of this process has the same one for it
    /// ([`trilith_web::Options::sites_id`]).
    pub sites_id: u64,
    /// All sites of the config file, in its order: positions are the ones of
    /// [`trilith_web::RouteId`].
    pub sites: Vec<Site>,
    /// The cluster's web servers, in the order of the file, which is the order of preference for
    /// [`Mode::ActivePassive`]. They answer files and app routes.
    pub web_servers: Vec<WebServer>,
    /// Servers outside the cluster, by name.
    pub upstreams: Vec<Upstream>,
    /// For the listeners with `tls`. Taken anew for each connection, so [`crate::Edge::replace`]
    /// can change it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The port in redirects from HTTP to HTTPS; 443 is left out of them.
    pub https_port: u16,
    /// Whose `X-Forwarded-*` and `X-Request-Id` are believed. Empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
    /// Further tries after a failed one, each on another server; at most
    /// [`crate::limits::RETRIES_MAX`].
    pub retries: u32,
    /// Retries under way, in percent of the requests under way (but always at least
    /// [`trilith_balance::RETRIES_ALWAYS`]). Requests beyond it wait for their retry.
    pub retry_budget_percent: u32,
    /// How long a request waits while no server is usable, then 503.
    pub queue_timeout: Duration,
    /// Waiting requests per pool; one more is answered with 503 at once.
    pub queue_max: u32,
    /// Of the cluster's web servers.
    pub web_connect_timeout: Duration,
    /// Of the cluster's web servers: from the last byte of the request to the first of the
    /// response.
    pub web_response_timeout: Duration,
    /// Of the cluster's web servers.
    pub web_health: HealthPolicy,
    pub client: ClientSide,
    /// How long open requests may take to finish when the drain has started.
    pub drain_timeout: Duration,
}

impl Options {
    /// No listeners, no sites, and the defaults of the config file for the rest.
    pub fn new(server: ServerName) -> Self {
        Self {
            server,
            listeners: Vec::new(),
            sites_id: 0,
            sites: Vec::new(),
            web_servers: Vec::new(),
            upstreams: Vec::new(),
            tls: None,
            https_port: 443,
            trusted_proxies: Vec::new(),
            retries: 2,
            retry_budget_percent: 20,
            queue_timeout: Duration::from_secs(5),
            queue_max: 1024,
            web_connect_timeout: Duration::from_secs(1),
            web_response_timeout: Duration::from_secs(60),
            web_health: HealthPolicy::default(),
            client: ClientSide::default(),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// One listening address. The floating address, where this server holds it, is one more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    pub tls: bool,
}

/// Limits and timeouts towards clients.
#[derive(Clone, Debug)]
pub struct ClientSide {
    pub connections_max: usize,
    /// From one client address; 0 is no limit. Addresses in `trusted_proxies` have none.
    pub connections_per_ip_max: usize,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a whole request head.
    pub header_timeout: Duration,
    /// For the next request on an idle connection.
    pub keep_alive_timeout: Duration,
    /// Longest silence within a body, either way.
    pub body_idle_timeout: Duration,
    /// Bytes per second that a request body must reach on average; 0 is no limit.
    pub body_rate_min: u64,
    pub header_bytes_max: usize,
    pub headers_max: usize,
    pub target_bytes_max: usize,
}

impl Default for ClientSide {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connections_per_ip_max: 256,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(30),
            body_rate_min: 1_000,
            header_bytes_max: 32 * 1024,
            headers_max: 100,
            target_bytes_max: 8 * 1024,
        }
    }
}

/// A host name and its routes.
#[derive(Clone, Debug)]
pub struct Site {
    pub host: String,
    /// Redirected to `host` (308).
    pub aliases: Vec<String>,
    /// Plain HTTP is answered with a redirect to HTTPS (308).
    pub https_redirect: bool,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub path: PathPattern,
    pub action: Action,
    /// Taken off the front of the path for [`Action::Upstream`]. (Web servers do it themselves for
    /// files and apps.)
    pub strip_prefix: Option<String>,
    /// Longest request body. More is 413.
    pub body_max: u64,
}

/// What answers a route.
#[derive(Clone, Debug)]
pub enum Action {
    /// Files of the code base: the web server of this server if there is one, else any.
    Files { balance: Algorithm, mode: Mode },
    /// Instances of that app, on the cluster's web servers.
    App {
        app: String,
        balance: Algorithm,
        mode: Mode,
    },
    /// One of [`Options::upstreams`], by name.
    Upstream(String),
    /// `{path}` (or `$path`) in `to` stands for the path of the request, which begins with a slash;
    /// then the query goes along too. Without it, `to` is the `Location` as it stands.
    Redirect { to: String, status: StatusCode },
    Respond {
        status: StatusCode,
        content_type: String,
        body: Bytes,
    },
}

/// A web server of the cluster.
#[derive(Clone, Debug)]
pub struct WebServer {
    pub name: ServerName,
    /// Its cluster port.
    pub address: SocketAddr,
    /// How to prove who is talking to whom. `None` is plain HTTP, for tests.
    pub tls: Option<PeerTls>,
}

/// mTLS towards one server of the cluster.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// With the ALPN protocol `trilith-http`.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that the server's certificate must have.
    pub server_name: rustls::pki_types::ServerName<'static>,
}

/// A list of servers outside the cluster. Plain HTTP.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: String,
    pub servers: Vec<UpstreamServer>,
    pub balance: Algorithm,
    pub mode: Mode,
    /// `None`: not checked; only failed requests tell.
    pub health: Option<UpstreamHealth>,
    pub connect_timeout: Duration,
    /// From the last byte of the request to the first of the response.
    pub response_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct UpstreamServer {
    pub address: SocketAddr,
    /// 1 or more; its share in relation to the others.
    pub weight: u32,
    /// Used when no other server is usable.
    pub backup: bool,
    /// Requests under way at a time, from this edge. `None` is no limit.
    pub max_connections: Option<u32>,
}

/// An active check: `GET path`, healthy when the answer is 200 to 399.
#[derive(Clone, Debug)]
pub struct UpstreamHealth {
    pub path: String,
    pub policy: HealthPolicy,
}
