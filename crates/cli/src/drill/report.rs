//! What a drill saw, and whether that is what was promised. No clock, no I/O.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::words::{all_ready, ms, seconds, verdict};
use super::{GAP_GOAL, ORPHAN_YIELDS, RECOVERY};

/// All times count from the start of the drill.
#[derive(Clone, Debug)]
pub struct Request {
    pub begun: Duration,
    pub took: Duration,
    pub failure: Option<&'static str>,
}

/// From `at` on, these servers hold the floating address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub at: Duration,
    /// Places in the list of servers, in order.
    pub holders: Vec<usize>,
}

/// Everything that was seen.
#[derive(Clone, Debug)]
pub struct Facts {
    pub fault: String,
    pub servers: Vec<String>,
    pub rate: u32,
    pub injected: Duration,
    pub healed: Duration,
    /// When every server was ready again.
    pub recovered: Option<Duration>,
    pub ended: Duration,
    pub requests: Vec<Request>,
    pub changes: Vec<Change>,
    /// A server that nobody could reach while the fault lasted. Without a majority it may take the
    /// address as an orphan, unless the config says otherwise: whoever shares its side is served.
    pub out_of_reach: Option<usize>,
}

/// A server held the address for that long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub server: String,
    pub from: Duration,
    pub to: Duration,
}

/// Several held it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    pub servers: Vec<String>,
    pub from: Duration,
    pub to: Duration,
    /// One of them was out of everybody's reach, or had just come back.
    pub excused: bool,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub facts: Facts,
    pub failed: usize,
    /// How often requests failed in which way.
    pub failures: BTreeMap<&'static str, usize>,
    /// Slowest successful request.
    pub slowest: Duration,
    /// Longest time without a successful request on a new connection, and when it began.
    pub longest_gap: Duration,
    pub gap_from: Duration,
    pub holds: Vec<Hold>,
    pub overlaps: Vec<Overlap>,
    /// Which promises were broken; empty when none was.
    pub broken: Vec<String>,
}

impl Report {
    pub fn new(facts: Facts) -> Self {
        let mut failures = BTreeMap::new();
        for failure in facts.requests.iter().filter_map(|r| r.failure) {
            *failures.entry(failure).or_insert(0) += 1;
        }
        let good = facts.requests.iter().filter(|r| r.failure.is_none());
        let slowest = good.clone().map(|r| r.took).max().unwrap_or_default();
        let (longest_gap, gap_from) = longest_gap(&facts);
        let mut report = Self {
            failed: failures.values().sum(),
            failures,
            slowest,
            longest_gap,
            gap_from,
            holds: holds(&facts),
            overlaps: overlaps(&facts),
            broken: Vec::new(),
            facts,
        };
        report.broken = report.judge();
        report
    }

    fn judge(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.longest_gap > GAP_GOAL {
            broken.push(format!(
                "new connections failed for {}, the goal is {}",
                seconds(self.longest_gap),
                seconds(GAP_GOAL)
            ));
        }
        for overlap in self.overlaps.iter().filter(|overlap| !overlap.excused) {
            broken.push(format!(
                "{} held the address at once for {}",
                overlap.servers.join(" and "),
                seconds(overlap.to.saturating_sub(overlap.from))
            ));
        }
        match self.facts.recovered {
            None => broken.push(format!(
                "not everything was ready again within {} of the repair",
                seconds(RECOVERY)
            )),
            Some(_)
                if self
                    .facts
                    .changes
                    .last()
                    .is_none_or(|c| c.holders.is_empty()) =>
            {
                broken.push("in the end nobody held the address".to_owned());
            }
            Some(_) => {}
        }
        broken
    }

    pub fn text(&self) -> String {
        let facts = &self.facts;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        line("fault", &facts.fault);
        line(
            "load",
            &format!(
                "{} requests a second for {}, each on a new connection",
                facts.rate,
                seconds(facts.ended)
            ),
        );
        let kinds: Vec<_> = self
            .failures
            .iter()
            .map(|(k, n)| format!("{n} {k}"))
            .collect();
        let kinds = match kinds.is_empty() {
            true => String::new(),
            false => format!(" ({})", kinds.join(", ")),
        };
        line(
            "requests",
            &format!(
                "{}, failed {}{kinds}, slowest {}",
                facts.requests.len(),
                self.failed,
                seconds(self.slowest)
            ),
        );
        line(
            "longest gap",
            &format!(
                "{}, from {}; goal {}",
                seconds(self.longest_gap),
                signed(self.gap_from, facts.injected),
                seconds(GAP_GOAL)
            ),
        );
        let spans: Vec<_> = self
            .holds
            .iter()
            .map(|hold| {
                format!(
                    "{} from {} to {}",
                    hold.server,
                    signed(hold.from, facts.injected),
                    signed(hold.to, facts.injected)
                )
            })
            .collect();
        line("holders", &spans.join("; "));
        let overlaps: Vec<_> = self
            .overlaps
            .iter()
            .map(|overlap| {
                format!(
                    "{} for {}{}",
                    overlap.servers.join(" and "),
                    seconds(overlap.to.saturating_sub(overlap.from)),
                    if overlap.excused {
                        ", one of them cut off"
                    } else {
                        ""
                    }
                )
            })
            .collect();
        let overlaps = match overlaps.is_empty() {
            true => "never".to_owned(),
            false => overlaps.join("; "),
        };
        line("two at once", &format!("{overlaps}; goal never"));
        line(
            "all ready",
            &all_ready(facts.injected, facts.healed, facts.recovered),
        );
        line("verdict", &verdict(&self.broken));
        text
    }

    pub fn json(&self) -> Value {
        let facts = &self.facts;
        let span = |from: Duration, to: Duration| json!({ "from_ms": ms(from), "to_ms": ms(to) });
        let holders: Vec<_> = self
            .holds
            .iter()
            .map(|hold| with(span(hold.from, hold.to), "server", json!(hold.server)))
            .collect();
        let overlaps = |excused: bool| -> Vec<_> {
            let overlaps = self.overlaps.iter().filter(|o| o.excused == excused);
            overlaps
                .map(|o| with(span(o.from, o.to), "servers", json!(o.servers)))
                .collect()
        };
        json!({
            "schema": 1,
            "fault": facts.fault,
            "rate": facts.rate,
            "requests": facts.requests.len(),
            "failed": self.failed,
            "failures": self.failures,
            "slowest_ms": ms(self.slowest),
            "longest_gap_ms": ms(self.longest_gap),
            "gap_from_ms": ms(self.gap_from),
            "fault_at_ms": ms(facts.injected),
            "repaired_at_ms": ms(facts.healed),
            "ready_at_ms": facts.recovered.map(ms),
            "ended_at_ms": ms(facts.ended),
            "holders": holders,
            "overlaps": overlaps(false),
            "overlaps_cut_off": overlaps(true),
            "goal": { "gap_ms": ms(GAP_GOAL), "overlaps": 0, "ready_within_ms": ms(RECOVERY) },
            "broken": self.broken,
            "kept": self.broken.is_empty(),
        })
    }
}

/// Between the ends of two successful requests that follow each other, or from the start to the first
/// or from the last to the end.
fn longest_gap(facts: &Facts) -> (Duration, Duration) {
    let good = facts.requests.iter().filter(|r| r.failure.is_none());
    let mut ends: Vec<Duration> = good.map(|r| r.begun + r.took).collect();
    ends.push(facts.ended);
    ends.sort_unstable();
    let (mut longest, mut from, mut last) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for end in ends {
        let gap = end.saturating_sub(last);
        if gap > longest {
            (longest, from) = (gap, last);
        }
        last = last.max(end);
    }
    (longest, from)
}

/// Each change with the time it lasted until.
fn spans(facts: &Facts) -> impl Iterator<Item = (&Change, Duration)> {
    let ends = facts.changes.iter().skip(1).map(|change| change.at);
    facts.changes.iter().zip(ends.chain([facts.ended]))
}

fn holds(facts: &Facts) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    for (change, to) in spans(facts) {
        for server in change.holders.iter().filter_map(|i| facts.servers.get(*i)) {
            let before = holds
                .iter_mut()
                .find(|hold| hold.to == change.at && hold.server == *server);
            match before {
                Some(hold) => hold.to = to,
                None => holds.push(Hold {
                    server: server.clone(),
                    from: change.at,
                    to,
                }),
            }
        }
    }
    holds
}

fn overlaps(facts: &Facts) -> Vec<Overlap> {
    let mut overlaps = Vec::new();
    for (change, to) in spans(facts).filter(|(change, _)| change.holders.len() > 1) {
        let others = change.holders.iter();
        let others = others
            .filter(|holder| Some(**holder) != facts.out_of_reach)
            .count();
        let excused =
            others < 2 && change.at >= facts.injected && to <= facts.healed + ORPHAN_YIELDS;
        overlaps.push(Overlap {
            servers: change
                .holders
                .iter()
                .filter_map(|index| facts.servers.get(*index).cloned())
                .collect(),
            from: change.at,
            to,
            excused,
        });
    }
    overlaps
}

fn with(mut value: Value, key: &str, field: Value) -> Value {
    value[key] = field;
    value
}

/// Counted from the fault, as all moments in the text are.
fn signed(time: Duration, fault: Duration) -> String {
    format!("{:+.2} s", time.as_secs_f64() - fault.as_secs_f64())
}

#[cfg(test)]
mod tests;
