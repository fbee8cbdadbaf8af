//! The command line: exit codes, and where words go.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use trilith_e2e::{Output, run, trilith};

fn trilith_with(arguments: &[&str]) -> Result<Output> {
    let mut command = trilith()?;
    command.args(arguments);
    run(&mut command, Duration::from_secs(20))
}

fn check(config: &str) -> Result<Output> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    fs::write(file.path(), config)?;
    let mut command = trilith()?;
    command.arg("check").arg("--config").arg(file.path());
    run(&mut command, Duration::from_secs(20))
}

#[test]
fn a_good_file_passes() -> Result<()> {
    let output = check(
        "[[server]]\nname = \"one\"\naddress = \"10.0.0.1\"\n\n\
         [[site]]\nhost = \"www.foobar.com\"\ntls = \"internal\"\n\n\
         [[site.route]]\npath = \"/*\"\nrespond = { status = 200, body = \"hello\" }\n",
    )?;
    ensure!(output.code == Some(0), "{output:?}");
    Ok(())
}

#[test]
fn a_bad_file_is_refused_with_every_error_at_once() -> Result<()> {
    let output = check(
        "[cluster]\nnmae = \"foobar\"\n\n[[server]]\nname = \"one\"\naddress = \"10.0.0.1\"\n\
         roles = [\"edge\", \"webb\"]\n",
    )?;
    ensure!(output.code == Some(2), "{output:?}");
    for expected in ["nmae", "name", "webb", ".toml:2", ".toml:7"] {
        ensure!(
            output.stderr.contains(expected),
            "{expected} is not in:\n{}",
            output.stderr
        );
    }
    ensure!(
        output.stdout.is_empty(),
        "errors belong on stderr: {output:?}"
    );
    Ok(())
}

#[test]
fn bad_usage_has_its_exit_code() -> Result<()> {
    for arguments in [
        &["no-such-command"][..],
        &["check", "--no-such-flag"],
        &["run"],
    ] {
        let output = trilith_with(arguments)?;
        ensure!(output.code == Some(2), "{arguments:?}: {output:?}");
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_named() -> Result<()> {
    let output = trilith_with(&["check", "--config", "/no/such/file.toml"])?;
    ensure!(output.code == Some(2), "{output:?}");
    ensure!(output.stderr.contains("/no/such/file.toml"), "{output:?}");
    Ok(())
}

#[test]
fn keys_explain_themselves() -> Result<()> {
    let output = trilith_with(&["explain", "server.roles"])?.success()?;
    for expected in ["server.roles", "edge", "web", "db"] {
        ensure!(
            output.stdout.contains(expected),
            "{expected} is not in:\n{}",
            output.stdout
        );
    }
    let output = trilith_with(&["explain", "server.rolls"])?;
    ensure!(
        output.code == Some(2) && output.stderr.contains("server.roles"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn it_knows_its_version() -> Result<()> {
    let output = trilith_with(&["--version"])?.success()?;
    ensure!(
        output.stdout.trim() == format!("trilith {}", env!("CARGO_PKG_VERSION")),
        "{output:?}"
    );
    Ok(())
}
