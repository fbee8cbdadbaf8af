//! Who may take a free lease.

use std::collections::BTreeSet;
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus::Revision;

use crate::history::History;
use crate::limits::{NEXT_PATIENCE, REPORTS_PATIENCE};
use crate::observed::{Kind, Observed};
use crate::policy::Policy;
use crate::record::{Record, Report, Request, SyncSet};
use crate::txn::TakeLease;

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
    let votes: Vec<Vote<'_>> = votes(observed, policy, record.term, system_id).collect();
    let reported: BTreeSet<ServerName> = votes.iter().map(|vote| vote.server.clone()).collect();
    let take = |expected: BTreeSet<ServerName>, counted: Vec<&Vote<'_>>| {
        let record = Record {
            term: record.term + 1,
            primary: policy.me.clone(),
            sync: SyncSet::alone(),
            open: false,
            base: Some(mine.end),
            expected: policy.others(&expected),
            next: None,
            asynchronous: !policy.synchronous,
            forced: false,
        };
        let reports = counted
            .iter()
            .map(|vote| (vote.server.clone(), vote.version));
        Box::new(TakeLease {
            record,
            over: Some(over),
            reports: reports.collect(),
            fulfils: None,
        })
    };
    if let Some((
        Request::Failover {
            to,
            accept_loss,
            term,
        },
        version,
    )) = &observed.store.request
        && *term == record.term
    {
        if *to != policy.me {
            return not(format!("the operator named {to}"));
        }
        if *accept_loss {
            let mut take = take(reported, Vec::new());
            take.record.forced = true;
            take.fulfils = Some(*version);
            let why = "the operator named this server, and accepts that writes may be missing";
            return Verdict::Take {
                take,
                why: why.to_owned(),
            };
        }
    }
    if let Some(next) = &record.next
        && *next != policy.me
        && free_for < NEXT_PATIENCE
    {
        return not(format!("{next} is the next one"));
    }
    // Its own disk has everything that it ever acknowledged.
    if record.primary == policy.me && kind == Kind::Primary {
        if observed.yielding {
            return not("this server's PostgreSQL did not start a moment ago".to_owned());
        }
        return Verdict::Take {
            take: again(policy, record, over, observed),
            why: "this server was the primary".to_owned(),
        };
    }
    if observed.yielding {
        return not("this server gave the lease up a moment ago".to_owned());
    }
    if !record.open {
        return unopened(policy, record, mine, &votes, reported, take);
    }
    let Some(my_vote) = votes.iter().find(|vote| *vote.server == policy.me) else {
        return not("this server has not reported yet".to_owned());
    };
    if my_vote.history.end != mine.end {
        return not("the report is out of date".to_owned());
    }
    if record.asynchronous {
        let all = policy
            .servers
            .iter()
            .all(|server| reported.contains(server));
        if !all && free_for < REPORTS_PATIENCE {
            return not("waiting for reports: replication is asynchronous".to_owned());
        }
        let counted: Vec<_> = votes.iter().collect();
        return match ahead(policy, mine, &counted) {
            Some(server) => not(format!("{server} has more")),
            None => Verdict::Take {
                take: take(reported, counted),
                why: "it has the most of those that reported".to_owned(),
            },
        };
    }
    if !record.sync.members.contains(&policy.me) {
        return not(format!(
            "only {}, or a member of its synchronous set ({}), has every write",
            record.primary, record.sync
        ));
    }
    let counted: Vec<_> = votes
        .iter()
        .filter(|vote| record.sync.members.contains(vote.server))
        .collect();
    let needed = record.sync.reports_needed();
    if counted.len() < needed {
        return not(format!(
            "{} of {needed} reports of the synchronous set ({}) are in",
            counted.len(),
            record.sync
        ));
    }
    match ahead(policy, mine, &counted) {
        Some(server) => not(format!("{server} has more")),
        None => Verdict::Take {
            why: format!("it has the most of {} members that reported", counted.len()),
            take: take(reported.clone(), counted),
        },
    }
}

/// The primary takes its lease again. What is certain about the writes so far stays certain: the record
/// goes on, under the next term.
fn again(policy: &Policy, record: &Record, over: Revision, observed: &Observed) -> Box<TakeLease> {
    let named = match &observed.store.request {
        Some((Request::Failover { to, term, .. }, version)) => {
            (*to == policy.me && *term == record.term).then_some(*version)
        }
        _ => None,
    };
    Box::new(TakeLease {
        record: Record {
            term: record.term + 1,
            next: None,
            ..record.clone()
        },
        over: Some(over),
        reports: Vec::new(),
        fulfils: named,
    })
}

/// Nobody was let in during this term: everybody who has the base has every acknowledged write.
fn unopened(
    policy: &Policy,
    record: &Record,
    mine: &History,
    votes: &[Vote<'_>],
    reported: BTreeSet<ServerName>,
    take: impl FnOnce(BTreeSet<ServerName>, Vec<&Vote<'_>>) -> Box<TakeLease>,
) -> Verdict {
    let Some(base) = record.base else {
        return not(format!("only {} has every write", record.primary));
    };
    if !mine.contains(base) {
        return not(format!("this server lacks writes up to {base}"));
    }
    let named = record.next.as_ref() == Some(&policy.me);
    let counted: Vec<_> = votes
        .iter()
        .filter(|vote| vote.history.contains(base))
        .collect();
    if !named && let Some(server) = ahead(policy, mine, &counted) {
        return not(format!("{server} has more"));
    }
    let expected: BTreeSet<ServerName> = match named {
        true => record.expected.clone(),
        false => reported,
    };
    let mut take = take(expected, if named { Vec::new() } else { counted });
    // What lies behind the base was never acknowledged; others need not have it.
    take.record.base = Some(base);
    Verdict::Take {
        take,
        why: match named {
            true => "the last primary named it".to_owned(),
            false => format!("it has everything up to {base}"),
        },
    }
}

/// Reports that count for the end of this term.
fn votes<'a>(
    observed: &'a Observed,
    policy: &'a Policy,
    term: u64,
    system_id: u64,
) -> impl Iterator<Item = Vote<'a>> {
    observed
        .store
        .reports
        .iter()
        .filter(move |(server, (report, _))| report.term == term && policy.servers.contains(server))
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

/// Who of them has more than `mine`; among equals, who comes first in the file.
fn ahead<'a>(policy: &Policy, mine: &History, votes: &[&'a Vote<'_>]) -> Option<&'a ServerName> {
    let order = |name: &ServerName| policy.servers.iter().position(|server| server == name);
    votes
        .iter()
        .filter(|vote| *vote.server != policy.me)
        .find(|vote| {
            let theirs = vote.history;
            let (i_have, they_have) = (mine.contains(theirs.end), theirs.contains(mine.end));
            match (i_have, they_have) {
                (true, true) => order(vote.server) < order(&policy.me),
                // Neither: their histories parted. Nobody can say that nothing is missing here.
                (false, _) => true,
                (true, false) => false,
            }
        })
        .map(|vote| vote.server)
}

fn not(why: String) -> Verdict {
    Verdict::Not { why }
}
