//! Questions that a [`Config`] answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use trilith_base::ServerName;

use super::{App, Config, FloatingAddress, Role, RouteAction, Server, Upstream, VipMode};
use crate::values::{AppName, CodePath, UpstreamName, UrlPath};

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

    /// The floating addresses, in file order.
    pub fn addresses(&self) -> &[FloatingAddress] {
        &self.vip.addresses
    }

    /// The first floating address.
    pub fn floating_address(&self) -> Option<IpAddr> {
        self.vip.addresses.first().map(|vip| vip.ip)
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
    pub fn routed_apps(&self) -> BTreeSet<&AppName> {
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

impl fmt::Display for FloatingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl VipMode {
    /// The word of the file.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::L2 { .. } => "l2",
            Self::Hook { .. } => "hook",
            Self::None => "none",
        }
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
