//! `trilith drill`, and what several of them say together.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{run, trilith};
use crate::demo::Demo;

/// Load, fault, repair, and a minute for getting ready again.
const PATIENCE: Duration = Duration::from_secs(150);

/// For a pause on a machine that does other things as well.
const SPARE: Duration = Duration::from_secs(5);

/// The report of one drill.
#[derive(Clone, Debug)]
pub struct Drill {
    pub gap: Duration,
    pub kept: bool,
    /// All of it.
    pub report: Value,
}

impl Demo {
    /// `trilith drill` with these arguments. A broken promise is no error here.
    pub fn drill(&self, arguments: &[&str]) -> Result<Drill> {
        let report = self.report(arguments)?;
        let gap = report["longest_gap_ms"].as_u64().context("no gap")?;
        Ok(Drill {
            gap: Duration::from_millis(gap),
            kept: report["kept"] == true,
            report,
        })
    }

    fn report(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = trilith()?;
        command.args(["drill", "--json", "--dir"]).arg(self.dir());
        let output = run(command.args(arguments), PATIENCE)?;
        let report: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("trilith drill {arguments:?}: {output:?}"))?;
        let kept = report["kept"] == true;
        ensure!(
            output.code == Some(if kept { 0 } else { 1 }),
            "exit code {:?} for {report:#}",
            output.code
        );
        Ok(report)
    }

    /// The same `times` times, with the median and the worst gap printed. Fails, after all of them,
    /// when one broke a promise. Of the gaps it is the median that has to be within the goal: how
    /// long one of them is, is also a matter of what else this machine is doing.
    pub fn drills(&self, what: &str, arguments: &[&str], times: usize) -> Result<()> {
        let mut drills = Vec::new();
        for _ in 0..times {
            drills.push(self.drill(arguments)?);
        }
        let mut gaps: Vec<Duration> = drills.iter().map(|drill| drill.gap).collect();
        gaps.sort_unstable();
        let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        eprintln!("{what}: gap median {median:?}, worst {worst:?} of {times}");
        let broken: Vec<_> = drills.iter().filter(|drill| drill.broken()).collect();
        let goal = drills[0].report["goal"]["gap_ms"].as_u64();
        ensure!(
            goal.is_some_and(|goal| median <= Duration::from_millis(goal)),
            "{what}: the median of the gaps is beyond the goal: {gaps:?}"
        );
        ensure!(
            broken.is_empty(),
            "{what}: {} of {times} drills broke a promise, the first: {:#}",
            broken.len(),
            broken[0].report
        );
        Ok(())
    }
}

/// How long nothing may be written around a fault.
#[derive(Clone, Copy, Debug)]
pub struct PauseGoal {
    pub median: Duration,
    pub worst: Duration,
}

impl PauseGoal {
    /// The primary's server dies, is cut off, or its agent dies or hangs.
    pub const SERVER_GONE: Self = Self {
        median: Duration::from_secs(5),
        worst: Duration::from_secs(8),
    };
    /// PostgreSQL alone dies. The worst: another server takes over.
    pub const POSTGRES_DEAD: Self = Self {
        median: Duration::from_secs(2),
        worst: Duration::from_secs(8),
    };
    /// PostgreSQL hangs, which takes a while to be believed.
    pub const POSTGRES_HANGS: Self = Self {
        median: Duration::from_secs(10),
        worst: Duration::from_secs(18),
    };
    pub const SWITCHOVER: Self = Self {
        median: Duration::from_secs(1),
        worst: Duration::from_secs(3),
    };
    /// PostgreSQL panics, and does not come up again.
    pub const DISK_FULL: Self = Self {
        median: Duration::from_secs(15),
        worst: Duration::from_secs(20),
    };

    /// Prints these pauses of so many equal faults. They have to be within the goal in the long form, with
    /// `TRILITH_DRILLS`: it is a matter of many drills on a machine that does nothing else. Of one among
    /// other tests is asked that it is over before anybody's patience is.
    pub fn judge(self, what: &str, pauses: &[Duration]) -> Result<()> {
        let mut pauses = pauses.to_vec();
        pauses.sort_unstable();
        let worst = *pauses.last().with_context(|| format!("{what}: never"))?;
        let median = pauses[pauses.len() / 2];
        let times = pauses.len();
        eprintln!("{what}: pause median {median:?}, worst {worst:?} of {times}");
        let spare = match asked() {
            Some(_) => Duration::ZERO,
            None => SPARE,
        };
        ensure!(
            median <= self.median + spare && worst <= self.worst + spare,
            "{what}: the pauses are {pauses:?}, beyond {self:?}"
        );
        Ok(())
    }
}

impl Demo {
    /// `trilith drill --primary` with these arguments, so many times. Each has to keep what is acknowledged
    /// on one primary at a time, and to end with every server's database whole.
    pub fn primary_drills(
        &self,
        what: &str,
        arguments: &[&str],
        times: usize,
        goal: PauseGoal,
    ) -> Result<()> {
        let arguments = [&["--primary"], arguments].concat();
        let mut pauses = Vec::new();
        let mut reports = Vec::new();
        for _ in 0..times {
            let report = self.report(&arguments)?;
            let pause = report["longest_write_gap_ms"].as_u64();
            pauses.push(Duration::from_millis(pause.context("no gap")?));
            reports.push(report);
        }
        let sum = |key| -> u64 { reports.iter().filter_map(|r| r[key].as_u64()).sum() };
        eprintln!(
            "{what}: {} rows acknowledged, {} lost",
            sum("writes_acknowledged"),
            sum("writes_lost")
        );
        let broken: Vec<_> = reports.iter().filter(|report| is_broken(report)).collect();
        ensure!(
            broken.is_empty(),
            "{what}: {} of {times} drills broke a promise, the first: {:#}",
            broken.len(),
            broken[0]
        );
        goal.judge(what, &pauses)
    }
}

/// Of a drill of the primary: rows lost or missing somewhere, two primaries, or not everybody back.
fn is_broken(report: &Value) -> bool {
    let none = |key: &str| report[key] == 0;
    let replicas = report["replicas"].as_array();
    let whole = replicas.is_some_and(|replicas| {
        !replicas.is_empty() && replicas.iter().all(|replica| replica["missing"] == 0)
    });
    let together = report["overlaps"].as_array().is_none_or(|o| !o.is_empty());
    let ready = report["ready_at_ms"].is_u64();
    let most = report["writable_primaries_max"].as_u64();
    let safe = none("writes_lost") && none("direct_lost") && none("reads_missing");
    !(safe && whole && ready && !together && most.is_some_and(|most| most <= 1))
}

impl Drill {
    /// Two holders, or not everybody back.
    fn broken(&self) -> bool {
        let none = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
        let ready = self.report["ready_at_ms"].is_u64();
        let held = self.report["holders"].as_array().is_some_and(|holders| {
            let last = self.report["ended_at_ms"].as_u64();
            holders.iter().any(|hold| hold["to_ms"].as_u64() == last)
        });
        !(none(&self.report["overlaps"]) && ready && held)
    }
}

/// How often each fault is injected: 3, or `TRILITH_DRILLS`.
pub fn drills_per_fault() -> usize {
    drills_or(3)
}

/// The same for faults of the database, which take longer: 1, or `TRILITH_DRILLS`.
pub fn drills_per_fault_of_database() -> usize {
    drills_or(1)
}

fn drills_or(default: usize) -> usize {
    asked().unwrap_or(default).clamp(1, 1_000)
}

fn asked() -> Option<usize> {
    std::env::var("TRILITH_DRILLS").ok()?.parse().ok()
}
