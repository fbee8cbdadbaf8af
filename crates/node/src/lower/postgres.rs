//! Options of PostgreSQL's manager and of the observer.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use trilith_config::{
    Config, Database, Role as ConfigRole, Server, Synchronous as ConfigSynchronous,
};
use trilith_postgres::{
    FurtherDatabase, ObserverOptions, Options, OsUser, Password, Peer, Secrets, Synchronous, Tls,
    User,
};
use trilith_tls::{Ca, PeerIdentity, PemIdentity, TlsError};

use crate::error::NodeError;
use crate::privileges;

/// `None` when this server runs no PostgreSQL. Without certificates: see [`tls`].
pub(crate) fn options(
    config: &Config,
    server: &Server,
    secrets: &Secrets,
) -> Result<Option<Options>, NodeError> {
    let Some(database) = config
        .database
        .as_ref()
        .filter(|_| server.has(ConfigRole::Db))
    else {
        return Ok(None);
    };
    let state = config.state_dir(&server.name);
    let mut options = Options::new(server.name.clone(), &state, secrets.clone());
    let servers = config.with_role(ConfigRole::Db);
    options.servers = servers.map(|other| peer(config, other)).collect();
    options.bin_dir = database.bin_dir.clone();
    options.listen = addresses(server);
    options.port = config.ports.postgres;
    options.allowed_clients = config.servers.iter().map(|other| other.address).collect();
    options.database = database.name.clone();
    options.user = database.user.clone();
    set_live(&mut options, database);
    options.os_user = match privileges::is_root() {
        true => Some(OsUser::lookup(&database.os_user).map_err(NodeError::service)?),
        false => None,
    };
    Ok(Some(options))
}

/// What a running PostgreSQL takes over from a new config.
pub(crate) fn set_live(options: &mut Options, database: &Database) {
    options.parameters = database.parameters.clone();
    options.extensions = database.extensions.clone();
    let further = |database: &trilith_config::FurtherDatabase| FurtherDatabase {
        name: database.name.clone(),
        owner: database.owner.clone(),
        extensions: database.extensions.clone(),
    };
    options.databases = database.databases.iter().map(further).collect();
    let user = |user: &trilith_config::DatabaseUser| User {
        name: user.name.clone(),
        databases: user.databases.clone(),
        createdb: user.createdb,
    };
    options.users = database.users.iter().map(user).collect();
    options.synchronous = match database.synchronous {
        ConfigSynchronous::Quorum => Synchronous::Quorum,
        ConfigSynchronous::Off => Synchronous::Off,
    };
}

/// The server's certificate, for its PostgreSQL and for asking others'.
pub(crate) fn tls(
    server: &Server,
    ca: &Ca,
    identity: &PeerIdentity,
    now: SystemTime,
) -> Result<Tls, NodeError> {
    Ok(Tls::new(identity, certificate(server, ca, now)?)?)
}

/// One issued now.
pub(crate) fn certificate(
    server: &Server,
    ca: &Ca,
    now: SystemTime,
) -> Result<PemIdentity, TlsError> {
    ca.issue_peer_pem(&server.name, &addresses(server), now)
}

/// Its own address, and its loopback address.
fn addresses(server: &Server) -> Vec<IpAddr> {
    let mut addresses = vec![server.address];
    if !addresses.contains(&server.loopback()) {
        addresses.push(server.loopback());
    }
    addresses
}

/// Watches all database servers of the cluster.
pub(crate) fn observer(config: &Config, password: &Password, tls: Tls) -> ObserverOptions {
    let targets = config
        .with_role(ConfigRole::Db)
        .map(|server| peer(config, server));
    let mut options = ObserverOptions::new(targets.collect(), password.clone());
    options.tls = Some(tls);
    options
}

fn peer(config: &Config, server: &Server) -> Peer {
    Peer {
        name: server.name.clone(),
        address: SocketAddr::new(server.address, config.ports.postgres),
    }
}
