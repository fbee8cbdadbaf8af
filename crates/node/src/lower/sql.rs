//! Options of the sql entry, and what it is told of the databases.

use std::net::SocketAddr;

use trilith_base::ServerName;
use trilith_config::{Config, Role, Server};
use trilith_postgres::{ClusterView, ServerView};
use trilith_sqlproxy::{Options, Target, Targets, Tenure, Tunnel};
use trilith_tls::{ALPN_SQL, PeerIdentity};

use crate::error::NodeError;

pub(crate) fn options(
    config: &Config,
    server: &Server,
    identity: &PeerIdentity,
) -> Result<Options, NodeError> {
    let host = server.loopback();
    let mut options = Options::new(
        SocketAddr::new(host, config.ports.sql),
        SocketAddr::new(host, config.ports.sql_replica),
    );
    options.tunnel = Some(Tunnel {
        tls: identity.client_config(ALPN_SQL)?,
        port: config.ports.cluster,
    });
    Ok(options)
}

/// The PostgreSQL of this server, to which other servers' sql entries are led.
pub(crate) fn own_postgres(config: &Config, server: &Server) -> Option<SocketAddr> {
    config.database.as_ref()?;
    server
        .has(Role::Db)
        .then(|| SocketAddr::new(server.address, config.ports.postgres))
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
        tenure: view.primary().map(|primary| Tenure {
            server: primary.name.clone(),
            epoch: 0,
        }),
        replicas: replicas.into_iter().map(target).collect(),
    }
}
