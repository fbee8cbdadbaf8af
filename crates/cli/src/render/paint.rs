//! Colours inside tables. Widths are computed before colours exist: words are marked with
//! characters that have no width and no other use here, and the marks become colours at the end.

const GOOD: char = '\u{2061}';
const BAD: char = '\u{2062}';
const WARN: char = '\u{2063}';
const FAINT: char = '\u{2064}';
const END: char = '\u{2060}';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Colour,
}

pub fn good(text: &str) -> String {
    marked(GOOD, text)
}

pub fn bad(text: &str) -> String {
    marked(BAD, text)
}

pub fn warn(text: &str) -> String {
    marked(WARN, text)
}

pub fn faint(text: &str) -> String {
    marked(FAINT, text)
}

fn marked(mark: char, text: &str) -> String {
    format!("{mark}{text}{END}")
}

/// Turns the marks into colours, or takes them out.
pub fn finish(text: &str, paint: Paint) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let sequence = match c {
            GOOD => "\x1b[32m",
            BAD => "\x1b[31m",
            WARN => "\x1b[33m",
            FAINT => "\x1b[2m",
            END => "\x1b[0m",
            _ => {
                out.push(c);
                continue;
            }
        };
        if paint == Paint::Colour {
            out.push_str(sequence);
        }
    }
    out
}
