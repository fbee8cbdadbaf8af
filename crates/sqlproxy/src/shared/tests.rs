use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::targets::{Kind, Target};

fn target(name: &str) -> Target {
    Target {
        name: ServerName::new(name).unwrap(),
        address: ([127, 0, 0, 1], 1).into(),
        local: false,
    }
}

fn tenure(server: &str, epoch: u64) -> Option<Tenure> {
    Some(Tenure {
        server: ServerName::new(server).unwrap(),
        epoch,
    })
}

fn led_by(server: &str, epoch: u64) -> Targets {
    Targets {
        primary: Some(target(server)),
        tenure: tenure(server, epoch),
        replicas: Vec::new(),
    }
}

/// Whether it is over, now that everything stored has been passed on.
async fn is_over(worker: &WorkerTargets, waiting: impl Future<Output = ()>) -> bool {
    tokio::select! {
        biased;
        () = worker.relay() => false,
        over = timeout(Duration::from_millis(1), waiting) => over.is_ok(),
    }
}

#[test]
fn an_older_lease_is_not_believed() {
    let shared = SharedTargets::new(led_by("p", 3));
    shared.store(Targets {
        replicas: vec![target("a")],
        ..led_by("q", 2)
    });
    let now = shared.load_full();
    assert_eq!((&now.primary, &now.tenure), (&None, &None));
    assert_eq!(now.replicas.len(), 1);
    shared.store(led_by("p", 3));
    assert_eq!(*shared.load_full(), led_by("p", 3));
    shared.store(led_by("q", 4));
    assert_eq!(*shared.load_full(), led_by("q", 4));
}

#[test]
fn the_same_again_wakes_nobody() {
    let shared = SharedTargets::new(led_by("p", 3));
    let changes = shared.shared.changed.subscribe();
    shared.store(led_by("p", 3));
    assert!(!changes.has_changed().unwrap());
    shared.store(led_by("p", 4));
    assert!(changes.has_changed().unwrap());
}

#[tokio::test]
async fn a_tenure_ends_with_another_one_or_none() {
    let p = ServerName::new("p").unwrap();
    let shared = SharedTargets::new(led_by("p", 3));
    let worker = WorkerTargets::new(shared.clone());
    let bound = || worker.deposed(&p, tenure("p", 3));
    assert!(!is_over(&worker, bound()).await);
    // Closed to new sessions: the old ones go on.
    shared.store(Targets {
        primary: None,
        ..led_by("p", 3)
    });
    assert!(!is_over(&worker, bound()).await);
    let waiting = bound();
    shared.store(Targets::default());
    assert!(is_over(&worker, waiting).await);
    // The same server again, under another grant.
    shared.store(led_by("p", 4));
    assert!(is_over(&worker, bound()).await);
}

#[tokio::test]
async fn a_session_of_a_replica_lasts_until_its_server_is_deposed() {
    let a = ServerName::new("a").unwrap();
    let shared = SharedTargets::new(led_by("p", 3));
    let worker = WorkerTargets::new(shared.clone());
    let mut waiting = std::pin::pin!(worker.deposed(&a, None));
    for now in [Targets::default(), led_by("p", 4), led_by("a", 5)] {
        shared.store(now);
        assert!(!is_over(&worker, waiting.as_mut()).await);
    }
    shared.store(led_by("p", 6));
    assert!(is_over(&worker, waiting).await);
}

#[tokio::test]
async fn what_is_offered_no_more_is_withdrawn() {
    let all = Targets {
        replicas: vec![target("a")],
        ..led_by("p", 3)
    };
    let shared = SharedTargets::new(all.clone());
    let worker = WorkerTargets::new(shared.clone());
    let both = all.candidates(Kind::ReadOnly, 0);
    for candidate in &both {
        assert!(!is_over(&worker, worker.withdrawn(*candidate)).await);
    }
    shared.store(led_by("p", 3));
    assert!(is_over(&worker, worker.withdrawn(both[0])).await);
    assert!(!is_over(&worker, worker.withdrawn(both[1])).await);
    shared.store(led_by("p", 4));
    assert!(is_over(&worker, worker.withdrawn(both[1])).await);
}
