//! There never was a primary.

use std::collections::BTreeSet;
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus::Revision;

use super::Planner;
use crate::limits::{FIRST_DELAY, NEXT_PATIENCE};
use crate::observed::{Data, Kind, Process};
use crate::plan::{Plan, Step, StopMode};
use crate::record::{Record, ReportedData, Request, SyncSet};
use crate::txn::TakeLease;

const FIND: &str = "find out who has data";
const MAKE: &str = "make the database";

impl Planner<'_> {
    /// Everybody tells what there is; then one of them makes the database, or goes on with what is found.
    pub(super) fn first(&self, since: Duration) -> Plan {
        if self.o.local.process != Process::Stopped {
            let mode = StopMode::Fast;
            return Plan::one(
                FIND,
                Step::Stop { mode },
                "the cluster store knows no database",
            );
        }
        let (data, what) = match &self.o.local.data {
            Data::Missing | Data::HalfMade { .. } => (ReportedData::Nothing, "no data".to_owned()),
            Data::Unusable { what, .. } => (
                ReportedData::Unusable { what: what.clone() },
                "data that cannot be used".to_owned(),
            ),
            Data::Ready {
                system_id,
                kind,
                history,
                ..
            } => (
                ReportedData::Database {
                    system_id: *system_id,
                    history: history.clone(),
                    primary: *kind == Kind::Primary,
                },
                format!("a database up to {}", history.end),
            ),
        };
        if let Some(plan) = self.report(FIND, 0, data, format!("this server has {what}")) {
            return plan;
        }
        if let Some((to, version)) = self.forced(0) {
            return match *to == self.policy.me {
                true => self.take_first("the operator named this server", Some(version)),
                false => Plan::wait(MAKE, format!("the operator named {to}")),
            };
        }
        let missing: Vec<&str> = self
            .policy
            .servers
            .iter()
            .filter(|server| !self.o.store.reports.contains_key(*server))
            .map(ServerName::as_str)
            .collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Plan::wait(FIND, format!("not known yet: the data of {missing}"));
        }
        self.choose_first(since)
    }

    /// Whom the operator named, whatever the others have.
    fn forced(&self, term: u64) -> Option<(&ServerName, Revision)> {
        match self.o.store.request.as_ref()? {
            (
                Request::Failover {
                    to,
                    accept_loss: true,
                    term: its,
                },
                version,
            ) if *its == term => Some((to, *version)),
            _ => None,
        }
    }

    fn choose_first(&self, since: Duration) -> Plan {
        let reports = self.policy.servers.iter().filter_map(|server| {
            let (report, _) = self.o.store.reports.get(server)?;
            Some((server, &report.data))
        });
        let (mut found, mut unusable) = (Vec::new(), None);
        for (server, data) in reports {
            match data {
                ReportedData::Nothing => {}
                ReportedData::Unusable { what } => unusable = Some((server, what)),
                ReportedData::Database {
                    system_id,
                    history,
                    primary,
                } => {
                    found.push((server, *system_id, history, *primary));
                }
            }
        }
        if let Some((server, what)) = unusable {
            return Plan::fail(
                format!("{server} has data that cannot be used: {what}"),
                "mend or move them, or name a server: `trilith db failover --to SERVER --accept-loss`",
            );
        }
        if found.is_empty() {
            let turn = FIRST_DELAY * self.policy.order();
            return match since >= turn {
                true => self.take_first("nobody has a database yet", None),
                false => Plan::wait(MAKE, "another server comes first"),
            };
        }
        let best = found.iter().find(|(_, system_id, history, primary)| {
            *primary
                && found
                    .iter()
                    .all(|(_, its, other, _)| its == system_id && history.has(other))
        });
        match best {
            Some((server, ..)) if **server == self.policy.me => {
                self.take_first("this server has the database", None)
            }
            Some((server, ..)) => Plan::wait("go on with the database", format!("{server} has it")),
            None => Plan::fail(
                "there are databases, and the cluster store does not know which of them is the newest",
                "look at `trilith db status`, then name a server: `trilith db failover --to SERVER --accept-loss`",
            ),
        }
    }

    fn take_first(&self, why: &str, fulfils: Option<Revision>) -> Plan {
        let record = Record {
            term: 1,
            primary: self.policy.me.clone(),
            sync: SyncSet::alone(),
            open: false,
            base: None,
            expected: BTreeSet::new(),
            next: None,
            asynchronous: !self.policy.synchronous,
            forced: false,
            timeline: 0,
            retaken: 0,
        };
        let take = TakeLease {
            record,
            over: None,
            reports: match fulfils {
                Some(_) => Vec::new(),
                None => self.all_reports(),
            },
            fulfils,
            again: false,
        };
        Plan::one(MAKE, Step::TakeLease(Box::new(take)), why)
    }

    fn all_reports(&self) -> Vec<(ServerName, Revision)> {
        let reports = self.o.store.reports.iter();
        reports
            .map(|(server, (_, version))| (server.clone(), *version))
            .collect()
    }

    /// Whoever was to make the database has gone before it was there.
    pub(super) fn bootstrap_again(
        &self,
        record: &Record,
        version: Revision,
        since: Duration,
    ) -> Plan {
        let named = self.forced(record.term);
        if let Some((to, _)) = named
            && *to != self.policy.me
        {
            return Plan::wait(MAKE, format!("the operator named {to}"));
        }
        let mine = record.primary == self.policy.me;
        if named.is_none() && !mine {
            // A new, empty database must not take the place of one that there is.
            let mut reports = self.o.store.reports.iter();
            let holder = reports.find(|(server, (report, _))| {
                **server != self.policy.me && report.data != ReportedData::Nothing
            });
            if let Some((server, _)) = holder {
                let why = format!("{server} has data, and was to go on with them");
                return Plan::wait("go on with the database", why);
            }
            let turn = NEXT_PATIENCE * 2 + FIRST_DELAY * self.policy.order();
            if since < turn {
                return Plan::wait(MAKE, format!("{} is making it", record.primary));
            }
        }
        let take = TakeLease {
            record: Record {
                term: record.term + 1,
                primary: self.policy.me.clone(),
                ..record.clone()
            },
            over: Some(version),
            reports: match named {
                Some(_) => Vec::new(),
                None => self.all_reports(),
            },
            fulfils: named.map(|(_, version)| version),
            again: mine,
        };
        let why = match (named, mine) {
            (Some(_), _) => "the operator named this server".to_owned(),
            (None, true) => "this server was making it".to_owned(),
            (None, false) => format!("{} did not make it", record.primary),
        };
        Plan::one(MAKE, Step::TakeLease(Box::new(take)), why)
    }
}
