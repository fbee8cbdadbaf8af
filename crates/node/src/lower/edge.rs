//! Options of the load balancer.

use std::net::SocketAddr;
use std::sync::Arc;

use trilith_balance::{Algorithm, HealthPolicy, Mode};
use trilith_config::{
    Balance, Config, HealthCheck, Mode as ConfigMode, Role, RouteAction, Server, SiteTls,
};
use trilith_edge as edge;
use trilith_tls::{ALPN_HTTP, PeerIdentity, SiteCertificates, peer_name};

use super::{pattern, status};
use crate::error::NodeError;

/// Between checks of an upstream while something changes, as a part of its interval.
const FAST_INTERVAL_DIVISOR: u32 = 4;

/// What the edge of `server` needs to know.
pub(crate) fn options(
    config: &Config,
    server: &Server,
    identity: &PeerIdentity,
    certificates: &SiteCertificates,
) -> Result<edge::Options, NodeError> {
    let uses_tls = config.sites.iter().any(|site| site.tls != SiteTls::Off);
    let limits = &config.edge;
    let mut options = edge::Options::new(server.name.clone());
    options.listeners = listeners(config, server, uses_tls);
    options.sites = config.sites.iter().map(site).collect::<Result<_, _>>()?;
    options.web_servers = web_servers(config, identity)?;
    options.upstreams = config.upstreams.iter().map(upstream).collect();
    options.tls = match uses_tls {
        true => Some(certificates.server_config()?),
        false => None,
    };
    options.https_port = config.ports.https;
    options.trusted_proxies = limits.trusted_proxies.clone();
    options.retries = limits.retries;
    options.retry_budget_percent = limits.retry_budget_percent;
    options.drain_timeout = limits.drain_timeout;
    options.client = edge::ClientSide {
        connections_max: limits.connections_max,
        connections_per_ip_max: limits.connections_per_ip_max,
        header_timeout: limits.header_timeout,
        keep_alive_timeout: limits.keep_alive_timeout,
        body_idle_timeout: limits.body_idle_timeout,
        body_rate_min: limits.body_rate_min.bytes(),
        header_bytes_max: usize::try_from(limits.header_bytes_max.bytes()).unwrap_or(usize::MAX),
        headers_max: limits.headers_max,
        target_bytes_max: usize::try_from(limits.target_bytes_max.bytes()).unwrap_or(usize::MAX),
        ..edge::ClientSide::default()
    };
    Ok(options)
}

/// The server's own address. Floating ones come and go while it runs.
fn listeners(config: &Config, server: &Server, uses_tls: bool) -> Vec<edge::Listener> {
    let listener = |port, tls| edge::Listener {
        address: SocketAddr::new(server.address, port),
        tls,
    };
    let mut listeners = vec![listener(config.ports.http, false)];
    if uses_tls {
        listeners.push(listener(config.ports.https, true));
    }
    listeners
}

fn web_servers(
    config: &Config,
    identity: &PeerIdentity,
) -> Result<Vec<edge::WebServer>, NodeError> {
    let client = identity.client_config(ALPN_HTTP)?;
    let servers = config.with_role(Role::Web).map(|server| edge::WebServer {
        name: server.name.clone(),
        address: SocketAddr::new(server.address, config.ports.cluster),
        tls: Some(edge::PeerTls {
            config: Arc::clone(&client),
            server_name: peer_name(&server.name),
        }),
    });
    Ok(servers.collect())
}

fn site(site: &trilith_config::Site) -> Result<edge::Site, NodeError> {
    Ok(edge::Site {
        host: site.host.to_string(),
        aliases: site.aliases.iter().map(ToString::to_string).collect(),
        https_redirect: site.https_redirect,
        routes: site.routes.iter().map(route).collect::<Result<_, _>>()?,
    })
}

fn route(route: &trilith_config::Route) -> Result<edge::Route, NodeError> {
    Ok(edge::Route {
        path: pattern(&route.path)?,
        action: action(&route.action)?,
        strip_prefix: route.strip_prefix.clone(),
        body_max: route.body_max.bytes(),
    })
}

fn action(action: &RouteAction) -> Result<edge::Action, NodeError> {
    Ok(match action {
        RouteAction::Files { balance, mode, .. } => edge::Action::Files {
            balance: algorithm(*balance),
            mode: balance_mode(*mode),
        },
        RouteAction::App { app, balance, mode } => edge::Action::App {
            app: app.to_string(),
            balance: algorithm(*balance),
            mode: balance_mode(*mode),
        },
        RouteAction::Upstream { upstream } => edge::Action::Upstream(upstream.to_string()),
        RouteAction::Redirect {
            location,
            status: code,
        } => edge::Action::Redirect {
            to: location.clone(),
            status: status(code.code())?,
        },
        RouteAction::Respond {
            status: code,
            body,
            content_type,
        } => edge::Action::Respond {
            status: status(*code)?,
            content_type: content_type.clone(),
            body: body.clone().into(),
        },
    })
}

fn upstream(upstream: &trilith_config::Upstream) -> edge::Upstream {
    let servers = upstream.servers.iter().map(|server| edge::UpstreamServer {
        address: server.address,
        weight: server.weight.get().into(),
        backup: server.backup,
        max_connections: server.max_connections.map(std::num::NonZeroU32::get),
    });
    edge::Upstream {
        name: upstream.name.to_string(),
        servers: servers.collect(),
        balance: algorithm(upstream.balance),
        mode: balance_mode(upstream.mode),
        health: upstream.health.as_ref().map(health),
        connect_timeout: upstream.connect_timeout,
        response_timeout: upstream.response_timeout,
    }
}

fn health(check: &HealthCheck) -> edge::UpstreamHealth {
    edge::UpstreamHealth {
        path: check.path.to_string(),
        policy: HealthPolicy {
            interval: check.interval,
            fast_interval: check.interval / FAST_INTERVAL_DIVISOR,
            timeout: check.timeout,
            rise: check.rise.get(),
            fall: check.fall.get(),
        },
    }
}

fn algorithm(balance: Balance) -> Algorithm {
    match balance {
        Balance::RoundRobin => Algorithm::RoundRobin,
        Balance::LeastConnections => Algorithm::LeastConnections,
        Balance::IpHash => Algorithm::IpHash,
    }
}

fn balance_mode(mode: ConfigMode) -> Mode {
    match mode {
        ConfigMode::ActiveActive => Mode::ActiveActive,
        ConfigMode::ActivePassive => Mode::ActivePassive,
    }
}
