//! One `trilith run` without a database: enough for what an edge does.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::block::Block;
use crate::client::Client;
use crate::command::{run, trilith};
use crate::logs;
use crate::process::Process;
use crate::wait::{eventually, holds_within};

const CONFIG: &str = "trilith.toml";
const PATIENCE: Duration = Duration::from_secs(30);

/// A server named `one` with the roles edge and web. Dropping it stops it.
pub struct OneServer {
    block: Block,
    child: Child,
    /// In good order; otherwise its log is of interest.
    stopped: bool,
    folder: TempDir,
}

impl OneServer {
    /// `sites` is the part of the config file with sites, upstreams and the like; `code` fills the
    /// code base.
    pub fn start(
        block: Block,
        sites: &str,
        code: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("trilith-e2e-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let site = folder.path().join("site");
        fs::create_dir(&site)?;
        code(&site)?;
        let config = format!(
            "[cluster]\nname = \"e2e\"\ndata = \"data\"\nsecrets = \"secrets\"\n\n\
             [ports]\nhttp = {}\nhttps = {}\n\n[code]\npath = \"site\"\n\n\
             [[server]]\nname = \"one\"\naddress = \"{}\"\nroles = [\"edge\", \"web\"]\n\n{sites}",
            block.http_port(),
            block.https_port(),
            block.address(1),
        );
        let file = folder.path().join(CONFIG);
        fs::write(&file, config)?;
        // Once per cluster: what its servers share.
        run(
            trilith()?
                .args(["init", "--secrets", "--config"])
                .arg(&file),
            PATIENCE,
        )?
        .success()?;
        let output = fs::File::create(folder.path().join("one.log"))?;
        let child = trilith()?
            .arg("run")
            .arg("--config")
            .arg(&file)
            .args(["--server", "one"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let mut server = Self {
            block,
            child,
            stopped: false,
            folder,
        };
        server.await_listening()?;
        Ok(server)
    }

    fn await_listening(&mut self) -> Result<()> {
        let address = self.address();
        eventually("the server listens", PATIENCE, || {
            ensure!(self.child.try_wait()?.is_none(), "the server has ended");
            Ok(std::net::TcpStream::connect(address)?)
        })?;
        Ok(())
    }

    /// Waits until every server of every upstream has passed its health check.
    pub fn await_upstreams(&self) -> Result<()> {
        let not_up = || -> Result<Vec<String>> {
            let mut command = trilith()?;
            command
                .args(["status", "--json", "--config"])
                .arg(self.folder.path().join(CONFIG));
            let output = run(&mut command, PATIENCE)?;
            let status: serde_json::Value = serde_json::from_str(&output.stdout)
                .with_context(|| format!("trilith status --json printed: {output:?}"))?;
            let members = status["servers"][0]["pools"][0]["members"]
                .as_array()
                .cloned();
            let members = members.with_context(|| format!("no pool in {status}"))?;
            Ok(members
                .iter()
                .filter(|member| member["health"] != "up")
                .map(ToString::to_string)
                .collect())
        };
        holds_within(
            "every upstream server is up",
            PATIENCE,
            not_up,
            Vec::is_empty,
        )?;
        Ok(())
    }

    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join(CONFIG)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it takes HTTP.
    pub fn address(&self) -> SocketAddr {
        (self.block.address(1), self.block.http_port()).into()
    }

    pub fn client(&self) -> Client {
        Client::new(self.address()).host("site.test")
    }

    /// The end of a good test: stops it and looks for what it should not have written.
    pub fn finish(mut self) -> Result<()> {
        self.terminate()?;
        let lines = logs::unexpected_lines(self.folder.path());
        ensure!(
            lines.is_empty(),
            "unexpected lines in the logs:\n{}",
            lines.join("\n")
        );
        self.stopped = true;
        Ok(())
    }

    /// The same after faults: lines about them are to be expected.
    pub fn stop(mut self) -> Result<()> {
        self.terminate()?;
        self.stopped = true;
        Ok(())
    }

    /// SIGTERM, and waits for the end. Fails on a bad exit code, and on a process left.
    fn terminate(&mut self) -> Result<()> {
        Process::signal(self.child.id(), Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the server did not stop within {PATIENCE:?} of SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        ensure!(status.success(), "the server ended with {status}");
        let left = Process::of_folder(self.folder.path());
        ensure!(left.is_empty(), "it left processes behind: {left:#?}");
        Ok(())
    }
}

impl Drop for OneServer {
    fn drop(&mut self) {
        if !self.stopped {
            eprintln!("{}", logs::tails(self.folder.path(), 60));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Process::signal(self.child.id(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
        for process in Process::of_folder(self.folder.path()) {
            let _ = Process::signal(process.pid, Signal::SIGKILL);
        }
    }
}
