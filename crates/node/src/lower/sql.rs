//! Options of the sql entry, and what it is told of the databases.

use std::net::SocketAddr;

use trilith_base::ServerName;
use trilith_config::{Config, Role, Server};
use trilith_ha::StoreView;
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

/// Whom sessions go to. Who may be written to follows from the lease and the record of the cluster store
/// alone; what the observer sees decides about replicas. One that receives no WAL although there is a
/// primary is left out: what it would answer grows older without end. Without a primary nothing newer is
/// to be had anywhere.
pub(crate) fn targets(store: &StoreView, view: &ClusterView, me: &ServerName) -> Targets {
    let target = |server: &ServerView| Target {
        name: server.name.clone(),
        address: server.address,
        local: server.name == *me,
    };
    let record = store.record.as_ref().map(|(record, _)| record);
    let tenure = store.lease.as_ref().map(|(server, epoch)| Tenure {
        server: server.clone(),
        epoch: epoch.0,
    });
    let holder = tenure.as_ref().map(|tenure| &tenure.server);
    // Until it is open it lets nobody in.
    let open = record.filter(|record| record.open && Some(&record.primary) == holder);
    let primary = open.and_then(|record| view.get(&record.primary));
    let mut replicas: Vec<&ServerView> = view
        .replicas()
        .filter(|replica| Some(&replica.name) != holder)
        .filter(|replica| holder.is_none() || replica.streaming != Some(false))
        .collect();
    // The sort keeps the order of the file among equals; an unknown lag comes last.
    replicas.sort_by_key(|replica| replica.lag_bytes.is_none());
    Targets {
        primary: primary.map(target),
        tenure,
        replicas: replicas.into_iter().map(target).collect(),
    }
}
