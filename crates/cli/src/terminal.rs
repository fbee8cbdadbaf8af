//! What goes to the terminal: colour, prose, and text that is refreshed in place.

use std::io::{self, IsTerminal, Write};

use owo_colors::OwoColorize;

/// Data, to stdout. A reader that is gone (`| head`) ends the output, not with an error.
pub fn data(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prose, to stderr, with a line end.
pub fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

pub fn error_line(message: &str) {
    let _ = writeln!(anstream::stderr(), "{} {message}", "error:".red().bold());
}

/// What to type next.
pub fn next_line(command: &str) {
    let _ = writeln!(anstream::stderr(), "  {} {command}", "try:".cyan());
}

/// Whether people read what goes to stdout.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether people read what goes to stderr.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether text for stderr may be coloured (`NO_COLOR`, `CLICOLOR`, and whether it is a terminal).
pub fn stderr_colour() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// Writes a block of text to stdout again and again, each over the one before.
#[derive(Default)]
pub struct InPlace {
    lines: usize,
}

impl InPlace {
    pub fn show(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        // A block taller than the window would scroll, and a line wider than it would wrap: "up"
        // would not reach the start. Some pseudo-terminals do not know their size and say 0.
        let size = rustix::termios::tcgetwinsize(&out).ok();
        let known = |cells: u16| {
            if cells == 0 {
                usize::MAX
            } else {
                usize::from(cells)
            }
        };
        let rows = size.map_or(usize::MAX, |size| known(size.ws_row)).max(2) - 1;
        let columns = size.map_or(usize::MAX, |size| known(size.ws_col));
        let text: String = text
            .lines()
            .take(rows)
            .map(|line| cut(line, columns) + "\n")
            .collect();
        let up = match self.lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        self.lines = text.matches('\n').count();
        // Clear to the end of each line and of the screen: the old block may be longer.
        let text = text.replace('\n', "\x1b[K\n");
        let block = format!("{up}\r{text}\x1b[J");
        let block = if anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never {
            strip_colours(&block)
        } else {
            block
        };
        let _ = out.write_all(block.as_bytes()).and_then(|()| out.flush());
    }
}

/// The first `columns` characters of a line; colours take no room.
fn cut(line: &str, columns: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut room = columns;
    let mut in_sequence = false;
    for c in line.chars() {
        in_sequence |= c == '\x1b';
        if in_sequence {
            out.push(c);
            in_sequence = !c.is_ascii_alphabetic();
        } else if room > 0 {
            out.push(c);
            room -= 1;
        }
    }
    out
}

/// Takes out `ESC [ ... m` and leaves the other sequences, which move the cursor.
fn strip_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\x1b[") {
        plain.push_str(&rest[..start]);
        let sequence = &rest[start..];
        let letter = sequence[2..].find(|c: char| c.is_ascii_alphabetic());
        let end = letter.map_or(sequence.len(), |at| start + 2 + at + 1 - start);
        if !sequence[..end].ends_with('m') {
            plain.push_str(&sequence[..end]);
        }
        rest = &sequence[end..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_but_colours_are_kept() {
        assert_eq!(
            cut("\x1b[32mready\x1b[0m and more", 7),
            "\x1b[32mready\x1b[0m a"
        );
        assert_eq!(cut("\x1b[32mready\x1b[0m", 3), "\x1b[32mrea\x1b[0m");
        assert_eq!(cut("plain", usize::MAX), "plain");
    }

    #[test]
    fn colours_go_and_movements_stay() {
        let text = "\x1b[3A\r\x1b[32mready\x1b[0m\x1b[K\n\x1b[J";
        assert_eq!(strip_colours(text), "\x1b[3A\rready\x1b[K\n\x1b[J");
        assert_eq!(strip_colours("plain"), "plain");
        assert_eq!(strip_colours("cut \x1b[3"), "cut \x1b[3");
    }
}
