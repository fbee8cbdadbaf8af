//! `trilith demo`, with addresses and a folder of its own.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::block::Block;
use crate::client::Client;
use crate::code_base::example_code_base;
use crate::command::{Output, run, trilith};
use crate::lab;
use crate::logs;
use crate::process::Process;
use crate::wait::{eventually, holds_within};

/// Three PostgreSQL clusters are made the first time.
const START_PATIENCE: Duration = Duration::from_secs(180);
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// What differs from `trilith demo` as people type it.
#[derive(Clone, Debug, Default)]
pub struct DemoOptions {
    /// Three unless given.
    pub servers: Option<usize>,
    /// The example site unless given.
    pub code: Option<PathBuf>,
    /// A TOML file with sites, apps and upstreams, in place of the demo's own.
    pub sites: Option<PathBuf>,
    /// In network namespaces: `--lab`. Then nothing of the block's addresses is used.
    pub lab: bool,
}

/// A demo in the background. Dropping it stops it, and whatever it may have left.
pub struct Demo {
    block: Block,
    options: DemoOptions,
    /// Servers that were started apart, by [`Demo::run_server`].
    apart: Vec<(String, Child)>,
    running: bool,
    code: PathBuf,
    dir: PathBuf,
    folder: TempDir,
}

/// What `kill -9` hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The server's own process.
    Agent,
    /// That, its apps and its PostgreSQL, as when the machine dies.
    Everything,
}

impl Demo {
    pub fn start(options: DemoOptions) -> Result<Self> {
        // Started by root, PostgreSQL and the apps run as users who must be able to get in.
        let folder = tempfile::Builder::new()
            .prefix("trilith-e2e-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let code = match &options.code {
            Some(code) => code.clone(),
            None => example_code_base(&folder.path().join("code"))?,
        };
        let dir = folder.path().join("demo");
        let mut demo = Self {
            block: Block::take()?,
            options,
            apart: Vec::new(),
            running: false,
            code,
            dir,
            folder,
        };
        demo.start_again()?;
        Ok(demo)
    }

    /// Starts it after [`Demo::stop`], on what is there.
    pub fn start_again(&mut self) -> Result<Output> {
        let mut command = trilith()?;
        command
            .arg("demo")
            .arg("--detach")
            .arg("--dir")
            .arg(&self.dir);
        command.arg("--code").arg(&self.code);
        if self.options.lab {
            command.arg("--lab");
        } else {
            command.args(["--network", &self.block.network()]);
            command.args(["--vip", &self.block.floating().to_string()]);
            command.args(["--http", &self.block.http_port().to_string()]);
            command.args(["--https", &self.block.https_port().to_string()]);
        }
        if let Some(servers) = self.options.servers {
            command.args(["--servers", &servers.to_string()]);
        }
        if let Some(sites) = &self.options.sites {
            command.arg("--sites").arg(sites);
        }
        self.running = true;
        run(&mut command, START_PATIENCE)?
            .success()
            .context("trilith demo --detach")
    }

    /// All addresses are other ones from the next start on. The demo must be stopped.
    pub fn move_away(&mut self) -> Result<()> {
        ensure!(!self.running, "stop the demo first");
        self.block = Block::take()?;
        Ok(())
    }

    /// Stops it, and fails if a process of it is still there then.
    pub fn stop(&mut self) -> Result<()> {
        self.stop_apart()?;
        let namespaces = lab::namespaces(&self.dir);
        let mut command = trilith()?;
        command.args(["demo", "stop", "--dir"]).arg(&self.dir);
        run(&mut command, STOP_PATIENCE)?
            .success()
            .context("trilith demo stop")?;
        self.running = false;
        let left = Process::of_folder(self.folder.path());
        ensure!(
            left.is_empty(),
            "trilith demo stop left processes behind: {left:#?}"
        );
        lab::ensure_gone(&namespaces)
    }

    /// The end of a good test: stops it and looks for what it should not have written.
    pub fn finish(mut self) -> Result<()> {
        self.stop()?;
        self.check_logs()
    }

    /// Whether anything was written so far that a healthy system would not write.
    pub fn check_logs(&self) -> Result<()> {
        let lines = logs::unexpected_lines(&self.dir);
        ensure!(
            lines.is_empty(),
            "unexpected lines in the logs:\n{}",
            lines.join("\n")
        );
        Ok(())
    }

    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The demo's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.join("trilith.toml")
    }

    pub fn config(&self) -> Result<toml::Table> {
        let path = self.config_file();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        text.parse().with_context(|| path.display().to_string())
    }

    /// Rewrites the config file. The demo must be stopped.
    pub fn edit_config(&self, edit: impl FnOnce(&mut toml::Table)) -> Result<()> {
        ensure!(
            !self.running,
            "the config file is read at the start: stop the demo first"
        );
        let mut config = self.config()?;
        edit(&mut config);
        Ok(fs::write(self.config_file(), toml::to_string(&config)?)?)
    }

    /// The servers' names, in the order of the config file.
    pub fn servers(&self) -> Result<Vec<String>> {
        let config = self.config()?;
        let servers = config
            .get("server")
            .and_then(|s| s.as_array())
            .context("no [[server]]")?;
        servers
            .iter()
            .map(|server| {
                Ok(server
                    .get("name")
                    .and_then(|n| n.as_str())
                    .context("no name")?
                    .into())
            })
            .collect()
    }

    /// A client of the floating address.
    pub fn client(&self) -> Client {
        Client::new(self.block.floating_http())
    }

    pub fn client_from(&self, address: IpAddr) -> Client {
        self.client().from(address)
    }

    /// A client of the floating address over TLS that trusts the cluster's CA alone.
    pub fn tls_client(&self) -> Result<Client> {
        Client::new(self.block.floating_https()).trusting(&self.secrets()?.join("ca.crt"))
    }

    /// `trilith status --json`, parsed.
    pub fn status(&self) -> Result<serde_json::Value> {
        let mut command = trilith()?;
        command.args(["status", "--json", "--dir"]).arg(&self.dir);
        let output = run(&mut command, Duration::from_secs(20))?;
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("trilith status --json printed: {output:?}"))
    }

    /// `ready`, `down`, ...
    pub fn server_state(&self, name: &str) -> Result<String> {
        let status = self.status()?;
        let servers = status["servers"]
            .as_array()
            .context("no servers in the status")?;
        let server = servers
            .iter()
            .find(|server| server["name"] == name)
            .with_context(|| format!("no server {name} in {status}"))?;
        Ok(server["state"]
            .as_str()
            .context("a server without state")?
            .to_owned())
    }

    /// The process of a server.
    pub fn pid(&self, server: &str) -> Result<u32> {
        let path = self.state_folder(server)?.join("run/trilith.pid");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let pid = text.split_whitespace().next().unwrap_or_default();
        pid.parse()
            .with_context(|| format!("{}: {text:?}", path.display()))
    }

    /// `kill -9`, and waits until they are gone.
    pub fn kill(&self, server: &str, what: Kill) -> Result<()> {
        let pid = self.pid(server)?;
        let mut victims = vec![pid];
        if what == Kill::Everything {
            let state = self.state_folder(server)?;
            let more = Process::tree(pid)
                .into_iter()
                .chain(Process::of_folder(&state));
            let of_server = more
                .filter(|process| !process.command.contains(" demo "))
                .map(|process| process.pid);
            victims.extend(of_server);
            victims.sort_unstable();
            victims.dedup();
        }
        for &victim in &victims {
            Process::signal(victim, Signal::SIGKILL)?;
        }
        victims
            .iter()
            .try_for_each(|&victim| Process::wait_gone(victim, STOP_PATIENCE))
    }

    /// Starts one server again, as its service manager would: `trilith run`.
    pub fn run_server(&mut self, server: &str) -> Result<()> {
        self.run_server_with(server, &[])
    }

    fn run_server_with(&mut self, server: &str, flags: &[&str]) -> Result<()> {
        let output = fs::File::create(self.log_apart(server, self.apart.len()))?;
        let child = trilith()?
            .arg("run")
            .arg("--config")
            .arg(self.config_file())
            .args(["--server", server])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        self.apart.push((server.to_owned(), child));
        Ok(())
    }

    /// What the server said that was started apart as that one.
    fn log_apart(&self, server: &str, number: usize) -> PathBuf {
        self.dir.join(format!("{server}-again-{number}.log"))
    }

    /// What a service manager does: starts the servers again that were killed, or whose cluster store could
    /// not write any more. One that ended in another way is an error.
    pub fn start_the_dead(&mut self) -> Result<()> {
        for server in self.servers()? {
            let last = self.apart.iter().rposition(|(name, _)| *name == server);
            let lives = match last {
                // It may not have written its number down yet.
                Some(number) => match self.apart[number].1.try_wait()? {
                    None => true,
                    Some(status) => {
                        let signal = status.signal().and_then(|s| Signal::try_from(s).ok());
                        let expected = match signal {
                            Some(Signal::SIGKILL) => true,
                            Some(Signal::SIGABRT) => {
                                let said = fs::read_to_string(self.log_apart(&server, number))?;
                                said.contains("the cluster store cannot go on")
                            }
                            _ => false,
                        };
                        ensure!(expected, "{server} has ended by itself: {status}");
                        false
                    }
                },
                None => Process::find(self.pid(&server)?).is_some(),
            };
            if !lives {
                eprintln!("{server} is dead, and started again");
                self.run_server(&server)?;
            }
        }
        Ok(())
    }

    /// Starts every server with `trilith run`, in place of the demo, and waits until the site answers. What
    /// the config file says now is in force, whatever it was before.
    pub fn run_servers(&mut self) -> Result<()> {
        ensure!(!self.running, "stop the demo first");
        for server in self.servers()? {
            self.run_server_with(&server, &["--use-file"])?;
        }
        self.await_ready()
    }

    /// Waits until every server is ready and the site answers.
    pub fn await_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        for server in self.servers()? {
            let apart = &mut self.apart;
            let ended = |apart: &mut Vec<(String, Child)>| -> Result<()> {
                for (_, child) in apart {
                    if let Some(status) = child.try_wait()?
                        && !status.success()
                    {
                        bail!("a server that was started has ended: {status}");
                    }
                }
                Ok(())
            };
            ended(apart)?;
            let left = START_PATIENCE.saturating_sub(begin.elapsed());
            holds_within(
                &format!("server {server} is ready"),
                left,
                || self.server_state(&server),
                |state| state == "ready",
            )?;
        }
        holds_within(
            "every edge uses every server",
            START_PATIENCE.saturating_sub(begin.elapsed()),
            || self.members_not_up(),
            Vec::is_empty,
        )?;
        eventually(
            "the site answers",
            START_PATIENCE.saturating_sub(begin.elapsed()),
            || self.client().get("/")?.expect(200).map(|_| ()),
        )
    }

    /// Members of the edges' pools that are not up, with the edge that says so.
    fn members_not_up(&self) -> Result<Vec<String>> {
        let status = self.status()?;
        let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
        let mut found = Vec::new();
        for server in list(&status["servers"]) {
            for pool in list(&server["pools"]) {
                for member in list(&pool["members"])
                    .iter()
                    .filter(|m| m["health"] != "up")
                {
                    found.push(format!("{} of {}: {member}", server["name"], pool["name"]));
                }
            }
        }
        Ok(found)
    }

    /// Stops what [`Demo::run_server`] started.
    pub fn stop_apart(&mut self) -> Result<()> {
        for (_, mut child) in self.apart.drain(..) {
            Process::signal(child.id(), Signal::SIGTERM)?;
            let deadline = Instant::now() + STOP_PATIENCE;
            while child.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    Process::signal(child.id(), Signal::SIGKILL)?;
                    child.wait()?;
                    bail!("a server did not stop within {STOP_PATIENCE:?} of SIGTERM");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// `<data>/<server>`.
    pub fn state_folder(&self, server: &str) -> Result<PathBuf> {
        Ok(self
            .cluster_folder("data")?
            .unwrap_or_else(|| self.dir.clone())
            .join(server))
    }

    pub(crate) fn secrets(&self) -> Result<PathBuf> {
        self.cluster_folder("secrets")?
            .context("no cluster.secrets in the config")
    }

    /// A folder named in `[cluster]`, relative to the config file.
    fn cluster_folder(&self, key: &str) -> Result<Option<PathBuf>> {
        let config = self.config()?;
        let value = config
            .get("cluster")
            .and_then(|c| c.get(key))
            .and_then(|v| v.as_str());
        Ok(value.map(|folder| self.dir.join(folder)))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.running || !self.apart.is_empty() {
            // Not stopped in good order: the test has failed.
            eprintln!("{}", logs::tails(&self.dir, 60));
            let namespaces = lab::namespaces(&self.dir);
            if let Err(e) = self.stop() {
                eprintln!("stopping the demo: {e:#}");
            }
            for process in Process::of_folder(self.folder.path()) {
                let _ = Process::signal(process.pid, Signal::SIGKILL);
            }
            lab::remove(&namespaces);
        }
    }
}
