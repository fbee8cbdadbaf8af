use std::io::Write;

use super::*;

#[test]
fn rotation_keeps_a_few_and_writing_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log").join("postgresql.log");
    let mut log = open(&path).unwrap();
    for round in 0..7 {
        writeln!(log, "round {round}").unwrap();
        assert_eq!(rotate_beyond(&path, 100).unwrap(), None);
        assert_eq!(rotate_beyond(&path, 3).unwrap(), Some(8));
    }
    writeln!(log, "last").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "last\n");
    let kept = |number| fs::read_to_string(numbered(&path, number)).ok();
    assert_eq!(kept(1).as_deref(), Some("round 6\n"));
    assert_eq!(kept(4).as_deref(), Some("round 3\n"));
    assert_eq!(kept(5), None);
    assert_eq!(rotate(&folder.path().join("none")).unwrap(), None);
}

#[test]
fn complaints_are_the_last_serious_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let old = "2026-01-01 FATAL:  old trouble\n";
    let new = "2026-01-02 LOG:  starting PostgreSQL 15\n\
               2026-01-02 LOG:  invalid value for parameter \"work_mem\": \"x\"\n\
               2026-01-02 FATAL:  configuration file \"trilith.conf\" contains errors\n";
    fs::write(&path, format!("{old}{new}")).unwrap();
    assert_eq!(
        complaints(&path, old.len() as u64),
        "2026-01-02 LOG:  invalid value for parameter \"work_mem\": \"x\" | \
         2026-01-02 FATAL:  configuration file \"trilith.conf\" contains errors"
    );
    assert!(complaints(&path, length(&path)).ends_with("says nothing"));
    assert!(complaints(&folder.path().join("none"), 0).ends_with("says nothing"));
}
