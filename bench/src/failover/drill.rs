//! The load: `trilith drill --url`, the same for all.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::signals::unblocked;

/// Longer than any turn.
const LASTS: &str = "10m";
const RATE: &str = "100";
/// For the last answers, and for comparing rows with acknowledgements on three servers.
const REPORT_PATIENCE: Duration = Duration::from_secs(240);

/// A load under way. Dropped, it ends.
pub struct Drill {
    child: Child,
    said: Option<thread::JoinHandle<String>>,
}

/// What a turn came to.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Longest time without an acknowledgement that ended after the fault.
    pub gap: Duration,
    pub acknowledged: u64,
    /// Not acknowledged: refused, or without an answer.
    pub failed: u64,
    /// Acknowledged and gone; `None` when the table could not be read in the end.
    pub lost: Option<u64>,
    /// The same of those written past the balancers.
    pub lost_direct: Option<u64>,
    /// How many servers surely acknowledged writes at once, and for how long at most.
    pub writable: u64,
    pub overlap: Duration,
}

impl Drill {
    pub fn start(binary: &Path, entries: &[String], direct: &[String]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["drill", "--json", "--for", LASTS, "--rate", RATE]);
        for url in entries {
            command.args(["--url", url]);
        }
        for url in direct {
            command.args(["--direct", url]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for this program alone.
            .process_group(0);
        let mut child =
            unblocked(|| command.spawn())?.with_context(|| binary.display().to_string())?;
        let errors = child.stderr.take().context("no stderr")?;
        let mut stdout = child.stdout.take().context("no stdout")?;
        let said = thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        let drill = Self {
            child,
            said: Some(said),
        };
        // Its first line comes when the load begins, or says why it does not.
        let mut lines = BufReader::new(errors).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        ensure!(first.contains("rows a second"), "trilith drill: {first}");
        thread::spawn(move || lines.for_each(drop));
        Ok(drill)
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the load and takes its report. `injected`: milliseconds since 1970.
    pub fn finish(mut self, injected: u64) -> Result<Seen> {
        self.signal(Signal::SIGINT);
        let begin = Instant::now();
        while !self.has_ended() {
            if begin.elapsed() > REPORT_PATIENCE {
                bail!("trilith drill does not end");
            }
            thread::sleep(Duration::from_millis(20));
        }
        let said = self.said.take().map(thread::JoinHandle::join);
        let Some(Ok(said)) = said else {
            bail!("trilith drill: nothing was heard of it");
        };
        let report = serde_json::from_str(&said).context("trilith drill printed no report")?;
        seen(&report, injected)
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may be gone already.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

pub fn now_unix_ms() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())?)
}

fn seen(report: &Value, injected: u64) -> Result<Seen> {
    let number = |key: &str| {
        let value = report[key].as_u64();
        value.with_context(|| format!("no {key} in the report of trilith drill"))
    };
    let injected = injected.saturating_sub(number("began_unix_ms")?);
    let spans = |key: &str| -> Vec<(u64, u64)> {
        let list = report[key].as_array().into_iter().flatten();
        list.filter_map(|span| Some((span["from_ms"].as_u64()?, span["to_ms"].as_u64()?)))
            .collect()
    };
    let longest = |spans: Vec<(u64, u64)>| {
        let lengths = spans.iter().map(|(from, to)| to.saturating_sub(*from));
        Duration::from_millis(lengths.max().unwrap_or(0))
    };
    let after: Vec<_> = spans("gaps")
        .into_iter()
        .filter(|(_, to)| *to >= injected)
        .collect();
    Ok(Seen {
        gap: longest(after),
        acknowledged: number("writes_acknowledged")?,
        failed: number("writes_failed")? + number("writes_unknown")?,
        lost: report["writes_lost"].as_u64(),
        lost_direct: report["direct_lost"].as_u64(),
        writable: number("writable_primaries_max")?,
        overlap: longest(spans("overlaps")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_gap_of_a_fault_is_one_that_ends_after_it() {
        let report = json!({
            "began_unix_ms": 1_000_000,
            "gaps": [
                { "from_ms": 0, "to_ms": 900 },
                { "from_ms": 1_990, "to_ms": 2_500 },
                { "from_ms": 4_000, "to_ms": 4_200 },
            ],
            "writes_acknowledged": 40,
            "writes_failed": 1,
            "writes_unknown": 2,
            "writes_lost": 3,
            "direct_lost": null,
            "writable_primaries_max": 2,
            "overlaps": [{ "from_ms": 5, "to_ms": 25 }],
        });
        let seen = seen(&report, 1_002_000).unwrap();
        assert_eq!(seen.gap, Duration::from_millis(510));
        assert_eq!(
            (seen.failed, seen.lost, seen.lost_direct),
            (3, Some(3), None)
        );
        assert_eq!(
            (seen.writable, seen.overlap),
            (2, Duration::from_millis(20))
        );
        assert!(super::seen(&json!({}), 0).is_err());
    }
}
