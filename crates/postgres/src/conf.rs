//! PostgreSQL's configuration files, rendered. Pure.

use std::path::Path;

use crate::limits::{SLOT_WAL_KEEP_SIZE_MB, WAL_KEEP_SIZE_MB, WAL_SENDERS_MIN};
use crate::options::{
    ADMIN_ROLE, MAINTENANCE_DATABASE, MONITOR_ROLE, Options, REPLICATION_ROLE, Role, slot_name,
};

/// Our settings, included from `postgresql.conf`.
pub(crate) const CONF_FILE: &str = "trilith.conf";
/// The line in `postgresql.conf` that does so.
pub(crate) const INCLUDE_LINE: &str = "include 'trilith.conf'";
/// The replication password, for the WAL receiver.
pub(crate) const PASS_FILE: &str = "trilith.pgpass";

/// `trilith.conf`. The last line about a setting wins in PostgreSQL, hence the order: defaults, what
/// the configuration file says, and then what must be as it is.
pub(crate) fn trilith_conf(options: &Options, socket_folder: &Path) -> String {
    let mut conf = Conf::default();
    conf.text.push_str(
        "# Written by Trilith at every start. Settings belong in [database.parameters] of its file.\n",
    );
    let peers = options.peers().len();
    conf.section("defaults");
    conf.set("max_connections", "200");
    conf.set("wal_keep_size", &format!("{WAL_KEEP_SIZE_MB}MB"));
    // Without a bound, a replica that never returns would fill the primary's disk.
    conf.set(
        "max_slot_wal_keep_size",
        &format!("{SLOT_WAL_KEEP_SIZE_MB}MB"),
    );
    // Both sides notice a silent peer within seconds, and try again at once.
    conf.set("wal_sender_timeout", "10s");
    conf.set("wal_receiver_timeout", "10s");
    conf.set("wal_receiver_status_interval", "1s");
    conf.set("wal_retrieve_retry_interval", "500ms");
    conf.set("tcp_keepalives_idle", "15");
    conf.set("tcp_keepalives_interval", "5");
    conf.set("tcp_keepalives_count", "3");
    // After a crash, one call instead of one per file of the database: seconds less to wait.
    conf.set("recovery_init_sync_method", "syncfs");
    conf.set("log_line_prefix", "%m [%p] %q%u@%d ");
    conf.set("log_checkpoints", "off");

    if !options.parameters.is_empty() {
        conf.section("database.parameters");
        for (name, value) in &options.parameters {
            conf.set(name, value);
        }
    }

    conf.section("Trilith's own");
    let listen: Vec<String> = options.listen.iter().map(ToString::to_string).collect();
    conf.set("cluster_name", options.server.as_str());
    conf.set("listen_addresses", &listen.join(","));
    conf.set("port", &options.port.to_string());
    conf.set(
        "unix_socket_directories",
        &quote_in_list(&socket_folder.to_string_lossy()),
    );
    conf.set("unix_socket_permissions", "0700");
    conf.set("password_encryption", "scram-sha-256");
    conf.set("ssl", "off");
    // Messages are matched, and read by people who search for them: always English.
    conf.set("lc_messages", "C");
    // Standard error is a file that Trilith rotates. It stays open when Trilith is killed.
    conf.set("log_destination", "stderr");
    conf.set("logging_collector", "off");
    conf.set("wal_level", "replica");
    conf.set("hot_standby", "on");
    // For pg_rewind; data checksums alone would do, but they can be switched off.
    conf.set("wal_log_hints", "on");
    let senders = WAL_SENDERS_MIN.max(4 + 3 * peers).to_string();
    conf.set("max_wal_senders", &senders);
    conf.set("max_replication_slots", &senders);
    match &options.role {
        Role::Primary { .. } => {
            // In force from the first start: our own sessions say synchronous_commit = local, and
            // everybody else's commits have to wait for the first replica anyway.
            let names: Vec<String> = options
                .synchronous_replicas()
                .iter()
                .map(|replica| format!("\"{}\"", replica.name))
                .collect();
            if names.is_empty() {
                conf.set("synchronous_standby_names", "");
            } else {
                let any = format!("ANY 1 ({})", names.join(", "));
                conf.set("synchronous_standby_names", &any);
            }
        }
        Role::Replica { .. } => {
            conf.set("synchronous_standby_names", "");
            conf.set("primary_conninfo", &primary_conninfo(options));
            conf.set("primary_slot_name", &slot_name(&options.server));
        }
    }
    conf.text
}

/// Who may connect: the local socket (a folder that only PostgreSQL's account and root enter) for us;
/// over TCP, from the cluster's servers, the application to its database, observers to theirs, and
/// replicas to replicate. Everybody with a SCRAM password; whatever is not listed is refused.
pub(crate) fn pg_hba(options: &Options) -> String {
    let mut text =
        "# Written by Trilith at every start. Nobody but the cluster's servers gets in.\n\
                    # TYPE DATABASE USER ADDRESS METHOD\n"
            .to_owned();
    let (database, user) = (&options.database, &options.user);
    text.push_str(&format!("local all \"{ADMIN_ROLE}\" scram-sha-256\n"));
    for ip in options.all_clients() {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        for (database, user) in [
            (format!("\"{database}\""), user.as_str()),
            (format!("\"{MAINTENANCE_DATABASE}\""), MONITOR_ROLE),
            ("replication".to_owned(), REPLICATION_ROLE),
        ] {
            let line = format!("host {database} \"{user}\" {ip}/{bits} scram-sha-256\n");
            text.push_str(&line);
        }
    }
    text
}

/// A password file (libpq, "The Password File") for the replication role.
pub(crate) fn pgpass(options: &Options) -> String {
    let password = options.secrets.replication.expose();
    format!("*:*:*:{REPLICATION_ROLE}:{password}\n")
}

/// How a replica's WAL receiver connects. Its `application_name` is what
/// `synchronous_standby_names` counts.
fn primary_conninfo(options: &Options) -> String {
    let pass_file = options.data_dir.join(PASS_FILE);
    conninfo(options, options.server.as_str(), &pass_file)
}

/// A connection string of libpq to the primary, as the replication role.
pub(crate) fn conninfo(options: &Options, application_name: &str, pass_file: &Path) -> String {
    let Role::Replica { primary } = &options.role else {
        return String::new();
    };
    [
        ("host", primary.address.ip().to_string()),
        ("port", primary.address.port().to_string()),
        ("user", REPLICATION_ROLE.to_owned()),
        ("passfile", pass_file.to_string_lossy().into_owned()),
        ("application_name", application_name.to_owned()),
        ("sslmode", "disable".to_owned()),
        ("gssencmode", "disable".to_owned()),
        ("connect_timeout", "5".to_owned()),
        ("keepalives_idle", "5".to_owned()),
        ("keepalives_interval", "2".to_owned()),
        ("keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "10000".to_owned()),
    ]
    .map(|(name, value)| format!("{name}={}", quote_in_conninfo(&value)))
    .join(" ")
}

#[derive(Default)]
struct Conf {
    text: String,
}

impl Conf {
    fn section(&mut self, title: &str) {
        self.text.push_str(&format!("\n# {title}\n"));
    }

    /// `name = 'value'`; in quotes, `\` is an escape and `'` is doubled (guc-file.l).
    fn set(&mut self, name: &str, value: &str) {
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        self.text.push_str(&format!("{name} = '{value}'\n"));
    }
}

/// An element of a list setting, with whatever it contains (`SplitDirectoriesString`).
fn quote_in_list(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

/// Values that need it are put in quotes; `\` and `'` are escaped (libpq, "Connection Strings").
fn quote_in_conninfo(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests;
