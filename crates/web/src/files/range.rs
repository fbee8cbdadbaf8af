//! Byte ranges (RFC 9110 section 14).

use std::ops::Range;

use crate::limits::{RANGE_GAP_BYTES_MIN, RANGES_MAX};

/// What a `Range` field asks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The field does not count: another unit, not valid, or not worth it. 200.
    Whole,
    /// 206, in this order; not empty, each within the file and not empty.
    Parts(Vec<Range<u64>>),
    /// 416
    Unsatisfiable,
}

/// Reads the field value for a file of `size` bytes.
///
/// A field that is not valid is ignored, and so is one with more than [`RANGES_MAX`] ranges, or one
/// that asks for as much as the file has (RFC 9110 section 14.2 leaves both to the server). Ranges
/// that overlap or nearly touch are sent as one.
pub fn select(field: &[u8], size: u64) -> Selection {
    let Some(specs) = parse(field) else {
        return Selection::Whole;
    };
    // An empty file has no byte to select, and nothing is lost by sending all of it.
    if size == 0 || specs.len() > RANGES_MAX {
        return Selection::Whole;
    }
    let asked: Vec<Range<u64>> = specs.into_iter().filter_map(|s| s.within(size)).collect();
    if asked.is_empty() {
        return Selection::Unsatisfiable;
    }
    let parts = coalesce(asked);
    let cost = parts.iter().fold(0u64, |sum, part| {
        sum.saturating_add(part.end - part.start)
            .saturating_add(RANGE_GAP_BYTES_MIN)
    });
    if parts.len() > 1 && cost >= size {
        return Selection::Whole;
    }
    Selection::Parts(parts)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// First and last position, both included; to the end without the last.
    From(u64, Option<u64>),
    /// That many bytes at the end.
    Last(u64),
}

impl Spec {
    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, None) => first..size,
            Self::From(first, Some(last)) => first..last.saturating_add(1).min(size),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// `None` where the field is not valid or not about bytes. Stops counting once there are too many.
fn parse(field: &[u8]) -> Option<Vec<Spec>> {
    let field = field.trim_ascii();
    let (unit, set) = field.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = Vec::new();
    for spec in trilith_http1::tokens(set).take(RANGES_MAX + 1) {
        specs.push(parse_spec(spec)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn parse_spec(spec: &[u8]) -> Option<Spec> {
    let dash = spec.iter().position(|b| *b == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        return Some(Spec::Last(number(last)?));
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(Spec::From(first, None));
    }
    let last = number(last)?;
    (first <= last).then_some(Spec::From(first, Some(last)))
}

/// Digits only. More than 64 bits can hold is as good as the largest number: past every file's end.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(n.saturating_mul(10).saturating_add(digit))
    })
}

/// Joins ranges that overlap or are closer than a part's overhead. When there are none, the order
/// stays as asked for (RFC 9110 section 15.3.7.2).
fn coalesce(asked: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = asked.clone();
    sorted.sort_by_key(|r| r.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(RANGE_GAP_BYTES_MIN) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    if joined.len() == asked.len() {
        asked
    } else {
        joined
    }
}

#[cfg(test)]
mod tests;
