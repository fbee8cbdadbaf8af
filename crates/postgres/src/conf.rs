//! PostgreSQL's configuration files, rendered. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use trilith_base::ServerName;
use trilith_tls::peer_name;

use crate::limits::{SLOT_WAL_KEEP_SIZE_MB, WAL_KEEP_SIZE_MB, WAL_SENDERS_MIN};
use crate::options::{
    ADMIN_ROLE, MAINTENANCE_DATABASE, MONITOR_ROLE, Options, Peer, REPLICATION_ROLE, slot_name,
};
use crate::tls::TlsPaths;

/// Our settings, included from `postgresql.conf`.
pub(crate) const CONF_FILE: &str = "trilith.conf";
/// The line in `postgresql.conf` that does so.
pub(crate) const INCLUDE_LINE: &str = "include 'trilith.conf'";
/// The replication password, for the WAL receiver.
pub(crate) const PASS_FILE: &str = "trilith.pgpass";

/// What a PostgreSQL is at the moment, unlike the rest of its options. All of it takes effect by a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Primary {
        /// Who must confirm commits, see [`any_of`]; empty: nobody.
        synchronous_standby_names: String,
    },
    Replica {
        /// Whom to receive WAL from; `None`: nobody.
        follow: Option<&'a Peer>,
        /// Of no effect before a promotion, but already known to all processes then.
        synchronous_standby_names: String,
    },
}

/// Whether the application may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    /// Administration, observers and replicas only. Sessions that are there already stay.
    Closed,
}

/// A value of `synchronous_standby_names`: `acks` of these replicas must have flushed a commit.
pub(crate) fn any_of<'a>(acks: usize, replicas: impl Iterator<Item = &'a ServerName>) -> String {
    let names: Vec<String> = replicas.map(|name| format!("\"{name}\"")).collect();
    if names.is_empty() || acks == 0 {
        return String::new();
    }
    format!("ANY {acks} ({})", names.join(", "))
}

/// `trilith.conf`. The last line about a setting wins in PostgreSQL, hence the order: defaults, what
/// the configuration file says, and then what must be as it is.
pub(crate) fn trilith_conf_as(options: &Options, socket_folder: &Path, part: &Part<'_>) -> String {
    let mut conf = Conf::default();
    conf.text.push_str(
        "# Written by Trilith at every start. Settings belong in [database.parameters] of its file.\n",
    );
    let peers = options.others().count();
    conf.section("defaults");
    conf.set("max_connections", "200");
    conf.set("wal_keep_size", &format!("{WAL_KEEP_SIZE_MB}MB"));
    // Without a bound, a replica that never returns would fill the primary's disk.
    conf.set(
        "max_slot_wal_keep_size",
        &format!("{SLOT_WAL_KEEP_SIZE_MB}MB"),
    );
    // Both sides notice a silent peer within seconds, and try again at once.
    conf.set("wal_sender_timeout", "5s");
    conf.set("wal_receiver_timeout", "5s");
    conf.set("wal_receiver_status_interval", "1s");
    conf.set("wal_retrieve_retry_interval", "100ms");
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
    match &options.tls {
        None => conf.set("ssl", "off"),
        Some(_) => {
            let paths = TlsPaths::of(options);
            let (identity, ca) = (paths.identity.to_string_lossy(), paths.ca.to_string_lossy());
            conf.set("ssl", "on");
            conf.set("ssl_cert_file", &identity);
            conf.set("ssl_key_file", &identity);
            conf.set("ssl_ca_file", &ca);
            conf.set("ssl_min_protocol_version", "TLSv1.3");
        }
    }
    // Messages are matched, and read by people who search for them: always English.
    conf.set("lc_messages", "C");
    // Standard error is a file that Trilith rotates. It stays open when Trilith is killed.
    conf.set("log_destination", "stderr");
    conf.set("logging_collector", "off");
    conf.set("wal_level", "replica");
    conf.set("hot_standby", "on");
    // After a crash it is Trilith that starts it again: closed, until what the recovery brought back has
    // been confirmed by replicas.
    conf.set("restart_after_crash", "off");
    // For pg_rewind; data checksums alone would do, but they can be switched off.
    conf.set("wal_log_hints", "on");
    let senders = WAL_SENDERS_MIN.max(4 + 3 * peers).to_string();
    conf.set("max_wal_senders", &senders);
    conf.set("max_replication_slots", &senders);
    match part {
        Part::Primary {
            synchronous_standby_names,
        } => conf.set("synchronous_standby_names", synchronous_standby_names),
        Part::Replica {
            follow,
            synchronous_standby_names,
        } => {
            conf.set("synchronous_standby_names", synchronous_standby_names);
            let primary = follow.map(|primary| primary_conninfo(options, primary));
            conf.set("primary_conninfo", &primary.unwrap_or_default());
            conf.set("primary_slot_name", &slot_name(&options.server));
        }
    }
    conf.text
}

/// Who may connect, everybody with a SCRAM password; whatever is not listed is refused.
///
/// - We: over the local socket, in a folder that only PostgreSQL's account and root enter.
/// - The application and observers: over TCP from this server itself. Sessions of other servers' sql
///   entries come through the cluster port, and so from here as well.
/// - Other servers: to replicate, rewind and observe, over TLS and with a server's certificate from the
///   cluster CA.
pub(crate) fn pg_hba(options: &Options, access: Access) -> String {
    let mut text = "# Written by Trilith. Nobody but the cluster's servers gets in.\n\
                    # TYPE DATABASE USER ADDRESS METHOD\n"
        .to_owned();
    text.push_str(&format!("local all \"{ADMIN_ROLE}\" {SCRAM}\n"));
    let mut line = |kind: &str, database: &str, user: &str, ip: IpAddr, method: &str| {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        text.push_str(&format!(
            "{kind} {database} \"{user}\" {ip}/{bits} {method}\n"
        ));
    };
    let maintenance = format!("\"{MAINTENANCE_DATABASE}\"");
    let entrances = entrances(options);
    for ip in own_addresses(options) {
        for (database, user) in entrances.iter().filter(|_| access == Access::Open) {
            line("host", database, user, ip, SCRAM);
        }
        line("host", &maintenance, MONITOR_ROLE, ip, SCRAM);
    }
    for ip in other_servers(options) {
        line(
            "hostssl",
            "replication",
            REPLICATION_ROLE,
            ip,
            SCRAM_AND_CERTIFICATE,
        );
        // For pg_rewind, and for questions about timelines.
        line(
            "hostssl",
            &maintenance,
            REPLICATION_ROLE,
            ip,
            SCRAM_AND_CERTIFICATE,
        );
        line(
            "hostssl",
            &maintenance,
            MONITOR_ROLE,
            ip,
            SCRAM_AND_CERTIFICATE,
        );
    }
    text
}

/// Database, quoted, and user of the application.
fn entrances(options: &Options) -> Vec<(String, &str)> {
    let quoted = |name: &str| format!("\"{name}\"");
    let to_these = |user| {
        let databases = options.databases_of(user).into_iter();
        databases.map(move |database| (quoted(database), user))
    };
    let mut all: Vec<(String, &str)> = to_these(options.user.as_str()).collect();
    for user in &options.users {
        match user.createdb {
            true => all.push(("all".to_owned(), user.name.as_str())),
            false => all.extend(to_these(user.name.as_str())),
        }
    }
    all
}

const SCRAM: &str = "scram-sha-256";
const SCRAM_AND_CERTIFICATE: &str = "scram-sha-256 clientcert=verify-ca";

/// Where connections of this server itself come from.
fn own_addresses(options: &Options) -> Vec<IpAddr> {
    with_localhost(options.listen.clone())
}

/// Where connections of the other servers come from; nowhere without certificates.
fn other_servers(options: &Options) -> Vec<IpAddr> {
    if options.tls.is_none() {
        return Vec::new();
    }
    let peers = options.others().map(|peer| peer.address.ip());
    let listed = options.allowed_clients.iter().copied().chain(peers);
    // On loopback addresses servers cannot be told apart.
    let others = listed.filter(|ip| ip.is_loopback() || !options.listen.contains(ip));
    with_localhost(others.collect())
}

/// A socket that is not bound to 127.0.1.2 but connects to it comes from 127.0.0.1. Sorted, each once.
fn with_localhost(mut all: Vec<IpAddr>) -> Vec<IpAddr> {
    if all.iter().any(|ip| ip.is_ipv4() && ip.is_loopback()) {
        all.push(Ipv4Addr::LOCALHOST.into());
    }
    if all.iter().any(|ip| ip.is_ipv6() && ip.is_loopback()) {
        all.push(Ipv6Addr::LOCALHOST.into());
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// A password file (libpq, "The Password File") for the replication role.
pub(crate) fn pgpass(options: &Options) -> String {
    let password = options.secrets.replication.expose();
    format!("*:*:*:{REPLICATION_ROLE}:{password}\n")
}

/// How a replica's WAL receiver connects. Its `application_name` is what
/// `synchronous_standby_names` counts.
fn primary_conninfo(options: &Options, primary: &Peer) -> String {
    let pass_file = options.data_dir.join(PASS_FILE);
    conninfo(options, primary, options.server.as_str(), &pass_file)
}

/// A connection string of libpq to `primary`, as the replication role, with this server's certificate.
pub(crate) fn conninfo(
    options: &Options,
    primary: &Peer,
    application_name: &str,
    pass_file: &Path,
) -> String {
    let ip = primary.address.ip().to_string();
    let mut parts = match &options.tls {
        None => vec![("host", ip), ("sslmode", "disable".to_owned())],
        Some(_) => {
            let paths = TlsPaths::of(options);
            let identity = paths.identity.to_string_lossy().into_owned();
            vec![
                // The certificate must name the server, wherever it is reached; no site's does.
                ("host", peer_name(&primary.name).to_str().into_owned()),
                ("hostaddr", ip),
                ("sslmode", "verify-full".to_owned()),
                ("sslrootcert", paths.ca.to_string_lossy().into_owned()),
                ("sslcert", identity.clone()),
                ("sslkey", identity),
                ("ssl_min_protocol_version", "TLSv1.3".to_owned()),
            ]
        }
    };
    parts.extend([
        ("port", primary.address.port().to_string()),
        ("user", REPLICATION_ROLE.to_owned()),
        ("passfile", pass_file.to_string_lossy().into_owned()),
        ("application_name", application_name.to_owned()),
        ("gssencmode", "disable".to_owned()),
        ("connect_timeout", "5".to_owned()),
        ("keepalives_idle", "5".to_owned()),
        ("keepalives_interval", "2".to_owned()),
        ("keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "10000".to_owned()),
    ]);
    let parts: Vec<String> = parts
        .iter()
        .map(|(name, value)| format!("{name}={}", quote_in_conninfo(value)))
        .collect();
    parts.join(" ")
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
