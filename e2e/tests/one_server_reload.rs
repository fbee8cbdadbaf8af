//! `trilith reload` and `trilith config` against a server that runs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Block, OneServer, Output, run, trilith};

const PATIENCE: Duration = Duration::from_secs(30);

fn sites(body: &str) -> String {
    format!(
        "[[site]]\nhost = \"site.test\"\ntls = \"off\"\n\n\
         [[site.route]]\npath = \"/*\"\nrespond = {{ body = \"{body}\" }}\n"
    )
}

fn command(server: &OneServer, words: &[&str]) -> Result<Output> {
    let mut command = trilith()?;
    command.args(words).arg("--config").arg(server.config());
    run(&mut command, PATIENCE)
}

fn json(output: &Output) -> Result<serde_json::Value> {
    serde_json::from_str(&output.stdout).with_context(|| format!("no JSON: {output:?}"))
}

fn edit(server: &OneServer, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(server.config())?;
    ensure!(text.contains(from), "{from} is not in {text}");
    Ok(fs::write(server.config(), text.replace(from, to))?)
}

/// One request on a connection that stays open.
fn ask(stream: &mut TcpStream) -> Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")?;
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "the connection was closed");
        seen.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&seen);
        // Bodies here end in a full stop.
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('.')
        {
            return Ok(body.to_owned());
        }
    }
}

#[test]
fn the_file_is_applied_and_versions_come_back() -> Result<()> {
    let server = OneServer::start(Block::take()?, &sites("first."), |_| Ok(()))?;
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ensure!(ask(&mut stream)? == "first.");

    edit(&server, "first.", "second.")?;
    let dry = command(&server, &["reload", "--dry-run"])?;
    ensure!(dry.code == Some(0), "{dry:?}");
    ensure!(dry.stdout.contains("\"first.\" -> \"second.\""), "{dry:?}");
    ensure!(ask(&mut stream)? == "first.", "a dry run changes nothing");

    let reload = command(&server, &["reload", "--json"])?;
    ensure!(reload.code == Some(0), "{reload:?}");
    let told = json(&reload)?;
    ensure!(told["version"] == 2 && told["published"] == true, "{told}");
    ensure!(told["servers"][0]["state"] == "applied", "{told}");
    ensure!(ask(&mut stream)? == "second.", "on the same connection");

    // What needs a restart says so, here and in the status.
    edit(
        &server,
        "[code]",
        "[edge]\nconnections_max = 1000\n\n[code]",
    )?;
    let reload = command(&server, &["reload"])?;
    ensure!(reload.code == Some(0), "{reload:?}");
    let line = "one  applied, but a restart is needed for edge.connections_max";
    ensure!(reload.stdout.contains(line), "{reload:?}");
    let status = json(&command(&server, &["status", "--json"])?)?;
    let config = &status["servers"][0]["config"];
    ensure!(config["version"] == 3, "{config}");
    ensure!(config["restart"][0] == "edge.connections_max", "{config}");

    let back = command(&server, &["config", "rollback", "1"])?;
    ensure!(back.code == Some(0), "{back:?}");
    ensure!(ask(&mut stream)? == "first.");
    let shown = command(&server, &["config", "show"])?;
    ensure!(
        shown.stdout == fs::read_to_string(server.config())?,
        "the file follows: {shown:?}"
    );
    let history = json(&command(&server, &["config", "history", "--json"])?)?;
    ensure!(history["current"] == 4, "{history}");
    ensure!(history["versions"][0]["rollback_to"] == 1, "{history}");
    server.finish()
}

#[test]
fn a_bad_file_is_refused_whole() -> Result<()> {
    let server = OneServer::start(Block::take()?, &sites("first."), |_| Ok(()))?;
    let good = fs::read_to_string(server.config())?;
    edit(&server, "respond", "repsond")?;
    let bad = command(&server, &["reload"])?;
    ensure!(bad.code == Some(2), "{bad:?}");
    ensure!(bad.stderr.contains("respond"), "{bad:?}");

    // What only shows where it is used.
    fs::write(server.config(), &good)?;
    edit(
        &server,
        "tls = \"off\"",
        "tls = { certificate = \"a.pem\", key = \"b.pem\" }",
    )?;
    let bad = command(&server, &["reload"])?;
    ensure!(bad.code == Some(2), "{bad:?}");
    ensure!(bad.stderr.contains("a.pem"), "{bad:?}");

    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ensure!(ask(&mut stream)? == "first.");
    server.finish()
}
