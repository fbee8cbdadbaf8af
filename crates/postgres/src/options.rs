//! What `node` tells this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use trilith_base::{ServerName, is_set_by_trilith};

use crate::error::OptionsError;
use crate::limits::{
    CLIENTS_MAX, IDENTIFIER_BYTES_MAX, LISTEN_MAX, PARAMETER_NAME_BYTES_MAX,
    PARAMETER_VALUE_BYTES_MAX, PARAMETERS_MAX, PEERS_MAX,
};
use crate::secrets::Secrets;
use crate::tls::Tls;

/// The superuser that Trilith itself works with, over the local socket only.
pub const ADMIN_ROLE: &str = "trilith_admin";
/// The role that other servers stream, copy and rewind with. It may read everything and write nothing.
pub const REPLICATION_ROLE: &str = "trilith_replication";
/// The role that observers ask with (member of `pg_monitor`), in the database `postgres`.
pub const MONITOR_ROLE: &str = "trilith_monitor";
/// The database that observers and Trilith itself connect to.
pub const MAINTENANCE_DATABASE: &str = "postgres";

/// PostgreSQL on this server.
#[derive(Clone, Debug)]
pub struct Options {
    /// This server.
    pub server: ServerName,
    /// Where PostgreSQL's programs are; found when `None`, see [`crate::find_bin_dir`].
    pub bin_dir: Option<PathBuf>,
    /// The data directory, `<state>/postgres`. Copies under way and folders set aside lie beside it.
    pub data_dir: PathBuf,
    /// A private folder for the Unix socket and for password files of a moment, `<state>/run/pg`.
    /// When its path is too long for a socket (`sockaddr_un` holds 107 bytes), a folder of our own
    /// under `$XDG_RUNTIME_DIR` or `/tmp` is used instead.
    pub run_dir: PathBuf,
    /// Where PostgreSQL's messages go, `<state>/log/postgresql.log`; rotated by size.
    pub log_file: PathBuf,
    /// Addresses to listen on: the server's own and its loopback address. Exactly these.
    pub listen: Vec<IpAddr>,
    /// The port of every PostgreSQL of the cluster, 5433 unless told otherwise.
    pub port: u16,
    /// Where the cluster's servers connect from. They may replicate and observe, with [`Options::tls`]; the
    /// application connects from the addresses in `listen` only. A loopback address in either stands for
    /// 127.0.0.1 or ::1 as well.
    pub allowed_clients: Vec<IpAddr>,
    /// This server's certificate. Needed as soon as there are other database servers: without it they are
    /// all refused.
    pub tls: Option<Tls>,
    /// All database servers of the cluster, this one included, in the order of the file.
    pub servers: Vec<Peer>,
    pub secrets: Secrets,
    /// The application's database, owned by `user`.
    pub database: String,
    /// The application's role.
    pub user: String,
    /// Created in the application's database.
    pub extensions: Vec<String>,
    /// Besides the application's. None is ever dropped.
    pub databases: Vec<FurtherDatabase>,
    /// Besides the application's. None is ever dropped; one that is not named any more gets in nowhere.
    pub users: Vec<User>,
    /// Further settings for `trilith.conf`. Some are Trilith's own, see [`Options::validate`].
    pub parameters: BTreeMap<String, String>,
    pub synchronous: Synchronous,
    /// The account that PostgreSQL runs as. Needed when this process runs as root, which PostgreSQL
    /// refuses to run as; ignored otherwise.
    pub os_user: Option<OsUser>,
    pub stop: StopTimeouts,
}

/// The PostgreSQL of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: ServerName,
    pub address: SocketAddr,
}

/// A database besides the application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FurtherDatabase {
    pub name: String,
    /// [`Options::user`], or one of [`Options::users`].
    pub owner: String,
    pub extensions: Vec<String>,
}

/// A role besides the application's. Its password is [`crate::Secrets::of_user`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Where it may connect, besides the databases that it owns.
    pub databases: Vec<String>,
    /// Whether it may create databases. Then it may connect to all: which are its own is not for
    /// `pg_hba.conf` to know.
    pub createdb: bool,
}

/// When a commit returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// When so many replicas have flushed it that, with the primary, a majority has it. One that is away
    /// for seconds is no longer waited for, which is written down in the cluster store first.
    #[default]
    Quorum,
    /// When the primary has flushed it.
    Off,
}

/// An account of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// How long a shutdown may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopTimeouts {
    /// For a fast shutdown (SIGINT: sessions end, a checkpoint is written). Then comes
    /// an immediate one (SIGQUIT: the next start recovers from the WAL).
    pub fast: Duration,
    /// For the immediate shutdown. Then comes SIGKILL.
    pub immediate: Duration,
}

impl Default for StopTimeouts {
    fn default() -> Self {
        Self {
            fast: Duration::from_secs(20),
            immediate: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// The usual places under `state`, the state folder of this server (absolute), and defaults for
    /// the rest. The caller fills in `listen`, `port`, `servers` and `allowed_clients`.
    pub fn new(server: ServerName, state: &Path, secrets: Secrets) -> Self {
        Self {
            server,
            bin_dir: None,
            data_dir: state.join("postgres"),
            run_dir: state.join("run").join("pg"),
            log_file: state.join("log").join("postgresql.log"),
            listen: Vec::new(),
            port: 5433,
            allowed_clients: Vec::new(),
            tls: None,
            servers: Vec::new(),
            secrets,
            database: "app".to_owned(),
            user: "app".to_owned(),
            extensions: Vec::new(),
            databases: Vec::new(),
            users: Vec::new(),
            parameters: BTreeMap::new(),
            synchronous: Synchronous::default(),
            os_user: None,
            stop: StopTimeouts::default(),
        }
    }

    /// Whether all values can be used. The first error is returned.
    pub fn validate(&self) -> Result<(), OptionsError> {
        for (what, path) in [
            ("data_dir", &self.data_dir),
            ("run_dir", &self.run_dir),
            ("log_file", &self.log_file),
        ] {
            let usable = path.is_absolute() && path.parent().is_some() && path.to_str().is_some();
            if !usable || path.to_string_lossy().contains(['\n', '\0']) {
                return Err(OptionsError::Path {
                    what,
                    path: path.clone(),
                });
            }
        }
        if self.listen.is_empty() || self.listen.len() > LISTEN_MAX || self.port == 0 {
            return Err(OptionsError::Listen);
        }
        if self.allowed_clients.len() > CLIENTS_MAX || self.servers.len() > PEERS_MAX {
            return Err(OptionsError::TooManyServers { max: PEERS_MAX });
        }
        check_identifier("database", &self.database)?;
        check_identifier("user", &self.user)?;
        for database in &self.databases {
            check_identifier("database", &database.name)?;
            check_identifier("owner", &database.owner)?;
        }
        for user in &self.users {
            check_identifier("user", &user.name)?;
            for database in &user.databases {
                check_identifier("database", database)?;
            }
        }
        for extension in self.all_extensions() {
            check_form("extension", extension)?;
        }
        if self.parameters.len() > PARAMETERS_MAX {
            return Err(OptionsError::TooManyParameters {
                max: PARAMETERS_MAX,
            });
        }
        for (name, value) in &self.parameters {
            check_parameter(name, value)?;
        }
        Ok(())
    }

    fn all_extensions(&self) -> impl Iterator<Item = &String> {
        let further = self
            .databases
            .iter()
            .flat_map(|database| &database.extensions);
        self.extensions.iter().chain(further)
    }

    /// The databases that a user may connect to, the application's own among them.
    pub(crate) fn databases_of(&self, user: &str) -> BTreeSet<&str> {
        let own = self
            .databases
            .iter()
            .filter(|database| database.owner == user);
        let granted = self.users.iter().filter(|other| other.name == user);
        let granted = granted.flat_map(|user| &user.databases);
        let mut all: BTreeSet<&str> = own.map(|database| database.name.as_str()).collect();
        all.extend(granted.map(String::as_str));
        if user == self.user {
            all.insert(&self.database);
        }
        all
    }

    /// A database server of the cluster by its name.
    pub(crate) fn peer(&self, name: &ServerName) -> Option<&Peer> {
        self.servers.iter().find(|peer| peer.name == *name)
    }

    /// The other database servers.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Peer> {
        self.servers.iter().filter(|peer| peer.name != self.server)
    }
}

impl OsUser {
    /// Looks an account up by its name.
    pub fn lookup(name: &str) -> Result<Self, OptionsError> {
        let error = |why: String| OptionsError::OsUser {
            name: name.to_owned(),
            why,
        };
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) if user.uid.is_root() => Err(error("it is root".to_owned())),
            Ok(Some(user)) => Ok(Self {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            }),
            Ok(None) => Err(error("there is no such account".to_owned())),
            Err(errno) => Err(error(errno.to_string())),
        }
    }
}

/// The name of a server's replication slot: `trilith_<name>` with `_` for `-`. At most 63 bytes; of a
/// longer one the end is replaced by a hash.
pub fn slot_name(server: &ServerName) -> String {
    // Server names hold no `_`, so two of them never share a slot.
    let full = format!("trilith_{}", server.as_str().replace('-', "_"));
    if full.len() <= IDENTIFIER_BYTES_MAX {
        return full;
    }
    let hash = crate::files::fnv1a(server.as_str().as_bytes());
    format!("{}_{hash:016x}", &full[..IDENTIFIER_BYTES_MAX - 17])
}

fn check_parameter(name: &str, value: &str) -> Result<(), OptionsError> {
    let error = |why: &'static str| OptionsError::Parameter {
        name: name.to_owned(),
        why,
    };
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    // `name`, or `extension.name`.
    let shape = name.split('.').count() <= 2 && name.split('.').all(word);
    if !shape || name.len() > PARAMETER_NAME_BYTES_MAX {
        return Err(error(
            "that is not the name of a PostgreSQL setting: use a-z, 0-9 and _",
        ));
    }
    if is_set_by_trilith(name) {
        return Err(error("Trilith sets this one itself; leave it out"));
    }
    if matches!(name, "include" | "include_dir" | "include_if_exists") {
        return Err(error("files cannot be included; write the settings here"));
    }
    if value.len() > PARAMETER_VALUE_BYTES_MAX || value.contains(['\n', '\r', '\0']) {
        return Err(error("its value must be one line of at most 1000 bytes"));
    }
    Ok(())
}

fn check_identifier(what: &'static str, name: &str) -> Result<(), OptionsError> {
    check_form(what, name)?;
    let taken = ["postgres", "template0", "template1", "public", "none"].contains(&name);
    if taken || name.starts_with("pg_") || name.starts_with("trilith") {
        return Err(OptionsError::Identifier {
            what,
            name: name.to_owned(),
            why: "PostgreSQL or Trilith uses that name; choose another",
        });
    }
    Ok(())
}

fn check_form(what: &'static str, name: &str) -> Result<(), OptionsError> {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !first || !rest || name.len() > IDENTIFIER_BYTES_MAX {
        return Err(OptionsError::Identifier {
            what,
            name: name.to_owned(),
            why: "use 1 to 63 of a-z, A-Z, 0-9, _ and -, starting with a letter or _",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
