use std::collections::{BTreeMap, BTreeSet};

use trilith_consensus::{Epoch, Revision};
use trilith_ha::{Changes, History, Local, Lsn, Position, Ready, Standby, SyncInForce, Tenure};

use super::*;

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

fn at(lsn: u64) -> Position {
    Position {
        timeline: 4,
        lsn: Lsn(lsn),
    }
}

/// A primary with a replica that is a little behind, in force before it is recorded.
fn primary() -> Situation {
    let standby = Standby {
        name: name("two"),
        streaming: true,
        flushed: Lsn(0x500_0000),
        gone_for: Duration::ZERO,
    };
    let ready = Ready {
        in_recovery: false,
        system_id: 7,
        history: History {
            ended: Vec::new(),
            end: at(0x500_0060),
        },
        since: Duration::from_secs(9),
        follows: None,
        receiving: false,
        not_streaming: Duration::ZERO,
        settled: false,
        open: true,
        sync: SyncInForce {
            set: SyncSet::majority(BTreeSet::from([name("two")])),
            since: Lsn(1),
        },
        standbys: vec![standby],
        set_up: true,
        checkpointed: true,
        lowers: false,
    };
    let local = Local {
        data: Data::Ready {
            system_id: 7,
            kind: Kind::Primary,
            clean: false,
            history: ready.history.clone(),
            unfounded: false,
        },
        process: Process::Ready(Box::new(ready)),
        asides: 0,
        failures: 0,
    };
    let observed = Observed {
        store: StoreView::default(),
        quorum: true,
        lease: LeaseSeen::Mine { epoch: Epoch(3) },
        local,
        primary: None,
        yielding: false,
        failures_before: 0,
        changes: Changes::Seen,
        request_for: Duration::ZERO,
        restart_for: BTreeMap::new(),
        leaving: false,
    };
    Situation {
        observed,
        plan: Plan {
            reason: "be the primary".to_owned(),
            steps: Vec::new(),
        },
        generation: 5,
        at: BootTime(Duration::from_millis(10_000)),
        tenure: Some(Tenure {
            epoch: Epoch(3),
            deadline: BootTime(Duration::from_millis(11_500)),
        }),
    }
}

#[test]
fn a_primary_tells_what_its_lease_and_its_replicas_are() {
    let status = Status {
        asides: vec!["/d/postgres.aside-1".into()],
        ..Status::default()
    };
    let pending = vec!["shared_buffers".to_owned()];
    let now = BootTime(Duration::from_millis(10_250));
    let local = local(&primary(), Some(&status), pending, now);
    assert_eq!(
        (local.looked_ms_ago, local.lease_left_ms),
        (250, Some(1_250))
    );
    assert!(local.is_open_primary());
    assert_eq!(local.unreplicated_bytes(), Some(0x60));
    assert_eq!(local.in_force.to_string(), "1 of two");
    assert_eq!(local.lsn.as_deref(), Some("0/5000060"));
    assert_eq!(local.asides, ["/d/postgres.aside-1"]);
    assert_eq!(local.pending_restart, ["shared_buffers"]);
    // Past the deadline nothing is left, and nobody can write here.
    let late = super::local(
        &primary(),
        None,
        Vec::new(),
        BootTime(Duration::from_secs(12)),
    );
    assert_eq!(late.lease_left_ms, Some(0));
    assert!(!late.is_open_primary());
}

#[test]
fn a_plan_that_needs_a_person_says_so() {
    let mut situation = primary();
    situation.plan.steps.push(trilith_ha::Act {
        step: Step::Fail {
            hint: "free some space".to_owned(),
        },
        why: "the disk is full".to_owned(),
    });
    let local = local(&situation, None, Vec::new(), situation.at);
    assert_eq!(
        local.plan.stuck.as_deref(),
        Some("the disk is full: free some space")
    );
}

#[test]
fn requests_are_told_by_the_revision_they_were_made_at() {
    let request = Request::Failover {
        to: name("two"),
        accept_loss: true,
        term: 3,
    };
    let asked = asked(&request, Revision(12).0);
    assert_eq!((asked.id, asked.term), (12, 3));
    assert_eq!(asked.to_string(), "failover to two, writes may be lost");
}

#[test]
fn an_empty_store_agrees_on_nothing() {
    let agreed = agreed(&View::default());
    assert_eq!(agreed, Agreed::default());
    assert!(!agreed.has_open_primary());
}
