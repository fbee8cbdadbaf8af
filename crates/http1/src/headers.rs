//! Header fields in the order they came, names as written, all in one buffer.

use std::fmt;
use std::ops::Range;

use crate::grammar::{is_control, is_ows, is_token};

/// The header fields of one message.
///
/// One byte buffer and one index: a parsed head costs two allocations whatever it holds. Names
/// compare without regard to ASCII case (RFC 9110 section 5.1); order and spelling are kept.
///
/// Nothing put in here can break a message. On the way in, control characters of a value become
/// spaces and the white space around it goes (RFC 9110 section 5.5); a field whose name is not a
/// token (RFC 9110 section 5.1) is not added.
#[derive(Clone, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Clone)]
struct Field {
    name: Range<u32>,
    value: Range<u32>,
}

impl Headers {
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Vec::new(),
        }
    }

    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            fields: Vec::with_capacity(fields),
        }
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// An upper bound of the bytes in names and values.
    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The first field of that name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|f| self.is_named(f, name))
            .map(|f| self.slice(&f.value))
    }

    /// The first field of that name, where its value is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Every field of that name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.fields
            .iter()
            .filter(move |f| self.is_named(f, name))
            .map(|f| self.slice(&f.value))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether a comma-separated field lists `token`, without regard to ASCII case
    /// (`Connection`, `Transfer-Encoding`, `Accept-Encoding` without weights, ...).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name)
            .flat_map(tokens)
            .any(|t| t.eq_ignore_ascii_case(token.as_bytes()))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .map(|f| (self.slice(&f.name), self.slice(&f.value)))
    }

    /// Adds a field after the others, in the form a message can carry (see [`Headers`]).
    pub fn append(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        // A name with a space or a colon in it could pass for another field, and one that starts
        // with a space for more of the value before it.
        if !is_token(name.as_ref()) {
            return;
        }
        let name = self.push_bytes(name.as_ref());
        let mut value = self.push_bytes(value.as_ref());
        for byte in &mut self.bytes[value.start as usize..] {
            if is_control(*byte) {
                *byte = b' ';
            }
        }
        let written = &self.bytes[value.start as usize..];
        let leading = written.iter().take_while(|b| is_ows(**b)).count();
        let trailing = written[leading..].iter().rev().take_while(|b| is_ows(**b));
        value.end -= trailing.count() as u32;
        value.start += leading as u32;
        self.fields.push(Field { name, value });
    }

    /// Holds a parsed head, of which [`Headers::append_parsed`] then says what the fields are. One
    /// copy of it all is cheaper than one for each name and value.
    pub(crate) fn of_head(head: &[u8], fields: usize) -> Self {
        // Room for what a proxy adds, so that adding does not reallocate.
        let mut headers = Self::with_capacity(fields + 8, head.len() + 256);
        headers.bytes.extend_from_slice(head);
        headers
    }

    /// Adds a field whose name and value are parts of the head given to [`Headers::of_head`].
    pub(crate) fn append_parsed(&mut self, head: &[u8], name: &[u8], value: &[u8]) {
        match (range_in(head, name), range_in(head, value)) {
            (Some(name), Some(value)) => self.fields.push(Field { name, value }),
            _ => self.append(name, value),
        }
    }

    /// Puts one field in place of all of that name.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.append(name, value);
    }

    /// Removes every field of that name; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.fields.len();
        let Self { bytes, fields } = self;
        fields.retain(|f| !slice(bytes, &f.name).eq_ignore_ascii_case(name.as_bytes()));
        self.fields.len() != before
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Self { bytes, fields } = self;
        fields.retain(|f| keep(slice(bytes, &f.name), slice(bytes, &f.value)));
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        // Heads are limited to some kilobytes by every parser; 4 GiB of header is out of reach.
        start as u32..self.bytes.len() as u32
    }

    fn is_named(&self, field: &Field, name: &str) -> bool {
        self.slice(&field.name)
            .eq_ignore_ascii_case(name.as_bytes())
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        slice(&self.bytes, range)
    }
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &bytes[range.start as usize..range.end as usize]
}

/// Where `part`, a slice of `whole`, lies in it.
fn range_in(whole: &[u8], part: &[u8]) -> Option<Range<u32>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start as u32..end as u32)
}

/// The elements of a comma-separated list, trimmed, without the empty ones
/// (RFC 9110 section 5.6.1).
pub fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|t| !t.is_empty())
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))),
            )
            .finish()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .zip(other.iter())
                .all(|(a, b)| a.0.eq_ignore_ascii_case(b.0) && a.1 == b.1)
    }
}

#[cfg(test)]
mod tests;
