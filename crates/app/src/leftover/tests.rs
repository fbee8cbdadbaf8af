use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::*;

fn telemetry() -> Telemetry {
    Telemetry::new("one")
}

/// A shell script in a group of its own, as an instance has it.
fn start(tmp_dir: &Path, script: &str) -> (Child, Record) {
    let child = Command::new("/bin/sh")
        .args(["-c", script])
        .env("INSTANCE", "web.1")
        .env("TMPDIR", tmp_dir)
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = child.id();
    let record = Record {
        app: "web".to_owned(),
        instance: "web.1".to_owned(),
        release: "abc".to_owned(),
        pid,
        pgid: pid,
        start_time: ProcessStat::read(pid).unwrap().start_time,
        uid: nix::unistd::getuid().as_raw(),
        tmp_dir: tmp_dir.to_owned(),
    };
    (child, record)
}

/// What a supervisor that was killed leaves: a file, and processes that nobody waits for.
fn leave_behind(run_dir: &Path, records: &[Record]) {
    let mut ledger = Ledger::create(run_dir).unwrap();
    for record in records {
        ledger.add(record.clone()).unwrap();
    }
}

fn reap(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn the_file_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let (child, record) = start(dir.path(), "sleep 60");
    let mut ledger = Ledger::create(dir.path()).unwrap();
    ledger.add(record.clone()).unwrap();
    assert_eq!(
        read(&file_path(dir.path())).unwrap(),
        std::slice::from_ref(&record)
    );
    ledger.remove(record.pid).unwrap();
    assert!(read(&file_path(dir.path())).unwrap().is_empty());
    process::signal_group(record.pgid, Signal::SIGKILL).unwrap();
    reap(child);
}

#[test]
fn ends_the_whole_group_even_when_it_ignores_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; (trap '' TERM; sleep 60) & sleep 60 & while :; do sleep 1; done";
    let (child, record) = start(dir.path(), script);
    wait_until(Duration::from_secs(10), || {
        process::group_members(record.pgid).len() >= 4
    });
    leave_behind(dir.path(), std::slice::from_ref(&record));
    assert!(end_leftovers(dir.path(), &telemetry()) >= 4);
    assert!(process::group_members(record.pgid).is_empty());
    reap(child);
}

#[test]
fn ends_children_whose_parent_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, record) = start(dir.path(), "sleep 60 & exit 0");
    child.wait().unwrap();
    assert_eq!(process::group_members(record.pgid).len(), 1);
    leave_behind(dir.path(), std::slice::from_ref(&record));
    end_leftovers(dir.path(), &telemetry());
    assert!(process::group_members(record.pgid).is_empty());
}

#[test]
fn never_touches_a_process_that_only_has_the_same_pid() {
    let dir = tempfile::tempdir().unwrap();
    let (child, record) = start(dir.path(), "sleep 60");
    let mut other_time = record.clone();
    other_time.start_time -= 1;
    let mut other_user = record.clone();
    other_user.uid += 1;
    for wrong in [other_time, other_user] {
        leave_behind(dir.path(), &[wrong]);
        end_leftovers(dir.path(), &telemetry());
        assert!(ProcessStat::read(record.pid).unwrap().is_alive());
    }
    // The same from another boot.
    leave_behind(dir.path(), std::slice::from_ref(&record));
    let text = fs::read_to_string(file_path(dir.path())).unwrap();
    let text = text.replace(&process::boot_id(), "00000000-0000-0000-0000-000000000000");
    fs::write(file_path(dir.path()), text).unwrap();
    end_leftovers(dir.path(), &telemetry());
    assert!(ProcessStat::read(record.pid).unwrap().is_alive());
    process::signal_group(record.pgid, Signal::SIGKILL).unwrap();
    reap(child);
}

#[test]
fn a_broken_or_missing_file_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    end_leftovers(dir.path(), &telemetry());
    for text in [
        "",
        "{",
        "{\"schema\": 9, \"boot_id\": \"\", \"instances\": []}",
    ] {
        fs::write(file_path(dir.path()), text).unwrap();
        end_leftovers(dir.path(), &telemetry());
    }
}
