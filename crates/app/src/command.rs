//! How a command line becomes a process: directly where that is the same, through a shell where it
//! is not.

use std::fmt;

use crate::limits::COMMAND_BYTES_MAX;

#[cfg(test)]
mod tests;

/// A command line of the config file or a Procfile, checked.
///
/// One without anything a shell would interpret is executed directly. Any other goes through
/// `/bin/sh -c`; when it is a single command, the shell is told to `exec` it, so that signals
/// reach the app itself and no shell stays around. A compound line (`cd app && ./server`) keeps
/// its shell: signals go to the whole process group, so the app gets them all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    text: String,
    how: How,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    Direct(Vec<String>),
    Shell(String),
}

/// Words that mean something to the shell itself when they come first: not programs, or not with
/// the same effect. `exec exec x` and `exec cd x` are both wrong.
const SHELL_WORDS: [&str; 32] = [
    ".", ":", "!", "{", "alias", "bg", "break", "case", "cd", "command", "continue", "eval",
    "exec", "exit", "export", "fg", "for", "getopts", "hash", "if", "local", "read", "readonly",
    "return", "set", "shift", "times", "trap", "umask", "unset", "until", "while",
];

impl CommandLine {
    /// # Errors
    /// A phrase for a message: empty, too long, or with a NUL or line break inside.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the command is empty".to_owned());
        }
        if text.len() > COMMAND_BYTES_MAX {
            return Err(format!(
                "the command is longer than {COMMAND_BYTES_MAX} bytes"
            ));
        }
        if text.contains(['\0', '\n', '\r']) {
            return Err("the command has a line break or a NUL byte in it".to_owned());
        }
        let first = text.split_ascii_whitespace().next().unwrap_or_default();
        let shell_first = SHELL_WORDS.contains(&first) || first.contains('=');
        let how = if !shell_first && text.chars().all(is_plain) {
            How::Direct(text.split_ascii_whitespace().map(str::to_owned).collect())
        } else if !shell_first && !text.contains(is_operator) {
            How::Shell(format!("exec {text}"))
        } else {
            How::Shell(text.to_owned())
        };
        Ok(Self {
            text: text.to_owned(),
            how,
        })
    }

    /// Program and arguments.
    pub fn argv(&self) -> Vec<&str> {
        match &self.how {
            How::Direct(words) => words.iter().map(String::as_str).collect(),
            How::Shell(script) => vec!["/bin/sh", "-c", script],
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Characters without a meaning to any POSIX shell, wherever they stand
/// (`~` and `#` have one at the start of a word, so they are not among them).
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || " \t_-./:,@%+=^".contains(c) || !c.is_ascii() && !c.is_whitespace()
}

/// What joins several commands into one line. Quoted ones count too: a shell that stays is only
/// less tidy, a wrong `exec` would drop the second command.
fn is_operator(c: char) -> bool {
    ";&|()`<>".contains(c)
}
