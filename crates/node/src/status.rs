//! From what every server says to what is true of the cluster. Pure.

use trilith_config::{AppName, Config, RouteAction, Server, SiteTls};
use trilith_monitor::api::{
    ClusterStatus, DatabaseStatus, FloatingAddress, SCHEMA, ServerState, ServerStatus, SiteApp,
    SiteState, SiteStatus, StoreStatus, Survival,
};

use crate::lower::vip::mode_word;

/// Puts the answers of all servers together. `servers` is in the order of the file; `asked` is the
/// server that asked the others.
pub fn cluster_status(
    config: &Config,
    asked: &str,
    servers: Vec<ServerStatus>,
    time_unix_ms: u64,
) -> ClusterStatus {
    let sites = config
        .sites
        .iter()
        .map(|site| site_status(config, site, &servers))
        .collect();
    ClusterStatus {
        schema: SCHEMA,
        cluster: config.cluster.name.to_string(),
        asked: asked.to_owned(),
        time_unix_ms,
        floating_addresses: floating_addresses(config, &servers),
        store: store_status(asked, &servers).cloned(),
        database: database_status(config, asked, &servers),
        survives_one_loss: survival(config, asked, &servers),
        sites,
        servers,
    }
}

/// Who says that an address is up there, of the servers that answer. Should two say so, the larger epoch
/// is the later grant.
fn floating_addresses(config: &Config, servers: &[ServerStatus]) -> Vec<FloatingAddress> {
    let address = |floating: &trilith_config::FloatingAddress| {
        let text = floating.ip.to_string();
        let holding = servers
            .iter()
            .flat_map(|server| server.addresses.iter().map(move |held| (server, held)))
            .filter(|(_, held)| held.address == text && held.is_up())
            .max_by_key(|(_, held)| held.epoch);
        FloatingAddress {
            address: text,
            mode: mode_word(&config.vip.mode).to_owned(),
            holder: holding.map(|(server, _)| server.name.clone()),
            epoch: holding.and_then(|(_, held)| held.epoch),
            orphan: holding.is_some_and(|(_, held)| held.state == "orphan"),
            wanted: None,
        }
    };
    config.addresses().iter().map(address).collect()
}

/// The view of the server that was asked; of another one when that has none.
fn store_status<'a>(asked: &str, servers: &'a [ServerStatus]) -> Option<&'a StoreStatus> {
    let own = servers.iter().find(|server| server.name == asked);
    own.and_then(|server| server.store.as_ref())
        .or_else(|| servers.iter().find_map(|server| server.store.as_ref()))
}

/// The host names and ports at which a site answers.
fn site_urls(config: &Config, site: &trilith_config::Site) -> Vec<String> {
    let url = |scheme: &str, port: u16, usual: u16| {
        let port = if port == usual {
            String::new()
        } else {
            format!(":{port}")
        };
        format!("{scheme}://{}{port}/", site.host)
    };
    let mut urls = Vec::new();
    if site.tls != SiteTls::Off {
        urls.push(url("https", config.ports.https, 443));
    }
    if site.tls == SiteTls::Off || !site.https_redirect {
        urls.push(url("http", config.ports.http, 80));
    }
    urls
}

fn site_status(
    config: &Config,
    site: &trilith_config::Site,
    servers: &[ServerStatus],
) -> SiteStatus {
    let mut names: Vec<&AppName> = Vec::new();
    for route in &site.routes {
        if let RouteAction::App { app, .. } = &route.action
            && !names.contains(&app)
        {
            names.push(app);
        }
    }
    let apps: Vec<SiteApp> = names
        .into_iter()
        .map(|app| site_app(config, app, servers))
        .collect();
    let works = |s: &ServerStatus| matches!(s.state, ServerState::Ready | ServerState::Degraded);
    let usable = |role: &str| servers.iter().any(|s| works(s) && s.has_role(role));
    let needs_web = site.routes.iter().any(|r| {
        matches!(
            r.action,
            RouteAction::App { .. } | RouteAction::Files { .. }
        )
    });
    let down = !usable("edge")
        || (needs_web && !usable("web"))
        || apps.iter().any(|app| app.instances_live == 0);
    let complete = apps
        .iter()
        .all(|app| app.instances_live >= app.instances_wanted)
        && servers.iter().all(|s| s.state == ServerState::Ready);
    SiteStatus {
        host: site.host.to_string(),
        aliases: site.aliases.iter().map(ToString::to_string).collect(),
        tls: match &site.tls {
            SiteTls::Off => "off",
            SiteTls::Internal => "internal",
            SiteTls::Files { .. } => "files",
        }
        .to_owned(),
        urls: site_urls(config, site),
        apps,
        state: match (down, complete) {
            (true, _) => SiteState::Down,
            (false, false) => SiteState::Degraded,
            (false, true) => SiteState::Healthy,
        },
    }
}

fn site_app(config: &Config, app: &AppName, servers: &[ServerStatus]) -> SiteApp {
    let per_server = config.app(app).instances;
    let app = app.as_str();
    let web_servers = config.with_role(trilith_config::Role::Web).count();
    let live = |server: &&ServerStatus| live_instances(server, app) > 0;
    SiteApp {
        app: app.to_owned(),
        instances_live: servers.iter().map(|s| live_instances(s, app)).sum(),
        instances_wanted: u32::from(per_server) * web_servers as u32,
        servers_live: servers.iter().filter(live).count() as u32,
    }
}

/// Instances that take requests. Those of a server that is down count for nothing.
fn live_instances(server: &ServerStatus, app: &str) -> u32 {
    let live = |i: &&trilith_monitor::api::InstanceStatus| i.app == app && i.state == "live";
    match server.state {
        ServerState::Ready
        | ServerState::Degraded
        | ServerState::Starting
        | ServerState::Unknown => server.instances.iter().filter(live).count() as u32,
        ServerState::Draining | ServerState::Down => 0,
    }
}

fn database_status(
    config: &Config,
    asked: &str,
    servers: &[ServerStatus],
) -> Option<DatabaseStatus> {
    config.database.as_ref()?;
    // The server that was asked may have no role that watches the databases.
    let views = || servers.iter().filter(|s| !s.database_view.is_empty());
    let view = views()
        .find(|server| server.name == asked)
        .or_else(|| views().next())
        .map(|server| server.database_view.clone())
        .unwrap_or_default();
    let primary = view
        .iter()
        .find(|server| server.reachable && server.role.as_deref() == Some("primary"))
        .map(|server| server.server.clone());
    let parts = servers.iter().filter_map(|s| s.database.as_ref());
    let agreed = parts.map(|part| &part.agreed).max_by_key(|a| a.revision);
    Some(DatabaseStatus {
        primary,
        fails_over: view.len() > 1,
        agreed: agreed.cloned(),
        servers: view,
    })
}

/// Whether the loss of any one server would go unnoticed, from what exists and what is up now. Each
/// reason names what would be missing.
fn survival(config: &Config, asked: &str, servers: &[ServerStatus]) -> Survival {
    let mut reasons = Vec::new();
    if let [only] = servers {
        reasons.push(format!("there is no server but {}", only.name));
    }
    for server in servers {
        if server.state != ServerState::Ready {
            reasons.push(format!("{} is {}", server.name, server.state.as_str()));
        }
    }
    if servers.len() > 1 {
        reasons.extend(store_reason(servers));
        reasons.extend(edge_reason(config, servers));
        reasons.extend(app_reasons(config, servers));
        reasons.extend(database_reason(config, asked, servers));
    }
    Survival {
        yes: reasons.is_empty(),
        reasons,
    }
}

/// Without a majority after one more loss nothing moves any more.
fn store_reason(servers: &[ServerStatus]) -> Option<String> {
    let Some(store) = store_status("", servers) else {
        return Some("the servers have no common store yet".to_owned());
    };
    if !store.has_quorum {
        return Some("the servers cannot agree: no majority answers".to_owned());
    }
    let voters = store.members.iter().filter(|member| member.voter).count();
    // An etcd of its own is its operator's to judge.
    (store.kind == "embedded" && voters < 3)
        .then(|| format!("{voters} of the servers vote; it takes three to lose one"))
}

fn edge_reason(config: &Config, servers: &[ServerStatus]) -> Option<String> {
    if let Some(only) = only_one(config, trilith_config::Role::Edge) {
        return Some(format!("{} is the only edge", only.name));
    }
    let addresses = floating_addresses(config, servers);
    let unheld = addresses
        .iter()
        .find(|floating| floating.holder.is_none())?;
    (unheld.mode != "none").then(|| format!("nobody holds {}", unheld.address))
}

fn app_reasons(config: &Config, servers: &[ServerStatus]) -> Vec<String> {
    if let Some(only) = only_one(config, trilith_config::Role::Web) {
        return vec![format!("{} is the only web server", only.name)];
    }
    let mut reasons = Vec::new();
    for app in config.routed_apps() {
        let app = app.as_str();
        let mut live = servers.iter().filter(|s| live_instances(s, app) > 0);
        match (live.next(), live.next()) {
            (None, _) => reasons.push(format!("the app {app} is live nowhere")),
            (Some(one), None) => {
                reasons.push(format!("the app {app} is live on {} only", one.name))
            }
            _ => {}
        }
    }
    reasons
}

fn database_reason(config: &Config, asked: &str, servers: &[ServerStatus]) -> Option<String> {
    if let Some(only) = only_one(config, trilith_config::Role::Db) {
        return Some(format!("{} is the only database server", only.name));
    }
    let database = database_status(config, asked, servers)?;
    let Some(primary) = &database.primary else {
        return Some("the database has no primary".to_owned());
    };
    let follows = |server: &&trilith_monitor::api::DatabaseServer| {
        server.reachable && server.role.as_deref() == Some("replica")
    };
    if !database.servers.iter().any(|server| follows(&server)) {
        return Some(format!(
            "the database is on {primary} alone: no replica is up"
        ));
    }
    let agreed = database.agreed.as_ref()?;
    (!agreed.asynchronous && agreed.synchronous.members.is_empty()).then(|| {
        format!(
            "only {primary} has every write of the database: no replica is in the synchronous set"
        )
    })
}

fn only_one(config: &Config, role: trilith_config::Role) -> Option<&Server> {
    let mut servers = config.with_role(role);
    match (servers.next(), servers.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
