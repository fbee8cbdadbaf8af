use std::sync::Arc;

use proptest::prelude::*;
use trilith_consensus::{Entry, Lease};

use super::*;
use crate::lsn::Lsn;

fn server(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn view(entries: &[(&str, &str)]) -> View {
    let entry = |(number, (key, value)): (usize, &(&str, &str))| {
        let entry = Entry {
            value: Arc::from(value.as_bytes()),
            version: Revision(number as u64 + 1),
        };
        (Key::new(key).unwrap(), entry)
    };
    View {
        revision: Revision(99),
        entries: entries.iter().enumerate().map(entry).collect(),
        leases: BTreeMap::new(),
    }
}

fn record() -> Record {
    Record {
        term: 4,
        primary: server("two"),
        sync: SyncSet::majority([server("one"), server("three")].into()),
        open: true,
        base: Some(Position {
            timeline: 2,
            lsn: Lsn(0x16_B374_D848),
        }),
        expected: [server("one")].into(),
        next: Some(server("three")),
        asynchronous: false,
        forced: true,
        timeline: 3,
        retaken: 1,
    }
}

/// What is in stores out there. Changing it makes them unreadable for servers that run an older version, or
/// this one unable to read what is there.
const RECORD_STORED: &str = r#"{"term":4,"primary":"two","sync":{"members":["one","three"],"acks":1},"open":true,"base":{"timeline":2,"lsn":"16/B374D848"},"expected":["one"],"next":"three","asynchronous":false,"forced":true,"timeline":3,"retaken":1}"#;
const REPORT_STORED: &str = r#"{"term":3,"data":{"database":{"system_id":7307519214219542573,"history":{"ended":[{"timeline":1,"lsn":"0/3000060"}],"end":{"timeline":2,"lsn":"0/5000000"}},"primary":false}}}"#;
const SWITCHOVER_STORED: &str = r#"{"switchover":{"to":"three","term":4}}"#;
const FAILOVER_STORED: &str = r#"{"failover":{"to":"one","accept_loss":true,"term":4}}"#;

#[test]
fn stored_entries_stay_readable() {
    let text = |value: Arc<[u8]>| String::from_utf8(value.to_vec()).unwrap();
    assert_eq!(text(encode(&record())), RECORD_STORED);
    let mut view = view(&[
        ("db/cluster", r#"{"system_id":7307519214219542573}"#),
        ("db/record", RECORD_STORED),
        ("db/server/one", REPORT_STORED),
        ("db/server/two", r#"{"term":0,"data":"nothing"}"#),
        (
            "db/server/three",
            r#"{"term":0,"data":{"unusable":{"what":"no permission"}}}"#,
        ),
        ("db/request", SWITCHOVER_STORED),
        ("db/reinit/three", "{}"),
        ("db/paused", "{}"),
    ]);
    let lease = Lease {
        holder: server("two"),
        epoch: Epoch(40),
        ttl: crate::limits::LEASE_TTL,
    };
    view.leases.insert(lease_key(), lease);
    let seen = StoreView::read(&view);
    assert_eq!(seen.unreadable, None);
    assert_eq!(seen.record, Some((record(), Revision(2))));
    assert_eq!(seen.term(), 4);
    assert_eq!(seen.holder(), Some(&server("two")));
    let (report, version) = &seen.reports[&server("one")];
    assert_eq!((report.term, *version), (3, Revision(3)));
    assert_eq!(text(encode(report)), REPORT_STORED);
    let history = report.history_of(7307519214219542573).unwrap();
    assert_eq!(history.end.to_string(), "2:0/5000000");
    assert_eq!(report.history_of(1), None, "another database");
    assert!(seen.paused && seen.reinit.contains(&server("three")));
    let (request, _) = seen.request.unwrap();
    assert_eq!(text(encode(&request)), SWITCHOVER_STORED);
    let failover: Request = serde_json::from_str(FAILOVER_STORED).unwrap();
    assert_eq!(text(encode(&failover)), FAILOVER_STORED);
}

#[test]
fn fields_that_are_not_known_or_not_there_are_no_trouble() {
    let newer = RECORD_STORED.replace("\"term\":4", "\"term\":4,\"mood\":{\"good\":[1,2]}");
    let older = r#"{"term":4,"primary":"two","sync":{"members":[],"acks":0},"open":false}"#;
    for text in [newer.as_str(), older] {
        let seen = StoreView::read(&view(&[("db/record", text)]));
        assert_eq!(seen.unreadable, None);
        assert_eq!(seen.term(), 4);
    }
}

#[test]
fn what_cannot_be_is_not_read() {
    let huge = format!("{{\"term\":4,\"primary\":\"{}\"}}", "x".repeat(60_000));
    let deep = "[".repeat(60_000);
    for bad in [
        // Votes are counted by these.
        r#"{"members":["one"],"acks":0}"#,
        r#"{"members":["one"],"acks":2}"#,
        r#"{"members":[],"acks":1}"#,
        r#"{"members":["One"],"acks":1}"#,
        r#"{"members":["one"],"acks":-1}"#,
        r#"{"members":["one"],"acks":18446744073709551616}"#,
    ] {
        let record = RECORD_STORED.replace(r#"{"members":["one","three"],"acks":1}"#, bad);
        let seen = StoreView::read(&view(&[("db/record", &record)]));
        assert_eq!(seen.record, None, "{bad}");
        assert!(seen.unreadable.is_some(), "{bad}");
    }
    for bad in ["", "{}", "null", "\u{0}", &huge, &deep] {
        let seen = StoreView::read(&view(&[("db/record", bad)]));
        let what = seen.unreadable.unwrap();
        assert!(what.len() < 1_000, "{} bytes of error", what.len());
    }
    // A name that is none is nobody's report.
    let seen = StoreView::read(&view(&[("db/server/One", REPORT_STORED)]));
    assert!(seen.reports.is_empty());
}

#[test]
fn a_record_reads_well() {
    let mut record = record();
    let all = "term 4, primary two, open, confirmed by 1 of one, three, base 2:16/B374D848, \
               expects one, next three, timelines up to 3, retaken 1 times, forced";
    assert_eq!(record.to_string(), all);
    record.sync = SyncSet::alone();
    assert!(record.to_string().contains("open, nobody else has it all"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        value in proptest::collection::vec(any::<u8>(), 0..200),
        key in 0usize..5,
    ) {
        let key = ["db/record", "db/cluster", "db/request", "db/server/one", "db/server/x y"][key];
        let Ok(key) = Key::new(key) else {
            return Ok(());
        };
        let mut all = view(&[]);
        let entry = Entry { value: value.into(), version: Revision(1) };
        all.entries.insert(key, entry);
        let seen = StoreView::read(&all);
        prop_assert!(seen.unreadable.is_none_or(|what| what.len() < 1_000));
    }

    /// Damage in one place of a good entry.
    #[test]
    fn damaged_entries_never_make_an_impossible_set(at in 0usize..RECORD_STORED.len(), byte in any::<u8>()) {
        let mut bytes = RECORD_STORED.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(record) = serde_json::from_slice::<Record>(&bytes) {
            let set = record.sync;
            prop_assert!(set.acks <= set.members.len());
            prop_assert_eq!(set.acks == 0, set.is_alone());
        }
    }
}
