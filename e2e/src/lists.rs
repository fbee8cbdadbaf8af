//! Transactions that append to lists and read them, and what their history says of the database.
//!
//! Appended numbers are unique, so a list that was read tells which transactions came before, in which
//! order. From that `adya` infers how transactions depended on each other, and which anomalies of
//! isolation there were. What it does not ask, because a database may be free to do so, is asked here:
//! whether everything that was acknowledged, or shown to anybody, is still there in the end.

mod clients;

use std::collections::{BTreeMap, BTreeSet};

use adya::{Opts, Valid, Workload};
use serde_json::{Value, json};

pub use clients::{Clients, Isolation, Options, read_all};

/// The longest search for a cycle in one knot of transactions.
const SEARCH: std::time::Duration = std::time::Duration::from_secs(20);
/// An explanation of an anomaly is cut there.
const TOLD_CHARS_MAX: usize = 3_000;

/// A part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Append {
        key: i64,
        value: i64,
    },
    /// What was found; nothing while it is not known.
    Read {
        key: i64,
        list: Option<Vec<i64>>,
    },
}

/// How a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Invoked,
    /// Its commit was acknowledged.
    Committed,
    /// It surely did nothing.
    Aborted,
    /// Nobody knows.
    Unknown,
}

/// One line of a history. Lines are in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who: does one thing after the other. Somebody who does not know what became of a transaction goes
    /// on under another number.
    pub process: i64,
    pub stage: Stage,
    pub ops: Vec<Op>,
}

/// What clients did to the lists and saw of them.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub lines: Vec<Line>,
    /// What was shown to a client whatever became of its transaction, without what that itself appended.
    pub shown: Vec<(i64, Vec<i64>)>,
}

impl History {
    /// What is wrong, at the isolation that the clients asked for, with these lists in the end. Empty:
    /// nothing.
    pub fn faults(&self, isolation: Isolation, lists: &BTreeMap<i64, Vec<i64>>) -> Vec<String> {
        let mut faults = self.gone(lists);
        faults.extend(self.stale());
        faults.extend(self.anomalies(isolation));
        faults
    }

    /// What nobody knew is known in the end: a transaction none of whose appends is there did nothing. Its
    /// reads may have been such that it had to be refused; as everything that was shown they stay in
    /// [`History::shown`].
    pub fn settle(&mut self, lists: &BTreeMap<i64, Vec<i64>>) {
        let there = |key: &i64, value: &i64| lists.get(key).is_some_and(|l| l.contains(value));
        for line in self.lines.iter_mut().filter(|l| l.stage == Stage::Unknown) {
            let mut ops = line.ops.iter();
            if !ops.any(|op| matches!(op, Op::Append { key, value } if there(key, value))) {
                line.stage = Stage::Aborted;
            }
        }
    }

    /// How many transactions were acknowledged.
    pub fn committed(&self) -> usize {
        self.count(Stage::Committed)
    }

    pub fn count(&self, stage: Stage) -> usize {
        self.lines.iter().filter(|l| l.stage == stage).count()
    }

    /// Acknowledged appends and lists once shown that are not in the end's lists, what is there twice, and
    /// what is there although its transaction was refused.
    fn gone(&self, lists: &BTreeMap<i64, Vec<i64>>) -> Vec<String> {
        let mut faults = Vec::new();
        let mut aborted = BTreeSet::new();
        let empty = Vec::new();
        let list = |key: &i64| lists.get(key).unwrap_or(&empty);
        let mut places: BTreeSet<(i64, i64)> = BTreeSet::new();
        for (key, list) in lists {
            for value in list {
                if !places.insert((*key, *value)) {
                    faults.push(format!("{value} is twice in list {key}: {list:?}"));
                }
            }
        }
        for line in &self.lines {
            for op in &line.ops {
                match (op, line.stage) {
                    (Op::Append { key, value }, Stage::Committed)
                        if !places.contains(&(*key, *value)) =>
                    {
                        faults.push(format!(
                            "the append of {value} to list {key} was acknowledged, and is lost: {:?}",
                            list(key)
                        ));
                    }
                    (Op::Append { key, value }, Stage::Aborted) => {
                        aborted.insert((*key, *value));
                    }
                    (
                        Op::Read {
                            key,
                            list: Some(seen),
                        },
                        Stage::Committed,
                    ) if !list(key).starts_with(seen) => {
                        faults.push(gone_again(*key, seen, list(key)));
                    }
                    _ => {}
                }
            }
        }
        for (key, seen) in &self.shown {
            if !list(key).starts_with(seen) {
                faults.push(gone_again(*key, seen, list(key)));
            }
        }
        for (key, value) in aborted.intersection(&places) {
            faults.push(format!(
                "the append of {value} to list {key} was refused, and is there"
            ));
        }
        faults
    }

    /// Lists that were shown without an append that had been acknowledged before the reader began.
    fn stale(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut acknowledged: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        // By process: how much of each list there had to be when it began.
        let mut begun: BTreeMap<i64, BTreeMap<i64, usize>> = BTreeMap::new();
        for line in &self.lines {
            if line.stage == Stage::Invoked {
                let lengths = acknowledged.iter().map(|(key, list)| (*key, list.len()));
                begun.insert(line.process, lengths.collect());
                continue;
            }
            let before = begun.remove(&line.process).unwrap_or_default();
            for op in &line.ops {
                match op {
                    Op::Read {
                        key,
                        list: Some(seen),
                    } => {
                        let all = acknowledged.get(key).map_or(&[][..], Vec::as_slice);
                        let due = &all[..before.get(key).copied().unwrap_or(0)];
                        let lacking: Vec<_> = due.iter().filter(|v| !seen.contains(v)).collect();
                        if !lacking.is_empty() {
                            faults.push(format!(
                                "somebody was shown {seen:?} in list {key}, \
                                 when {lacking:?} had been acknowledged before"
                            ));
                        }
                    }
                    Op::Append { key, value } if line.stage == Stage::Committed => {
                        acknowledged.entry(*key).or_default().push(*value);
                    }
                    _ => {}
                }
            }
        }
        faults
    }

    fn anomalies(&self, isolation: Isolation) -> Vec<String> {
        let history = match adya::History::from_json(&self.json_lines()) {
            Ok(history) => history,
            Err(error) => return vec![format!("the history is malformed: {error}")],
        };
        let options = Opts {
            models: vec![isolation.model().to_owned()],
            timeout: SEARCH,
            ..Opts::default()
        };
        let report = adya::check(&history, Workload::ListAppend, &options);
        if report.valid == Valid::True {
            return Vec::new();
        }
        let anomalies = report.anomalies.iter();
        let told = anomalies.map(|(kind, found)| {
            let first = found.first().map(|a| a.explanation.as_str());
            let first: String = first
                .unwrap_or_default()
                .chars()
                .take(TOLD_CHARS_MAX)
                .collect();
            format!("{kind}, {} times; the first: {first}", found.len())
        });
        told.collect()
    }

    /// As `adya check` reads it.
    pub fn json_lines(&self) -> String {
        let mut text = String::new();
        for (index, line) in self.lines.iter().enumerate() {
            let kind = match line.stage {
                Stage::Invoked => "invoke",
                Stage::Committed => "ok",
                Stage::Aborted => "fail",
                Stage::Unknown => "info",
            };
            let ops: Vec<Value> = line.ops.iter().map(Op::json).collect();
            let line = json!({
                "index": index, "type": kind, "process": line.process, "value": ops,
            });
            text.push_str(&line.to_string());
            text.push('\n');
        }
        text
    }
}

impl Op {
    fn json(&self) -> Value {
        match self {
            Self::Append { key, value } => json!(["append", key, value]),
            Self::Read { key, list } => json!(["r", key, list]),
        }
    }
}

fn gone_again(key: i64, seen: &[i64], list: &[i64]) -> String {
    format!("somebody was shown {seen:?} in list {key}, and it is {list:?}")
}

#[cfg(test)]
mod tests;
