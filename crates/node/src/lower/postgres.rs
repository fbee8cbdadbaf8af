//! Options of PostgreSQL's manager and of the observer.

use std::net::SocketAddr;

use trilith_config::{Config, Role as ConfigRole, Server, Synchronous as ConfigSynchronous};
use trilith_postgres::{
    ObserverOptions, Options, OsUser, Password, Peer, Role, Secrets, Synchronous,
};

use crate::error::NodeError;
use crate::privileges;

/// `None` when this server runs no PostgreSQL.
pub(crate) fn options(
    config: &Config,
    server: &Server,
    secrets: &Secrets,
) -> Result<Option<Options>, NodeError> {
    let (Some(database), Some(primary)) = (&config.database, config.primary()) else {
        return Ok(None);
    };
    if !server.has(ConfigRole::Db) {
        return Ok(None);
    }
    let role = if primary.name == server.name {
        let replicas = config
            .with_role(ConfigRole::Db)
            .filter(|other| other.name != primary.name);
        Role::Primary {
            replicas: replicas.map(|replica| peer(config, replica)).collect(),
        }
    } else {
        Role::Replica {
            primary: peer(config, primary),
        }
    };
    let state = config.state_dir(&server.name);
    let mut options = Options::new(server.name.clone(), &state, role, secrets.clone());
    options.bin_dir = database.bin_dir.clone();
    options.listen = vec![server.address];
    if !options.listen.contains(&server.loopback()) {
        options.listen.push(server.loopback());
    }
    options.port = config.ports.postgres;
    options.allowed_clients = config.servers.iter().map(|other| other.address).collect();
    options.database = database.name.clone();
    options.user = database.user.clone();
    options.parameters = database.parameters.clone();
    options.synchronous = match database.synchronous {
        ConfigSynchronous::Quorum => Synchronous::Quorum,
        ConfigSynchronous::Off => Synchronous::Off,
    };
    options.os_user = match privileges::is_root() {
        true => Some(OsUser::lookup(&database.os_user).map_err(NodeError::service)?),
        false => None,
    };
    Ok(Some(options))
}

/// Watches all database servers of the cluster.
pub(crate) fn observer(config: &Config, password: &Password) -> ObserverOptions {
    let targets = config
        .with_role(ConfigRole::Db)
        .map(|server| peer(config, server));
    ObserverOptions::new(targets.collect(), password.clone())
}

fn peer(config: &Config, server: &Server) -> Peer {
    Peer {
        name: server.name.clone(),
        address: SocketAddr::new(server.address, config.ports.postgres),
    }
}
