//! Restarts that the operator asked for: one server at a time, the primary last.
//!
//! The primary gives replicas their turn, because it alone sees who streams. A server notes in its mark that
//! PostgreSQL was stopped, while it is stopped; so the mark ends only after a start that came later than the
//! request, whatever dies on the way.

use trilith_base::ServerName;
use trilith_consensus::Revision;

use super::Planner;
use crate::limits::RESTART_PATIENCE;
use crate::observed::{LeaseSeen, Ready};
use crate::plan::{Plan, Step, StopMode};
use crate::record::{Record, Restart};
use crate::txn::RestartMove;

const REASON: &str = "restart the servers one by one";

impl Planner<'_> {
    fn mark(&self) -> Option<(Restart, Revision)> {
        self.o.store.restart.get(&self.policy.me).copied()
    }

    /// PostgreSQL does not run: if it is to be restarted, and is started now, that is it. In a plan of its own:
    /// the lease may end before the start.
    pub(super) fn started_anew(&self, plan: Plan) -> Plan {
        let starts = plan
            .steps
            .iter()
            .any(|act| matches!(act.step, Step::Start { .. }));
        if let Some((restart, over)) = self.mark()
            && restart != Restart::Begun
            && starts
            && self.o.quorum
        {
            let note = Step::Restart(RestartMove::Begun { over });
            return Plan::one(plan.reason, note, "the operator asked for a restart");
        }
        plan
    }

    fn done(&self, server: &ServerName, over: Revision, why: &str) -> Plan {
        let server = server.clone();
        let step = Step::Restart(RestartMove::Done { server, over });
        Plan::one("end a request", step, why)
    }

    /// This server is a replica that follows the primary.
    pub(super) fn restart_replica(&self, ready: &Ready) -> Option<Plan> {
        let (restart, over) = self.mark()?;
        let (record, _) = self.record()?;
        if !self.o.quorum {
            return None;
        }
        Some(match restart {
            Restart::Begun if ready.receiving && ready.not_streaming.is_zero() => {
                self.done(&self.policy.me, over, "PostgreSQL was started anew")
            }
            Restart::Begun => Plan::wait(REASON, "PostgreSQL was started anew, and connects"),
            Restart::Turn { term } if term == record.term && record.open => {
                let stop = Step::Stop {
                    mode: StopMode::Fast,
                };
                Plan::one(REASON, stop, "it is this server's turn")
            }
            Restart::Turn { .. } | Restart::Asked => {
                let why = format!("{} says when it is this server's turn", record.primary);
                Plan::wait(REASON, why)
            }
        })
    }

    /// This server is the primary, and everything else is as it should be.
    pub(super) fn restart_one_by_one(
        &self,
        ready: &Ready,
        record: &Record,
        version: Revision,
    ) -> Option<Plan> {
        let LeaseSeen::Mine { epoch } = self.o.lease else {
            return None;
        };
        let marks = &self.o.store.restart;
        let gone = |server: &&ServerName| !self.policy.servers.contains(*server);
        if let Some(server) = marks.keys().find(gone) {
            let why = format!("{server} is not a database server of this cluster");
            return Some(self.done(server, marks[server].1, &why));
        }
        let mine = self.mark();
        if let Some((Restart::Begun, over)) = mine {
            let why = "PostgreSQL was started anew";
            return Some(self.done(&self.policy.me, over, why));
        }
        if marks.is_empty() || self.o.store.request.is_some() {
            return None;
        }
        // The others that are waited for, in the order of the file.
        let others = self.policy.servers.iter().filter_map(|server| {
            let (restart, over) = marks.get(server)?;
            let other = *server != self.policy.me && !self.is_given_up(ready, server);
            other.then_some((server, *restart, *over))
        });
        let others: Vec<_> = others.collect();
        let under_way = |restart: &Restart| match restart {
            Restart::Asked => false,
            Restart::Turn { term } => *term == record.term,
            Restart::Begun => true,
        };
        if let Some((server, ..)) = others.iter().find(|(_, restart, _)| under_way(restart)) {
            return Some(Plan::wait(REASON, format!("{server} restarts")));
        }
        if others.is_empty() && mine.is_none() {
            return None;
        }
        if let Some(server) = self.away(ready) {
            return Some(Plan::wait(REASON, format!("{server} is away")));
        }
        if record.sync != ready.sync.set {
            let why = "the synchronous set is about to change";
            return Some(Plan::wait(REASON, why));
        }
        if mine.is_some() && ready.lowers {
            let why = "replicas cannot have less of a setting than their primary: it goes first";
            return Some(self.in_place(ready, why));
        }
        if let Some((server, _, over)) = others.first() {
            let turn = RestartMove::Turn {
                server: (*server).clone(),
                over: *over,
                term: record.term,
                epoch,
            };
            let why = "nobody else is away";
            return Some(Plan::one(REASON, Step::Restart(turn), why));
        }
        if self.o.store.paused {
            return Some(self.in_place(ready, "failover is paused: nobody may take over"));
        }
        let streams = |server: &&ServerName| {
            let mut standbys = ready.standbys.iter();
            standbys.any(|standby| standby.name == **server && standby.streaming)
        };
        let replicas = self.policy.servers.iter().filter(streams);
        let complete = |server: &&ServerName| {
            let member = record.asynchronous || record.sync.members.contains(*server);
            member && self.is_close(ready, server)
        };
        if let Some(to) = replicas.clone().find(complete) {
            let to = RestartMove::HandOver {
                to: to.clone(),
                term: record.term,
                record: version,
                epoch,
            };
            let why = "this server is to be restarted, all others have been";
            return Some(Plan::one(REASON, Step::Restart(to), why));
        }
        if let Some(server) = replicas.clone().next() {
            return Some(Plan::wait(REASON, format!("{server} lacks writes")));
        }
        Some(self.in_place(ready, "there is nobody to hand over to"))
    }

    fn in_place(&self, ready: &Ready, why: &str) -> Plan {
        let mut plan = self.stop_in_good_order(ready, why);
        plan.reason = "restart the primary in place".to_owned();
        plan
    }

    /// A database server that is not streaming, and has been for a short time only.
    fn away(&self, ready: &Ready) -> Option<&ServerName> {
        let standby = |server: &&ServerName| {
            let mut standbys = ready.standbys.iter();
            standbys.any(|standby| {
                standby.name == **server
                    && !standby.streaming
                    && standby.gone_for < RESTART_PATIENCE
            })
        };
        self.policy.servers.iter().find(standby)
    }

    /// A marked replica that others are not to wait for any longer.
    fn is_given_up(&self, ready: &Ready, server: &ServerName) -> bool {
        let mut standbys = ready.standbys.iter();
        let gone = standbys.any(|standby| {
            standby.name == *server && !standby.streaming && standby.gone_for >= RESTART_PATIENCE
        });
        let idle = self.o.restart_for.get(server);
        let idle = idle.is_some_and(|time| *time >= RESTART_PATIENCE);
        let asked = matches!(self.o.store.restart.get(server), Some((Restart::Asked, _)));
        gone || (idle && !asked)
    }
}
