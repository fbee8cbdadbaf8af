//! Options of the sql entry, and what it is told of the databases.

use std::net::SocketAddr;

use trilith_base::ServerName;
use trilith_config::{Config, Server};
use trilith_postgres::{ClusterView, ServerView};
use trilith_sqlproxy::{Options, Target, Targets};

pub(crate) fn options(config: &Config, server: &Server) -> Options {
    let host = server.loopback();
    Options::new(
        SocketAddr::new(host, config.ports.sql),
        SocketAddr::new(host, config.ports.sql_replica),
    )
}

/// Whom sessions go to, by what the observer sees. A replica that receives no WAL although there is
/// a primary is left out: what it would answer grows older without end. Without a primary nothing
/// newer is to be had anywhere.
pub(crate) fn targets(view: &ClusterView, me: &ServerName) -> Targets {
    let target = |server: &ServerView| Target {
        name: server.name.clone(),
        address: server.address,
        local: server.name == *me,
    };
    let has_primary = view.primary().is_some();
    let mut replicas: Vec<&ServerView> = view
        .replicas()
        .filter(|replica| !has_primary || replica.streaming != Some(false))
        .collect();
    // The sort keeps the order of the file among equals; an unknown lag comes last.
    replicas.sort_by_key(|replica| replica.lag_bytes.is_none());
    Targets {
        primary: view.primary().map(target),
        replicas: replicas.into_iter().map(target).collect(),
    }
}
