//! From what the agent saw and the store says to the API's types. Pure.

use std::time::Duration;

use trilith_base::{BootTime, ServerName};
use trilith_config::{Config, Role};
use trilith_consensus::View;
use trilith_ha::{
    Data, Kind, LeaseSeen, Lsn, Observed, Plan, Process, ReportedData, Request, Restart, Step,
    StoreView, SyncSet, operator,
};
use trilith_monitor::api::{
    Agreed, DatabaseLocal, DatabasePart, DatabaseRequest, EndedRequest, PausedStatus, PlanStatus,
    PlanStep, ReplicaStatus, ReportStatus, RestartStatus, SlotStatus, SyncSetStatus,
};
use trilith_postgres::{Situation, Status};

/// The database servers, in the order of the file.
pub(crate) fn servers(config: &Config) -> Vec<ServerName> {
    let servers = config.with_role(Role::Db);
    servers.map(|server| server.name.clone()).collect()
}

/// This server's part.
pub(crate) fn part(config: &Config, view: &View, local: Option<DatabaseLocal>) -> DatabasePart {
    DatabasePart {
        cluster: config.cluster.name.to_string(),
        port: config.ports.postgres,
        agreed: agreed(view),
        local,
    }
}

/// What the cluster store says.
pub(crate) fn agreed(view: &View) -> Agreed {
    let store = StoreView::read(view);
    let record = store.record.as_ref().map(|(record, _)| record);
    let lease = store.lease.as_ref();
    Agreed {
        revision: store.revision.0,
        holder: lease.map(|(holder, _)| holder.to_string()),
        epoch: lease.map(|(_, epoch)| epoch.0),
        term: store.term(),
        primary: record.map(|record| record.primary.to_string()),
        open: record.is_some_and(|record| record.open),
        asynchronous: record.is_some_and(|record| record.asynchronous),
        forced: record.is_some_and(|record| record.forced),
        synchronous: record
            .map(|record| sync_set(&record.sync))
            .unwrap_or_default(),
        next: record.and_then(|record| Some(record.next.as_ref()?.to_string())),
        paused: operator::paused(view).map(|note| PausedStatus {
            by: note.by,
            since_unix_ms: note.since_unix_ms,
        }),
        request: store
            .request
            .as_ref()
            .map(|(request, version)| asked(request, version.0)),
        ended: operator::ended(view).map(|ended| EndedRequest {
            id: ended.request,
            why: ended.why,
        }),
        reinit: store.reinit.iter().map(ServerName::to_string).collect(),
        restart: store
            .restart
            .iter()
            .map(|(server, (restart, _))| RestartStatus {
                server: server.to_string(),
                state: match restart {
                    Restart::Asked => "asked",
                    Restart::Turn { .. } => "turn",
                    Restart::Begun => "begun",
                }
                .to_owned(),
            })
            .collect(),
        reports: store
            .reports
            .iter()
            .map(|(server, (report, _))| ReportStatus {
                server: server.to_string(),
                term: report.term,
                has: match &report.data {
                    ReportedData::Nothing => "nothing".to_owned(),
                    ReportedData::Unusable { what } => what.clone(),
                    ReportedData::Database { history, .. } => history.end.to_string(),
                },
            })
            .collect(),
        system_id: store
            .cluster
            .as_ref()
            .map(|cluster| cluster.system_id.to_string()),
        unreadable: store.unreadable,
    }
}

fn asked(request: &Request, id: u64) -> DatabaseRequest {
    let (kind, to, accept_loss) = match request {
        Request::Switchover { to, .. } => ("switchover", to.as_ref(), false),
        Request::Failover {
            to, accept_loss, ..
        } => ("failover", Some(to), *accept_loss),
    };
    DatabaseRequest {
        id,
        kind: kind.to_owned(),
        to: to.map(ServerName::to_string),
        accept_loss,
        term: request.term(),
    }
}

fn sync_set(set: &SyncSet) -> SyncSetStatus {
    SyncSetStatus {
        members: set.members.iter().map(ServerName::to_string).collect(),
        acks: set.acks,
    }
}

/// What the agent saw and planned. `now` is on the clock of [`Situation::at`].
pub(crate) fn local(
    situation: &Situation,
    status: Option<&Status>,
    pending_restart: Vec<String>,
    now: BootTime,
) -> DatabaseLocal {
    let observed = &situation.observed;
    let mut local = DatabaseLocal {
        looked_ms_ago: millis(now.since(situation.at)),
        lease: lease_word(&observed.lease).to_owned(),
        lease_left_ms: situation
            .tenure
            .map(|tenure| millis(tenure.deadline.since(now))),
        generation: situation.generation,
        plan: plan(&situation.plan),
        pending_restart,
        failures: observed.local.failures,
        ..look(observed)
    };
    if let Some(status) = status {
        let asides = status.asides.iter();
        local.asides = asides.map(|path| path.display().to_string()).collect();
        local.slots = status
            .slots
            .iter()
            .map(|slot| SlotStatus {
                server: slot.replica.to_string(),
                active: slot.active,
                held_bytes: slot.held_bytes,
            })
            .collect();
    }
    local
}

fn look(observed: &Observed) -> DatabaseLocal {
    let end = observed.local.history().map(|history| history.end);
    let mut local = DatabaseLocal {
        state: match observed.local.process {
            Process::Stopped => "stopped",
            Process::Starting { .. } => "starting",
            Process::Ready(_) => "running",
            Process::Silent { .. } => "silent",
        }
        .to_owned(),
        data: match &observed.local.data {
            Data::Missing => "missing",
            Data::HalfMade { .. } => "half-made",
            Data::Unusable { .. } => "unusable",
            Data::Ready {
                kind: Kind::Primary,
                ..
            } => "primary",
            Data::Ready { .. } => "replica",
        }
        .to_owned(),
        timeline: end.map(|end| end.timeline),
        lsn: end.map(|end| end.lsn.to_string()),
        ..DatabaseLocal::default()
    };
    let Process::Ready(ready) = &observed.local.process else {
        return local;
    };
    if ready.in_recovery {
        local.role = Some("replica".to_owned());
        local.follows = ready.follows.as_ref().map(ServerName::to_string);
        local.not_streaming_ms = millis(ready.not_streaming);
        return local;
    }
    local.role = Some("primary".to_owned());
    local.open = ready.open;
    local.in_force = sync_set(&ready.sync.set);
    let end = ready.end().lsn;
    local.replicas = ready
        .standbys
        .iter()
        .map(|standby| ReplicaStatus {
            server: standby.name.to_string(),
            streaming: standby.streaming,
            lsn: standby.flushed.to_string(),
            // What it has is not known before it is connected.
            behind_bytes: (standby.flushed != Lsn::default())
                .then(|| end.bytes_since(standby.flushed)),
            gone_ms: millis(standby.gone_for),
        })
        .collect();
    local
}

fn lease_word(lease: &LeaseSeen) -> &'static str {
    match lease {
        LeaseSeen::Free { .. } => "free",
        LeaseSeen::Mine { .. } => "mine",
        LeaseSeen::Unproven { .. } => "unproven",
        LeaseSeen::Other => "other",
    }
}

fn plan(plan: &Plan) -> PlanStatus {
    PlanStatus {
        reason: plan.reason.clone(),
        steps: plan
            .steps
            .iter()
            .map(|act| PlanStep {
                step: act.step.to_string(),
                why: act.why.clone(),
            })
            .collect(),
        stuck: plan.steps.iter().find_map(|act| match &act.step {
            Step::Fail { hint } => Some(format!("{}: {hint}", act.why)),
            _ => None,
        }),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
