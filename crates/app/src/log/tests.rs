use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::limits::LOG_LINE_BYTES_MAX;

fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut lines = Lines::default();
    for piece in pieces {
        lines.push(piece, &mut |line: &[u8]| found.push(line.to_vec()));
    }
    lines.flush(&mut |line: &[u8]| found.push(line.to_vec()));
    found
}

#[test]
fn cuts_lines() {
    assert_eq!(cut(&[b"a\nb\r\n\nc"]), [&b"a"[..], b"b", b"", b"c"]);
    assert_eq!(cut(&[b"a", b"b\n", b"\n"]), [&b"ab"[..], b""]);
    assert!(cut(&[b""]).is_empty());
    let long = vec![b'x'; LOG_LINE_BYTES_MAX * 2 + 5];
    let lengths: Vec<usize> = cut(&[&long, b"\ny\n"]).iter().map(Vec::len).collect();
    assert_eq!(lengths, [LOG_LINE_BYTES_MAX, LOG_LINE_BYTES_MAX, 5, 1]);
    let exact = vec![b'x'; LOG_LINE_BYTES_MAX];
    assert_eq!(cut(&[&exact, b"\n"]).len(), 1);
}

proptest! {
    /// However the bytes arrive, the lines are the same, and nothing is lost.
    #[test]
    fn any_split_gives_the_same_lines(
        text in "[ab\r\n]{0,60}",
        at in prop::collection::vec(0usize..60, 0..6),
    ) {
        let mut at: Vec<usize> = at.into_iter().map(|i| i.min(text.len())).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
        prop_assert_eq!(cut(&pieces), cut(&[text.as_bytes()]));
    }
}

#[test]
fn rotates_by_size_and_keeps_five() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app-web.log");
    let mut file = RotatingFile::open(path.clone(), 100, 5).unwrap();
    for number in 0..60 {
        file.write(format!("line {number:04} {}\n", "x".repeat(10)).as_bytes())
            .unwrap();
    }
    file.flush();
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected: Vec<String> = ["", ".1", ".2", ".3", ".4"]
        .iter()
        .map(|end| format!("app-web.log{end}"))
        .collect();
    assert_eq!(names, expected);
    // Four lines of 21 bytes fit a file; together the files hold the newest lines, in order.
    let mut all = String::new();
    for end in [".4", ".3", ".2", ".1", ""] {
        let text = fs::read_to_string(dir.path().join(format!("app-web.log{end}"))).unwrap();
        assert!(text.len() <= 100);
        all.push_str(&text);
    }
    let numbers: Vec<usize> = all
        .lines()
        .map(|line| line[5..9].parse().unwrap())
        .collect();
    assert_eq!(numbers, (40..60).collect::<Vec<_>>());
}

#[test]
fn goes_on_in_a_file_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app-web.log");
    for round in 0..2 {
        let mut file = RotatingFile::open(path.clone(), 1_000, 5).unwrap();
        file.write(format!("round {round}\n").as_bytes()).unwrap();
        file.flush();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "round 0\nround 1\n");
}

fn telemetry() -> Telemetry {
    Telemetry::new("one")
}

#[test]
fn a_line_has_time_instance_and_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, thread) = LogSink::open(dir.path(), "web", telemetry()).unwrap();
    let id: Arc<str> = "web.1".into();
    sink.write(&id, Stream::Stdout, b"hello \xff");
    sink.write(&id, Stream::Stderr, b"");
    drop(sink);
    thread.finish();
    let bytes = fs::read(dir.path().join("app-web.log")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    let (time, rest) = lines[0].split_once(' ').unwrap();
    assert!(time.parse::<Timestamp>().is_ok(), "{time}");
    assert_eq!(time.len(), "2026-11-23T01:02:03.456Z".len());
    assert_eq!(rest, "web.1 stdout hello \u{fffd}");
    assert!(lines[1].ends_with(" web.1 stderr "));
}

/// A disk that stands still, as a named pipe that nobody reads yet.
#[test]
fn a_slow_disk_costs_lines_and_never_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    // Read and write, so that opening does not wait for the other end.
    let keep_open = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let file = RotatingFile::open(path.clone(), u64::MAX, 1).unwrap();
    let (sink, thread) = LogSink::start("web", file, telemetry()).unwrap();
    let id: Arc<str> = "web.1".into();
    let text = vec![b'x'; 1_000];
    let count = 3 * LOG_QUEUE_BYTES_MAX / text.len();
    for _ in 0..count {
        sink.write(&id, Stream::Stdout, &text);
    }
    assert!(sink.shared.dropped_lines.load(Ordering::Relaxed) > 0);
    assert!(sink.shared.queued_bytes.load(Ordering::Relaxed) <= LOG_QUEUE_BYTES_MAX);

    let out = dir.path().join("out");
    let mut reader = Command::new("cat")
        .arg(&path)
        .stdout(fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    drop(sink);
    thread.finish();
    drop(keep_open);
    assert!(reader.wait().unwrap().success());
    let output = fs::read_to_string(out).unwrap();
    let notice = output
        .lines()
        .find(|line| line.contains(" - trilith "))
        .unwrap();
    let dropped: usize = notice.split(' ').nth(3).unwrap().parse().unwrap();
    assert_eq!(
        output.lines().count() - 1 + dropped,
        count,
        "every line is there or counted"
    );
}

#[tokio::test]
async fn copies_a_pipe_and_remembers_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, thread) = LogSink::open(dir.path(), "web", telemetry()).unwrap();
    let mut child = Command::new("/bin/sh")
        .args([
            "-c",
            "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; done; printf end",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tail = Tail::new(3);
    let pipe: OwnedFd = child.stdout.take().unwrap().into();
    copy_lines(pipe, "web.1".into(), Stream::Stdout, sink, tail.clone()).await;
    child.wait().unwrap();
    tokio::task::spawn_blocking(|| thread.finish())
        .await
        .unwrap();
    assert_eq!(tail.take(), ["line 29", "line 30", "end"]);
    let text = fs::read_to_string(dir.path().join("app-web.log")).unwrap();
    assert_eq!(text.lines().count(), 31);
}
