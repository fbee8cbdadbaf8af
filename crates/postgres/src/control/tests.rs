use super::*;

/// PostgreSQL 15.18's, after a crash.
const OF_15: &str = "\
pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7711279560581392769
Database cluster state:               in production
pg_control last modified:             Mon Nov 23 08:23:10 2026
Latest checkpoint location:           0/10D444B0
Latest checkpoint's REDO location:    0/10D44478
Latest checkpoint's REDO WAL file:    000000010000000000000010
Latest checkpoint's TimeLineID:       1
Latest checkpoint's PrevTimeLineID:   1
Latest checkpoint's full_page_writes: on
Latest checkpoint's NextXID:          0:735
Latest checkpoint's oldestCommitTsXid:0
Time of latest checkpoint:            Mon Nov 23 08:23:10 2026
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
Backup start location:                0/0
Backup end location:                  0/0
End-of-backup record required:        no
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              200
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Maximum data alignment:               8
Database block size:                  8192
WAL block size:                       8192
Bytes per WAL segment:                16777216
Data page checksum version:           1
Mock authentication nonce:            668d77a1e54da1694bc3fd5a9ca85eb23c2da62b530553c916ada8d525eafd31
";

pub(crate) fn sample() -> ControlData {
    parse(OF_15).unwrap()
}

fn with(label: &str, value: &str) -> String {
    let line = OF_15.lines().find(|line| line.starts_with(label)).unwrap();
    OF_15.replace(line, &format!("{label}: {value}"))
}

#[test]
fn a_crashed_primary() {
    let control = sample();
    assert_eq!(control.system_id, 7_711_279_560_581_392_769);
    assert_eq!(control.state, DatabaseState::InProduction);
    assert!(!control.state.is_clean() && !control.state.is_replica());
    assert_eq!(control.checkpoint.to_string(), "1:0/10D444B0");
    assert_eq!(control.redo.to_string(), "0/10D44478");
    assert_eq!(control.min_recovery_end, None);
    assert!(control.checksums && control.wal_log_hints && !control.backup_end_required);
    assert_eq!(control.wal_block_size, 8192);
    assert_eq!(control.wal_segment_size, 16 << 20);
    assert_eq!(control.hot_standby.0, [200, 8, 10, 0, 64]);
}

/// The labels that are read are the same in all of them; what differs lies between.
#[test]
fn other_versions() {
    let of_13 = OF_15.replace("202209061", "202007201");
    let of_14 = OF_15.replace("202209061", "202107181");
    let of_16 = OF_15.replace("202209061", "202307071");
    let of_17 = OF_15
        .replace("1300", "1700")
        .replace("202209061", "202406281");
    let of_18 = OF_15.replace("1300", "1800").replace(
        "Mock auth",
        "Default char data signedness:         signed\nMock auth",
    );
    for text in [of_13, of_14, of_16, of_17, of_18] {
        assert_eq!(parse(&text).unwrap(), sample());
    }
}

#[test]
fn every_state() {
    for state in DatabaseState::ALL {
        let control = parse(&with("Database cluster state", state.words())).unwrap();
        assert_eq!(control.state, state);
    }
    let replica = OF_15
        .replace("in production", "shut down in recovery")
        .replace(
            "ending location:     0/0",
            "ending location:     16/B374D848",
        )
        .replace("timeline:   0", "timeline:   3");
    let replica = parse(&replica).unwrap();
    assert!(replica.state.is_clean() && replica.state.is_replica());
    assert_eq!(
        replica.min_recovery_end.unwrap().to_string(),
        "3:16/B374D848"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let twice = format!("{OF_15}Latest checkpoint location: 0/1\n");
    let warned = format!(
        "WARNING: Calculated CRC checksum does not match value stored in file.\nEither the file is \
         corrupt, or it has a different layout than this program\n\n{OF_15}"
    );
    let without = OF_15.replace("Bytes per WAL segment", "Bytes per segment");
    for (text, expected) in [
        (String::new(), "no `Database cluster state`"),
        (twice, "`Latest checkpoint location` is in its output twice"),
        (warned, "CRC checksum does not match"),
        (without, "no `Bytes per WAL segment`"),
        (
            with("Database cluster state", "unrecognized status code"),
            "unknown state",
        ),
        (
            with("Latest checkpoint location", "10D444B0"),
            "which makes no sense",
        ),
        (
            with("Latest checkpoint's TimeLineID", "-1"),
            "which makes no sense",
        ),
        (with("Latest checkpoint's TimeLineID", "0"), "make no sense"),
        (with("wal_log_hints setting", "yes"), "which makes no sense"),
        (with("Bytes per WAL segment", "1000"), "make no sense"),
        (with("WAL block size", "0"), "make no sense"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
