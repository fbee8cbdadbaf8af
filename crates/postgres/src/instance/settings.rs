//! What a PostgreSQL is told to be by its configuration files: a value, what the files say for it, and back
//! from what a running one shows.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use trilith_base::ServerName;
use trilith_ha::SyncSet;

use crate::conf::{Access, Part, any_of};
use crate::options::{Options, Synchronous};

/// What can change while PostgreSQL runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub role: Role,
    pub access: Access,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Primary { confirmed_by: ConfirmedBy },
    Replica { follow: Option<ServerName> },
}

/// Who must confirm commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConfirmedBy {
    Set(SyncSet),
    /// A replica that does not exist: every commit waits.
    Nobody,
}

/// A name that no server can have: it holds a `_`.
const NOBODY: &str = "trilith_nobody";

impl Settings {
    /// A primary that the application may not connect to.
    pub fn closed_primary(confirmed_by: ConfirmedBy) -> Self {
        Self {
            role: Role::Primary { confirmed_by },
            access: Access::Closed,
        }
    }

    pub fn replica(follow: Option<ServerName>) -> Self {
        Self {
            role: Role::Replica { follow },
            access: Access::Open,
        }
    }

    /// What of it goes into `trilith.conf`. A server that is not in the file is followed by nobody.
    pub fn part<'a>(&self, options: &'a Options) -> Part<'a> {
        match &self.role {
            Role::Primary { confirmed_by } => Part::Primary {
                synchronous_standby_names: confirmed_by.text(),
            },
            Role::Replica { follow } => Part::Replica {
                follow: follow.as_ref().and_then(|name| options.peer(name)),
                synchronous_standby_names: while_replica(options).text(),
            },
        }
    }

    /// The value of `synchronous_standby_names` in it.
    pub fn standby_names(&self, options: &Options) -> String {
        match &self.role {
            Role::Primary { confirmed_by } => confirmed_by.text(),
            Role::Replica { .. } => while_replica(options).text(),
        }
    }

    pub fn follows(&self) -> Option<&ServerName> {
        match &self.role {
            Role::Replica { follow } => follow.as_ref(),
            Role::Primary { .. } => None,
        }
    }
}

impl ConfirmedBy {
    pub fn alone() -> Self {
        Self::Set(SyncSet::alone())
    }

    /// A value of `synchronous_standby_names`.
    pub fn text(&self) -> String {
        match self {
            Self::Set(set) => any_of(set.acks, set.members.iter()),
            Self::Nobody => format!("ANY 1 (\"{NOBODY}\")"),
        }
    }

    /// From what PostgreSQL shows. `None`: not written by us.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::alone());
        }
        let rest = text.trim().strip_prefix("ANY ")?;
        let (acks, rest) = rest.split_once(" (")?;
        let names = rest.strip_suffix(')')?;
        let acks: usize = acks.trim().parse().ok()?;
        let names: Option<Vec<&str>> = names
            .split(',')
            .map(|name| name.trim().strip_prefix('"')?.strip_suffix('"'))
            .collect();
        let names = names?;
        if names == [NOBODY] {
            return Some(Self::Nobody);
        }
        let members: Option<BTreeSet<ServerName>> = names
            .iter()
            .map(|name| ServerName::new(name).ok())
            .collect();
        let members = members?;
        let whole = members.len() == names.len() && (1..=members.len()).contains(&acks);
        whole.then_some(Self::Set(SyncSet { members, acks }))
    }
}

/// Commits look at a flag in shared memory before they wait, and only the checkpointer sets it, which may be
/// busy for minutes (checkpointer.c, `CheckpointWriteDelay`). Where a promotion will mostly go together with
/// a synchronous set, the flag is set beforehand; with two servers there is mostly nobody left to wait for.
fn while_replica(options: &Options) -> ConfirmedBy {
    match options.synchronous {
        Synchronous::Quorum if options.servers.len() > 2 => ConfirmedBy::Nobody,
        _ => ConfirmedBy::alone(),
    }
}

/// Which server a `primary_conninfo` names; `None` when it names none of the file's.
pub(super) fn followed(options: &Options, conninfo: &str) -> Option<ServerName> {
    let values = conninfo_values(conninfo)?;
    let value = |wanted: &str| {
        let found = values.iter().rev().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let ip: IpAddr = value("hostaddr").or(value("host"))?.parse().ok()?;
    let address = SocketAddr::new(ip, value("port")?.parse().ok()?);
    let peer = options
        .servers
        .iter()
        .find(|peer| peer.address == address)?;
    Some(peer.name.clone())
}

/// `name=value` pairs; values may be in single quotes, with `\` as an escape (libpq, "Connection Strings").
fn conninfo_values(text: &str) -> Option<Vec<(String, String)>> {
    let mut values = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(values);
        }
        let mut name = String::new();
        loop {
            match chars.next()? {
                '=' => break,
                c => name.push(c),
            }
        }
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.push(chars.next()?),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return None,
                None => break,
            }
        }
        values.push((name.trim().to_owned(), value));
    }
}

/// Whether this `pg_hba.conf` lets the application in.
pub(super) fn lets_application_in(hba: &str, options: &Options) -> bool {
    let user = format!("\"{}\"", options.user);
    hba.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .any(|line| line.split_whitespace().nth(2) == Some(user.as_str()))
}

#[cfg(test)]
mod tests;
