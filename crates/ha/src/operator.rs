//! What an operator asks for: checked against what the cluster store says, then one transaction. Pure.
//!
//! The check is for people: it says at once what the planner would only say later, by giving the request
//! up. The planner trusts none of it.

use serde::{Deserialize, Serialize};
use trilith_base::ServerName;
use trilith_consensus::{Condition, Key, Revision, Txn, View, Write};

use crate::record::{
    Record, Request, Restart, StoreView, encode, ended_key, listed, paused_key, record_key,
    reinit_key, request_key, restart_key,
};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The primary hands over in good order.
    Switchover {
        /// `None`: whoever comes first.
        to: Option<ServerName>,
    },
    /// That server becomes primary although the rest is not what it should be.
    Failover {
        to: ServerName,
        accept_loss: bool,
    },
    /// That server throws its copy away and makes a new one.
    Reinit {
        server: ServerName,
    },
    /// PostgreSQL of these servers is started anew, one after the other, the primary last.
    Restart {
        /// Empty: all database servers.
        servers: Vec<ServerName>,
    },
    /// Nobody takes over any more.
    Pause {
        note: Paused,
    },
    Resume,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    Do(Box<Order>),
    /// It is so already; in one sentence.
    Already(String),
}

/// What is to be written, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub txn: Txn,
    /// What happens then, in one sentence without its full stop.
    pub then: String,
    /// What the operator should know before.
    pub warnings: Vec<String>,
    /// Who will be the primary, or make its copy anew, as far as that is known.
    pub server: Option<ServerName>,
    /// Who is restarted, in the order of the file.
    pub servers: Vec<ServerName>,
    /// Of the record when it was asked for.
    pub term: u64,
}

/// Why it is not done, and what to type instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub why: String,
    pub next: Vec<String>,
}

/// Who paused failover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// `root@one`.
    #[serde(default)]
    pub by: String,
    /// Milliseconds since 1970 UTC.
    #[serde(default)]
    pub since_unix_ms: u64,
}

/// How the last request that was not fulfilled ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The revision at which it was made.
    pub request: u64,
    pub why: String,
}

/// The note of a pause, if failover is paused. An empty one for whatever else stands there.
pub fn paused(view: &View) -> Option<Paused> {
    let entry = view.get(paused_key().as_str())?;
    Some(serde_json::from_slice(&entry.value).unwrap_or_default())
}

/// How the last request that was given up ended.
pub fn ended(view: &View) -> Option<Ended> {
    let entry = view.get(ended_key().as_str())?;
    serde_json::from_slice(&entry.value).ok()
}

/// Checks it. `servers`: the database servers, in the order of the file.
///
/// # Errors
/// What cannot be done now, and what can be typed instead.
pub fn check(ask: &Ask, view: &StoreView, servers: &[ServerName]) -> Result<Checked, Refusal> {
    if let Some(what) = &view.unreadable {
        return Err(no(format!(
            "a newer version of Trilith wrote what decides this: {what}"
        )));
    }
    let desk = Desk { view, servers };
    match ask {
        Ask::Switchover { to } => desk.switchover(to.as_ref()),
        Ask::Failover { to, accept_loss } => desk.failover(to, *accept_loss),
        Ask::Reinit { server } => desk.reinit(server),
        Ask::Restart { servers } => desk.restart(servers),
        Ask::Pause { note } => Ok(desk.pause(note)),
        Ask::Resume => Ok(desk.resume()),
    }
}

struct Desk<'a> {
    view: &'a StoreView,
    servers: &'a [ServerName],
}

impl Desk<'_> {
    fn switchover(&self, to: Option<&ServerName>) -> Result<Checked, Refusal> {
        if let Some(to) = to {
            self.has_database(to)?;
        }
        let Some((record, version)) = &self.view.record else {
            return Err(
                no("there is no primary yet that could hand over").next("trilith db status")
            );
        };
        let primary = &record.primary;
        if to == Some(primary) && self.view.holder() == Some(primary) {
            return Ok(Checked::Already(format!(
                "{primary} is the primary already"
            )));
        }
        self.not_paused()?;
        let Some(holder) = self.view.holder() else {
            return Err(
                no("there is no primary that could hand over: nobody holds the lease")
                    .next("trilith db status")
                    .next("trilith db failover --to SERVER"),
            );
        };
        if !record.open {
            return Err(no(format!(
                "{holder} has just become the primary, and is not open yet: try again in a moment"
            ))
            .next("trilith db status"));
        }
        let to = match to {
            Some(to) => to.clone(),
            None => self.first_successor(record)?,
        };
        if !record.asynchronous && !record.sync.members.contains(&to) {
            return Err(self.not_member(record, &to).next("trilith db status"));
        }
        let over = self.no_other_request(record.term)?;
        let request = Request::Switchover {
            to: Some(to.clone()),
            term: record.term,
        };
        Ok(Checked::Do(Box::new(Order {
            txn: ask_for(&request, over, Some(*version)),
            then: format!("{holder} stops in good order, and {to} becomes the primary"),
            warnings: Vec::new(),
            server: Some(to),
            servers: Vec::new(),
            term: record.term,
        })))
    }

    /// The same one that the primary would choose.
    fn first_successor(&self, record: &Record) -> Result<ServerName, Refusal> {
        let may = |server: &&ServerName| {
            **server != record.primary
                && (record.asynchronous || record.sync.members.contains(*server))
        };
        let first = self.servers.iter().find(may).cloned();
        first.ok_or_else(|| {
            no(match self.servers.len() {
                1 => format!("{} is the only database server", record.primary),
                _ => format!(
                    "no replica has every write yet: the synchronous set of {} is empty",
                    record.primary
                ),
            })
            .next("trilith db status")
        })
    }

    fn failover(&self, to: &ServerName, accept_loss: bool) -> Result<Checked, Refusal> {
        self.has_database(to)?;
        let Some((record, version)) = &self.view.record else {
            return self.first(to, accept_loss);
        };
        if self.view.holder() == Some(to) && record.primary == *to {
            return Ok(Checked::Already(format!("{to} is the primary already")));
        }
        self.not_paused()?;
        let mut warnings = Vec::new();
        let member = record.sync.members.contains(to);
        let complete = record.primary == *to || !record.open || member;
        if !complete && !accept_loss && !record.asynchronous {
            return Err(self
                .not_member(record, to)
                .next(format!("trilith db failover --to {to} --accept-loss")));
        }
        if !complete {
            warnings.push(match record.asynchronous {
                true => "commits wait for nobody: the last of them may be missing there".to_owned(),
                false => format!("{to} may lack acknowledged writes: they are lost then"),
            });
        } else if accept_loss {
            warnings.push(format!(
                "{to} is taken as it is, although it may not have the most: leave --accept-loss out \
                 if you can"
            ));
        }
        if let Some(holder) = self.view.holder() {
            warnings.push(format!(
                "{holder} is the primary, and is stopped hard; `trilith db switchover` is the gentle way"
            ));
        }
        if let Some((request, _)) = &self.view.request
            && request.term() == record.term
        {
            warnings.push(format!("it takes the place of another request: {request}"));
        }
        let request = Request::Failover {
            to: to.clone(),
            accept_loss,
            term: record.term,
        };
        let over = self.view.request.as_ref().map(|(_, version)| *version);
        Ok(Checked::Do(Box::new(Order {
            txn: ask_for(&request, over, Some(*version)),
            then: match self.view.holder() {
                Some(holder) => format!("{holder} is stopped, and {to} becomes the primary"),
                None => format!("{to} becomes the primary"),
            },
            warnings,
            server: Some(to.clone()),
            servers: Vec::new(),
            term: record.term,
        })))
    }

    /// There never was a primary: somebody is to begin with what is there.
    fn first(&self, to: &ServerName, accept_loss: bool) -> Result<Checked, Refusal> {
        if !accept_loss {
            return Err(no(format!(
                "there is no database yet that is known to the cluster store: {to} would go on with \
                 what it has, and what others have would not count"
            ))
            .next("trilith db status")
            .next(format!("trilith db failover --to {to} --accept-loss")));
        }
        let over = self.view.request.as_ref().map(|(_, version)| *version);
        let request = Request::Failover {
            to: to.clone(),
            accept_loss,
            term: 0,
        };
        Ok(Checked::Do(Box::new(Order {
            txn: ask_for(&request, over, None),
            then: format!("{to} becomes the first primary, with the data that it has"),
            warnings: vec![format!("what other servers have and {to} has not is lost")],
            server: Some(to.clone()),
            servers: Vec::new(),
            term: 0,
        })))
    }

    fn reinit(&self, server: &ServerName) -> Result<Checked, Refusal> {
        self.has_database(server)?;
        let record = self.view.record.as_ref().map(|(record, _)| record);
        let primary = self.view.holder().or(record.map(|record| &record.primary));
        if primary == Some(server) {
            return Err(no(format!(
                "{server} is the primary: there is nobody whose data it could copy"
            ))
            .next(format!("trilith db switchover   (then reinit {server})")));
        }
        if self.view.reinit.contains(server) {
            return Ok(Checked::Already(format!(
                "{server} is to make its copy anew already"
            )));
        }
        let mut warnings = Vec::new();
        match primary {
            None => {
                warnings.push("there is no primary yet to copy from: it waits for one".to_owned())
            }
            Some(_) if self.view.holder().is_none() => {
                warnings.push("there is no primary at the moment: it waits for one".to_owned());
            }
            Some(_) => {}
        }
        if let Some(record) = record
            && record.open
            && record.sync.members.contains(server)
        {
            let rest = record.sync.members.len() - 1;
            warnings.push(match rest {
                0 => format!(
                    "{server} is the only replica that has every write: until its new copy is there, {} \
                     alone has them",
                    record.primary
                ),
                _ => format!("until its new copy is there, {server} has none of the writes"),
            });
        }
        let txn = Txn::new()
            .when(Condition::Absent {
                key: reinit_key(server),
            })
            .when(match &self.view.record {
                Some((_, version)) => unchanged(record_key(), *version),
                None => Condition::Absent { key: record_key() },
            })
            .then(Write::Put {
                key: reinit_key(server),
                value: b"reinit".as_slice().into(),
            });
        Ok(Checked::Do(Box::new(Order {
            txn,
            then: format!("{server} sets its data aside and copies the primary's"),
            warnings,
            server: Some(server.clone()),
            servers: Vec::new(),
            term: self.view.term(),
        })))
    }

    /// What it does is decided when it is done: who is the primary may change on the way.
    fn restart(&self, named: &[ServerName]) -> Result<Checked, Refusal> {
        for server in named {
            self.has_database(server)?;
        }
        let wanted = |server: &&ServerName| named.is_empty() || named.contains(server);
        let servers: Vec<ServerName> = self.servers.iter().filter(wanted).cloned().collect();
        let marked = |server: &&ServerName| self.view.restart.contains_key(*server);
        let new: Vec<&ServerName> = servers.iter().filter(|server| !marked(server)).collect();
        if new.is_empty() {
            let names = listed(&servers.iter().cloned().collect());
            return Ok(Checked::Already(match servers.is_empty() {
                true => "there is no database server".to_owned(),
                false => format!("asked for already, and not done yet: a restart of {names}"),
            }));
        }
        let record = self.view.record.as_ref().map(|(record, _)| record);
        let primary = self.view.holder().or(record.map(|record| &record.primary));
        let (last, first): (Vec<&ServerName>, _) =
            servers.iter().partition(|server| Some(*server) == primary);
        let mut warnings = Vec::new();
        if self.view.holder().is_none() {
            warnings.push("there is no primary at the moment: it waits for one".to_owned());
        }
        let heir = record.and_then(|record| self.first_successor(record).ok());
        let mut then = Vec::new();
        if !first.is_empty() {
            let names: Vec<&str> = first.iter().map(|server| server.as_str()).collect();
            let one_by_one = if first.len() > 1 { ", one by one" } else { "" };
            then.push(format!(
                "PostgreSQL restarts on {}{one_by_one}",
                names.join(", ")
            ));
        }
        if let Some(primary) = last.first() {
            let hands_over = heir.is_some() && !self.view.paused;
            if !hands_over {
                warnings.push(match self.view.paused {
                    true => format!(
                        "failover is paused: {primary} restarts in place, and nothing is written meanwhile"
                    ),
                    false => format!(
                        "nobody can take over from {primary}: it restarts in place, and nothing is \
                         written meanwhile"
                    ),
                });
            }
            then.push(match hands_over {
                true => format!("{primary} hands over and restarts as a replica"),
                false => format!("PostgreSQL restarts on {primary}"),
            });
        }
        let mut txn = Txn::new();
        for server in new {
            let key = restart_key(server);
            txn = txn
                .when(Condition::Absent { key: key.clone() })
                .then(Write::Put {
                    key,
                    value: encode(&Restart::Asked),
                });
        }
        Ok(Checked::Do(Box::new(Order {
            txn,
            then: then.join(", then "),
            warnings,
            server: None,
            servers,
            term: self.view.term(),
        })))
    }

    fn pause(&self, note: &Paused) -> Checked {
        if self.view.paused {
            return Checked::Already("failover is paused already".to_owned());
        }
        let txn = Txn::new()
            .when(Condition::Absent { key: paused_key() })
            .then(Write::Put {
                key: paused_key(),
                value: encode(note),
            });
        let mut warnings =
            vec!["until `trilith db resume` nobody takes over when the primary fails".to_owned()];
        if self.view.holder().is_none() {
            warnings.push(match &self.view.record {
                Some((record, _)) => format!(
                    "there is no primary now: only {} can become it again while failover is paused",
                    record.primary
                ),
                None => "there is no primary now".to_owned(),
            });
        }
        Checked::Do(Box::new(Order {
            txn,
            then: "no other server becomes the primary; one without its lease stops all the same"
                .to_owned(),
            warnings,
            server: None,
            servers: Vec::new(),
            term: self.view.term(),
        }))
    }

    fn resume(&self) -> Checked {
        if !self.view.paused {
            return Checked::Already("failover is not paused".to_owned());
        }
        Checked::Do(Box::new(Order {
            txn: Txn::new().then(Write::Delete { key: paused_key() }),
            then: match self.view.holder() {
                Some(_) => "another server takes over again when the primary fails".to_owned(),
                None => "there is no primary: a server takes over at once, if one may".to_owned(),
            },
            warnings: Vec::new(),
            server: None,
            servers: Vec::new(),
            term: self.view.term(),
        }))
    }

    fn has_database(&self, server: &ServerName) -> Result<(), Refusal> {
        if self.servers.contains(server) {
            return Ok(());
        }
        let names: Vec<&str> = self.servers.iter().map(ServerName::as_str).collect();
        Err(no(format!(
            "{server} has not the role db: the database servers are {}",
            names.join(", ")
        )))
    }

    fn not_paused(&self) -> Result<(), Refusal> {
        match self.view.paused {
            false => Ok(()),
            true => Err(no("failover is paused").next("trilith db resume")),
        }
    }

    fn not_member(&self, record: &Record, to: &ServerName) -> Refusal {
        let set = &record.sync;
        no(match set.is_alone() {
            true => format!(
                "{to} may lack writes: the synchronous set is empty, only {} has everything",
                record.primary
            ),
            false => format!(
                "{to} is not a member of the synchronous set, and may lack writes: {} {} everything",
                listed(&set.members),
                if set.members.len() == 1 {
                    "has"
                } else {
                    "have"
                }
            ),
        })
    }

    /// The version of a request of an earlier term, which is written over.
    fn no_other_request(&self, term: u64) -> Result<Option<Revision>, Refusal> {
        match &self.view.request {
            None => Ok(None),
            Some((request, version)) if request.term() != term => Ok(Some(*version)),
            Some((request, _)) => {
                Err(no(format!("another request is under way: {request}"))
                    .next("trilith db status"))
            }
        }
    }
}

impl Refusal {
    fn next(mut self, command: impl Into<String>) -> Self {
        self.next.push(command.into());
        self
    }
}

fn no(why: impl Into<String>) -> Refusal {
    Refusal {
        why: why.into(),
        next: Vec::new(),
    }
}

/// `over`: a request that it takes the place of.
fn ask_for(request: &Request, over: Option<Revision>, record: Option<Revision>) -> Txn {
    let place = match over {
        Some(version) => unchanged(request_key(), version),
        None => Condition::Absent { key: request_key() },
    };
    let so_far = match record {
        Some(version) => unchanged(record_key(), version),
        None => Condition::Absent { key: record_key() },
    };
    let mut txn = Txn::new().when(place).when(so_far);
    if record.is_some() {
        txn = txn.when(Condition::Absent { key: paused_key() });
    }
    txn.then(Write::Put {
        key: request_key(),
        value: encode(request),
    })
}

fn unchanged(key: Key, version: Revision) -> Condition {
    Condition::Unchanged { key, version }
}

#[cfg(test)]
mod tests;
