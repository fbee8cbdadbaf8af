//! Load on the database in the background, every acknowledgement recorded: `trilith drill --url`.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::command::trilith;
use crate::demo::Demo;
use crate::process::Process;
use crate::wait::holds_within;

/// The longest that a load may go on.
const LONGEST: &str = "9m";
/// After the load every row is looked for, on every server.
const VERIFY_PATIENCE: Duration = Duration::from_secs(150);
const GOES_ON_PATIENCE: Duration = Duration::from_secs(60);

/// Rows written through every sql entry, and past them into every PostgreSQL that takes them.
pub struct Inserts {
    child: Child,
    report: NamedTempFile,
    said: NamedTempFile,
}

/// What became of them.
#[derive(Debug)]
pub struct Inserted {
    pub acknowledged: u64,
    /// The longest time without an acknowledgement.
    pub longest_gap: Duration,
    /// `trilith drill`'s own report.
    pub report: Value,
}

impl Inserts {
    /// Returns once rows are acknowledged.
    pub fn start(demo: &Demo, rate: u32) -> Result<Self> {
        let (report, said) = (NamedTempFile::new()?, NamedTempFile::new()?);
        let mut command = trilith()?;
        command.args(["drill", "--json", "--for", LONGEST]);
        command.args(["--rate", &rate.to_string()]);
        for server in demo.servers()? {
            command.arg("--url").arg(demo.entry(&server)?);
            command.arg("--direct").arg(demo.postgres(&server)?);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(report.path())?)
            .stderr(File::create(said.path())?)
            .process_group(0)
            .spawn()?;
        let inserts = Self {
            child,
            report,
            said,
        };
        inserts.go_on(demo)?;
        Ok(inserts)
    }

    /// Waits until more rows have been written.
    pub fn go_on(&self, demo: &Demo) -> Result<()> {
        let count = || -> Result<u64> {
            let count = demo.sql()?.value("SELECT count(*) FROM trilith_drill")?;
            Ok(count.parse()?)
        };
        let before = holds_within("rows are counted", GOES_ON_PATIENCE, count, |_| true)?;
        let more = |now: &u64| *now >= before + 20;
        holds_within("rows are written", GOES_ON_PATIENCE, count, more)?;
        Ok(())
    }

    /// Ends the load and compares: nothing that was acknowledged is lost, nowhere, and no two servers
    /// took writes at once.
    pub fn stop(mut self) -> Result<Inserted> {
        Process::signal(self.child.id(), Signal::SIGINT)?;
        let deadline = Instant::now() + VERIFY_PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the rows were not compared within {VERIFY_PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = fs::read_to_string(self.said.path())?;
        let report: Value = serde_json::from_str(&fs::read_to_string(self.report.path())?)
            .with_context(|| format!("the load ended with {status}: {said}"))?;
        let number = |key: &str| {
            let value = report[key].as_u64();
            value.with_context(|| format!("no {key} in {report:#}"))
        };
        let inserted = Inserted {
            acknowledged: number("writes_acknowledged")?,
            longest_gap: Duration::from_millis(number("longest_write_gap_ms")?),
            report: report.clone(),
        };
        ensure!(
            report["kept"] == true
                && number("writes_lost")? == 0
                && number("writable_primaries_max")? <= 1,
            "a promise was broken: {report:#}"
        );
        Ok(inserted)
    }
}

impl Drop for Inserts {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
