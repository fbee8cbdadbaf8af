//! A server that lost everything comes back with a token; tokens that are no good change nothing.

#![allow(clippy::print_stderr, reason = "a failed test shows the logs")]

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use trilith_e2e::{
    Block, Output, Process, eventually, holds_within, run, trilith, unexpected_lines,
};

const PATIENCE: Duration = Duration::from_secs(30);
const NAMES: [&str; 3] = ["one", "two", "three"];

/// Three servers without a database, each with a folder of its own, as on three machines.
struct Cluster {
    children: Vec<(&'static str, Child)>,
    block: Block,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Result<Self> {
        let block = Block::take()?;
        let folder = tempfile::Builder::new().prefix("trilith-e2e-").tempdir()?;
        let mut cluster = Self {
            children: Vec::new(),
            block,
            folder,
        };
        let first = cluster.home("one");
        fs::create_dir(&first)?;
        fs::write(cluster.file("one"), cluster.text())?;
        let mut init = trilith()?;
        init.args(["init", "--secrets", "--config"])
            .arg(cluster.file("one"));
        run(&mut init, PATIENCE)?.success()?;
        for name in &NAMES[1..] {
            fs::create_dir(cluster.home(name))?;
            fs::write(cluster.file(name), cluster.text())?;
            fs::create_dir(cluster.home(name).join("keys"))?;
            for file in ["ca.crt", "ca.key"] {
                let key = |home: PathBuf| home.join("keys").join(file);
                fs::copy(key(first.clone()), key(cluster.home(name)))?;
            }
        }
        for name in NAMES {
            cluster.run(name)?;
        }
        cluster.await_whole("one")?;
        Ok(cluster)
    }

    fn text(&self) -> String {
        let servers = NAMES.iter().zip(1..).map(|(name, i)| {
            let address = self.block.address(i);
            format!(
                "[[server]]\nname = \"{name}\"\naddress = \"{address}\"\nroles = [\"edge\"]\n\n"
            )
        });
        format!(
            "[cluster]\nname = \"e2e\"\ndata = \"data\"\nsecrets = \"keys\"\n\n\
             [ports]\nhttp = {}\nhttps = {}\n\n{}\
             [[site]]\nhost = \"www.foobar.com\"\ntls = \"off\"\n\n\
             [[site.route]]\npath = \"/*\"\nredirect = \"https://example.org/\"\n",
            self.block.http_port(),
            self.block.https_port(),
            servers.collect::<String>(),
        )
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home(name).join("trilith.toml")
    }

    fn run(&mut self, name: &'static str) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{name}.log")))?;
        let child = trilith()?
            .args(["run", "--server", name, "--config"])
            .arg(self.file(name))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        self.children.push((name, child));
        Ok(())
    }

    fn stop(&mut self, name: &str, signal: Signal) -> Result<()> {
        let at = self.children.iter().position(|(n, _)| *n == name);
        let (_, mut child) = self.children.remove(at.context("it does not run")?);
        Process::signal(child.id(), signal)?;
        eventually("the server ends", PATIENCE, || {
            child.try_wait()?.context("it runs still").map(drop)
        })
    }

    fn ask(&self, name: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = trilith()?;
        command.args(arguments).arg("--config").arg(self.file(name));
        run(&mut command, PATIENCE)
    }

    /// Every server is ready, and as that server sees it the store has three members and a leader.
    fn await_whole(&self, seen_by: &str) -> Result<()> {
        let ask = || -> Result<String> {
            let output = self.ask(seen_by, &["status", "--json"])?;
            let status: Value = serde_json::from_str(&output.stdout)
                .with_context(|| format!("status printed {output:?}"))?;
            let states: Vec<&str> = status["servers"]
                .as_array()
                .context("no servers")?
                .iter()
                .map(|server| server["state"].as_str().unwrap_or_default())
                .collect();
            let store = &status["servers"][0]["store"];
            let members = store["members"].as_array().map_or(0, Vec::len);
            Ok(format!("{states:?} {members} {}", store["has_quorum"]))
        };
        let whole = r#"["ready", "ready", "ready"] 3 true"#;
        holds_within("the cluster is whole", PATIENCE, ask, |s| s == whole)?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in NAMES {
                let log = fs::read_to_string(self.folder.path().join(format!("{name}.log")));
                eprintln!("--- {name}\n{}", log.unwrap_or_default());
            }
        }
    }
}

#[test]
fn a_server_that_lost_everything_joins_again() {
    let cluster = Cluster::start().unwrap();
    join_again(cluster).unwrap();
}

fn join_again(mut cluster: Cluster) -> Result<()> {
    cluster.stop("three", Signal::SIGKILL)?;
    fs::remove_dir_all(cluster.home("three"))?;

    // Only servers of the config are given a token.
    let refused = cluster.ask("one", &["token", "create", "--server", "nine"])?;
    ensure!(refused.code == Some(2), "{refused:?}");

    let token = cluster.ask("two", &["token", "create", "--server", "three"])?;
    let token = token.success()?.stdout.trim().to_owned();
    let joined = cluster.ask("three", &["join", &token])?.success()?;
    let run_it = format!(
        "--config {} --server three",
        cluster.file("three").display()
    );
    ensure!(joined.stderr.contains(&run_it), "{joined:?}");
    ensure!(fs::read_to_string(cluster.file("three"))? == cluster.text());
    for file in ["ca.crt", "ca.key"] {
        let key = |name| fs::read(cluster.home(name).join("keys").join(file));
        ensure!(key("three")? == key("one")?, "{file}");
    }
    cluster.run("three")?;
    cluster.await_whole("three")?;

    // Used once is used up, everywhere.
    let elsewhere = cluster.folder.path().join("thief");
    fs::create_dir(&elsewhere)?;
    let again = join_to(&elsewhere, &token)?;
    ensure!(
        again.code == Some(1) && again.stderr.contains("has been used"),
        "{again:?}"
    );
    let revoked = cluster.ask("one", &["token", "create", "--server", "two", "--json"])?;
    let revoked: Value = serde_json::from_str(&revoked.success()?.stdout)?;
    let id = revoked["id"].as_str().context("no id")?;
    cluster.ask("three", &["token", "revoke", id])?.success()?;
    let too_late = join_to(&elsewhere, revoked["token"].as_str().context("no token")?)?;
    ensure!(
        too_late.code == Some(1) && too_late.stderr.contains("revoked"),
        "{too_late:?}"
    );
    ensure!(fs::read_dir(&elsewhere)?.count() == 0);
    let listed = cluster.ask("two", &["token", "list"])?.success()?.stdout;
    ensure!(
        listed.contains("three") && listed.contains("used"),
        "{listed}"
    );

    // Each refusal was logged, and nothing else was wrong.
    for name in NAMES {
        cluster.stop(name, Signal::SIGTERM)?;
    }
    let lines = unexpected_lines(cluster.folder.path());
    let (refusals, others): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| line.contains("refused to let a server join"));
    ensure!(refusals.len() == 2, "{lines:?}");
    // That a server was killed may be noticed.
    ensure!(others.is_empty(), "{others:?}");
    Ok(())
}

fn join_to(folder: &Path, token: &str) -> Result<Output> {
    let mut command = trilith()?;
    command
        .args(["join", token, "--config"])
        .arg(folder.join("trilith.toml"));
    run(&mut command, PATIENCE)
}
