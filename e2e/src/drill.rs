//! `trilith drill`, and what several of them say together.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{run, trilith};
use crate::demo::Demo;

/// Load, fault, repair, and a minute for getting ready again.
const PATIENCE: Duration = Duration::from_secs(150);

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

impl Demo {
    /// `trilith drill --primary` with these arguments, so many times. Each has to keep what is acknowledged
    /// on one primary at a time, and to end with every server's database whole; of the times without a
    /// write, the median has to be within the goal.
    pub fn primary_drills(&self, what: &str, arguments: &[&str], times: usize) -> Result<()> {
        let arguments = [&["--primary"], arguments].concat();
        let mut drills = Vec::new();
        for _ in 0..times {
            let report = self.report(&arguments)?;
            let gap = report["longest_write_gap_ms"].as_u64().context("no gap")?;
            drills.push((Duration::from_millis(gap), report));
        }
        drills.sort_by_key(|(gap, _)| *gap);
        let (median, worst) = (drills[drills.len() / 2].0, drills[drills.len() - 1].0);
        let sum = |key| -> u64 { drills.iter().filter_map(|(_, r)| r[key].as_u64()).sum() };
        eprintln!(
            "{what}: gap median {median:?}, worst {worst:?} of {times}; {} rows acknowledged, {} lost",
            sum("writes_acknowledged"),
            sum("writes_lost")
        );
        let broken: Vec<_> = drills
            .iter()
            .filter(|(_, report)| is_broken(report))
            .collect();
        ensure!(
            broken.is_empty(),
            "{what}: {} of {times} drills broke a promise, the first: {:#}",
            broken.len(),
            broken[0].1
        );
        let goal = drills[0].1["goal"]["gap_ms"].as_u64();
        ensure!(
            goal.is_some_and(|goal| median <= Duration::from_millis(goal)),
            "{what}: the median of the gaps is beyond the goal: {:#}",
            drills[drills.len() / 2].1
        );
        Ok(())
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
    let asked = std::env::var("TRILITH_DRILLS").ok();
    let asked = asked.and_then(|text| text.parse().ok());
    asked.unwrap_or(default).clamp(1, 1_000)
}
