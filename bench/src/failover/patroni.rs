//! Patroni with etcd on three servers, and HAProxy in front, as Patroni's documentation has it.

mod files;
pub use files::checks;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, postgres_bin, psql, streams};
use crate::http;
use crate::lab::{Lab, Node, output, spawn};
use crate::report::System;

/// PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";
const NETWORK: [u8; 3] = [10, 79, 0];
const START_PATIENCE: Duration = Duration::from_secs(120);
const ASK_PATIENCE: Duration = Duration::from_secs(3);
const SWITCHOVER_PATIENCE: Duration = Duration::from_secs(120);
/// How long a replica may not stream before it is built anew by hand.
const REJOIN_PATIENCE: Duration = Duration::from_secs(90);

pub struct Patroni {
    // Before the lab: its namespaces are removed with what runs in them.
    lab: Lab,
    variant: System,
    programs: Programs,
    /// `etcd.one`, `patroni.two`, ...
    running: BTreeMap<String, Child>,
    /// Since when not everything is well any more; `None` also before it was for the first time.
    lame_since: Option<Instant>,
    was_ready: bool,
    folder: TempDir,
}

/// Where the programs are.
#[derive(Clone, Debug)]
struct Programs {
    patroni: PathBuf,
    etcd: PathBuf,
    haproxy: PathBuf,
    postgres: PathBuf,
}

impl Patroni {
    pub fn start(venv: &Path, variant: System) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("trilith-failover-")
            .tempdir()?;
        // All accounts pass through it.
        fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        let mut patroni = Self {
            lab: Lab::build("patroni", NETWORK)?,
            variant,
            programs: Programs {
                patroni: fs::canonicalize(venv.join("bin"))
                    .context("no Patroni; scripts/bench-failover.sh installs it")?
                    .join("patroni"),
                etcd: find("etcd")?,
                haproxy: find("haproxy")?,
                postgres: postgres_bin()?,
            },
            running: BTreeMap::new(),
            lame_since: None,
            was_ready: false,
            folder,
        };
        let account = User::from_name(ACCOUNT)?.context("there is no account postgres")?;
        let owner = (Some(account.uid.as_raw()), Some(account.gid.as_raw()));
        for node in patroni.lab.nodes.clone() {
            let dir = patroni.dir(&node);
            fs::create_dir(&dir)?;
            let config =
                files::patroni(&node, &patroni.lab.nodes, &dir, &patroni.programs.postgres);
            fs::write(dir.join("patroni.yml"), config)?;
            chown(&dir, owner.0, owner.1)?;
            chown(dir.join("patroni.yml"), owner.0, owner.1)?;
            patroni.start_again(&node)?;
        }
        patroni.wait_for("a primary", |patroni| patroni.primary().map(drop))?;
        let primary = patroni.primary()?;
        patroni.wait_for("the application's database", |patroni| {
            let conninfo = patroni.superuser(&primary);
            for sql in files::SET_UP {
                psql(&primary, &patroni.programs.postgres, &conninfo, sql)?;
            }
            Ok(())
        })?;
        patroni.configure(variant)?;
        Ok(patroni)
    }

    /// Patroni's settings of this variant, and HAProxy's.
    pub fn configure(&mut self, variant: System) -> Result<()> {
        self.variant = variant;
        let settings = files::dynamic(variant);
        self.wait_for("Patroni to take its settings", |patroni| {
            let primary = patroni.primary()?;
            let answer = http::ask(
                &primary,
                files::REST_PORT,
                "PATCH",
                "/config",
                Some(&settings),
                ASK_PATIENCE,
            )?;
            ensure!(answer.0 == 200, "{answer:?}");
            Ok(())
        })?;
        for node in self.lab.nodes.clone() {
            if let Some(mut child) = self.running.remove(&key("haproxy", &node)) {
                end(&mut child)?;
            }
            self.start_again(&node)?;
        }
        self.wait_for("everything", Cluster::ready)
    }

    fn dir(&self, node: &Node) -> PathBuf {
        self.folder.path().join(&node.name)
    }

    fn superuser(&self, node: &Node) -> String {
        format!(
            "host={} port={} user=postgres password={} dbname=postgres",
            node.address,
            files::POSTGRES_PORT,
            files::PASSWORD
        )
    }

    /// What any of them says of all.
    fn members(&self) -> Result<Vec<Value>> {
        let mut reason = anyhow::anyhow!("nobody was asked");
        for node in &self.lab.nodes {
            let answer = http::ask(
                node,
                files::REST_PORT,
                "GET",
                "/cluster",
                None,
                ASK_PATIENCE,
            );
            match answer.and_then(|(_, body)| Ok(serde_json::from_str::<Value>(&body)?)) {
                Ok(mut cluster) => match cluster["members"].take() {
                    Value::Array(members) => return Ok(members),
                    _ => reason = anyhow::anyhow!("{} knows of no members", node.name),
                },
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    fn wait_for(
        &mut self,
        what: &str,
        mut there: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let begin = Instant::now();
        loop {
            match there(self) {
                Ok(()) => return Ok(()),
                Err(error) if begin.elapsed() > START_PATIENCE => {
                    return Err(error.context(format!("Patroni: {what} does not come")));
                }
                Err(_) => thread::sleep(Duration::from_millis(250)),
            }
        }
    }

    /// A replica that does not come back by itself is built anew, as its operator would.
    fn build_anew(&self, members: &[Value]) {
        for member in members {
            let streams = matches!(member["state"].as_str(), Some("streaming" | "running"));
            let name = member["name"].as_str().unwrap_or_default();
            let Some(node) = self.lab.nodes.iter().find(|node| node.name == name) else {
                continue;
            };
            if !streams {
                eprintln!("    {name} does not come back by itself: reinitialised");
                let body = json!({ "force": true });
                let port = files::REST_PORT;
                if let Err(error) = http::ask(
                    node,
                    port,
                    "POST",
                    "/reinitialize",
                    Some(&body),
                    ASK_PATIENCE,
                ) {
                    eprintln!("    {error:#}");
                }
            }
        }
    }
}

impl Cluster for Patroni {
    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn primary(&self) -> Result<Node> {
        let members = self.members()?;
        let leads = |member: &&Value| member["role"] == "leader" && member["state"] == "running";
        let leader = members.iter().find(leads).context("no leader")?;
        let name = leader["name"].as_str().unwrap_or_default();
        let node = self.lab.nodes.iter().find(|node| node.name == name);
        node.cloned()
            .with_context(|| format!("{name} is no server"))
    }

    fn ready(&mut self) -> Result<()> {
        let check = || -> Result<()> {
            let primary = self.primary()?;
            let conninfo = self.superuser(&primary);
            streams(&primary, &self.programs.postgres, &conninfo, 2)?;
            let members = self.members()?;
            let sync = members
                .iter()
                .any(|member| member["role"] == "sync_standby");
            ensure!(
                sync || self.variant != System::PatroniTightSync,
                "no synchronous standby"
            );
            // A way to the primary on every server.
            for node in &self.lab.nodes {
                let entry = files::entry(&node.namespace);
                let entry = entry.split_once(' ').map_or("", |(_, rest)| rest);
                psql(node, &self.programs.postgres, entry, "SELECT 1")?;
            }
            Ok(())
        };
        let checked = check();
        self.was_ready |= checked.is_ok();
        match (&checked, self.lame_since) {
            (Ok(()), _) => self.lame_since = None,
            (Err(_), None) if !self.was_ready => {}
            (Err(_), None) => self.lame_since = Some(Instant::now()),
            (Err(_), Some(since)) if since.elapsed() > REJOIN_PATIENCE => {
                self.build_anew(&self.members().unwrap_or_default());
                self.lame_since = Some(Instant::now());
            }
            _ => {}
        }
        checked
    }

    fn agent(&self, node: &Node) -> Result<u32> {
        let child = self.running.get(&key("patroni", node));
        child.map(Child::id).context("Patroni does not run there")
    }

    fn data_dir(&self, node: &Node) -> PathBuf {
        self.dir(node).join("data")
    }

    fn start_again(&mut self, node: &Node) -> Result<()> {
        let dir = self.dir(node);
        let config = dir.join("haproxy.cfg");
        fs::write(&config, files::haproxy(self.variant, &self.lab.nodes))?;
        let mut etcd = node.command(Some(ACCOUNT), &self.programs.etcd);
        etcd.args(files::etcd(node, &self.lab.nodes, &dir));
        let mut patroni = node.command(Some(ACCOUNT), &self.programs.patroni);
        patroni.arg(dir.join("patroni.yml")).current_dir(&dir);
        let mut haproxy = node.command(None, &self.programs.haproxy);
        haproxy.arg("-db").arg("-f").arg(config);
        for (name, mut command) in [("etcd", etcd), ("patroni", patroni), ("haproxy", haproxy)] {
            let runs = match self.running.get_mut(&key(name, node)) {
                Some(child) => child.try_wait()?.is_none(),
                None => false,
            };
            if !runs {
                let child = spawn(&mut command, &dir.join(format!("{name}.log")))?;
                self.running.insert(key(name, node), child);
            }
        }
        Ok(())
    }

    fn switchover(&mut self, from: &Node) -> Result<()> {
        let members = self.members()?;
        let name = |role: &str| {
            let mut members = members.iter();
            members.find_map(|m| (m["role"] == role).then(|| m["name"].clone()))
        };
        let to = name("sync_standby").or_else(|| name("replica"));
        let to = to.context("nobody to switch over to")?;
        let body = json!({ "leader": from.name, "candidate": to });
        let (status, said) = http::ask(
            from,
            files::REST_PORT,
            "POST",
            "/switchover",
            Some(&body),
            SWITCHOVER_PATIENCE,
        )?;
        ensure!(status == 200, "switchover: {status} {said}");
        Ok(())
    }

    fn entries(&self) -> Result<Vec<String>> {
        let nodes = self.lab.nodes.iter();
        Ok(nodes.map(|node| files::entry(&node.namespace)).collect())
    }

    fn direct(&self) -> Result<Vec<String>> {
        let nodes = self.lab.nodes.iter();
        Ok(nodes
            .map(|node| {
                files::application(
                    &node.namespace,
                    &node.address.to_string(),
                    files::POSTGRES_PORT,
                )
            })
            .collect())
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        // Theirs first, so that nothing is started again; the lab takes the rest.
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn key(program: &str, node: &Node) -> String {
    format!("{program}.{}", node.name)
}

fn end(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_none() {
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    }
    child.wait()?;
    Ok(())
}

fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    for folder in folders {
        let candidate = Path::new(folder).join(program);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("the program `{program}` is missing")
}

/// `patroni 4.1.5`, and what else there is.
pub fn versions(venv: &Path) -> Result<Vec<String>> {
    let said = |program: &Path, argument: &str| -> Result<String> {
        let text = output(std::process::Command::new(program).arg(argument))?;
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    };
    Ok(vec![
        said(&venv.join("bin/patroni"), "--version")?,
        said(&find("etcd")?, "--version")?,
        said(&find("haproxy")?, "-v")?,
        said(&postgres_bin()?.join("postgres"), "--version")?,
    ])
}
