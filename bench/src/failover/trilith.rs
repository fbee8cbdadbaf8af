//! Trilith: `trilith demo --lab`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, postgres_bin, streams};
use crate::lab::{self, Lab, Node, output, spawn};
use crate::signals::unblocked;

const NETWORK: [u8; 3] = [10, 78, 0];
const START_PATIENCE: Duration = Duration::from_secs(120);
const SQL_PORT: u16 = 5432;
const POSTGRES_PORT: u16 = 5433;
/// No apps: nothing but the database is measured.
const SITES: &str = "[[site]]\nhost = \"bench.test\"\ntls = \"off\"\n\n\
                     [[site.route]]\npath = \"/*\"\nfiles = \"public\"\n";

pub struct Trilith {
    binary: PathBuf,
    lab: Lab,
    postgres: PathBuf,
    app_password: String,
    monitor_password: String,
    /// Servers that were started again.
    started: Vec<Child>,
    folder: TempDir,
}

impl Trilith {
    pub fn start(binary: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("trilith-failover-")
            .tempdir()?;
        fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        let public = folder.path().join("code/public");
        fs::create_dir_all(&public)?;
        fs::write(public.join("index.html"), "bench\n")?;
        fs::write(folder.path().join("sites.toml"), SITES)?;
        let dir = folder.path().join("demo");
        let [a, b, c] = NETWORK;
        let mut command = Command::new(binary);
        command
            .args(["demo", "--lab", "--detach", "--network"])
            .arg(format!("{a}.{b}.{c}.0"))
            .arg("--dir")
            .arg(&dir)
            .arg("--code")
            .arg(folder.path().join("code"))
            .arg("--sites")
            .arg(folder.path().join("sites.toml"));
        let started = output(&mut command);
        let names = fs::read_to_string(dir.join("lab.namespaces")).unwrap_or_default();
        // From here on, whatever happens, it is stopped.
        let mut trilith = Self {
            binary: binary.to_owned(),
            lab: Lab::of_demo(&names, NETWORK).map_err(|error| {
                started
                    .as_ref()
                    .err()
                    .map_or(error, |e| anyhow::anyhow!("{e:#}"))
            })?,
            postgres: postgres_bin()?,
            app_password: String::new(),
            monitor_password: String::new(),
            started: Vec::new(),
            folder,
        };
        started?;
        let passwords = fs::read_to_string(dir.join("secrets/database.passwords"))?;
        trilith.app_password = password(&passwords, "app")?;
        trilith.monitor_password = password(&passwords, "monitor")?;
        let begin = Instant::now();
        while let Err(error) = trilith.ready() {
            if begin.elapsed() > START_PATIENCE {
                return Err(error.context("Trilith does not become ready"));
            }
            thread::sleep(Duration::from_millis(250));
        }
        Ok(trilith)
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("demo")
    }

    fn state(&self, node: &Node) -> PathBuf {
        self.dir().join(&node.name)
    }

    /// `trilith status`, and whether all is well.
    fn status(&self) -> Result<(bool, Value)> {
        let mut command = Command::new(&self.binary);
        command.args(["status", "--json", "--dir"]).arg(self.dir());
        let output = unblocked(|| command.output())??;
        let status = serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "trilith status: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        Ok((output.status.success(), status))
    }
}

impl Cluster for Trilith {
    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn primary(&self) -> Result<Node> {
        let (_, status) = self.status()?;
        let name = status["database"]["primary"]
            .as_str()
            .context("no primary")?;
        let node = self.lab.nodes.iter().find(|node| node.name == name);
        node.cloned()
            .with_context(|| format!("{name} is no server"))
    }

    fn ready(&mut self) -> Result<()> {
        let (healthy, _) = self.status()?;
        ensure!(
            healthy,
            "trilith status says that not everything is healthy"
        );
        let primary = self.primary()?;
        let conninfo = format!(
            "host={} port={POSTGRES_PORT} user=trilith_monitor password={} dbname=postgres",
            primary.address, self.monitor_password
        );
        streams(&primary, &self.postgres, &conninfo, 2)
    }

    fn agent(&self, node: &Node) -> Result<u32> {
        let (_, status) = self.status()?;
        let servers = status["servers"].as_array().into_iter().flatten();
        let found = servers
            .filter(|server| server["name"] == node.name.as_str())
            .find_map(|server| server["pid"].as_u64());
        let pid = match found {
            Some(pid) => u32::try_from(pid)?,
            // A frozen one does not say it any more.
            None => {
                let path = self.state(node).join("run");
                lock_holder(&path)
                    .with_context(|| format!("no server runs in {}", path.display()))?
            }
        };
        Ok(pid)
    }

    fn data_dir(&self, node: &Node) -> PathBuf {
        self.state(node).join("postgres")
    }

    fn start_again(&mut self, node: &Node) -> Result<()> {
        self.started
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let log = self.state(node).join("log/trilith.log");
        let mut command = node.command(None, &self.binary);
        command
            .arg("run")
            .arg("--config")
            .arg(self.dir().join("trilith.toml"))
            .args(["--use-file", "--new-session", "--server", &node.name])
            .current_dir(self.state(node));
        self.started.push(spawn(&mut command, &log)?);
        Ok(())
    }

    fn switchover(&mut self, from: &Node) -> Result<()> {
        let mut others = self.lab.nodes.iter().filter(|node| node.name != from.name);
        let to = others.next().context("nobody to switch over to")?;
        let mut command = Command::new(&self.binary);
        command
            .args(["db", "switchover", "--to", &to.name, "--dir"])
            .arg(self.dir());
        output(&mut command).map(drop)
    }

    fn entries(&self) -> Result<Vec<String>> {
        let nodes = self.lab.nodes.iter();
        Ok(nodes
            .map(|node| self.application(node, "127.0.0.1", SQL_PORT))
            .collect())
    }

    fn direct(&self) -> Result<Vec<String>> {
        let nodes = self.lab.nodes.iter();
        Ok(nodes
            .map(|node| self.application(node, &node.address.to_string(), POSTGRES_PORT))
            .collect())
    }
}

impl Trilith {
    fn application(&self, node: &Node, host: &str, port: u16) -> String {
        let (namespace, password) = (&node.namespace, &self.app_password);
        format!("netns={namespace} host={host} port={port} user=app password={password} dbname=app")
    }
}

impl Drop for Trilith {
    fn drop(&mut self) {
        let mut command = Command::new(&self.binary);
        command.args(["demo", "stop", "--dir"]).arg(self.dir());
        if let Err(error) = output(&mut command) {
            eprintln!("    {error:#}");
        }
        // What did not stop is ended.
        lab::remove_all(&self.lab);
        for child in &mut self.started {
            let _ = child.wait();
        }
    }
}

/// From the file of passwords: a role and its password on a line.
fn password(text: &str, role: &str) -> Result<String> {
    let mut lines = text.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix(role)?;
        let rest = rest.trim_start_matches([' ', '=', ':', '\t']);
        (rest.len() < line.trim().len() - role.len()).then(|| rest.trim_matches('"').to_owned())
    });
    lines
        .next()
        .with_context(|| format!("no password of {role}"))
}

/// The process in the pid file of a server's run folder.
fn lock_holder(run_dir: &Path) -> Option<u32> {
    fs::read_dir(run_dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        let is_pid = path.extension().is_some_and(|extension| extension == "pid");
        let text = is_pid.then(|| fs::read_to_string(path).ok()).flatten()?;
        text.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_by_their_role() {
        let text = "# comment\nsuperuser = a1\napp = \"b2\"\nmonitor c3\n";
        assert_eq!(password(text, "app").unwrap(), "b2");
        assert_eq!(password(text, "monitor").unwrap(), "c3");
        assert!(password(text, "super").is_err());
    }
}
