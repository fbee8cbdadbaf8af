//! What the servers wrote.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that mark a line an operator would have to look at: `tracing`'s, PostgreSQL's, a panic.
const MARKS: &[&str] = &[
    " WARN ",
    " ERROR ",
    "\"level\":\"WARN\"",
    "\"level\":\"ERROR\"",
    "WARNING:  ",
    "ERROR:  ",
    "FATAL:  ",
    "PANIC:  ",
    "panicked at",
];

/// What PostgreSQL writes as FATAL when it, or its primary, is told to stop or is not up yet.
const POSTGRES_STOPS_AND_STARTS: &[&str] = &[
    "terminating connection due to administrator command",
    "terminating walreceiver process due to administrator command",
    "connection to client lost",
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is not yet accepting connections",
    "could not send end-of-streaming message to primary",
    "could not receive data from WAL stream",
    "could not connect to the primary server",
    // A first start: the other servers look before the primary has made the users they look as.
    "password authentication failed for user \"trilith_monitor\"",
    "password authentication failed for user \"trilith_replication\"",
    // A replica compares histories before it follows anybody.
    "specified neither primary_conninfo nor restore_command",
    // A primary that lets nobody in yet, or any more: the sql entry holds the session, and tries again.
    "no pg_hba.conf entry for host \"127.0.0.1\", user \"app\"",
];

/// Every line of every log below `folder` that a healthy system would not write, with its file.
pub fn unexpected_lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in logs(folder) {
        let text = fs::read(&path).unwrap_or_default();
        let harmless: &[&str] = if path.ends_with("postgresql.log") {
            POSTGRES_STOPS_AND_STARTS
        } else {
            &[]
        };
        let name = path
            .strip_prefix(folder)
            .unwrap_or(&path)
            .display()
            .to_string();
        lines.extend(
            String::from_utf8_lossy(&text)
                .lines()
                .filter(|line| MARKS.iter().any(|mark| line.contains(mark)))
                .filter(|line| !harmless.iter().any(|text| line.contains(text)))
                .map(|line| format!("{name}: {line}")),
        );
    }
    lines
}

/// The last lines of every log, for a test that failed.
pub(crate) fn tails(folder: &Path, lines_max: usize) -> String {
    let mut text = String::new();
    // Access logs are long and tell what the test knows.
    for path in logs(folder)
        .into_iter()
        .filter(|path| !path.ends_with("access.log"))
    {
        let content = fs::read(&path).unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        let lines: Vec<&str> = content.lines().collect();
        let tail = &lines[lines.len().saturating_sub(lines_max)..];
        if !tail.is_empty() {
            text.push_str(&format!("--- {}\n{}\n", path.display(), tail.join("\n")));
        }
    }
    text
}

/// Files that end in `.log`, however deep.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        // Not through symbolic links: a release may be linked from several places.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(logs(&path));
        } else if path.extension().is_some_and(|end| end == "log") {
            found.push(path);
        }
    }
    found.sort();
    found
}
