//! Each transaction against the store's own rules: done only while all that it was decided by is still so.

use trilith_consensus::{Command, Outcome, View};

use super::*;
use crate::record::{ReportedData, StoreView, SyncSet};

struct Store(View);

impl Store {
    fn new() -> Self {
        Self(View::default())
    }

    fn done(&mut self, txn: &Txn) -> bool {
        let at = Revision(self.0.revision.0 + 1);
        match self.0.apply(at, &Command::Txn(txn.clone())) {
            Ok(Outcome::Done { .. }) => true,
            Ok(Outcome::Refused { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn seen(&self) -> StoreView {
        let seen = StoreView::read(&self.0);
        assert_eq!(seen.unreadable, None);
        seen
    }

    fn record(&self) -> (Record, Revision) {
        self.seen().record.unwrap()
    }

    fn epoch(&self) -> Epoch {
        self.seen().lease.unwrap().1
    }

    fn put(&mut self, key: trilith_consensus::Key) {
        let value = b"{}".as_slice().into();
        assert!(self.done(&Txn::new().then(Write::Put { key, value })));
    }

    fn expire(&mut self) {
        let at = Revision(self.0.revision.0 + 1);
        let epoch = self.epoch();
        let lease = lease_key();
        self.0.apply(at, &Command::Expire { lease, epoch }).unwrap();
    }
}

fn server(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn policy(me: &str) -> Policy {
    Policy::new(server(me), vec![server("one"), server("two")], true)
}

fn take(store: &Store, me: &str) -> TakeLease {
    let seen = store.seen();
    TakeLease {
        record: Record {
            term: seen.term() + 1,
            primary: server(me),
            sync: SyncSet::alone(),
            open: false,
            base: None,
            expected: Default::default(),
            next: None,
            asynchronous: false,
            forced: false,
            timeline: 0,
            retaken: 0,
        },
        over: seen.record.map(|(_, version)| version),
        reports: Vec::new(),
        fulfils: None,
        again: false,
    }
}

fn told(term: u64) -> Report {
    let data = ReportedData::Nothing;
    Report { term, data }
}

#[test]
fn one_winner() {
    let mut store = Store::new();
    let (one, two) = (take(&store, "one"), take(&store, "two"));
    assert!(store.done(&one.txn(&policy("one"))));
    assert!(!store.done(&two.txn(&policy("two"))), "the lease is held");
    assert_eq!(store.record().0.primary, server("one"));
    store.expire();
    assert!(
        !store.done(&two.txn(&policy("two"))),
        "there is a record since"
    );
    let two = take(&store, "two");
    assert!(store.done(&two.txn(&policy("two"))));
    assert_eq!(store.record().0.term, 2);
}

#[test]
fn counted_reports_must_still_be_so() {
    let mut store = Store::new();
    assert!(store.done(&report(&server("one"), &told(0))));
    assert!(store.done(&report(&server("two"), &told(0))));
    let mut take = take(&store, "one");
    take.reports = store
        .seen()
        .reports
        .iter()
        .map(|(server, (_, version))| (server.clone(), *version))
        .collect();
    assert_eq!(take.reports.len(), 2);
    assert!(store.done(&report(&server("two"), &told(1))));
    assert!(!store.done(&take.txn(&policy("one"))));
    take.reports.pop();
    assert!(store.done(&take.txn(&policy("one"))), "one's is as it was");
}

#[test]
fn paused_stops_others_only() {
    let mut store = Store::new();
    store.put(paused_key());
    let mut take = take(&store, "one");
    assert!(!store.done(&take.txn(&policy("one"))));
    take.again = true;
    assert!(store.done(&take.txn(&policy("one"))));
}

#[test]
fn the_record_is_the_holders() {
    let mut store = Store::new();
    let first = take(&store, "one");
    assert!(store.done(&first.txn(&policy("one"))));
    let (epoch, (record, version)) = (store.epoch(), store.record());
    let mut written = Written {
        value: Record {
            open: true,
            ..record
        },
        over: Some(version),
    };
    assert!(
        !store.done(&write_record(&written, Epoch(epoch.0 + 1))),
        "another epoch"
    );
    assert!(store.done(&write_record(&written, epoch)));
    assert!(
        !store.done(&write_record(&written, epoch)),
        "over an older one"
    );
    written.over = Some(store.record().1);
    store.expire();
    assert!(
        !store.done(&write_record(&written, epoch)),
        "the lease is gone"
    );
    assert!(
        !store.done(&give_up(Some(&written.value), written.over, epoch, None)),
        "and cannot be given back"
    );
}

#[test]
fn handing_over_is_one_step() {
    let mut store = Store::new();
    let first = take(&store, "one");
    assert!(store.done(&first.txn(&policy("one"))));
    let to = Some(server("two"));
    let asked = crate::record::Request::Switchover { to, term: 1 };
    assert!(store.done(&request(&asked)));
    assert!(!store.done(&request(&asked)), "one at a time");
    let (_, asked_at) = store.seen().request.unwrap();
    let (record, version) = store.record();
    let written = Written {
        value: Record {
            next: Some(server("two")),
            ..record
        },
        over: Some(version),
    };
    let epoch = store.epoch();
    let stale = give_up(
        Some(&written.value),
        written.over,
        epoch,
        Some(Revision(asked_at.0 + 1)),
    );
    assert!(!store.done(&stale), "another request");
    assert_eq!(
        store.seen().holder(),
        Some(&server("one")),
        "nothing of it was done"
    );
    assert!(store.done(&give_up(
        Some(&written.value),
        written.over,
        epoch,
        Some(asked_at)
    )));
    let seen = store.seen();
    assert!(seen.holder().is_none() && seen.request.is_none());
    assert_eq!(store.record().0.next, Some(server("two")));
    assert!(
        !store.done(&give_up(None, Some(store.record().1), epoch, None)),
        "it is not ours any more"
    );
}

#[test]
fn the_database_is_founded_once() {
    let mut store = Store::new();
    let first = take(&store, "one");
    assert!(store.done(&first.txn(&policy("one"))));
    let epoch = store.epoch();
    assert!(!store.done(&found(7, Epoch(epoch.0 + 1))));
    assert!(store.done(&found(7, epoch)));
    assert!(!store.done(&found(8, epoch)));
    assert_eq!(store.seen().cluster, Some(ClusterRecord { system_id: 7 }));
}

#[test]
fn requests_end() {
    let mut store = Store::new();
    let asked = crate::record::Request::Failover {
        to: server("one"),
        accept_loss: false,
        term: 0,
    };
    assert!(store.done(&request(&asked)));
    let (_, version) = store.seen().request.unwrap();
    assert!(!store.done(&end_request(Revision(version.0 + 1))));
    assert!(store.done(&end_request(version)));
    store.put(reinit_key(&server("one")));
    assert!(store.seen().reinit.contains(&server("one")));
    assert!(store.done(&end_reinit(&server("one"))));
    assert!(store.seen().reinit.is_empty());
}

/// A mark goes from state to state by whoever saw the last one.
#[test]
fn a_restart_goes_on_from_what_was_seen() {
    let mut store = Store::new();
    let take = take(&store, "one");
    assert!(store.done(&take.txn(&policy("one"))));
    let (one, two) = (server("one"), server("two"));
    let asked = Txn::new().then(Write::Put {
        key: restart_key(&two),
        value: encode(&Restart::Asked),
    });
    assert!(store.done(&asked));
    let (_, over) = store.seen().restart[&two];
    let (epoch, term) = (store.epoch(), 1);
    let turn = |over, epoch| RestartMove::Turn {
        server: two.clone(),
        over,
        term,
        epoch,
    };
    let former = Epoch(epoch.0 - 1);
    assert!(
        !store.done(&turn(over, former).txn(&one)),
        "not under its lease"
    );
    assert!(store.done(&turn(over, epoch).txn(&one)));
    assert!(
        !store.done(&turn(over, epoch).txn(&one)),
        "the mark changed"
    );
    let (mark, version) = store.seen().restart[&two];
    assert_eq!(mark, Restart::Turn { term });
    let begun = RestartMove::Begun { over: version };
    assert!(!store.done(&begun.txn(&one)), "it is another server's");
    assert!(store.done(&begun.txn(&two)));
    let (mark, version) = store.seen().restart[&two];
    assert_eq!(mark, Restart::Begun);
    let done = RestartMove::Done {
        server: two.clone(),
        over: version,
    };
    assert!(store.done(&done.txn(&two)));
    assert!(store.seen().restart.is_empty());

    let (_, record) = store.record();
    let hand_over = RestartMove::HandOver {
        to: two.clone(),
        term,
        record,
        epoch,
    };
    store.put(paused_key());
    assert!(!store.done(&hand_over.txn(&one)), "paused");
    assert!(store.done(&Txn::new().then(Write::Delete { key: paused_key() })));
    assert!(store.done(&hand_over.txn(&one)));
    assert!(!store.done(&hand_over.txn(&one)), "one request at a time");
    assert!(matches!(
        store.seen().request,
        Some((Request::Switchover { to: Some(to), .. }, _)) if to == two
    ));

    // What a newer version wrote there keeps nobody from deciding.
    store.put(restart_key(&two));
    assert!(store.seen().restart.is_empty() && store.seen().unreadable.is_none());
}
