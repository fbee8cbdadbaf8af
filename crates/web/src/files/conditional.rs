//! Preconditions, evaluated in the order of RFC 9110 section 13.2.2.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trilith_http::{Headers, Method};

/// What a GET or HEAD for a file is to be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The file. `range`: its `Range` field counts.
    Serve { range: bool },
    /// 304
    NotModified,
    /// 412
    Failed,
}

/// Validators of a file.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// A strong one, with its quotes.
    pub etag: &'a str,
    /// Whole seconds since 1970.
    pub modified_s: u64,
}

/// Fields that matter here and whether a request has them: one pass over its fields, most of which
/// have none of it.
#[derive(Clone, Copy, Debug, Default)]
struct Present {
    if_match: bool,
    if_none_match: bool,
    if_modified_since: bool,
    if_unmodified_since: bool,
    if_range: bool,
    range: bool,
}

impl Present {
    fn of(headers: &Headers) -> Self {
        let mut present = Self::default();
        for (name, _) in headers.iter() {
            let (flag, full): (&mut bool, &str) = match (name.len(), name[0] | 0x20) {
                (5, b'r') => (&mut present.range, "range"),
                (8, b'i') if name[3] | 0x20 == b'm' => (&mut present.if_match, "if-match"),
                (8, b'i') => (&mut present.if_range, "if-range"),
                (13, b'i') => (&mut present.if_none_match, "if-none-match"),
                (17, b'i') => (&mut present.if_modified_since, "if-modified-since"),
                (19, b'i') => (&mut present.if_unmodified_since, "if-unmodified-since"),
                _ => continue,
            };
            *flag |= name.eq_ignore_ascii_case(full.as_bytes());
        }
        present
    }
}

/// Decides for a GET or HEAD on a file that exists.
pub fn evaluate(method: &Method, headers: &Headers, file: Validators<'_>) -> Verdict {
    let present = Present::of(headers);
    if present.if_match {
        if !etag_listed(headers, "if-match", file.etag, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if present.if_unmodified_since
        && date(headers, "if-unmodified-since").is_some_and(|since| file.modified_s > since)
    {
        return Verdict::Failed;
    }
    if present.if_none_match {
        if etag_listed(headers, "if-none-match", file.etag, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if present.if_modified_since
        && date(headers, "if-modified-since").is_some_and(|since| file.modified_s <= since)
    {
        return Verdict::NotModified;
    }
    let range = present.range
        && *method == Method::GET
        && (!present.if_range || if_range_holds(headers, file));
    Verdict::Serve { range }
}

/// RFC 9110 section 13.1.5: an entity tag is compared strongly, a date exactly. Several fields are
/// no valid `If-Range`.
fn if_range_holds(headers: &Headers, file: Validators<'_>) -> bool {
    let mut values = headers.get_all("if-range");
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let value = value.trim_ascii();
    if value.contains(&b'"') {
        value == file.etag.as_bytes()
    } else {
        date(headers, "if-range") == Some(file.modified_s)
    }
}

/// Seconds since 1970 of a date field. An invalid date, or several, count as no field at all
/// (RFC 9110 sections 13.1.3 and 13.1.4).
fn date(headers: &Headers, name: &str) -> Option<u64> {
    let mut values = headers.get_all(name);
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim()).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs())
}

/// The form of [`Validators::modified_s`] in a field.
pub fn http_date(seconds: u64) -> String {
    // httpdate panics past the year 9999; a file's time may be anything.
    const LAST: u64 = 253_402_300_799;
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a field lists `etag` (a strong one), or is `*`.
fn etag_listed(headers: &Headers, name: &str, etag: &str, comparison: Comparison) -> bool {
    headers.get_all(name).any(|value| {
        value.trim_ascii() == b"*"
            || EntityTags(value).any(|(weak, tag)| {
                tag == etag.as_bytes() && !(weak && comparison == Comparison::Strong)
            })
    })
}

/// The entity tags of a list: whether weak, and the tag with its quotes. Stops at the first thing
/// that is none. (Tags may contain commas, so this is not a split.)
struct EntityTags<'a>(&'a [u8]);

impl<'a> Iterator for EntityTags<'a> {
    type Item = (bool, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let [b',' | b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
        let (weak, tag) = match self.0 {
            [b'W', b'/', tag @ ..] => (true, tag),
            tag => (false, tag),
        };
        let [b'"', opaque @ ..] = tag else {
            self.0 = &[];
            return None;
        };
        let Some(end) = opaque.iter().position(|b| *b == b'"') else {
            self.0 = &[];
            return None;
        };
        let (tag, rest) = tag.split_at(end + 2);
        self.0 = rest;
        Some((weak, tag))
    }
}

#[cfg(test)]
mod tests;
