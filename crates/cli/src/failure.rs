//! How a command fails: an exit code, what happened, and what to type next.

use std::fmt::Display;
use std::process::ExitCode;

use crate::terminal;

/// Something went wrong on the way.
pub const FAILED: u8 = 1;
/// The command line or the config file is wrong. (clap uses the same.)
pub const USAGE: u8 = 2;
/// The command did its work; what it looked at is not healthy.
pub const UNHEALTHY: u8 = 3;

#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    /// Without `error:` and without a full stop. Empty: everything has been said.
    pub message: String,
    /// What to type next, without `try:`.
    pub next: Vec<String>,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn failed(message: impl Display) -> Self {
        Self {
            code: FAILED,
            message: message.to_string(),
            next: Vec::new(),
        }
    }

    pub fn usage(message: impl Display) -> Self {
        Self {
            code: USAGE,
            ..Self::failed(message)
        }
    }

    /// Nothing to add to what was printed.
    pub fn silent(code: u8) -> Self {
        Self {
            code,
            ..Self::failed("")
        }
    }

    pub fn next(mut self, command: impl Display) -> Self {
        self.next.push(command.to_string());
        self
    }

    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            terminal::error_line(&self.message);
            for command in &self.next {
                terminal::next_line(command);
            }
        }
        ExitCode::from(self.code)
    }
}

/// Errors of the file system, with the path in front.
pub fn at<'a>(path: &'a std::path::Path) -> impl Fn(std::io::Error) -> Failure + 'a {
    move |error| Failure::failed(format!("{}: {error}", path.display()))
}
