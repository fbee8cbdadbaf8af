//! When a change of a key takes effect.

use std::fmt;

use super::{Key, Section};

/// When a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applies {
    /// With `trilith reload`: no connection closes for it.
    Live,
    /// When these servers are restarted, one after the other.
    Restart(Who),
}

/// Which servers a key matters to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    All,
    Edges,
    WebServers,
    DatabaseServers,
    /// The server that the key belongs to.
    Itself,
}

/// What a running server cannot change: what it has bound, opened or started with.
pub(super) fn applies(section: &Section, key: &Key) -> Applies {
    use Applies::{Live, Restart};
    match (section.path, key.name) {
        ("cluster", "vip") | ("vip", _) => Restart(Who::Edges),
        ("cluster" | "cluster.store" | "ports", _) => Restart(Who::All),
        ("code" | "app.NAME", _) => Restart(Who::WebServers),
        ("database", "name" | "user") => Restart(Who::All),
        // PostgreSQL's own settings may need its restart: `trilith db status` shows which.
        ("database", "parameters" | "synchronous" | "extensions" | "databases" | "users") => Live,
        ("database", _) => Restart(Who::DatabaseServers),
        ("server", "address" | "roles") => Restart(Who::Itself),
        ("edge", "connections_max" | "connections_per_ip_max" | "drain_timeout" | "access_log") => {
            Restart(Who::Edges)
        }
        _ => Live,
    }
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "with `trilith reload`",
            Self::Restart(Who::All) => "when a server is restarted",
            Self::Restart(Who::Edges) => "when an edge is restarted",
            Self::Restart(Who::WebServers) => "when a web server is restarted",
            Self::Restart(Who::DatabaseServers) => "when a database server is restarted",
            Self::Restart(Who::Itself) => "when that server is restarted",
        })
    }
}
