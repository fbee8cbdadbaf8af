use super::*;
use crate::history::{History, Position};
use crate::lsn::Lsn;
use crate::observed::{Ready, SyncInForce};
use crate::record::{Record, SyncSet};

const NOW: BootTime = BootTime(Duration::from_secs(100));

/// What the store shows at that revision, the record being one of `record`'s.
fn shown(revision: u64, record: u64) -> StoreView {
    let me = ServerName::new("one").unwrap();
    let value = Record {
        term: 1,
        primary: me.clone(),
        sync: SyncSet::alone(),
        open: true,
        base: None,
        expected: Default::default(),
        next: None,
        asynchronous: false,
        forced: false,
        timeline: 1,
        retaken: 0,
    };
    StoreView {
        revision: Revision(revision),
        lease: Some((me, Epoch(3))),
        record: Some((value, Revision(record))),
        ..StoreView::default()
    }
}

fn local(failures: u32, process: Process) -> Local {
    Local {
        data: Data::Missing,
        process,
        asides: 0,
        failures,
    }
}

fn stopped(failures: u32) -> Local {
    local(failures, Process::Stopped)
}

/// A replica that follows that server.
fn follows(server: &str) -> Local {
    let end = Position {
        timeline: 1,
        lsn: Lsn(1),
    };
    let ready = Ready {
        in_recovery: true,
        system_id: 1,
        history: History::new(Vec::new(), end),
        since: Duration::ZERO,
        follows: Some(ServerName::new(server).unwrap()),
        receiving: true,
        not_streaming: Duration::ZERO,
        settled: false,
        open: true,
        sync: SyncInForce {
            set: SyncSet::alone(),
            since: Lsn(0),
        },
        standbys: Vec::new(),
        set_up: true,
        checkpointed: true,
        lowers: false,
    };
    local(0, Process::Ready(Box::new(ready)))
}

fn changes(memory: &mut Memory, store: &StoreView) -> Changes {
    memory.remember(NOW, store, &stopped(0));
    memory.changes(store)
}

#[test]
fn a_change_counts_once_it_is_seen_or_can_no_longer_be_done() {
    let mut memory = Memory::new(NOW, false);
    let before = shown(10, 5);
    assert_eq!(changes(&mut memory, &before), Changes::Unknown, "as before");

    // Done, and shown only later.
    memory.asks(Some(Revision(5)));
    assert_eq!(changes(&mut memory, &before), Changes::Unknown);
    memory.done();
    memory.wrote(Revision(12));
    assert_eq!(changes(&mut memory, &shown(11, 5)), Changes::Unseen);
    assert_eq!(changes(&mut memory, &shown(12, 12)), Changes::Seen);

    // Nobody answered, or it was refused: that holds until the record is another one.
    memory.asks(Some(Revision(12)));
    assert_eq!(changes(&mut memory, &shown(20, 12)), Changes::Unknown);
    assert_eq!(changes(&mut memory, &shown(21, 21)), Changes::Seen);
}

#[test]
fn failures_count_from_the_lease_on() {
    let mut memory = Memory::new(NOW, false);
    let before = |memory: &Memory| memory.lease.map(|(_, failures)| failures);
    memory.remember(NOW, &shown(10, 5), &stopped(4));
    assert_eq!(before(&memory), Some(4));
    memory.remember(NOW, &shown(11, 5), &stopped(5));
    assert_eq!(before(&memory), Some(4), "the same lease");
    let mut again = shown(12, 12);
    again.lease = again.lease.map(|(holder, _)| (holder, Epoch(12)));
    memory.remember(NOW, &again, &stopped(5));
    assert_eq!(before(&memory), Some(5));
}

#[test]
fn others_come_first_until_one_is_followed() {
    let mut memory = Memory::new(NOW, false);
    memory.gave_up(NOW);
    let yields = |memory: &Memory| NOW < memory.yield_until;
    let mut store = shown(10, 5);
    memory.remember(NOW, &store, &stopped(1));
    memory.remember(NOW, &store, &follows("two"));
    assert!(yields(&memory), "one holds the lease");
    store.lease = None;
    memory.remember(NOW, &store, &follows("two"));
    assert!(yields(&memory), "nobody has come");
    store.lease = Some((ServerName::new("two").unwrap(), Epoch(11)));
    memory.remember(NOW, &store, &stopped(1));
    assert!(yields(&memory), "it may still not start");
    memory.remember(NOW, &store, &follows("two"));
    assert!(!yields(&memory));
}
