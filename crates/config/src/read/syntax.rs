//! From bytes to TOML's tree; TOML's own errors in words for people who do not know TOML.

use std::borrow::Cow;

use toml::de::{DeTable, Error};

use super::table::{Context, Span};
use crate::diagnostics::{Diagnostic, Severity, quoted};
use crate::limits::{DIAGNOSTICS_MAX, FILE_BYTES_MAX};

/// The text, as far as it is one.
pub(super) fn text<'t>(cx: &Context<'_>, content: &'t [u8]) -> Cow<'t, str> {
    if content.len() > FILE_BYTES_MAX {
        let message = format!("the file is longer than {} KiB", FILE_BYTES_MAX / 1024);
        cx.push(
            Diagnostic::about_file(Severity::Error, message)
                .with_help("is this really the config file?"),
        );
        return Cow::Borrowed("");
    }
    match std::str::from_utf8(content) {
        Ok(text) => Cow::Borrowed(text),
        Err(error) => {
            let at = error.valid_up_to();
            cx.push(
                Diagnostic::error(at..at + '\u{fffd}'.len_utf8(), "this is not UTF-8")
                    .with_help("save the file as UTF-8"),
            );
            String::from_utf8_lossy(content)
        }
    }
}

/// The tree; also that of a text with errors, as long as they are within single lines. Then those
/// lines are marked, so that nothing more is said about them.
pub(super) fn tree<'a>(cx: &Context<'_>, text: &'a str) -> Option<DeTable<'a>> {
    if cx.report.borrow().errors() > 0 {
        return None;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.len() > DIAGNOSTICS_MAX {
        report(cx, text, &errors[0]);
        return None;
    }
    let mut second_table = None;
    for error in &errors {
        let span = place(text, error);
        if error.message().starts_with("duplicate key") {
            // The keys of a table that is given twice are, too.
            let is_header = text[line_start(text, span.start)..]
                .trim_start()
                .starts_with('[');
            let same_table = |from: &usize| !text[*from..span.start].contains("\n[");
            if !is_header && second_table.as_ref().is_some_and(same_table) {
                continue;
            }
            second_table = is_header.then_some(span.start);
        }
        report(cx, text, error);
        if !is_within_a_line(error) {
            // What follows is most likely not an error of its own.
            return None;
        }
    }
    for error in &errors {
        let span = place(text, error);
        cx.mark_line(line_start(text, span.start)..line_end(text, span.start));
    }
    Some(root.into_inner())
}

/// Whether the parser found its way back at the end of the line at the latest.
fn is_within_a_line(error: &Error) -> bool {
    const WITHIN: [&str; 9] = [
        "string values must be quoted",
        "invalid boolean",
        "invalid float",
        "unexpected leading zero",
        "unexpected key or value",
        "duplicate key",
        "missing escaped value",
        "invalid basic string",
        "invalid literal string",
    ];
    WITHIN
        .iter()
        .any(|start| error.message().starts_with(start))
}

fn place(text: &str, error: &Error) -> Span {
    let span = error.span().unwrap_or(0..0);
    let inside = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    inside(span.start)..inside(span.end.max(span.start))
}

fn report(cx: &Context<'_>, text: &str, error: &Error) {
    let span = place(text, error);
    let what = error.message().split(", expected").next().unwrap_or("");
    let diagnostic = match what {
        "string values must be quoted" | "invalid boolean" | "invalid float" => {
            no_value(text, span)
        }
        "unexpected leading zero" => Diagnostic::error(span, "a number does not begin with 0")
            .with_help("leave the 0 out, or write the value in quotes"),
        "unexpected key or value" => {
            let end = span.start
                + text[span.start..line_end(text, span.start)]
                    .trim_end()
                    .len();
            Diagnostic::error(span.start..end, "there is something behind the value")
                .with_label("this does not belong here")
                .with_help("write one `key = value` on each line, and lists as `[1, 2]`")
        }
        "duplicate key" => duplicate(text, span),
        "invalid unquoted key" | "key with no value" | "invalid key-value pair" => {
            no_pair(text, span)
        }
        "unclosed table" | "unclosed array table" => {
            let start = line_start(text, span.start);
            let line = text[start..line_end(text, start)].trim();
            let name = line.trim_matches(['[', ']', ' ']);
            let closed = match line.starts_with("[[") {
                true => format!("[[{name}]]"),
                false => format!("[{name}]"),
            };
            Diagnostic::error(start..span.start, "this header is not closed")
                .with_help(format!("write {}", quoted(&closed)))
        }
        "missing comma between array elements" | "unclosed array" | "unexpected `=` in array" => {
            open_list(text, span)
        }
        "missing escaped value" => Diagnostic::error(
            span.start.saturating_sub(1)..span.end,
            "`\\` stands before a character that it means nothing for",
        )
        .with_help("write `\\\\` for a backslash, or the string in single quotes: 'a\\b'"),
        "invalid basic string" | "invalid literal string"
            if !error.message().contains("visible") =>
        {
            Diagnostic::error(span, "this string is not closed")
                .with_label("a quote is missing here")
                .with_help("a string ends on the line it begins on")
        }
        _ => Diagnostic::error(span, format!("this is not TOML: {}", error.message())),
    };
    cx.push(diagnostic);
}

/// A value without quotes, or none.
fn no_value(text: &str, span: Span) -> Diagnostic {
    // Of `10.0.0.1` only the end is complained about.
    let before = &text[line_start(text, span.start)..span.start];
    let token = before
        .rfind([' ', '\t', '=', ',', '[', '{'])
        .map_or(0, |at| at + 1);
    let span = line_start(text, span.start) + token..span.end;
    let value = text[span.clone()].trim();
    if value.is_empty() {
        return Diagnostic::error(span, "the value is missing")
            .with_help("write a value behind `=`, or leave the line out");
    }
    let lower = value.to_ascii_lowercase();
    if lower == "true" || lower == "false" {
        return Diagnostic::error(span, format!("{} is not a value", quoted(value)))
            .with_help(format!("write `{lower}`, in lower case"));
    }
    let bare = value.trim_matches(['“', '”', '„', '‘', '’', '«', '»']);
    let diagnostic = Diagnostic::error(span, "a string needs quotes");
    if bare.contains(['"', '\'', '\\']) {
        diagnostic.with_help("write the value in double quotes")
    } else if matches!(&*lower, "yes" | "no" | "on" | "off") {
        diagnostic.with_help(format!(
            "write `true` or `false`, or the word as \"{bare}\""
        ))
    } else if bare.len() < value.len() {
        diagnostic.with_help(format!("write \"{bare}\", with plain quotes"))
    } else {
        diagnostic.with_help(format!("write \"{bare}\""))
    }
}

fn duplicate(text: &str, span: Span) -> Diagnostic {
    let name = &text[span.clone()];
    let start = line_start(text, span.start);
    let line = text[start..line_end(text, start)].trim();
    let lines = || {
        let before = text[..start].split_inclusive('\n').rev();
        before.scan(start, |end, line| {
            *end -= line.len();
            Some((*end, line))
        })
    };
    let (what, first) = if line.starts_with('[') {
        let same = |line: &str| line.split('#').next().map(str::trim) == line_header(text, start);
        ("table", lines().find(|(_, line)| same(line)))
    } else {
        let of_key = |line: &str| {
            let rest = line.trim_start().strip_prefix(name);
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        let within = lines().take_while(|(_, line)| !line.trim_start().starts_with('['));
        ("key", within.filter(|(_, line)| of_key(line)).last())
    };
    let message = match what {
        "table" => format!(
            "the table {} is given twice",
            quoted(line_header(text, start).unwrap_or(name))
        ),
        _ => format!("the key {} is given twice", quoted(name)),
    };
    let diagnostic = Diagnostic::error(span, message).with_label("here again");
    let diagnostic = match first {
        Some((at, line)) => {
            let indent = line.len() - line.trim_start().len();
            let shown = line.split(['=', '#']).next().unwrap_or(line).trim();
            diagnostic.with_context(at + indent..at + indent + shown.len(), "first here")
        }
        None => diagnostic,
    };
    let is_list = crate::keys::section(name).is_some_and(|s| s.shape == crate::keys::Shape::List);
    match what {
        "table" if is_list => {
            diagnostic.with_help(format!("write `[[{name}]]`, with double brackets"))
        }
        "table" => diagnostic.with_help("write all keys of a table below one header"),
        _ => diagnostic.with_help("leave one of them out"),
    }
}

/// The header that stands on the line, without a comment behind it.
fn line_header(text: &str, start: usize) -> Option<&str> {
    text[start..line_end(text, start)]
        .split('#')
        .next()
        .map(str::trim)
}

/// A line that is no `key = value`: how other formats write what is meant.
fn no_pair(text: &str, span: Span) -> Diagnostic {
    let start = line_start(text, span.start);
    let line = text[start..line_end(text, start)].trim_end();
    let indent = line.len() - line.trim_start().len();
    let whole = start + indent..start + line.len().max(indent);
    let line = line.trim();
    let name = line.split([':', '{', ' ', '\t', '=']).next().unwrap_or("");
    let name = name.trim_matches(['"', '\'']);
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let header = |name: &str| match crate::keys::section(name) {
        Some(section) => section.header(),
        None => format!("[{name}]"),
    };
    let rest = line
        .trim_start_matches(['"', '\''])
        .get(name.len()..)
        .unwrap_or("");
    let rest = rest.trim_start_matches(['"', '\'']).trim();
    let diagnostic = Diagnostic::error(whole, "this line is not `key = value`");
    if line.starts_with(['{', '}']) || !plain {
        return diagnostic
            .with_help("the file is TOML: `[table]` on a line, below it `key = value` lines");
    }
    match rest {
        ":" | "{" => diagnostic.with_help(format!(
            "a table is written `{}`, and below it `key = value` lines",
            header(name)
        )),
        _ if rest.starts_with(':') => {
            diagnostic.with_help(format!("write `{name} = ...`, not `{name}: ...`"))
        }
        _ => diagnostic.with_help(format!("write `{name} = ...`")),
    }
}

/// A list that is not closed, or lacks a comma.
fn open_list(text: &str, span: Span) -> Diagnostic {
    let start = line_start(text, span.start);
    let line = text[start..line_end(text, start)].trim_end();
    let key = |line: &str| line.split('=').next().unwrap_or("").trim().to_owned();
    let is_pair = line.contains('=') && !key(line).contains(['"', '\'', ',', '{']);
    let open = open_bracket(text, span.start);
    let same_line = open.is_some_and(|open| open >= start);
    let not_closed = span.start >= text.trim_end().len()
        || line.trim_start().starts_with('[') && !same_line
        || is_pair && !same_line;
    let diagnostic = if not_closed {
        Diagnostic::error(span, "a list is not closed before this")
            .with_help("write `]` behind the list's last item")
    } else {
        Diagnostic::error(span, "a comma is missing before this")
            .with_help("write a comma between the items of a list")
    };
    match open {
        Some(open) => diagnostic.with_context(open..open + 1, "the list begins here"),
        None => diagnostic,
    }
}

/// The innermost `[` before `end` that has no `]`.
fn open_bracket(text: &str, end: usize) -> Option<usize> {
    let mut open = Vec::new();
    let mut quote = None;
    let mut comment = false;
    let mut escaped = false;
    for (at, c) in text[..end].char_indices() {
        match (c, quote) {
            ('\n', _) => {
                // Good for strings of one line, which are the usual ones.
                quote = None;
                comment = false;
            }
            _ if comment => {}
            ('\\', Some('"')) => {
                escaped = !escaped;
                continue;
            }
            (c, Some(q)) if c == q && !escaped => quote = None,
            (_, Some(_)) => {}
            ('#', None) => comment = true,
            ('"' | '\'', None) => quote = Some(c),
            ('[', None) => open.push(at),
            (']', None) => drop(open.pop()),
            _ => {}
        }
        escaped = false;
    }
    open.pop()
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |at| at + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end)
}
