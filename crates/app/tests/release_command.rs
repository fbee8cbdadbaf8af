//! The release command with real processes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use trilith_app::{CommandLine, Release, ReleaseCommand, ReleaseId, run_release_command};
use trilith_base::ServerName;
use trilith_telemetry::Telemetry;

fn command(dir: &Path, line: &str) -> ReleaseCommand {
    fs::create_dir_all(dir.join("release")).unwrap();
    ReleaseCommand {
        server: ServerName::new("one").unwrap(),
        release: Release {
            id: ReleaseId::parse("0123456789ab").unwrap(),
            dir: dir.join("release"),
        },
        command: CommandLine::parse(line).unwrap(),
        env: BTreeMap::from([("DATABASE_URL".to_owned(), "postgresql://x".to_owned())]),
        user: None,
        timeout: Duration::from_secs(60),
        log_dir: dir.join("log"),
        tmp_dir: dir.join("tmp"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_with_the_environment_of_the_apps() {
    let dir = tempfile::tempdir().unwrap();
    let line = "echo $DATABASE_URL $INSTANCE $RELEASE ${PORT-none} > made-by-release";
    run_release_command(command(dir.path(), line), &Telemetry::new("one"))
        .await
        .unwrap();
    let text = fs::read_to_string(dir.path().join("release/made-by-release")).unwrap();
    assert_eq!(text, "postgresql://x release 0123456789ab none\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_shows_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let line = "echo creating table; echo 'no such column' >&2; exit 4";
    let error = run_release_command(command(dir.path(), line), &Telemetry::new("one"))
        .await
        .unwrap_err();
    assert_eq!(error.problem, "exit code 4");
    let mut output = error.output.clone();
    output.sort();
    assert_eq!(output, ["creating table", "no such column"]);
    assert!(error.to_string().contains("\n  no such column"), "{error}");
    let log = fs::read_to_string(dir.path().join("log/app-release.log")).unwrap();
    assert!(log.contains(" release stderr no such column"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_is_killed_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let line = "sleep 600 & echo $! > child; wait";
    let mut options = command(dir.path(), line);
    options.timeout = Duration::from_millis(500);
    let error = run_release_command(options, &Telemetry::new("one"))
        .await
        .unwrap_err();
    assert_eq!(error.problem, "killed after 500ms");
    let child = fs::read_to_string(dir.path().join("release/child")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_program_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = run_release_command(command(dir.path(), "./migrate"), &Telemetry::new("one"))
        .await
        .unwrap_err();
    assert_eq!(
        error.problem,
        "no program `./migrate` in the release folder or on PATH"
    );
}
