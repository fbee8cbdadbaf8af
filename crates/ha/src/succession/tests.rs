//! Whoever is let take the lease has every acknowledged write.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trilith_consensus::Epoch;

use super::*;
use crate::history::Position;
use crate::lsn::Lsn;
use crate::observed::{Changes, Data, LeaseSeen, Local, Process};
use crate::record::{ClusterRecord, ReportedData, StoreView};

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

fn name(at: usize) -> ServerName {
    ServerName::new(NAMES[at]).unwrap()
}

fn line(lsn: u64) -> History {
    let end = Position {
        timeline: 1,
        lsn: Lsn(lsn),
    };
    History::new(Vec::new(), end)
}

fn record(sync: SyncSet) -> Record {
    Record {
        term: 3,
        primary: name(0),
        sync,
        open: true,
        base: None,
        expected: BTreeSet::new(),
        next: None,
        asynchronous: false,
        forced: false,
        timeline: 4,
        retaken: 2,
    }
}

fn observed(record: &Record, reports: &BTreeMap<usize, u64>, free_for: Duration) -> Observed {
    let report = |(at, lsn): (&usize, &u64)| {
        let report = Report {
            term: record.term,
            data: ReportedData::Database {
                system_id: 7,
                history: line(*lsn),
                primary: false,
            },
        };
        (name(*at), (report, Revision(10 + *at as u64)))
    };
    Observed {
        store: StoreView {
            revision: Revision(99),
            cluster: Some(ClusterRecord { system_id: 7 }),
            record: Some((record.clone(), Revision(5))),
            reports: reports.iter().map(report).collect(),
            ..StoreView::default()
        },
        quorum: true,
        lease: LeaseSeen::Free { since: free_for },
        local: Local {
            data: Data::Missing,
            process: Process::Stopped,
            asides: 0,
            failures: 0,
        },
        primary: None,
        yielding: false,
        failures_before: 0,
        changes: Changes::Seen,
        request_for: Duration::ZERO,
        restart_for: BTreeMap::new(),
        leaving: false,
    }
}

fn ask(servers: usize, me: usize, o: &Observed, record: &Record, mine: u64) -> Verdict {
    let servers = (0..servers).map(name).collect();
    let policy = Policy::new(name(me), servers, true);
    let LeaseSeen::Free { since } = o.lease else {
        panic!("the lease is free, not {:?}", Epoch(0));
    };
    let mine = line(mine);
    decide(
        o,
        &policy,
        record,
        Revision(5),
        7,
        (Kind::Replica, &mine),
        since,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// `acked` is what the least advanced of the `acks` most advanced members has: all that may have been
    /// acknowledged.
    #[test]
    fn nobody_succeeds_who_lacks_a_write(
        servers in 2usize..=5,
        ends in proptest::collection::vec(1u64..6, 5),
        in_set in proptest::collection::vec(any::<bool>(), 5),
        reported in proptest::collection::vec(any::<bool>(), 5),
        more_acks in 0usize..2,
        patient in any::<bool>(),
    ) {
        let members: Vec<usize> = (1..servers).filter(|at| in_set[*at]).collect();
        let mut sync = SyncSet::majority(members.iter().map(|at| name(*at)).collect());
        sync.acks = (sync.acks + more_acks).min(members.len());
        let mut have: Vec<u64> = members.iter().map(|at| ends[*at]).collect();
        have.sort_unstable();
        let acked = match sync.acks {
            0 => u64::MAX,
            acks => have[have.len() - acks],
        };
        let record = record(sync.clone());
        let reports: BTreeMap<usize, u64> = (1..servers)
            .filter(|at| reported[*at])
            .map(|at| (at, ends[at]))
            .collect();
        let free_for = if patient { Duration::from_secs(60) } else { Duration::ZERO };
        let o = observed(&record, &reports, free_for);
        let mut takers = 0;
        for me in 1..servers {
            if let Verdict::Take { take, .. } = ask(servers, me, &o, &record, ends[me]) {
                takers += 1;
                prop_assert!(ends[me] >= acked, "{} lacks {acked}", NAMES[me]);
                prop_assert!(reports.contains_key(&me));
                prop_assert!(take.reports.len() >= sync.reports_needed());
                prop_assert_eq!(take.record.term, record.term + 1);
                prop_assert!(take.record.timeline > record.timeline, "a timeline is begun once");
                prop_assert!(!take.record.open && take.record.sync.is_alone());
                prop_assert_eq!(take.record.base, Some(line(ends[me]).end));
                prop_assert!(!take.record.expected.contains(&name(me)));
            }
        }
        // Without hurry at most one; and when all reported, and enough of them, somebody does.
        prop_assert!(patient || takers <= 1, "{takers} want it at once");
        let heard = members.iter().filter(|at| reported[**at]).count();
        if !members.is_empty() && heard == members.len() {
            prop_assert!(takers >= 1, "nobody dares");
        }
    }
}

#[test]
fn a_report_of_what_is_no_more_does_not_count() {
    let record = record(SyncSet::majority([name(1), name(2)].into()));
    let reports = BTreeMap::from([(1, 5), (2, 5)]);
    let o = observed(&record, &reports, Duration::ZERO);
    assert!(matches!(ask(3, 1, &o, &record, 5), Verdict::Take { .. }));
    assert!(matches!(ask(3, 1, &o, &record, 6), Verdict::Not { .. }));
    assert!(matches!(ask(3, 1, &o, &record, 4), Verdict::Not { .. }));
}

#[test]
fn a_removed_server_is_heard_and_not_waited_for() {
    let record = record(SyncSet::majority([name(1), name(2)].into()));
    let reports = BTreeMap::from([(1, 5), (2, 4)]);
    let o = observed(&record, &reports, Duration::ZERO);
    let Verdict::Take { take, .. } = ask(2, 1, &o, &record, 5) else {
        panic!("two has everything");
    };
    assert_eq!(take.reports.len(), 2, "three's report counts");
    assert!(take.record.expected.is_empty(), "but it is not waited for");
}
