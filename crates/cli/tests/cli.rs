//! Golden output of the command line: help texts, `check`, `explain`, `init`, errors.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn trilith(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(arguments)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .env_remove("TRILITH_LOG")
        .output()
        .expect("the program starts")
}

/// Exit code, stdout and stderr in one text, with the folder's name taken out.
fn told(arguments: &[&str], dir: &Path) -> String {
    let output = trilith(arguments, dir);
    let text = format!(
        "$ trilith {}\nexit code: {}\n--- stdout\n{}--- stderr\n{}",
        arguments.join(" "),
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let real = dir.canonicalize().expect("the folder exists");
    text.replace(&real.display().to_string(), "DIR")
        .replace(&dir.display().to_string(), "DIR")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn help_texts() {
    let dir = folder();
    let commands: [&[&str]; 14] = [
        &["--help"],
        &["demo", "--help"],
        &["demo", "stop", "--help"],
        &["init", "--help"],
        &["check", "--help"],
        &["explain", "--help"],
        &["run", "--help"],
        &["status", "--help"],
        &["reload", "--help"],
        &["config", "--help"],
        &["config", "rollback", "--help"],
        &["drill", "--help"],
        &["version", "--help"],
        &["no-such-command"],
    ];
    let all: Vec<String> = commands.iter().map(|c| told(c, dir.path())).collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn check_of_good_and_bad_files() {
    let dir = folder();
    let good = "[[server]]\nname = \"one\"\naddress = \"10.0.0.1\"\n\n\
        [[site]]\nhost = \"www.foobar.com\"\ntls = \"internal\"\n\n\
        [[site.route]]\npath = \"/*\"\nrespond = { status = 200, body = \"hello\" }\n";
    let bad = "[cluster]\nnmae = \"foobar\"\n\n\
        [[server]]\nname = \"one\"\naddress = \"10.0.0.1\"\nroles = [\"edge\", \"webb\"]\n";
    fs::write(dir.path().join("good.toml"), good).expect("a file");
    fs::write(dir.path().join("bad.toml"), bad).expect("a file");
    let all = ["good.toml", "bad.toml", "missing.toml"].map(|f| told(&["check", f], dir.path()));
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn explain_knows_tables_keys_and_typing_errors() {
    let dir = folder();
    let all = [
        told(&["explain"], dir.path()),
        told(&["explain", "server.roles"], dir.path()),
        told(&["explain", "server.rolls"], dir.path()),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn init_writes_a_file_that_passes_and_never_overwrites() {
    let dir = folder();
    let first = trilith(&["init"], dir.path());
    assert!(first.status.success(), "{first:?}");
    let check = trilith(&["check", "trilith.toml"], dir.path());
    assert!(check.status.success(), "{check:?}");
    insta::assert_snapshot!(told(&["init"], dir.path()));
}

#[test]
fn init_makes_secrets_once() {
    let dir = folder();
    let config = "[cluster]\nname = \"foobar\"\nsecrets = \"secrets\"\n\n[database]\n\n\
        [[server]]\nname = \"one\"\naddress = \"10.0.0.1\"\n\
        [[server]]\nname = \"two\"\naddress = \"10.0.0.2\"\n\
        [[server]]\nname = \"three\"\naddress = \"10.0.0.3\"\nroles = []\n";
    fs::write(dir.path().join("trilith.toml"), config).expect("a file");
    let all = [
        told(&["init", "--secrets"], dir.path()),
        told(&["init", "--secrets"], dir.path()),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn errors_say_what_to_type_next() {
    let dir = folder();
    let config = "[cluster]\nname = \"foobar\"\ndata = \"data\"\nsecrets = \"secrets\"\n\n\
        [[server]]\nname = \"one\"\naddress = \"127.0.90.1\"\n\
        [[server]]\nname = \"two\"\naddress = \"127.0.90.2\"\n\
        [[server]]\nname = \"witness\"\naddress = \"127.0.90.3\"\nroles = []\n";
    fs::write(dir.path().join("trilith.toml"), config).expect("a file");
    let all = [
        told(
            &["run", "--config", "trilith.toml", "--server", "three"],
            dir.path(),
        ),
        told(&["status", "--dir", "nowhere"], dir.path()),
        told(&["demo", "stop", "--dir", "nowhere"], dir.path()),
        told(&["demo", "--dir", "demo", "--code", "nowhere"], dir.path()),
        told(&["demo", "--vip", "10.0.0.1"], dir.path()),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn a_server_without_the_clusters_secrets_does_not_start() {
    let dir = folder();
    let config = "[cluster]\nname = \"foobar\"\ndata = \"data\"\nsecrets = \"secrets\"\n\n\
        [[server]]\nname = \"one\"\naddress = \"127.0.90.1\"\n\
        [[server]]\nname = \"two\"\naddress = \"127.0.90.2\"\n\
        [[server]]\nname = \"witness\"\naddress = \"127.0.90.3\"\nroles = []\n";
    fs::write(dir.path().join("trilith.toml"), config).expect("a file");
    let output = trilith(
        &["run", "--config", "trilith.toml", "--server", "one"],
        dir.path(),
    );
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("there is no cluster CA in"), "{stderr}");
    assert!(
        stderr.contains("try: trilith init --secrets --config trilith.toml"),
        "{stderr}"
    );
}

#[test]
fn version_in_both_forms() {
    let dir = folder();
    let version = env!("CARGO_PKG_VERSION");
    let output = trilith(&["version"], dir.path());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("trilith {version}\n")
    );
    let output = trilith(&["version", "--json"], dir.path());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{{\"schema\":1,\"version\":\"{version}\"}}\n")
    );
}
