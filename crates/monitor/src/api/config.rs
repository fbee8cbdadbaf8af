//! The cluster's config: how it is kept in the store, and what is asked and answered about it.

use serde::{Deserialize, Serialize};

/// Grows when a field of this module is removed or changes its meaning.
pub const CONFIG_SCHEMA: u32 = 1;

/// One version of the config: the value of `config/current` and of `config/history/<version>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigVersion {
    /// Counts from 1.
    pub version: u64,
    /// Of the text, in lower case hexadecimal digits.
    pub sha256: String,
    /// Who published it, where: `root@one`.
    #[serde(default)]
    pub by: String,
    /// Milliseconds since 1970 UTC.
    #[serde(default)]
    pub at_unix_ms: u64,
    /// The version whose text it took up again.
    #[serde(default)]
    pub rollback_to: Option<u64>,
    /// The whole file.
    pub text: String,
}

/// [`ConfigVersion`] without the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    pub version: u64,
    pub sha256: String,
    #[serde(default)]
    pub by: String,
    #[serde(default)]
    pub at_unix_ms: u64,
    #[serde(default)]
    pub rollback_to: Option<u64>,
}

/// What one server runs with, in its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// The cluster's version that it runs with; none before it has heard of one.
    #[serde(default)]
    pub version: Option<u64>,
    /// Paths of what waits for a restart of this server.
    #[serde(default)]
    pub restart: Vec<String>,
    /// Why it does not run with the newest version that it has heard of.
    #[serde(default)]
    pub failed: Option<String>,
    /// Why its file is not the cluster's version.
    #[serde(default)]
    pub file: Option<String>,
}

/// `POST /v1/reload` of the admin socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadRequest {
    /// The whole file.
    pub text: String,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// The user who asks.
    #[serde(default)]
    pub by: String,
}

/// `POST /v1/config/rollback` of the admin socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The one before the current one, if none is given.
    #[serde(default)]
    pub version: Option<u64>,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub by: String,
}

/// What a reload or a rollback did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    pub schema: u32,
    pub dry_run: bool,
    /// The version that is in force now; none when there is none yet.
    pub version: Option<u64>,
    /// Whether that is a new one.
    pub published: bool,
    pub changes: Vec<ConfigChange>,
    /// Of the file, as text for people; may be empty.
    #[serde(default)]
    pub warnings: String,
    /// In the order of the file. Empty for a dry run.
    #[serde(default)]
    pub servers: Vec<ReloadServer>,
}

/// One key that differs, or a whole table that came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    pub path: String,
    pub old: Option<String>,
    pub new: Option<String>,
    /// Servers on which it takes effect only when they are restarted.
    #[serde(default)]
    pub restart: Vec<String>,
    /// All of it on one line.
    pub line: String,
}

/// How far a server is with a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadServer {
    pub name: String,
    /// `applied`, `restart` (applied but for what waits for a restart), `pending` (not applied yet),
    /// `failed` or `down`.
    pub state: String,
    /// What waits for a restart, or what went wrong.
    #[serde(default)]
    pub detail: Vec<String>,
}

/// The query of `GET /v1/config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigQuery {
    /// The one in force, if none is given.
    #[serde(default)]
    pub version: Option<u64>,
}

/// `GET /v1/config` of the admin socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigAnswer {
    pub schema: u32,
    /// The version that was asked for.
    pub current: ConfigVersion,
    /// What the server that was asked runs with.
    pub server: ConfigState,
}

/// `GET /v1/config/history` of the admin socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryAnswer {
    pub schema: u32,
    pub current: Option<u64>,
    /// The newest first.
    pub versions: Vec<ConfigEntry>,
}

impl ConfigVersion {
    pub fn entry(&self) -> ConfigEntry {
        ConfigEntry {
            version: self.version,
            sha256: self.sha256.clone(),
            by: self.by.clone(),
            at_unix_ms: self.at_unix_ms,
            rollback_to: self.rollback_to,
        }
    }
}

impl ConfigState {
    /// What an operator should know of it, a line each.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        notices.extend(self.failed.clone());
        notices.extend(self.file.clone());
        if !self.restart.is_empty() {
            let paths = self.restart.join(", ");
            notices.push(format!("a restart is needed for {paths}"));
        }
        notices
    }
}
