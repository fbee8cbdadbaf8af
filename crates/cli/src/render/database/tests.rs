use trilith_monitor::api::{
    DatabasePart, DatabaseRequest, DatabaseServer, PausedStatus, PlanStep, RestartStatus,
    SlotStatus, SyncSetStatus,
};

use super::*;

fn agreed() -> Agreed {
    Agreed {
        revision: 900,
        holder: Some("one".into()),
        epoch: Some(812),
        term: 4,
        primary: Some("one".into()),
        open: true,
        synchronous: SyncSetStatus {
            members: vec!["two".into()],
            acks: 1,
        },
        ..Agreed::default()
    }
}

fn primary() -> DatabaseLocal {
    DatabaseLocal {
        lease: "mine".into(),
        lease_left_ms: Some(1_640),
        state: "running".into(),
        data: "primary".into(),
        role: Some("primary".into()),
        timeline: Some(4),
        lsn: Some("0/5000060".into()),
        open: true,
        in_force: SyncSetStatus {
            members: vec!["two".into()],
            acks: 1,
        },
        replicas: vec![ReplicaStatus {
            server: "two".into(),
            streaming: true,
            lsn: "0/5000000".into(),
            behind_bytes: Some(96),
            gone_ms: 0,
        }],
        slots: vec![slot("three", false, 3 << 19), slot("two", true, 0)],
        pending_restart: vec!["shared_buffers".into()],
        ..DatabaseLocal::default()
    }
}

fn slot(server: &str, active: bool, held_bytes: u64) -> SlotStatus {
    SlotStatus {
        server: server.into(),
        active,
        held_bytes,
    }
}

fn replica() -> DatabaseLocal {
    DatabaseLocal {
        lease: "other".into(),
        state: "running".into(),
        data: "replica".into(),
        role: Some("replica".into()),
        timeline: Some(4),
        lsn: Some("0/5000000".into()),
        follows: Some("one".into()),
        asides: vec!["/d/two/postgres.aside-20260101".into()],
        ..DatabaseLocal::default()
    }
}

/// One is the primary, two its replica, three does not answer.
fn status_with(agreed: Agreed, one: DatabaseLocal, two: DatabaseLocal) -> ClusterStatus {
    let text = include_str!("../../../tests/fixtures/status.json");
    let mut status: ClusterStatus = serde_json::from_str(text).unwrap();
    let locals = [Some(one), Some(two), None];
    for (server, local) in status.servers.iter_mut().zip(locals) {
        server.roles = vec!["db".into()];
        server.database = Some(DatabasePart {
            agreed: agreed.clone(),
            local,
            ..DatabasePart::default()
        });
    }
    let seen = |server: &str, lag_bytes| DatabaseServer {
        server: server.into(),
        reachable: true,
        role: None,
        lsn: None,
        lag_bytes,
        error: None,
    };
    status.database = Some(DatabaseStatus {
        primary: Some("one".into()),
        fails_over: true,
        agreed: Some(agreed),
        servers: vec![seen("one", None), seen("two", Some(2_100))],
    });
    status
}

#[test]
fn all_that_an_operator_needs_is_there() {
    let status = status_with(agreed(), primary(), replica());
    insta::assert_snapshot!(database(&status, false));
    assert!(!database_is_healthy(&status), "three is down");
    let mut without = status.clone();
    without.servers.truncate(2);
    assert!(database_is_healthy(&without));
    assert!(database(&status, true).contains("\x1b[32mstreaming"));
}

#[test]
fn trouble_is_told_with_what_is_planned() {
    let mut agreed = agreed();
    agreed.holder = None;
    agreed.forced = true;
    agreed.paused = Some(PausedStatus {
        by: "root@one".into(),
        since_unix_ms: 1,
    });
    agreed.request = Some(DatabaseRequest {
        id: 890,
        kind: "failover".into(),
        to: Some("two".into()),
        accept_loss: true,
        term: 4,
    });
    agreed.reinit = vec!["three".into()];
    let mut one = primary();
    one.role = None;
    one.state = "stopped".into();
    one.plan.stuck = Some("the disk is full: free some space".into());
    one.plan.reason = "a person must act".into();
    one.plan.steps = vec![PlanStep {
        step: "do nothing until a person has acted (free some space)".into(),
        why: "the disk is full".into(),
    }];
    let mut two = replica();
    two.not_streaming_ms = 4_200;
    let mut status = status_with(agreed, one, two);
    status.time_unix_ms = 3_600_001;
    insta::assert_snapshot!(database(&status, false));
    assert!(!database_is_healthy(&status));
}

#[test]
fn a_replica_that_begins_to_stream_is_connecting() {
    for (ms, told) in [
        (0, "streaming"),
        (400, "connecting"),
        (1_000, "nothing for 1.0 s"),
    ] {
        let mut two = replica();
        two.not_streaming_ms = ms;
        let text = database(&status_with(agreed(), primary(), two), false);
        assert!(text.contains(told), "{ms}: {text}");
    }
}

#[test]
fn without_synchronous_commits_it_says_what_could_be_lost() {
    let mut agreed = agreed();
    agreed.asynchronous = true;
    agreed.synchronous = SyncSetStatus::default();
    let status = status_with(agreed, primary(), replica());
    let text = database(&status, false);
    let line = "commits wait for nobody: 96 B of WAL would be lost with one now\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn sizes_are_short() {
    let sizes = [0, 1_023, 1_024, 1_536, 5 << 20, 3 << 30].map(size);
    assert_eq!(
        sizes,
        ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 GiB"]
    );
}

#[test]
fn a_restart_that_is_asked_for_is_shown_beside_its_server() {
    let mut agreed = agreed();
    agreed.restart = [("one", "asked"), ("two", "turn")]
        .map(|(server, state)| RestartStatus {
            server: server.into(),
            state: state.into(),
        })
        .into();
    let mut one = primary();
    one.plan.reason = "restart the servers one by one".into();
    one.plan.steps = vec![PlanStep {
        step: "wait".into(),
        why: "two restarts".into(),
    }];
    let text = database(&status_with(agreed, one, replica()), false);
    let line = |server: &str| {
        text.lines()
            .find(|line| line.trim_start().starts_with(server))
    };
    assert!(
        line("one ").unwrap().contains("running, restart asked for"),
        "{text}"
    );
    assert!(
        line("two ").unwrap().contains("streaming, restarts"),
        "{text}"
    );
    assert!(text.contains("1. wait: two restarts"), "{text}");
}
