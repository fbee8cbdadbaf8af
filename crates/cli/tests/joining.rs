//! `trilith token` and `trilith join` where they cannot work: what they say, and that they change nothing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn trilith(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(args)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Nobody listens at 127.0.0.1:1.
const NOBODYS: &str = "trilith1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQR_AAABAAEnxpOA";

#[test]
fn what_is_no_token_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    for (token, says) in [
        ("hello", "this is no token: one begins with `trilith1_`"),
        ("trilith1_AAAA", "incomplete or mistyped"),
        ("trilith9_AAAA", "another version"),
    ] {
        let output = trilith(dir.path(), &["join", token, "--config", "trilith.toml"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn servers_that_do_not_answer_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let output = trilith(dir.path(), &["join", NOBODYS, "--config", "trilith.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("no server of the cluster can be reached: 127.0.0.1:1:"),
        "{said}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_token_needs_a_server_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let init = trilith(dir.path(), &["init", "--config", "trilith.toml"]);
    assert!(init.status.success());
    let args = [
        "token",
        "create",
        "--server",
        "one",
        "--config",
        "trilith.toml",
    ];
    let output = trilith(dir.path(), &args);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("no server of this cluster runs"));
    let long = ["token", "create", "--server", "one", "--ttl", "25h"];
    let output = trilith(dir.path(), &long);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("use 1s to 24h"),
        "{}",
        stderr(&output)
    );
}
