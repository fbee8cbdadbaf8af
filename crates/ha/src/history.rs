//! Timelines: which WAL a server has, and where histories part.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;

/// A place in a history: everything up to `lsn`, on the timeline `timeline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    pub timeline: u32,
    pub lsn: Lsn,
}

/// What a server has: all WAL up to `end`, on the timelines that led there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawHistory")]
pub struct History {
    /// Ended timelines, the oldest first, each with the position at which the next one began
    /// (PostgreSQL's `.history` file of the current timeline).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Position>,
    /// The current timeline and the end of the WAL.
    pub end: Position,
}

impl History {
    pub fn new(ended: Vec<Position>, end: Position) -> Self {
        Self { ended, end }
    }

    /// Whether everything up to that place is in it. A larger number of a timeline says nothing: two
    /// timelines may have parted long before.
    pub fn contains(&self, place: Position) -> bool {
        if place.timeline == self.end.timeline {
            return place.lsn <= self.end.lsn;
        }
        self.switch_of(place.timeline)
            .is_some_and(|switch| place.lsn <= switch && place.lsn <= self.end.lsn)
    }

    /// Where that timeline, one of the ended ones, was left.
    pub fn switch_of(&self, timeline: u32) -> Option<Lsn> {
        let ended = self.ended.iter().find(|ended| ended.timeline == timeline);
        ended.map(|ended| ended.lsn)
    }

    /// Whether everything that `other` has is in it.
    pub fn has(&self, other: &History) -> bool {
        self.contains(other.end) && self.agrees(other)
    }

    /// Whether a server that has `other` can go on along this history: it has nothing that this one has
    /// not, or, on the same timeline, will get.
    pub fn continues(&self, other: &History) -> bool {
        self.has(other) || (self.end.timeline == other.end.timeline && self.agrees(other))
    }

    /// Whether the same timelines led to the last one of `other`, if that is one of this history's: two of one
    /// number that began elsewhere are different timelines.
    fn agrees(&self, other: &History) -> bool {
        let last = other.end.timeline;
        let before = self.ended.iter().take_while(|ended| ended.timeline < last);
        before.eq(&other.ended)
    }
}

#[derive(Deserialize)]
struct RawHistory {
    #[serde(default)]
    ended: Vec<Position>,
    end: Position,
}

impl TryFrom<RawHistory> for History {
    type Error = String;

    /// Timelines grow; everything else would make comparisons answer at random.
    fn try_from(raw: RawHistory) -> Result<Self, String> {
        let RawHistory { ended, end } = raw;
        let all: Vec<u32> = ended.iter().chain([&end]).map(|at| at.timeline).collect();
        match all.iter().zip(&all[1..]).all(|(one, next)| one < next) {
            true => Ok(Self { ended, end }),
            false => Err(format!("timelines {all:?} do not grow")),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.timeline, self.lsn)
    }
}

/// Why a text is not a timeline's history file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the timeline history is malformed: `{text}`")]
pub struct ParseHistoryError {
    pub line: usize,
    pub text: String,
}

/// The ended timelines of a `.history` file: lines of a timeline, the position at which it was left, and
/// a reason (timeline.c, `readTimeLineHistory`).
///
/// # Errors
/// A line of another form, or timelines that do not grow.
pub fn parse_history(text: &str) -> Result<Vec<Position>, ParseHistoryError> {
    let mut ended: Vec<Position> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let error = || ParseHistoryError {
            line: number + 1,
            text: line.chars().take(100).collect(),
        };
        let mut words = line.split_ascii_whitespace();
        let timeline: u32 = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(error)?;
        let lsn: Lsn = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(error)?;
        if ended.last().is_some_and(|last| last.timeline >= timeline) {
            return Err(error());
        }
        ended.push(Position { timeline, lsn });
    }
    Ok(ended)
}

#[cfg(test)]
mod tests;
