//! A config as a list of its keys, each under a path that stays the same when others come or go.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;
use std::time::Duration;

use trilith_base::{ServerName, format_duration};

use super::shown;
use crate::model::{
    App, Config, Database, Edge, Ports, Route, RouteAction, Server, Site, SiteTls, StoreKind,
    Synchronous, Upstream, UpstreamServer, VipMode, Workers,
};

/// In the order of the file's tables.
#[derive(Debug, Default)]
pub(super) struct Flat {
    pub items: Vec<Item>,
    /// Positions in `items`.
    by_path: BTreeMap<String, usize>,
}

#[derive(Debug)]
pub(super) enum Item {
    Element(Element),
    Leaf(Leaf),
}

/// A table of which there may be several, or none.
#[derive(Debug)]
pub(super) struct Element {
    pub path: String,
    /// Its section of the key table.
    pub table: &'static str,
    /// The most telling of its keys, on one line.
    pub summary: String,
    /// Paths of the elements it is in.
    parents: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Leaf {
    pub path: String,
    /// In the key table, dotted.
    pub key: &'static str,
    pub value: Value,
    pub shown: String,
    /// The server that it belongs to, if it does to one.
    pub owner: Option<ServerName>,
    parents: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    /// The order of elements; those that are in one config only do not count.
    Order(Vec<String>),
}

impl Value {
    pub fn differs(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one != other,
            (Self::Order(one), Self::Order(other)) => {
                let one_common = one.iter().filter(|name| other.contains(name));
                let other_common = other.iter().filter(|name| one.contains(name));
                !one_common.eq(other_common)
            }
            _ => true,
        }
    }
}

impl Item {
    pub fn path(&self) -> &str {
        match self {
            Self::Element(element) => &element.path,
            Self::Leaf(leaf) => &leaf.path,
        }
    }

    fn parents(&self) -> &[String] {
        match self {
            Self::Element(element) => &element.parents,
            Self::Leaf(leaf) => &leaf.parents,
        }
    }
}

impl Flat {
    pub fn has(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    pub fn item(&self, path: &str) -> Option<&Item> {
        Some(&self.items[*self.by_path.get(path)?])
    }

    /// Whether all that the item is in is in this config, too. If not, the outermost tells it all.
    pub fn has_parents_of(&self, item: &Item) -> bool {
        item.parents().iter().all(|p| self.has(p))
    }
}

pub(super) fn flatten(config: &Config) -> Flat {
    let mut out = Out::default();
    cluster(&mut out, config);
    ports(&mut out, &config.ports);
    let path = &config.code.path;
    out.leaf(
        "code.path",
        "code.path",
        shown::text(&path.display().to_string()),
    );
    let names = config.servers.iter().map(|s| s.name.to_string()).collect();
    out.order("server", "server.name", names);
    config.servers.iter().for_each(|s| server(&mut out, s));
    config.sites.iter().for_each(|s| site(&mut out, s));
    for (name, settings) in &config.apps {
        app(&mut out, name.as_str(), settings);
    }
    if let Some(settings) = &config.database {
        database(&mut out, settings);
    }
    config.upstreams.iter().for_each(|u| upstream(&mut out, u));
    edge(&mut out, &config.edge);
    out.flat
}

/// Collects. Paths of leaves are relative to the elements that are open.
#[derive(Default)]
struct Out {
    flat: Flat,
    open: Vec<String>,
    owner: Option<ServerName>,
}

impl Out {
    fn open(&mut self, path: impl Display, table: &'static str, summary: String) {
        let path = self.path(path);
        let parents = self.open.clone();
        self.push(
            path.clone(),
            Item::Element(Element {
                path: path.clone(),
                table,
                summary,
                parents,
            }),
        );
        self.open.push(path);
    }

    fn close(&mut self) {
        self.open.pop();
    }

    /// `shown` is all of the value.
    fn leaf(&mut self, path: impl Display, key: &'static str, shown: String) {
        self.leaf_as(path, key, shown.clone(), shown);
    }

    fn plain(&mut self, path: impl Display, key: &'static str, value: impl Display) {
        self.leaf(path, key, value.to_string());
    }

    fn word(&mut self, path: impl Display, key: &'static str, word: impl Display) {
        self.leaf(path, key, format!("\"{word}\""));
    }

    fn duration(&mut self, path: impl Display, key: &'static str, duration: Duration) {
        self.word(path, key, format_duration(duration));
    }

    fn text(&mut self, path: impl Display, key: &'static str, text: &str) {
        self.leaf_as(path, key, text.to_owned(), shown::text(text));
    }

    fn list(&mut self, path: impl Display, key: &'static str, items: &[String]) {
        // No text has this in it: every reader of the file refuses it.
        self.leaf_as(path, key, items.join("\0"), shown::list(items));
    }

    fn leaf_as(&mut self, path: impl Display, key: &'static str, value: String, shown: String) {
        self.add(path, key, Value::Text(value), shown);
    }

    fn order(&mut self, path: impl Display, key: &'static str, names: Vec<String>) {
        let shown = format!("in the order {}", names.join(", "));
        self.add(path, key, Value::Order(names), shown);
    }

    fn add(&mut self, path: impl Display, key: &'static str, value: Value, shown: String) {
        let path = self.path(path);
        let leaf = Leaf {
            path: path.clone(),
            key,
            value,
            shown,
            owner: self.owner.clone(),
            parents: self.open.clone(),
        };
        self.push(path, Item::Leaf(leaf));
    }

    fn path(&self, path: impl Display) -> String {
        match self.open.last() {
            Some(open) => format!("{open}.{path}"),
            None => path.to_string(),
        }
    }

    fn push(&mut self, path: String, item: Item) {
        if let Entry::Vacant(entry) = self.flat.by_path.entry(path) {
            entry.insert(self.flat.items.len());
            self.flat.items.push(item);
        }
    }
}

fn cluster(out: &mut Out, config: &Config) {
    let cluster = &config.cluster;
    out.word("cluster.name", "cluster.name", &cluster.name);
    let addresses: Vec<String> = config.addresses().iter().map(ToString::to_string).collect();
    out.list("cluster.vip", "cluster.vip", &addresses);
    match &config.store {
        StoreKind::Embedded => out.word("cluster.store", "cluster.store", "embedded"),
        StoreKind::Etcd { endpoints } => out.leaf(
            "cluster.store",
            "cluster.store",
            format!("{{ etcd = {} }}", shown::list(endpoints)),
        ),
    }
    let path = |path: &std::path::Path| shown::text(&path.display().to_string());
    out.leaf("cluster.data", "cluster.data", path(&cluster.data));
    out.leaf("cluster.secrets", "cluster.secrets", path(&cluster.secrets));
    match cluster.workers {
        Workers::Auto => out.word("cluster.workers", "cluster.workers", "auto"),
        Workers::Count(count) => out.plain("cluster.workers", "cluster.workers", count),
    }
    let vip = &config.vip;
    out.word("vip.mode", "vip.mode", vip.mode.as_str());
    match &vip.mode {
        VipMode::L2 { interface } => {
            if let Some(interface) = interface {
                out.word("vip.interface", "vip.interface", interface);
            }
        }
        VipMode::Hook { take, release } => {
            out.list("vip.hook_take", "vip.hook_take", take);
            out.list("vip.hook_release", "vip.hook_release", release);
        }
        VipMode::Loopback | VipMode::None => {}
    }
    let rule = vip.on_quorum_loss.as_str();
    out.word("vip.on_quorum_loss", "vip.on_quorum_loss", rule);
}

fn ports(out: &mut Out, ports: &Ports) {
    for (key, port) in [
        ("ports.http", ports.http),
        ("ports.https", ports.https),
        ("ports.cluster", ports.cluster),
        ("ports.postgres", ports.postgres),
        ("ports.sql", ports.sql),
        ("ports.sql_replica", ports.sql_replica),
        ("ports.admin", ports.admin),
    ] {
        out.plain(key, key, port);
    }
}

fn server(out: &mut Out, server: &Server) {
    let summary = format!("\"{}\", {}", server.address, server.roles);
    out.open(format!("server[{}]", server.name), "server", summary);
    out.owner = Some(server.name.clone());
    out.word("address", "server.address", server.address);
    let roles: Vec<String> = server.roles.iter().map(|role| role.to_string()).collect();
    out.list("roles", "server.roles", &roles);
    out.owner = None;
    out.close();
}

fn site(out: &mut Out, site: &Site) {
    let tls = match &site.tls {
        SiteTls::Internal => "\"internal\"".to_owned(),
        SiteTls::Off => "\"off\"".to_owned(),
        SiteTls::Files { certificate, key } => format!(
            "{{ certificate = {}, key = {} }}",
            shown::text(&certificate.display().to_string()),
            shown::text(&key.display().to_string())
        ),
    };
    let summary = match site.routes.len() {
        1 => format!("tls = {tls}, 1 route"),
        routes => format!("tls = {tls}, {routes} routes"),
    };
    out.open(format!("site[{}]", site.host), "site", summary);
    let aliases: Vec<String> = site.aliases.iter().map(ToString::to_string).collect();
    out.list("aliases", "site.aliases", &aliases);
    out.leaf("tls", "site.tls", tls);
    out.plain("https_redirect", "site.https_redirect", site.https_redirect);
    for (status, page) in &site.error_pages {
        let page = page.as_path().display().to_string();
        out.text(format!("error_pages.{status}"), "site.error_pages", &page);
    }
    site.routes.iter().for_each(|r| route(out, r));
    out.close();
}

fn route(out: &mut Out, route: &Route) {
    let summary = match &route.action {
        RouteAction::Files { root, .. } => {
            format!(
                "files = {}",
                shown::text(&root.as_path().display().to_string())
            )
        }
        RouteAction::App { app, .. } => format!("app = \"{app}\""),
        RouteAction::Upstream { upstream } => format!("upstream = \"{upstream}\""),
        RouteAction::Redirect { location, .. } => format!("redirect = {}", shown::text(location)),
        RouteAction::Respond { status, .. } => format!("respond = {{ status = {status} }}"),
    };
    out.open(format!("route[{}]", route.path), "site.route", summary);
    match &route.action {
        RouteAction::Files {
            root,
            index,
            balance,
            mode,
        } => {
            out.text(
                "files",
                "site.route.files",
                &root.as_path().display().to_string(),
            );
            out.list("index", "site.route.index", index);
            out.word("balance", "site.route.balance", balance);
            out.word("mode", "site.route.mode", mode);
        }
        RouteAction::App { app, balance, mode } => {
            out.word("app", "site.route.app", app);
            out.word("balance", "site.route.balance", balance);
            out.word("mode", "site.route.mode", mode);
        }
        RouteAction::Upstream { upstream } => {
            out.word("upstream", "site.route.upstream", upstream);
        }
        RouteAction::Redirect { location, status } => {
            out.text("redirect", "site.route.redirect", location);
            out.plain("status", "site.route.status", status.code());
        }
        RouteAction::Respond {
            status,
            body,
            content_type,
        } => {
            out.plain("respond.status", "site.route.respond", status);
            out.text("respond.body", "site.route.respond", body);
            out.text("respond.content_type", "site.route.respond", content_type);
        }
    }
    if let Some(prefix) = &route.strip_prefix {
        out.text("strip_prefix", "site.route.strip_prefix", prefix);
    }
    if let Some(value) = &route.cache_control {
        out.text("cache_control", "site.route.cache_control", value);
    }
    out.word("body_max", "site.route.body_max", route.body_max);
    out.close();
}

fn app(out: &mut Out, name: &str, app: &App) {
    let run = app.run.as_deref().map(shown::text);
    let summary = match &run {
        Some(run) => format!("run = {run}, instances = {}", app.instances),
        None => format!("instances = {}", app.instances),
    };
    out.open(format!("app.{name}"), "app.NAME", summary);
    if let Some(run) = &app.run {
        out.text("run", "app.NAME.run", run);
    }
    out.plain("instances", "app.NAME.instances", app.instances);
    for (variable, value) in &app.env {
        let path = format!("env.{variable}");
        out.leaf_as(path, "app.NAME.env", value.clone(), shown::hidden());
    }
    match &app.health {
        Some(health) => out.text("health", "app.NAME.health", health.as_str()),
        None => out.plain("health", "app.NAME.health", false),
    }
    out.duration("start_timeout", "app.NAME.start_timeout", app.start_timeout);
    out.duration("stop_grace", "app.NAME.stop_grace", app.stop_grace);
    out.text("user", "app.NAME.user", &app.user);
    out.close();
}

fn database(out: &mut Out, database: &Database) {
    let summary = format!("name = \"{}\", user = \"{}\"", database.name, database.user);
    out.open("database", "database", summary);
    out.word("name", "database.name", &database.name);
    out.word("user", "database.user", &database.user);
    let synchronous = match database.synchronous {
        Synchronous::Quorum => "quorum",
        Synchronous::Off => "off",
    };
    out.word("synchronous", "database.synchronous", synchronous);
    for (name, value) in &database.parameters {
        let shown = match shown::is_secret(name) {
            true => shown::hidden(),
            false => shown::text(value),
        };
        let path = format!("parameters.{name}");
        out.leaf_as(path, "database.parameters", value.clone(), shown);
    }
    if let Some(dir) = &database.bin_dir {
        out.text("bin_dir", "database.bin_dir", &dir.display().to_string());
    }
    out.text("os_user", "database.os_user", &database.os_user);
    out.list("extensions", "database.extensions", &database.extensions);
    for further in &database.databases {
        let path = format!("databases[{}]", further.name);
        let summary = format!("owner = \"{}\"", further.owner);
        out.open(path, "database.databases", summary);
        out.word("owner", "database.databases.owner", &further.owner);
        let extensions = &further.extensions;
        out.list("extensions", "database.databases.extensions", extensions);
        out.close();
    }
    for user in &database.users {
        let summary = format!("databases = {}", shown::list(&user.databases));
        out.open(format!("users[{}]", user.name), "database.users", summary);
        out.list("databases", "database.users.databases", &user.databases);
        out.plain("createdb", "database.users.createdb", user.createdb);
        out.close();
    }
    out.close();
}

fn upstream(out: &mut Out, upstream: &Upstream) {
    let servers: Vec<String> = upstream.servers.iter().map(upstream_server).collect();
    let servers = format!("[{}]", servers.join(", "));
    let path = format!("upstream[{}]", upstream.name);
    out.open(path, "upstream", format!("servers = {servers}"));
    out.leaf("servers", "upstream.servers", servers);
    out.word("balance", "upstream.balance", upstream.balance);
    out.word("mode", "upstream.mode", upstream.mode);
    match &upstream.health {
        None => out.plain("health", "upstream.health", false),
        Some(check) => out.leaf(
            "health",
            "upstream.health",
            format!(
                "{{ path = {}, interval = \"{}\", rise = {}, fall = {}, timeout = \"{}\" }}",
                shown::text(check.path.as_str()),
                format_duration(check.interval),
                check.rise,
                check.fall,
                format_duration(check.timeout)
            ),
        ),
    }
    let timeout = upstream.connect_timeout;
    out.duration("connect_timeout", "upstream.connect_timeout", timeout);
    let timeout = upstream.response_timeout;
    out.duration("response_timeout", "upstream.response_timeout", timeout);
    out.close();
}

fn upstream_server(server: &UpstreamServer) -> String {
    let mut more = String::new();
    if server.weight.get() != 1 {
        more.push_str(&format!(", weight = {}", server.weight));
    }
    if server.backup {
        more.push_str(", backup = true");
    }
    if let Some(max) = server.max_connections {
        more.push_str(&format!(", max_connections = {max}"));
    }
    match more.is_empty() {
        true => format!("\"{}\"", server.address),
        false => format!("{{ address = \"{}\"{more} }}", server.address),
    }
}

fn edge(out: &mut Out, edge: &Edge) {
    let proxies: Vec<String> = edge
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    out.list("edge.trusted_proxies", "edge.trusted_proxies", &proxies);
    for (key, duration) in [
        ("edge.header_timeout", edge.header_timeout),
        ("edge.body_idle_timeout", edge.body_idle_timeout),
        ("edge.keep_alive_timeout", edge.keep_alive_timeout),
        ("edge.drain_timeout", edge.drain_timeout),
    ] {
        out.duration(key, key, duration);
    }
    for (key, size) in [
        ("edge.body_rate_min", edge.body_rate_min),
        ("edge.header_bytes_max", edge.header_bytes_max),
        ("edge.target_bytes_max", edge.target_bytes_max),
    ] {
        out.word(key, key, size);
    }
    for (key, number) in [
        ("edge.headers_max", edge.headers_max),
        ("edge.connections_max", edge.connections_max),
        ("edge.connections_per_ip_max", edge.connections_per_ip_max),
        ("edge.retries", edge.retries as usize),
        (
            "edge.retry_budget_percent",
            edge.retry_budget_percent as usize,
        ),
    ] {
        out.plain(key, key, number);
    }
    out.plain("edge.access_log", "edge.access_log", edge.access_log);
}
