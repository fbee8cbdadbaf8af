//! The line between what a running server changes and what it was started with.

use trilith_config::{Config, Database, Server};

/// `new`, but what `me` cannot change while it runs is as in `started`. In step with the key table
/// (`trilith_config::keys::applies`); a test compares.
pub(super) fn effective(started: &Config, new: &Config, me: &Server) -> Config {
    let mut config = new.clone();
    config.cluster = started.cluster.clone();
    config.vip = started.vip.clone();
    config.store = started.store.clone();
    config.ports = started.ports.clone();
    config.code = started.code.clone();
    config.apps = started.apps.clone();
    config.database = database(started.database.as_ref(), new.database.as_ref());
    config.edge.connections_max = started.edge.connections_max;
    config.edge.connections_per_ip_max = started.edge.connections_per_ip_max;
    config.edge.drain_timeout = started.edge.drain_timeout;
    config.edge.access_log = started.edge.access_log;
    // Others may have been restarted: their addresses and roles are the new ones, and their health is
    // checked before anything is sent to them.
    if let Some(own) = config.servers.iter_mut().find(|s| s.name == me.name) {
        own.address = me.address;
        own.roles = me.roles;
    }
    config
}

/// A database comes and goes with a restart; one that is there takes over whatever its program and its
/// first names do not depend on.
fn database(started: Option<&Database>, new: Option<&Database>) -> Option<Database> {
    let started = started?;
    let Some(new) = new else {
        return Some(started.clone());
    };
    let mut database = new.clone();
    database.name.clone_from(&started.name);
    database.user.clone_from(&started.user);
    database.bin_dir.clone_from(&started.bin_dir);
    database.os_user.clone_from(&started.os_user);
    Some(database)
}
