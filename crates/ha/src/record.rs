//! What the servers agree on: the entries of the cluster store that failover is decided from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trilith_base::ServerName;
use trilith_consensus::{Epoch, Key, Revision, View};

use crate::history::{History, Position};

const LEASE: &str = "db/primary";
const CLUSTER: &str = "db/cluster";
const RECORD: &str = "db/record";
const REQUEST: &str = "db/request";
const ENDED: &str = "db/request-ended";
const PAUSED: &str = "db/paused";
const REPORTS: &str = "db/server/";
const REINITS: &str = "db/reinit/";
const RESTARTS: &str = "db/restart/";

/// The lease of the primary.
pub fn lease_key() -> Key {
    key(LEASE)
}

/// [`ClusterRecord`].
pub fn cluster_key() -> Key {
    key(CLUSTER)
}

/// [`Record`].
pub fn record_key() -> Key {
    key(RECORD)
}

/// [`Request`].
pub fn request_key() -> Key {
    key(REQUEST)
}

/// [`crate::operator::Ended`]: why the last request that was not fulfilled was not.
pub fn ended_key() -> Key {
    key(ENDED)
}

/// There while automatic failover is off. The value says who did it.
pub fn paused_key() -> Key {
    key(PAUSED)
}

/// [`Report`] of a server.
pub fn report_key(server: &ServerName) -> Key {
    key(&format!("{REPORTS}{server}"))
}

/// There until that server has made its copy anew.
pub fn reinit_key(server: &ServerName) -> Key {
    key(&format!("{REINITS}{server}"))
}

/// [`Restart`]: there until PostgreSQL of that server has been started anew.
pub fn restart_key(server: &ServerName) -> Key {
    key(&format!("{RESTARTS}{server}"))
}

#[allow(clippy::expect_used)]
fn key(text: &str) -> Key {
    // Names of servers are parts of keys: `a-z 0-9 -`.
    Key::new(text).expect("letters, slashes and a server's name")
}

/// Which database this is. Written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// PostgreSQL's identity of the database (`pg_control_system()`).
    pub system_id: u64,
}

/// Servers of which `acks` must have flushed a commit before it is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSyncSet")]
pub struct SyncSet {
    /// Never the primary. Empty: the primary alone.
    #[serde(with = "names")]
    pub members: BTreeSet<ServerName>,
    /// 0 if and only if there is no member.
    pub acks: usize,
}

impl SyncSet {
    pub fn alone() -> Self {
        Self::default()
    }

    /// These servers; together with the primary, a majority of all of them has every commit.
    pub fn majority(members: BTreeSet<ServerName>) -> Self {
        let acks = members.len().div_ceil(2);
        Self { members, acks }
    }

    pub fn is_alone(&self) -> bool {
        self.members.is_empty()
    }

    /// How many of the members have to report before it is certain that one of them has every commit.
    pub fn reports_needed(&self) -> usize {
        (self.members.len() + 1).saturating_sub(self.acks)
    }
}

impl fmt::Display for SyncSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_alone() {
            return f.write_str("none");
        }
        write!(f, "{} of {}", self.acks, listed(&self.members))
    }
}

#[derive(Deserialize)]
struct RawSyncSet {
    #[serde(with = "names")]
    members: BTreeSet<ServerName>,
    acks: usize,
}

impl TryFrom<RawSyncSet> for SyncSet {
    type Error = String;

    /// Votes are counted by these numbers: impossible ones must not get in.
    fn try_from(raw: RawSyncSet) -> Result<Self, String> {
        let RawSyncSet { members, acks } = raw;
        let least = usize::from(!members.is_empty());
        match (least..=members.len()).contains(&acks) {
            true => Ok(Self { members, acks }),
            false => Err(format!("{acks} confirmations of {} servers", members.len())),
        }
    }
}

pub(crate) fn listed(names: &BTreeSet<ServerName>) -> String {
    let names: Vec<&str> = names.iter().map(ServerName::as_str).collect();
    names.join(", ")
}

/// The primary and what is certain about the writes acknowledged under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Grows by one with every grant of the lease.
    pub term: u64,
    /// Who was granted the lease in this term.
    #[serde(with = "name")]
    pub primary: ServerName,
    /// While `open`, and after it was: every acknowledged write is on the primary and, unless there is no
    /// member, on `sync.acks` of `sync.members`.
    pub sync: SyncSet,
    /// Whether clients were let in, in this term.
    pub open: bool,
    /// While not `open`: every write ever acknowledged is within this place. `None` for a new database.
    /// While `open` and `asynchronous`: where that began; whoever lacks it is no successor.
    #[serde(default)]
    pub base: Option<Position>,
    /// While not `open`: the servers that the primary waits for before it opens, because they were there
    /// a moment ago.
    #[serde(with = "names", default)]
    pub expected: BTreeSet<ServerName>,
    /// The server that a switchover named as the next primary.
    #[serde(with = "optional_name", default)]
    pub next: Option<ServerName>,
    /// Whether commits do not wait for replicas (`synchronous = "off"`): then whoever is promoted may lack
    /// the last of them.
    #[serde(default)]
    pub asynchronous: bool,
    /// Whether the operator forced this term, and acknowledged writes may be missing.
    #[serde(default)]
    pub forced: bool,
    /// The highest timeline that any primary was told to begin. Each is begun once: PostgreSQL counts from
    /// what it knows, and two servers may know the same.
    #[serde(default)]
    pub timeline: u32,
    /// How often in a row the same server took the lease again, since PostgreSQL ran well there.
    #[serde(default)]
    pub retaken: u32,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {}, primary {}, ", self.term, self.primary)?;
        match (self.open, self.asynchronous) {
            (true, false) if self.sync.is_alone() => f.write_str("open, nobody else has it all")?,
            (true, false) => write!(f, "open, confirmed by {}", self.sync)?,
            (true, true) => f.write_str("open, asynchronous")?,
            (false, _) if self.sync.is_alone() => f.write_str("closed")?,
            (false, _) => write!(f, "closed, was confirmed by {}", self.sync)?,
        }
        if let Some(base) = self.base {
            write!(f, ", base {base}")?;
        }
        if !self.expected.is_empty() {
            write!(f, ", expects {}", listed(&self.expected))?;
        }
        if let Some(next) = &self.next {
            write!(f, ", next {next}")?;
        }
        if self.timeline > 0 {
            write!(f, ", timelines up to {}", self.timeline)?;
        }
        if self.retaken > 0 {
            write!(f, ", retaken {} times", self.retaken)?;
        }
        if self.forced {
            f.write_str(", forced")?;
        }
        Ok(())
    }
}

/// What a server has, once it has stopped receiving WAL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// It receives no WAL from primaries of this term or an earlier one any more.
    pub term: u64,
    pub data: ReportedData,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportedData {
    /// No database, not even a damaged one.
    Nothing,
    /// There is something, and a person has to look at it.
    Unusable { what: String },
    Database {
        system_id: u64,
        history: History,
        /// Whether these are a primary's data (no `standby.signal`).
        primary: bool,
    },
}

impl Report {
    /// The history, if these are data of that database.
    pub fn history_of(&self, system_id: u64) -> Option<&History> {
        match &self.data {
            ReportedData::Database {
                system_id: its,
                history,
                ..
            } if *its == system_id => Some(history),
            _ => None,
        }
    }
}

/// What an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// The primary hands over in good order.
    Switchover {
        /// `None`: the first of the synchronous set, in the order of the file.
        #[serde(with = "optional_name", default)]
        to: Option<ServerName>,
        /// Of the record when it was asked for: in a later term it is void.
        term: u64,
    },
    /// A server becomes primary although the rest is not what it should be.
    Failover {
        #[serde(with = "name")]
        to: ServerName,
        /// Even if acknowledged writes may be missing there.
        accept_loss: bool,
        term: u64,
    },
}

impl Request {
    pub fn term(&self) -> u64 {
        match self {
            Self::Switchover { term, .. } | Self::Failover { term, .. } => *term,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switchover { to: Some(to), .. } => write!(f, "switchover to {to}"),
            Self::Switchover { to: None, .. } => f.write_str("switchover"),
            Self::Failover {
                to, accept_loss, ..
            } => {
                write!(f, "failover to {to}")?;
                match accept_loss {
                    true => f.write_str(", writes may be lost"),
                    false => Ok(()),
                }
            }
        }
    }
}

/// How far the restart of a server's PostgreSQL is that the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    Asked,
    /// The primary of that term lets this replica restart now. Void in a later term.
    Turn {
        term: u64,
    },
    /// PostgreSQL has been stopped since it was asked for: whatever runs now was started later.
    Begun,
}

/// An entry and the revision at which it was written.
pub type Versioned<T> = (T, Revision);

/// All that the store says about the database, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreView {
    pub revision: Revision,
    /// Holder and epoch of the lease; `None` while it is free.
    pub lease: Option<(ServerName, Epoch)>,
    pub cluster: Option<ClusterRecord>,
    pub record: Option<Versioned<Record>>,
    pub reports: BTreeMap<ServerName, Versioned<Report>>,
    pub request: Option<Versioned<Request>>,
    pub paused: bool,
    /// Servers that are to make their copy anew.
    pub reinit: BTreeSet<ServerName>,
    /// Servers whose PostgreSQL is to be restarted.
    pub restart: BTreeMap<ServerName, Versioned<Restart>>,
    /// Entries that cannot be read: a newer program wrote them. Nothing is decided then.
    pub unreadable: Option<String>,
}

impl StoreView {
    pub fn read(view: &View) -> Self {
        let mut seen = Self {
            revision: view.revision,
            lease: view
                .lease(LEASE)
                .map(|lease| (lease.holder.clone(), lease.epoch)),
            paused: view.get(PAUSED).is_some(),
            ..Self::default()
        };
        let mut unreadable = None;
        seen.cluster = decode(view, CLUSTER, &mut unreadable).map(|(cluster, _)| cluster);
        seen.record = decode(view, RECORD, &mut unreadable);
        seen.request = decode(view, REQUEST, &mut unreadable);
        for (key, _) in view.prefixed(REPORTS) {
            let name = ServerName::new(&key.as_str()[REPORTS.len()..]).ok();
            let report = decode(view, key.as_str(), &mut unreadable);
            if let (Some(name), Some(report)) = (name, report) {
                seen.reports.insert(name, report);
            }
        }
        let reinit = view
            .prefixed(REINITS)
            .filter_map(|(key, _)| ServerName::new(&key.as_str()[REINITS.len()..]).ok());
        seen.reinit = reinit.collect();
        // One that cannot be read is nobody's: a restart that is asked for must not keep anybody from
        // taking over.
        let restart = view.prefixed(RESTARTS).filter_map(|(key, entry)| {
            let name = ServerName::new(&key.as_str()[RESTARTS.len()..]).ok()?;
            let restart = serde_json::from_slice(&entry.value).ok()?;
            Some((name, (restart, entry.version)))
        });
        seen.restart = restart.collect();
        seen.unreadable = unreadable;
        seen
    }

    /// The term of the record; 0 before the first one.
    pub fn term(&self) -> u64 {
        self.record.as_ref().map_or(0, |(record, _)| record.term)
    }

    /// Whether the lease is held, and by whom.
    pub fn holder(&self) -> Option<&ServerName> {
        self.lease.as_ref().map(|(holder, _)| holder)
    }
}

fn decode<T: DeserializeOwned>(
    view: &View,
    key: &str,
    unreadable: &mut Option<String>,
) -> Option<Versioned<T>> {
    let entry = view.get(key)?;
    match serde_json::from_slice(&entry.value) {
        Ok(value) => Some((value, entry.version)),
        Err(error) => {
            // The error quotes what it could not read, however long that is.
            let error: String = error.to_string().chars().take(200).collect();
            *unreadable = Some(format!("`{key}` of the cluster store: {error}"));
            None
        }
    }
}

/// An entry's value.
#[allow(clippy::expect_used)]
pub(crate) fn encode<T: Serialize>(value: &T) -> std::sync::Arc<[u8]> {
    // Structs of numbers, strings and lists: writing them to memory cannot fail.
    serde_json::to_vec(value).expect("plain data").into()
}

mod name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use trilith_base::ServerName;

    pub fn serialize<S: Serializer>(name: &ServerName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ServerName, D::Error> {
        ServerName::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod optional_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use trilith_base::ServerName;

    pub fn serialize<S: Serializer>(name: &Option<ServerName>, to: S) -> Result<S::Ok, S::Error> {
        name.as_ref().map(ServerName::as_str).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ServerName>, D::Error> {
        let name = Option::<String>::deserialize(from)?;
        name.map(|name| ServerName::new(&name).map_err(D::Error::custom))
            .transpose()
    }
}

mod names {
    use std::collections::BTreeSet;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use trilith_base::ServerName;

    pub fn serialize<S: Serializer>(
        names: &BTreeSet<ServerName>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(names.iter().map(ServerName::as_str))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeSet<ServerName>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        let name = |name: &String| ServerName::new(name).map_err(D::Error::custom);
        names.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests;
