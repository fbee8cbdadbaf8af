//! Request paths: one normal form for matching, and the way back to the wire.
//!
//! The *normal form* is percent-decoded, except for what has no safe decoded spelling: `%25` (a
//! literal percent sign) and bytes that are not UTF-8 stay encoded, with upper-case digits. So a
//! normal path normalises to itself, and two spellings of one path are one string.

use std::borrow::Cow;

/// Why a path has no normal form. All of them are the client's fault (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    #[error("a percent sign is not followed by two hexadecimal digits")]
    InvalidEncoding,
    #[error("the path holds a control byte")]
    ControlByte,
    /// Servers disagree whether `%2F` separates segments.
    #[error("the path holds an encoded slash")]
    EncodedSlash,
    /// Some servers take `\` for `/`.
    #[error("the path holds a backslash")]
    Backslash,
    #[error("the path leads above the root")]
    AboveRoot,
}

/// The normal form of a request path (without query): percent-decoded, `//` merged, then dot
/// segments removed (RFC 3986 section 5.2.4, but leading above the root is an error).
///
/// Borrows when `path` is normal already, which costs one pass over its bytes.
pub fn normalise_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let mut normal = true;
    let mut previous = 0;
    for &byte in bytes {
        match byte {
            b'\\' => return Err(PathError::Backslash),
            0..=0x1f | 0x7f => return Err(PathError::ControlByte),
            b'%' => normal = false,
            // `/.` may begin a dot segment (or a hidden file's name; the slow path finds out).
            b'/' | b'.' if previous == b'/' => normal = false,
            _ => {}
        }
        previous = byte;
    }
    if normal {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(bytes)?;
    let out = encode_unsafe(&resolve_segments(&decoded)?);
    Ok(if out == path {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(out)
    })
}

/// The bytes a normal path stands for: file names, where a percent sign is a percent sign.
pub fn decode_path(normal: &str) -> Cow<'_, [u8]> {
    if !normal.contains('%') {
        return Cow::Borrowed(normal.as_bytes());
    }
    // A normal path has only valid escapes; anything else is left as it is.
    let bytes = normal.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at] == b'%').then(|| escape(bytes, at)).flatten() {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// A normal path as it is written in a request target or a `Location`: everything but the
/// characters of RFC 3986's `pchar` and `/` percent-encoded. Escapes of the normal form stay.
pub fn encode_path(normal: &str) -> Cow<'_, str> {
    if normal.bytes().all(is_path_byte) {
        return Cow::Borrowed(normal);
    }
    let mut out = String::with_capacity(normal.len() + 16);
    for byte in normal.bytes() {
        if is_path_byte(byte) {
            out.push(char::from(byte));
        } else {
            push_escape(&mut out, byte);
        }
    }
    Cow::Owned(out)
}

/// The path to send on for a request that was matched by `normal`: as the client wrote it, unless
/// that has dot segments. Those were resolved for matching, and the next server must not resolve
/// them to something else.
pub fn forward_path<'a>(raw: &'a str, normal: &'a str) -> Cow<'a, str> {
    if raw.len() == normal.len() || !has_dot_segment(raw.as_bytes()) {
        Cow::Borrowed(raw)
    } else {
        encode_path(normal)
    }
}

/// A normal path without a leading `prefix` of whole segments; begins with `/`. `None` where the
/// path is not under `prefix`. The prefixes `""` and `/` take nothing off; a trailing slash of
/// `prefix` has no meaning.
pub fn strip_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    match path.strip_prefix(prefix)? {
        "" => Some("/"),
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        match escape(bytes, at).ok_or(PathError::InvalidEncoding)? {
            b'/' => return Err(PathError::EncodedSlash),
            b'\\' => return Err(PathError::Backslash),
            0..=0x1f | 0x7f => return Err(PathError::ControlByte),
            byte => out.push(byte),
        }
        at += 3;
    }
    Ok(out)
}

/// Merges slashes, removes dot segments. `.` and `..` at the end leave a directory: a slash.
fn resolve_segments(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => {
                let parent = out.iter().rposition(|b| *b == b'/');
                out.truncate(parent.ok_or(PathError::AboveRoot)?);
            }
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
                continue;
            }
        }
        if last {
            out.push(b'/');
        }
    }
    Ok(out)
}

/// Back to a string: what is not UTF-8, and the percent sign, as escapes.
fn encode_unsafe(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '%' => out.push_str("%25"),
                c => out.push(c),
            }
        }
        for &byte in chunk.invalid() {
            push_escape(&mut out, byte);
        }
    }
    out
}

/// Whether some segment is `.` or `..` in any spelling.
fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(|segment| {
        let mut dots = 0;
        let mut at = 0;
        while at < segment.len() {
            at += match segment[at] {
                b'.' => 1,
                b'%' if escape(segment, at) == Some(b'.') => 3,
                _ => return false,
            };
            dots += 1;
        }
        matches!(dots, 1 | 2)
    })
}

/// The byte that the escape at `bytes[at]` stands for.
fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let high = char::from(*bytes.get(at + 1)?).to_digit(16)?;
    let low = char::from(*bytes.get(at + 2)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// RFC 3986 section 3.3: `pchar` and `/`; `%` because the normal form has it only in escapes.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte)
}

#[cfg(test)]
mod tests;
