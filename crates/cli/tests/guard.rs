//! `trilith guard --postgres`: the program that ends PostgreSQL at a deadline.
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::{Pid, Signal, kill_process};

/// Far beyond what anything here takes: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test, whatever happens.
struct Guard(Child);

impl Guard {
    fn start(data_dir: &Path, fifo: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_trilith"))
            .args(["guard", "--postgres"])
            .arg(data_dir)
            .arg("--fifo")
            .arg(fifo)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn until_ended(&mut self) -> ExitStatus {
        until("it ends", || self.0.try_wait().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// Nanoseconds since boot; 0 is no deadline, 1 the end. Whether somebody reads.
fn tell(fifo: &Path, message: u64) -> bool {
    let opened = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(fifo);
    opened.is_ok_and(|mut pipe| pipe.write_all(&message.to_le_bytes()).is_ok())
}

#[test]
fn it_ends_when_it_is_told_and_not_by_the_signals_of_a_service_manager() {
    let folder = tempfile::tempdir().unwrap();
    let (data_dir, fifo) = (folder.path().join("data"), folder.path().join("guard.fifo"));
    fs::create_dir(&data_dir).unwrap();
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut guard = Guard::start(&data_dir, &fifo);
    until("it reads", || tell(&fifo, 0).then_some(()));
    // It has the lock: another one ends at once.
    assert!(Guard::start(&data_dir, &fifo).until_ended().success());

    let pid = Pid::from_raw(guard.0.id() as i32).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        kill_process(pid, signal).unwrap();
    }
    sleep(Duration::from_millis(300));
    assert_eq!(guard.0.try_wait().unwrap(), None);
    assert!(tell(&fifo, 1));
    assert!(guard.until_ended().success());
}

#[test]
fn it_needs_both_paths() {
    for arguments in [
        ["guard", "--postgres", "/nowhere"].as_slice(),
        &["guard", "--fifo", "/nowhere"],
        &["guard", "--postgres", "/a", "--fifo", "/b", "10.0.0.1"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_trilith"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(["guard", "--postgres", "/nowhere", "--fifo", "/nowhere"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(told.contains("/nowhere"), "{told}");
}
