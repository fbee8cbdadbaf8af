//! Who may take a free lease. Two questions are kept apart: who *may* (nothing acknowledged can be missing
//! there), and who of those comes first; the second is a matter of patience, so that a server that reports
//! and then dies keeps nobody waiting for long.

use std::collections::BTreeSet;
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus::Revision;

use crate::history::History;
use crate::limits::{NEXT_PATIENCE, REPORTS_PATIENCE, SWITCHOVER_PATIENCE};
use crate::observed::{Kind, Observed};
use crate::policy::Policy;
use crate::record::{Record, Report, Request, SyncSet};
use crate::txn::TakeLease;

const UNKNOWN: &str = "the others do not know yet what this server has";

/// What comes of looking at a free lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take {
        take: Box<TakeLease>,
        why: String,
    },
    /// Somebody else, or nobody yet.
    Not {
        why: String,
    },
}

/// A report that counts, and who made it.
struct Vote<'a> {
    server: &'a ServerName,
    version: Revision,
    history: &'a History,
}

/// A free lease, and what this server has.
struct Candidate<'a> {
    o: &'a Observed,
    policy: &'a Policy,
    record: &'a Record,
    over: Revision,
    mine: &'a History,
    /// Reports for the end of this term, of this database.
    votes: Vec<Vote<'a>>,
    free_for: Duration,
}

/// Whether this server takes the lease now. `mine` is what it has; it has stopped receiving, or was the
/// primary itself.
pub(crate) fn decide(
    observed: &Observed,
    policy: &Policy,
    record: &Record,
    over: Revision,
    system_id: u64,
    (kind, mine): (Kind, &History),
    free_for: Duration,
) -> Verdict {
    let candidate = Candidate {
        o: observed,
        policy,
        record,
        over,
        mine,
        votes: votes(observed, record.term, system_id).collect(),
        free_for,
    };
    candidate.decide(kind)
}

impl<'a> Candidate<'a> {
    fn decide(&self, kind: Kind) -> Verdict {
        let record = self.record;
        let named = self.named();
        if let Some((to, ..)) = named
            && *to != self.policy.me
            && self.o.request_for < SWITCHOVER_PATIENCE
        {
            return not(format!("the operator named {to}"));
        }
        let named = named.filter(|(to, ..)| **to == self.policy.me);
        if let Some(next) = &record.next
            && *next != self.policy.me
            && named.is_none()
            && self.free_for < NEXT_PATIENCE
        {
            return not(format!("{next} is the next one"));
        }
        // Whom the last primary named followed it until then: its PostgreSQL does start.
        let next = record.next.as_ref() == Some(&self.policy.me);
        let yielding = self.o.yielding && named.is_none() && !next;
        // Its own disk has everything that it ever acknowledged.
        if record.primary == self.policy.me && kind == Kind::Primary {
            if yielding {
                return not("PostgreSQL did not start here a moment ago".to_owned());
            }
            return Verdict::Take {
                take: self.again(named.map(|(_, _, version)| version)),
                why: "this server was the primary".to_owned(),
            };
        }
        if self.o.store.paused {
            return not("failover is paused".to_owned());
        }
        if let Some((_, true, version)) = named {
            let mut take = self.take(Vec::new());
            take.record.forced = true;
            take.fulfils = Some(version);
            return Verdict::Take {
                take,
                why: "the operator named this server, and accepts that writes may be missing"
                    .to_owned(),
            };
        }
        if yielding {
            return not("this server gave the lease up a moment ago".to_owned());
        }
        if !record.open {
            return self.unopened(named.is_some());
        }
        match record.asynchronous {
            true => self.most_advanced(named.is_some()),
            false => self.of_the_set(named.is_some()),
        }
    }

    /// Whether the others know what this server has.
    fn has_reported(&self) -> bool {
        let mut votes = self.votes.iter();
        votes.any(|vote| *vote.server == self.policy.me && vote.history == self.mine)
    }

    /// The server that the operator named for a failover in this term, and whether losses are accepted.
    fn named(&self) -> Option<(&'a ServerName, bool, Revision)> {
        match self.o.store.request.as_ref()? {
            (
                Request::Failover {
                    to,
                    accept_loss,
                    term,
                },
                version,
            ) if *term == self.record.term => Some((to, *accept_loss, *version)),
            _ => None,
        }
    }

    /// Nobody was let in during this term: everybody who has the base has every acknowledged write.
    fn unopened(&self, named: bool) -> Verdict {
        let record = self.record;
        let Some(base) = record.base else {
            return not(format!("only {} has every write", record.primary));
        };
        if !self.mine.contains(base) {
            // Handed over without anybody to receive the last of it: then that was never acknowledged.
            let patience = NEXT_PATIENCE * 2;
            if !record.sync.is_alone() && self.free_for >= patience {
                return self.of_the_set(named);
            }
            return not(format!("this server lacks writes up to {base}"));
        }
        let next = record.next.as_ref() == Some(&self.policy.me);
        let mut take = self.take(Vec::new());
        if next {
            take.record.expected = self.policy.others(&record.expected);
        } else {
            let with_base = self.votes.iter().filter(|vote| vote.history.contains(base));
            let with_base: Vec<_> = with_base.collect();
            if !named
                && self.free_for < NEXT_PATIENCE
                && let Some(why) = self.better(&with_base)
            {
                return not(why);
            }
            take.reports = counted(&with_base);
        }
        // What lies behind the base was never acknowledged; others need not have it.
        take.record.base = Some(base);
        Verdict::Take {
            take,
            why: match next {
                true => "the last primary named it".to_owned(),
                false => format!("it has everything up to {base}"),
            },
        }
    }

    /// Every acknowledged write is on `acks` of the members: one of so many reports has it, and what has
    /// all that they have has it too.
    fn of_the_set(&self, named: bool) -> Verdict {
        let record = self.record;
        if !self.has_reported() {
            return not(UNKNOWN.to_owned());
        }
        if !record.sync.members.contains(&self.policy.me) {
            return not(match record.sync.is_alone() {
                true => format!("only {} has every write", record.primary),
                false => format!(
                    "only {}, or one of its synchronous set ({}), has every write",
                    record.primary, record.sync
                ),
            });
        }
        let member = |vote: &&Vote<'_>| record.sync.members.contains(vote.server);
        let members: Vec<_> = self.votes.iter().filter(member).collect();
        let needed = record.sync.reports_needed();
        if members.len() < needed {
            return not(format!(
                "{} of {needed} needed reports of the synchronous set ({}) are in",
                members.len(),
                record.sync
            ));
        }
        let within = |vote: &&Vote<'_>| self.mine.has(vote.history);
        let behind: Vec<_> = members.iter().copied().filter(within).collect();
        let better = self.better(&members);
        if behind.len() < needed {
            return not(better.unwrap_or_else(|| "others have more".to_owned()));
        }
        if let Some(why) = better
            && !named
            && self.free_for < NEXT_PATIENCE
        {
            return not(why);
        }
        Verdict::Take {
            why: match others(&behind, self.policy) {
                others if others.is_empty() => "it has every acknowledged write".to_owned(),
                others => format!("it has every acknowledged write: all that {others} reported"),
            },
            take: self.take(counted(&behind)),
        }
    }

    /// Commits waited for nobody: the last of them may be lost, as few as possible.
    fn most_advanced(&self, named: bool) -> Verdict {
        let record = self.record;
        if !self.has_reported() {
            return not(UNKNOWN.to_owned());
        }
        if let Some(base) = record.base
            && !self.mine.contains(base)
        {
            return not(format!(
                "this server never followed {} as far as {base}",
                record.primary
            ));
        }
        let reported = |server: &ServerName| self.votes.iter().any(|vote| vote.server == server);
        let all = self.policy.servers.iter().all(reported);
        if !all && !named && self.free_for < REPORTS_PATIENCE {
            return not("replication is asynchronous: waiting for all reports".to_owned());
        }
        let has_base =
            |vote: &&Vote<'_>| record.base.is_none_or(|base| vote.history.contains(base));
        let votes: Vec<_> = self.votes.iter().filter(has_base).collect();
        if !named
            && self.free_for < REPORTS_PATIENCE * 2
            && let Some(why) = self.better(&votes)
        {
            return not(why);
        }
        Verdict::Take {
            why: "replication is asynchronous, and it has the most of those that reported"
                .to_owned(),
            take: self.take(counted(&votes)),
        }
    }

    /// Why another one of them comes first, if so: it has more, or the same and an earlier place in the
    /// file.
    fn better(&self, votes: &[&Vote<'_>]) -> Option<String> {
        let order =
            |name: &ServerName| self.policy.servers.iter().position(|server| server == name);
        let others = votes.iter().filter(|vote| *vote.server != self.policy.me);
        let mut first = None;
        for vote in others {
            let theirs = vote.history;
            match (self.mine.has(theirs), theirs.has(self.mine)) {
                (true, true) if order(vote.server) < order(&self.policy.me) => {
                    first = Some(format!("{} has as much, and comes first", vote.server));
                }
                (true, _) => {}
                (false, true) => return Some(format!("{} has more", vote.server)),
                (false, false) => {
                    return Some(format!("{} has what this server has not", vote.server));
                }
            }
        }
        first
    }

    /// A new term of this server, which will begin a timeline.
    fn take(&self, reports: Vec<(ServerName, Revision)>) -> Box<TakeLease> {
        // Those that can follow at once, without a rewind.
        let within = self.votes.iter().filter(|vote| self.mine.has(vote.history));
        let expected: BTreeSet<ServerName> = within.map(|vote| vote.server.clone()).collect();
        let known = self.votes.iter().map(|vote| vote.history.end.timeline);
        let known = known.fold(self.mine.end.timeline, u32::max);
        Box::new(TakeLease {
            record: Record {
                term: self.record.term + 1,
                primary: self.policy.me.clone(),
                sync: SyncSet::alone(),
                open: false,
                base: Some(self.mine.end),
                expected: self.policy.others(&expected),
                next: None,
                asynchronous: !self.policy.synchronous,
                forced: false,
                timeline: self.record.timeline.max(known) + 1,
                retaken: 0,
            },
            over: Some(self.over),
            reports,
            fulfils: None,
            again: false,
        })
    }

    /// The primary takes its lease again. What is certain about the writes so far stays certain: the
    /// record goes on, under the next term.
    fn again(&self, fulfils: Option<Revision>) -> Box<TakeLease> {
        Box::new(TakeLease {
            record: Record {
                term: self.record.term + 1,
                next: None,
                retaken: self.record.retaken.saturating_add(1),
                ..self.record.clone()
            },
            over: Some(self.over),
            reports: Vec::new(),
            fulfils,
            again: true,
        })
    }
}

/// Reports that count for the end of this term. Also those of servers that the file no longer lists: what
/// they say about the WAL is as true as before.
fn votes(observed: &Observed, term: u64, system_id: u64) -> impl Iterator<Item = Vote<'_>> {
    let reports = observed.store.reports.iter();
    reports
        .filter(move |(_, (report, _))| report.term == term)
        .filter_map(move |(server, (report, version))| {
            let history = Report::history_of(report, system_id)?;
            let version = *version;
            Some(Vote {
                server,
                version,
                history,
            })
        })
}

fn others(votes: &[&Vote<'_>], policy: &Policy) -> String {
    let names = votes.iter().map(|vote| vote.server.as_str());
    let names: Vec<&str> = names.filter(|name| *name != policy.me.as_str()).collect();
    names.join(", ")
}

fn counted(votes: &[&Vote<'_>]) -> Vec<(ServerName, Revision)> {
    let versions = votes.iter().map(|vote| (vote.server.clone(), vote.version));
    versions.collect()
}

fn not(why: String) -> Verdict {
    Verdict::Not { why }
}

#[cfg(test)]
mod tests;
