//! What a load on the database saw, and whether that is what was promised. No clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::words::{all_ready, ms, seconds, verdict};
use super::{GAP_TOLD, RECOVERY};

/// A server that took a write, on which line of history. A server that becomes the primary again
/// does so on another timeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenure {
    pub server: String,
    pub timeline: u32,
}

/// A row that was sent. All times count from the start of the drill.
#[derive(Clone, Debug)]
pub struct Write {
    pub id: i64,
    pub sent: Duration,
    pub done: Duration,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Acknowledged(Arc<Tenure>),
    /// It may have been written, or not.
    Unknown(String),
    /// It was refused: it has not been written.
    Failed(String),
}

/// What the connections of a load saw.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub writes: Vec<Write>,
    pub reads: usize,
    /// An acknowledged row of its own that a connection did not find.
    pub reads_missing: usize,
    pub connects_failed: usize,
}

/// What one look at a server after the other said of its PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    pub server: String,
    /// From and to: as a primary, whoever it took writes from.
    pub spans: Vec<(Duration, Duration)>,
}

/// Which rows there are in the end.
#[derive(Clone, Debug)]
pub struct Verified {
    /// On the primary; why that could not be seen.
    pub primary: Result<BTreeSet<i64>, String>,
    pub replicas: Vec<(String, Result<BTreeSet<i64>, String>)>,
}

/// A fault, its repair, and what is promised of it.
#[derive(Clone, Debug)]
pub struct Disturbance {
    pub what: String,
    pub injected: Duration,
    pub healed: Duration,
    /// When every server was ready again.
    pub recovered: Option<Duration>,
    pub gap_goal: Duration,
    pub primary_before: String,
    pub primary_after: Option<String>,
}

/// Everything that was seen.
#[derive(Clone, Debug)]
pub struct Facts {
    pub disturbance: Option<Disturbance>,
    pub connections: u32,
    pub rate: u32,
    /// Milliseconds since 1970 UTC at the start.
    pub began_unix_ms: u64,
    pub ended: Duration,
    pub load: Log,
    /// Written past the sql entries.
    pub direct: Log,
    pub running: Vec<Running>,
    pub verified: Verified,
}

/// A server took writes. Surely a writable primary from `from` to `to`, perhaps a little longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reign {
    pub tenure: Tenure,
    /// The first acknowledgement arrived.
    pub from: Duration,
    /// The last row that was acknowledged was sent. Before `from` when there was one row alone.
    pub to: Duration,
    pub writes: usize,
}

/// Two servers surely took writes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    pub servers: [String; 2],
    pub from: Duration,
    pub to: Duration,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub facts: Facts,
    pub acknowledged: usize,
    pub unknown: usize,
    pub failed: usize,
    /// How often rows were not acknowledged, and why.
    pub failures: BTreeMap<String, usize>,
    /// Acknowledged, and not on the primary in the end; `None` when that could not be seen.
    pub lost: Option<Vec<i64>>,
    pub direct_lost: Option<Vec<i64>>,
    /// Acknowledged, and not on that replica although it had replayed everything.
    pub missing: Vec<(String, Result<usize, String>)>,
    /// Longest time without an acknowledgement, and when it began.
    pub longest_gap: Duration,
    pub gap_from: Duration,
    /// Gaps of at least [`GAP_TOLD`]: from and to.
    pub gaps: Vec<(Duration, Duration)>,
    pub reigns: Vec<Reign>,
    pub overlaps: Vec<Overlap>,
    pub writable_max: usize,
    /// As many PostgreSQLs were out of recovery at once, whether or not they could acknowledge.
    pub running_max: usize,
    /// Which promises were broken; empty when none was.
    pub broken: Vec<String>,
}

impl Report {
    pub fn new(facts: Facts) -> Self {
        let mut failures = BTreeMap::new();
        let (mut unknown, mut failed) = (0, 0);
        for write in &facts.load.writes {
            let why = match &write.answer {
                Answer::Acknowledged(_) => continue,
                Answer::Unknown(why) => {
                    unknown += 1;
                    why
                }
                Answer::Failed(why) => {
                    failed += 1;
                    why
                }
            };
            *failures.entry(why.clone()).or_insert(0) += 1;
        }
        let present = facts.verified.primary.as_ref().ok();
        let every_ack = || acknowledged(&facts.load).chain(acknowledged(&facts.direct));
        let missing = facts.verified.replicas.iter().map(|(name, seen)| {
            let missing = seen.as_ref().map(|seen| absent(every_ack(), seen).len());
            (name.clone(), missing.map_err(Clone::clone))
        });
        let gaps = gaps(&facts.load, facts.ended);
        let longest = gaps.iter().copied().fold(None, |longest, gap| {
            let length = |(from, to): (Duration, Duration)| to.saturating_sub(from);
            match longest {
                Some(before) if length(before) >= length(gap) => longest,
                _ => Some(gap),
            }
        });
        let (gap_from, gap_to) = longest.unwrap_or_default();
        let reigns = reigns(&facts);
        let mut report = Self {
            acknowledged: acknowledged(&facts.load).count(),
            unknown,
            failed,
            failures,
            lost: present.map(|present| absent(acknowledged(&facts.load), present)),
            direct_lost: present.map(|present| absent(acknowledged(&facts.direct), present)),
            missing: missing.collect(),
            longest_gap: gap_to.saturating_sub(gap_from),
            gap_from,
            gaps: gaps
                .into_iter()
                .filter(|(from, to)| to.saturating_sub(*from) >= GAP_TOLD)
                .collect(),
            overlaps: overlaps(&reigns),
            writable_max: most_at_once(&reigns),
            running_max: most_running(&facts.running),
            reigns,
            broken: Vec::new(),
            facts,
        };
        report.broken = report.judge();
        report
    }

    fn judge(&self) -> Vec<String> {
        let mut broken = Vec::new();
        match (&self.lost, &self.facts.verified.primary) {
            (Some(lost), _) if !lost.is_empty() => {
                broken.push(format!("{} acknowledged writes were lost", lost.len()));
            }
            (None, Err(why)) => broken.push(format!("what was written could not be seen: {why}")),
            _ => {}
        }
        if let Some(lost) = &self.direct_lost
            && !lost.is_empty()
        {
            broken.push(format!(
                "{} acknowledged writes past the entries were lost",
                lost.len()
            ));
        }
        for (replica, missing) in &self.missing {
            match missing {
                Ok(0) => {}
                Ok(count) => {
                    broken.push(format!("{count} acknowledged writes are not on {replica}"))
                }
                Err(why) => broken.push(format!("{replica} could not be compared: {why}")),
            }
        }
        if self.facts.load.reads_missing > 0 {
            let count = self.facts.load.reads_missing;
            broken.push(format!(
                "{count} times a connection did not find a row of its own"
            ));
        }
        for overlap in &self.overlaps {
            broken.push(format!(
                "{} took writes at once for {}",
                overlap.servers.join(" and "),
                seconds(overlap.to.saturating_sub(overlap.from))
            ));
        }
        if let Some(disturbance) = &self.facts.disturbance {
            if self.longest_gap > disturbance.gap_goal {
                broken.push(format!(
                    "nothing was written for {}, the goal is {}",
                    seconds(self.longest_gap),
                    seconds(disturbance.gap_goal)
                ));
            }
            if disturbance.recovered.is_none() {
                broken.push(format!(
                    "not everything was ready again within {} of the repair",
                    seconds(RECOVERY)
                ));
            }
        } else if self.acknowledged == 0 {
            broken.push("nothing was written".to_owned());
        }
        broken
    }

    pub fn text(&self) -> String {
        let facts = &self.facts;
        let zero = facts.disturbance.as_ref().map(|d| d.injected);
        let moment = |time: Duration| match zero {
            Some(zero) => format!("{:+.2} s", time.as_secs_f64() - zero.as_secs_f64()),
            None => seconds(time),
        };
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        if let Some(disturbance) = &facts.disturbance {
            line("fault", &disturbance.what);
        }
        line(
            "load",
            &format!(
                "{} rows a second for {}, on {} connections",
                facts.rate,
                seconds(facts.ended),
                facts.connections
            ),
        );
        let kinds: Vec<_> = self
            .failures
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let kinds = match kinds.is_empty() {
            true => String::new(),
            false => format!(" ({})", kinds.join(", ")),
        };
        line(
            "writes",
            &format!(
                "{}, acknowledged {}, unknown {}, refused {}{kinds}",
                facts.load.writes.len(),
                self.acknowledged,
                self.unknown,
                self.failed
            ),
        );
        let lost = match &self.lost {
            Some(lost) => lost.len().to_string(),
            None => "not seen".to_owned(),
        };
        line("lost", &format!("{lost}; goal 0"));
        let goal = match &facts.disturbance {
            Some(disturbance) => format!("; goal {}", seconds(disturbance.gap_goal)),
            None => String::new(),
        };
        line(
            "longest gap",
            &format!(
                "{}, from {}{goal}",
                seconds(self.longest_gap),
                moment(self.gap_from)
            ),
        );
        let reigns: Vec<_> = self
            .reigns
            .iter()
            .map(|reign| {
                format!(
                    "{} (timeline {}) from {} to {}",
                    reign.tenure.server,
                    reign.tenure.timeline,
                    moment(reign.from),
                    moment(reign.to.max(reign.from))
                )
            })
            .collect();
        line("primaries", &reigns.join("; "));
        let overlaps: Vec<_> = self
            .overlaps
            .iter()
            .map(|overlap| {
                let time = overlap.to.saturating_sub(overlap.from);
                format!("{} for {}", overlap.servers.join(" and "), seconds(time))
            })
            .collect();
        let overlaps = match overlaps.is_empty() {
            true => "never".to_owned(),
            false => overlaps.join("; "),
        };
        line("two at once", &format!("{overlaps}; goal never"));
        let replicas: Vec<_> = self
            .missing
            .iter()
            .map(|(replica, missing)| match missing {
                Ok(0) => format!("{replica} has every row"),
                Ok(count) => format!("{replica} lacks {count}"),
                Err(why) => format!("{replica}: {why}"),
            })
            .collect();
        if !replicas.is_empty() {
            line("replicas", &replicas.join("; "));
        }
        if let Some(disturbance) = &facts.disturbance {
            let (injected, healed) = (disturbance.injected, disturbance.healed);
            line(
                "all ready",
                &all_ready(injected, healed, disturbance.recovered),
            );
        }
        line("verdict", &verdict(&self.broken));
        text
    }

    pub fn json(&self) -> Value {
        let facts = &self.facts;
        let disturbance = facts.disturbance.as_ref();
        let span =
            |(from, to): &(Duration, Duration)| json!({ "from_ms": ms(*from), "to_ms": ms(*to) });
        let reigns: Vec<_> = self
            .reigns
            .iter()
            .map(|reign| {
                json!({
                    "server": reign.tenure.server,
                    "timeline": reign.tenure.timeline,
                    "from_ms": ms(reign.from),
                    "to_ms": ms(reign.to.max(reign.from)),
                    "writes": reign.writes,
                })
            })
            .collect();
        let overlaps: Vec<_> = self
            .overlaps
            .iter()
            .map(|o| json!({ "servers": o.servers, "from_ms": ms(o.from), "to_ms": ms(o.to) }))
            .collect();
        let replicas: Vec<_> = self
            .missing
            .iter()
            .map(|(replica, missing)| {
                json!({
                    "server": replica,
                    "missing": missing.as_ref().ok(),
                    "error": missing.as_ref().err(),
                })
            })
            .collect();
        let running: Vec<_> = facts
            .running
            .iter()
            .map(|running| {
                let spans: Vec<_> = running.spans.iter().map(span).collect();
                json!({ "server": running.server, "spans": spans })
            })
            .collect();
        json!({
            "schema": 1,
            "fault": disturbance.map(|d| &d.what),
            "rate": facts.rate,
            "connections": facts.connections,
            "began_unix_ms": facts.began_unix_ms,
            "writes_attempted": facts.load.writes.len(),
            "writes_acknowledged": self.acknowledged,
            "writes_unknown": self.unknown,
            "writes_failed": self.failed,
            "writes_lost": self.lost.as_ref().map(Vec::len),
            "failures": self.failures,
            "connects_failed": facts.load.connects_failed,
            "reads": facts.load.reads,
            "reads_missing": facts.load.reads_missing,
            "direct_acknowledged": acknowledged(&facts.direct).count(),
            "direct_lost": self.direct_lost.as_ref().map(Vec::len),
            "longest_write_gap_ms": ms(self.longest_gap),
            "gap_from_ms": ms(self.gap_from),
            "gaps": self.gaps.iter().map(span).collect::<Vec<_>>(),
            "primaries": reigns,
            "overlaps": overlaps,
            "writable_primaries_max": self.writable_max,
            "running_primaries": running,
            "running_primaries_max": self.running_max,
            "replicas": replicas,
            "primary_before": disturbance.map(|d| &d.primary_before),
            "primary_after": disturbance.and_then(|d| d.primary_after.as_ref()),
            "fault_at_ms": disturbance.map(|d| ms(d.injected)),
            "repaired_at_ms": disturbance.map(|d| ms(d.healed)),
            "ready_at_ms": disturbance.and_then(|d| d.recovered).map(ms),
            "ended_at_ms": ms(facts.ended),
            "goal": {
                "gap_ms": disturbance.map(|d| ms(d.gap_goal)),
                "writes_lost": 0,
                "writable_primaries_max": 1,
            },
            "broken": self.broken,
            "kept": self.broken.is_empty(),
        })
    }
}

fn acknowledged(log: &Log) -> impl Iterator<Item = i64> {
    let writes = log.writes.iter();
    writes
        .filter(|write| matches!(write.answer, Answer::Acknowledged(_)))
        .map(|write| write.id)
}

fn absent(ids: impl Iterator<Item = i64>, present: &BTreeSet<i64>) -> Vec<i64> {
    ids.filter(|id| !present.contains(id)).collect()
}

/// The times between consecutive acknowledgements, of whichever connections; the first one counts from
/// the start, the last one to the end.
fn gaps(log: &Log, ended: Duration) -> Vec<(Duration, Duration)> {
    let mut times: Vec<Duration> = log
        .writes
        .iter()
        .filter(|write| matches!(write.answer, Answer::Acknowledged(_)))
        .map(|write| write.done)
        .chain([ended])
        .collect();
    times.sort_unstable();
    let mut last = Duration::ZERO;
    let mut gaps = Vec::with_capacity(times.len());
    for time in times {
        gaps.push((last, time));
        last = time;
    }
    gaps
}

/// Who acknowledged when, in the order of the first acknowledgements.
fn reigns(facts: &Facts) -> Vec<Reign> {
    let mut found: BTreeMap<&Tenure, Reign> = BTreeMap::new();
    for write in facts.load.writes.iter().chain(&facts.direct.writes) {
        let Answer::Acknowledged(tenure) = &write.answer else {
            continue;
        };
        let reign = found.entry(tenure).or_insert_with(|| Reign {
            tenure: Tenure::clone(tenure),
            from: write.done,
            to: write.sent,
            writes: 0,
        });
        reign.from = reign.from.min(write.done);
        reign.to = reign.to.max(write.sent);
        reign.writes += 1;
    }
    let mut reigns: Vec<Reign> = found.into_values().collect();
    reigns.sort_by_key(|reign| reign.from);
    reigns
}

/// A write was taken at some moment between `sent` and `done`. So one reign may have been over before
/// the other began when its last write was sent before the other's first acknowledgement arrived; when
/// neither can have been first, they overlap.
fn at_once(one: &Reign, other: &Reign) -> bool {
    one.tenure.server != other.tenure.server && one.to > other.from && other.to > one.from
}

fn overlaps(reigns: &[Reign]) -> Vec<Overlap> {
    let mut overlaps = Vec::new();
    for (index, one) in reigns.iter().enumerate() {
        for other in reigns[index + 1..].iter().filter(|o| at_once(one, o)) {
            let (from, to) = (one.from.max(other.from), one.to.min(other.to));
            overlaps.push(Overlap {
                servers: [one.tenure.server.clone(), other.tenure.server.clone()],
                from: from.min(to),
                to: from.max(to),
            });
        }
    }
    overlaps
}

/// The largest number of servers of which any two surely took writes at once.
fn most_at_once(reigns: &[Reign]) -> usize {
    fn most(chosen: &mut Vec<usize>, reigns: &[Reign]) -> usize {
        let next = chosen.last().map_or(0, |last| last + 1);
        let mut best = chosen.len();
        for index in next..reigns.len() {
            if chosen.iter().all(|c| at_once(&reigns[*c], &reigns[index])) {
                chosen.push(index);
                best = best.max(most(chosen, reigns));
                chosen.pop();
            }
        }
        best
    }
    most(&mut Vec::new(), reigns)
}

fn most_running(running: &[Running]) -> usize {
    let spans = running.iter().flat_map(|running| &running.spans);
    let starts = spans.map(|(from, _)| *from);
    let at = |time: Duration| {
        let runs = |r: &&Running| {
            r.spans
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&time))
        };
        running.iter().filter(runs).count()
    };
    starts.map(at).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
