//! The turns as a table, for the terminal and as a section of `bench/RESULTS.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::course::Settings;
use crate::drill::Seen;
use crate::fault::Fault;
use crate::{machine, patroni};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    Trilith,
    /// ttl 30, loop_wait 10, retry_timeout 10, asynchronous
    PatroniDefault,
    /// ttl 20, loop_wait 1, retry_timeout 3, asynchronous
    PatroniTight,
    /// The same, with synchronous_mode
    PatroniTightSync,
}

impl System {
    pub const ALL: [Self; 4] = [
        Self::Trilith,
        Self::PatroniDefault,
        Self::PatroniTight,
        Self::PatroniTightSync,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trilith => "Trilith",
            Self::PatroniDefault => "Patroni, default",
            Self::PatroniTight => "Patroni, tightest",
            Self::PatroniTightSync => "Patroni, tightest, synchronous",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.as_str() == text)
    }
}

/// One fault of one system in one round.
#[derive(Clone, Debug)]
pub struct Turn {
    pub system: System,
    pub fault: Fault,
    pub round: usize,
    /// Absent when nothing could be measured.
    pub seen: Option<Seen>,
    /// What went wrong, and is not in the numbers.
    pub problem: Option<String>,
}

impl Turn {
    pub fn new(system: System, fault: Fault, round: usize) -> Self {
        Self {
            system,
            fault,
            round,
            seen: None,
            problem: None,
        }
    }

    /// For the terminal.
    pub fn line(&self) -> String {
        let mut line = format!("{}, {}:", self.system.as_str(), self.fault.as_str());
        if let Some(seen) = &self.seen {
            // Writing into a String cannot fail.
            let _ = write!(
                line,
                " {} without writes, {} of {} lost, {} lost past the balancer, {} failed, \
                 {} writable at most{}",
                seconds(seen.gap),
                number(seen.lost),
                seen.acknowledged,
                number(seen.lost_direct),
                seen.failed,
                seen.writable,
                match seen.writable > 1 {
                    true => format!(" (for {})", seconds(seen.overlap)),
                    false => String::new(),
                }
            );
        }
        if let Some(problem) = &self.problem {
            let _ = write!(line, " PROBLEM: {problem}");
        }
        line
    }

    /// For the journal.
    pub fn json(&self) -> Value {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        json!({
            "system": self.system.as_str(),
            "fault": self.fault.as_str(),
            "round": self.round,
            "seen": self.seen.as_ref().map(|seen| json!({
                "gap_ms": ms(seen.gap),
                "acknowledged": seen.acknowledged,
                "failed": seen.failed,
                "lost": seen.lost,
                "lost_direct": seen.lost_direct,
                "writable": seen.writable,
                "overlap_ms": ms(seen.overlap),
            })),
            "problem": self.problem,
        })
    }

    fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value[key].as_str();
        let seen = &value["seen"];
        let ms = |key: &str| seen[key].as_u64().map(Duration::from_millis);
        let seen = match seen.is_object() {
            true => Some(Seen {
                gap: ms("gap_ms")?,
                acknowledged: seen["acknowledged"].as_u64()?,
                failed: seen["failed"].as_u64()?,
                lost: seen["lost"].as_u64(),
                lost_direct: seen["lost_direct"].as_u64(),
                writable: seen["writable"].as_u64()?,
                overlap: ms("overlap_ms")?,
            }),
            false => None,
        };
        Some(Self {
            system: System::parse(text("system")?)?,
            fault: Fault::parse(text("fault")?)?,
            round: usize::try_from(value["round"].as_u64()?).ok()?,
            seen,
            problem: text("problem").map(str::to_owned),
        })
    }
}

/// The turns of a journal.
pub fn read(journals: &[PathBuf]) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for journal in journals {
        let text = fs::read_to_string(journal)
            .with_context(|| format!("cannot read {}", journal.display()))?;
        for line in text.lines() {
            turns.push(Turn::parse(line).with_context(|| format!("no turn: {line}"))?);
        }
    }
    Ok(turns)
}

pub fn table(turns: &[Turn]) -> String {
    let head = [
        "fault",
        "system",
        "rounds",
        "median s",
        "worst s",
        "lost",
        "rounds with loss",
        "lost past the balancer",
        "two writable",
        "longest s",
        "failed, median",
        "problems",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for fault in Fault::ALL {
        for system in System::ALL {
            let of: Vec<&Turn> = turns
                .iter()
                .filter(|turn| turn.fault == fault && turn.system == system)
                .collect();
            if !of.is_empty() {
                rows.push(row(fault, system, &of));
            }
        }
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text.push('|');
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match column < 2 {
                true => write!(text, " {cell:<width$} |"),
                false => write!(text, " {cell:>width$} |"),
            };
        }
        text.push('\n');
        if index == 0 {
            text.push('|');
            for (column, width) in widths.iter().enumerate() {
                let rule = "-".repeat(width + if column < 2 { 2 } else { 1 });
                let _ = write!(text, "{rule}{}|", if column < 2 { "" } else { ":" });
            }
            text.push('\n');
        }
    }
    text
}

fn row(fault: Fault, system: System, turns: &[&Turn]) -> Vec<String> {
    let seen: Vec<&Seen> = turns.iter().filter_map(|turn| turn.seen.as_ref()).collect();
    let mut gaps: Vec<f64> = seen.iter().map(|seen| seen.gap.as_secs_f64()).collect();
    gaps.sort_by(f64::total_cmp);
    let mut failed: Vec<f64> = seen.iter().map(|seen| seen.failed as f64).collect();
    failed.sort_by(f64::total_cmp);
    let measured = !seen.is_empty();
    let shown = |value: String| if measured { value } else { "-".to_owned() };
    let lost: u64 = seen.iter().filter_map(|seen| seen.lost).sum();
    let with_loss = seen.iter().filter(|seen| seen.lost != Some(0)).count();
    let lost_direct: u64 = seen.iter().filter_map(|seen| seen.lost_direct).sum();
    let two = seen.iter().filter(|seen| seen.writable > 1).count();
    let longest = seen
        .iter()
        .map(|seen| seen.overlap)
        .max()
        .unwrap_or_default();
    let problems = turns.iter().filter(|turn| turn.problem.is_some()).count();
    vec![
        fault.as_str().to_owned(),
        system.as_str().to_owned(),
        turns.len().to_string(),
        shown(format!("{:.1}", median(&gaps))),
        shown(format!("{:.1}", gaps.last().copied().unwrap_or(0.0))),
        shown(lost.to_string()),
        shown(with_loss.to_string()),
        shown(lost_direct.to_string()),
        shown(two.to_string()),
        shown(format!("{:.1}", longest.as_secs_f64())),
        shown(format!("{:.0}", median(&failed))),
        problems.to_string(),
    ]
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// How many rounds there are of each system and fault: journals of several runs may be put together.
fn how_many(turns: &[Turn]) -> String {
    let mut counts = BTreeMap::new();
    for turn in turns {
        let pair = (turn.system.as_str(), turn.fault.as_str());
        *counts.entry(pair).or_insert(0_usize) += 1;
    }
    let least = counts.values().min().copied().unwrap_or(0);
    match counts.values().max() {
        Some(most) if *most > least => format!("{least} to {most}"),
        _ => least.to_string(),
    }
}

/// `at_once`: the systems did not take turns, each had a bench of its own.
pub fn markdown(turns: &[Turn], settings: &Settings, at_once: bool) -> Result<String> {
    let order = match at_once {
        true => {
            "All systems run at the same time on this machine, each\n  \
             under a bench of its own, so that they share its other load"
        }
        false => {
            "In each round every system has its turn, in\n  rotated order. One system runs at a time"
        }
    };
    let rounds = how_many(turns);
    let mut versions = vec![version_of(&settings.binary)?];
    versions.extend(patroni::versions(&settings.venv)?);
    let mut problems: Vec<String> = turns
        .iter()
        .filter_map(|turn| {
            let problem = turn.problem.as_ref()?;
            let (system, fault) = (turn.system.as_str(), turn.fault.as_str());
            let round = turn.round + 1;
            Some(format!("- {system}, {fault}, round {round}: {problem}"))
        })
        .collect();
    if problems.is_empty() {
        problems.push("- None.".to_owned());
    }
    let lasts: Vec<String> = System::ALL
        .iter()
        .map(|system| {
            format!(
                "{} s for {}",
                Fault::CutOff.lasts(*system).as_secs(),
                system.as_str()
            )
        })
        .collect();
    Ok(format!(
        "## Failover\n\n\
         Written by `make bench-failover`; do not edit.\n\n\
         {}\n\
         - *median s*, *worst s*: time without an acknowledged write, from any of the connections.\n\
         - *lost*: writes that were acknowledged through the sql entry or HAProxy and are not on the\n  \
           primary in the end, of all rounds; *past the balancer*: the same of writes sent to each\n  \
           PostgreSQL itself.\n\
         - *two writable*: rounds in which two servers surely acknowledged writes at once, and the\n  \
           longest of these times.\n\
         - *failed*: rows refused or without an answer, of about 100 a second.\n\
         - *problems*: turns after which not everything was well again within {} s.\n\n\
         ### Problems\n\n{}\n\n\
         ### Measured on\n\n\
         - Date: {}\n- Machine: {}\n- {}\n\n\
         ### How\n\n\
         - Three servers, each a network namespace with an address of its own on a bridge; on each a\n  \
           PostgreSQL, an agent, and what applications there connect to: Trilith's sql entry, or an\n  \
           HAProxy. etcd has a member on each as well.\n\
         - One load for all: `trilith drill --url`, 100 inserts a second on 8 connections through the\n  \
           three entries; a connection that breaks, or does not answer within 2 s, is made again at\n  \
           once. Besides, every 20 ms a row is written to each PostgreSQL itself that says it is a\n  \
           primary.\n\
         - The same code injects all faults into the server of the primary: kill -9 of the postmaster;\n  \
           every process killed with the cable out; the cable out; SIGSTOP of `trilith run` or\n  \
           Patroni; a switchover asked for by the command, or Patroni's REST API. The middle three\n  \
           last {}.\n\
         - {} rounds. {order}. Each round\n  \
           begins with an empty data directory; faults follow each other once everything is well again.\n\
         - Patroni: `use_pg_rewind`; default: ttl 30, loop_wait 10, retry_timeout 10; tightest: ttl 20,\n  \
           loop_wait 1, retry_timeout 3, the smallest values its documentation permits; synchronous:\n  \
           `synchronous_mode` on top. HAProxy: `httpchk OPTIONS /primary`, `on-marked-down\n  \
           shutdown-sessions`; checks as documented (`{}`), with the tightest settings\n  \
           `{}`, which is quicker than documented. etcd with its default times.\n",
        table(turns),
        crate::course::RECOVERY_PATIENCE.as_secs(),
        problems.join("\n"),
        jiff::Zoned::now()
            .with_time_zone(jiff::tz::TimeZone::UTC)
            .strftime("%Y-%m-%d %H:%M UTC"),
        machine::describe(),
        versions.join("\n- "),
        lasts.join(", "),
        rounds,
        patroni::checks(System::PatroniDefault),
        patroni::checks(System::PatroniTight),
    ))
}

fn version_of(binary: &Path) -> Result<String> {
    let mut command = std::process::Command::new(binary);
    crate::lab::output(command.arg("version"))
        .map(|said| said.lines().next().unwrap_or("").to_owned())
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(round: usize, gap: u64, lost: u64) -> Turn {
        let mut turn = Turn::new(System::PatroniTight, Fault::CutOff, round);
        turn.seen = Some(Seen {
            gap: Duration::from_millis(gap),
            acknowledged: 1_000,
            failed: 7,
            lost: Some(lost),
            lost_direct: None,
            writable: 1 + lost.min(1),
            overlap: Duration::from_millis(lost * 100),
        });
        turn
    }

    #[test]
    fn a_row_has_median_worst_and_sums() {
        let mut turns = vec![turn(0, 20_000, 0), turn(1, 22_000, 3), turn(2, 30_000, 2)];
        turns.push(Turn::new(System::PatroniTight, Fault::CutOff, 3));
        turns[3].problem = Some("no way".to_owned());
        let text = table(&turns);
        let row: Vec<&str> = text
            .lines()
            .last()
            .unwrap()
            .split('|')
            .map(str::trim)
            .collect();
        assert_eq!(
            row[1..13],
            [
                "server cut off",
                "Patroni, tightest",
                "4",
                "22.0",
                "30.0",
                "5",
                "2",
                "0",
                "2",
                "0.3",
                "7",
                "1"
            ]
        );
        assert_eq!(text.lines().count(), 3);
        assert_eq!(how_many(&turns), "4");
        turns.push(Turn::new(System::Trilith, Fault::CutOff, 0));
        assert_eq!(how_many(&turns), "1 to 4");
    }

    #[test]
    fn a_turn_comes_back_from_the_journal() {
        let mut turn = turn(4, 1_234, 1);
        turn.problem = Some("after the repair: one of two replicas".to_owned());
        let back = Turn::parse(&turn.json().to_string()).unwrap();
        assert_eq!(back.json(), turn.json());
        assert_eq!(back.line(), turn.line());
        assert!(Turn::parse("{}").is_none());
    }
}
