use super::*;
use crate::control::DatabaseState;
use crate::control::tests::sample;

const SHAPE: Shape = Shape {
    page: 8192,
    file: 16 << 20,
};

fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}

fn at(timeline: u32, text: &str) -> Position {
    Position {
        timeline,
        lsn: lsn(text),
    }
}

/// The first two are what PostgreSQL 15 went on with.
#[test]
fn records_end_where_postgresql_says() {
    for (start, length, expected) in [
        // Within a page, up to the next multiple of 8.
        ("0/1C91F2F0", 34, "0/1C91F318"),
        ("0/1C91F390", 114, "0/1C91F408"),
        // Exactly at the end of a page: the header comes when something is written there.
        ("0/1001F80", 128, "0/1002000"),
        // Across one page, two pages, and into the next file.
        ("0/1001FF0", 40, "0/1002030"),
        ("0/1001FF0", 8200, "0/1004028"),
        ("0/1FFFFF8", 24, "0/2000038"),
        // The header of a record is split like the rest of it.
        ("16/FFFFFFF8", 30, "17/40"),
    ] {
        let record = Record {
            at: lsn(start),
            length,
            switches: false,
        };
        assert_eq!(SHAPE.end_of(record), lsn(expected), "{start} {length}");
    }
    let switch = Record {
        at: lsn("0/1C91F318"),
        length: 24,
        switches: true,
    };
    assert_eq!(SHAPE.end_of(switch), lsn("0/1D000000"));
}

#[test]
fn lines_of_pg_waldump() {
    let commit = "rmgr: Transaction len (rec/tot):     34/    34, tx:      26225, lsn: 0/1C91F2F0, \
                  prev 0/1C91F2A0, desc: COMMIT 2026-11-23 08:23:35.581946 UTC";
    let record = parse_record(commit).unwrap();
    assert_eq!((record.at, record.length), (lsn("0/1C91F2F0"), 34));
    assert!(!record.switches);
    let full_page = "rmgr: Heap        len (rec/tot):     54/  7418, tx:        735, lsn: 16/B3000028, \
                     prev 0/0, desc: INSERT off 1 flags 0x00, blkref #0: rel 1663/5/16406 blk 0 FPW";
    assert_eq!(parse_record(full_page).unwrap().length, 7418);
    let switch = "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/1D000110, prev \
                  0/1D0000D8, desc: SWITCH ";
    assert!(parse_record(switch).unwrap().switches);
    for line in [
        "",
        "first record is after 0/1000000, at 0/1000028, skipping over 40 bytes",
        "rmgr: Heap",
        "rmgr: Heap len (rec/tot): x/y, tx: 0, lsn: 0/1, prev 0/0, desc: INSERT",
        "rmgr: Heap len (rec/tot): 1/99999999999, tx: 0, lsn: 0/1, prev 0/0, desc: INSERT",
    ] {
        assert_eq!(parse_record(line), None, "{line}");
    }
}

#[test]
fn complaints_of_pg_waldump() {
    for (text, expected) in [
        (
            "pg_waldump: error: error in WAL record at 0/1C91F2F0: invalid record length at \
             0/1C91F318: wanted 24, got 0",
            Some("0/1C91F2F0"),
        ),
        (
            "pg_waldump: first record is after 0/3000000 | pg_waldump: error: error in WAL record at \
             16/B3FFFFD8: unexpected pageaddr 16/A4000000 in log segment 0000000100000016000000B4",
            Some("16/B3FFFFD8"),
        ),
        (
            "pg_waldump: error: could not find a valid record after 0/1FD00000",
            None,
        ),
        (
            "pg_waldump: error: could not find file \"00000001000000000000001D\"",
            None,
        ),
    ] {
        assert_eq!(last_record(text), expected.map(lsn), "{text}");
    }
}

#[test]
fn files_without_a_gap() {
    let names: Vec<String> = ["03", "04", "06"]
        .iter()
        .map(|number| format!("0000000200000000000000{number}"))
        .chain([
            "000000020000000100000000".to_owned(),
            "archive_status".to_owned(),
        ])
        .collect();
    let end = |timeline, start| SHAPE.end_of_files(timeline, lsn(start), &names);
    assert_eq!(end(2, "0/3000028"), Some(lsn("0/5000000")));
    assert_eq!(end(2, "0/6FFFFF8"), Some(lsn("0/7000000")));
    assert_eq!(end(2, "0/5000028"), None);
    assert_eq!(end(1, "0/3000028"), None);
    assert_eq!(end(2, "1/28"), Some(lsn("1/1000000")));
}

#[test]
fn a_replica_may_be_on_a_later_timeline_than_it_has_replayed() {
    let names: Vec<String> = [
        "000000010000000000000003",
        "000000020000000000000003",
        "000000030000000000000004",
        "00000004.history",
        "000000050000000000000003.partial",
    ]
    .map(str::to_owned)
    .into();
    let mut control = sample();
    control.checkpoint = at(1, "0/3000028");
    for (state, reached, expected) in [
        (DatabaseState::InArchiveRecovery, None, &[3, 2, 1][..]),
        (
            DatabaseState::ShutDownInRecovery,
            Some(at(2, "0/3000100")),
            &[3, 2],
        ),
        (DatabaseState::InProduction, None, &[1]),
        // Promoted a moment ago, and crashed before the checkpoint.
        (DatabaseState::InProduction, Some(at(2, "0/3000100")), &[2]),
        (DatabaseState::ShutDown, None, &[1]),
    ] {
        control.state = state;
        control.min_recovery_end = reached;
        assert_eq!(candidates(&control, &names), expected, "{state}");
    }
}

#[test]
fn where_the_looking_begins() {
    let mut control = sample();
    control.checkpoint = at(1, "0/3000028");
    let left_at = |text| [at(1, text)];
    assert_eq!(first_record(&control, 1, &[]), Some(lsn("0/3000028")));
    let started = first_record(&control, 2, &left_at("0/3000100"));
    assert_eq!(started, Some(lsn("0/3000100")), "where the timeline began");
    assert_eq!(
        first_record(&control, 2, &left_at("0/2FFFFF8")),
        None,
        "parted before"
    );
    control.min_recovery_end = Some(at(1, "0/3000108"));
    assert_eq!(
        first_record(&control, 2, &left_at("0/3000100")),
        None,
        "replayed past it"
    );
    control.min_recovery_end = None;
    control.checkpoint = at(2, "0/3000200");
    let started = first_record(&control, 2, &left_at("0/3000100"));
    assert_eq!(started, Some(lsn("0/3000200")));
}

#[test]
fn the_first_timeline_has_no_history() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_history(dir.path(), 1).unwrap(), []);
    assert!(read_history(dir.path(), 10).is_err());
    fs::create_dir(dir.path().join("pg_wal")).unwrap();
    let file = dir.path().join("pg_wal/0000000A.history");
    fs::write(
        &file,
        "1\t0/3000100\tno recovery target specified\n\n9\t0/5000028\tx\n",
    )
    .unwrap();
    let expected = [at(1, "0/3000100"), at(9, "0/5000028")];
    assert_eq!(read_history(dir.path(), 10).unwrap(), expected);
    fs::write(&file, "one 0/3000100\n").unwrap();
    let error = read_history(dir.path(), 10).unwrap_err().to_string();
    assert!(
        error.contains("0000000A.history") && error.contains("line 1"),
        "{error}"
    );
}
