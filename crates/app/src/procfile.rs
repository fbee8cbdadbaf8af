//! Heroku's Procfile: `name: command`, one process type a line.
//!
//! Source: devcenter.heroku.com/articles/procfile, and foreman's reader for what people write in
//! practice.

use crate::limits::{COMMAND_BYTES_MAX, PROCFILE_LINES_MAX};
use crate::{CommandLine, ProcfileError};

#[cfg(test)]
mod tests;

/// A parsed Procfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Procfile {
    /// Every process type but `release`, in the order of the file.
    pub processes: Vec<Process>,
    /// The `release` line: run once per deploy, before the new release starts.
    pub release: Option<Process>,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub name: String,
    pub command: CommandLine,
    /// Where it stands, counted from 1.
    pub line: usize,
}

impl Procfile {
    /// Reads a whole Procfile. Blank lines and lines that start with `#` are skipped; anything else
    /// must be `name: command`, with a name of letters, digits, `-` and `_`, given once.
    ///
    /// # Errors
    /// Every bad line, in order, not only the first.
    pub fn parse(text: &str) -> Result<Self, Vec<ProcfileError>> {
        let mut file = Self::default();
        let mut errors = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if number > PROCFILE_LINES_MAX {
                let problem = format!("more than {PROCFILE_LINES_MAX} lines");
                errors.push(ProcfileError {
                    line: number,
                    problem,
                });
                break;
            }
            match parse_line(line) {
                Ok(None) => {}
                Ok(Some((name, command))) => {
                    if let Some(first) = file.find(name) {
                        let problem = format!("`{name}` stands on line {} already", first.line);
                        errors.push(ProcfileError {
                            line: number,
                            problem,
                        });
                        continue;
                    }
                    let process = Process {
                        name: name.to_owned(),
                        command,
                        line: number,
                    };
                    if name == "release" {
                        file.release = Some(process);
                    } else {
                        file.processes.push(process);
                    }
                }
                Err(problem) => errors.push(ProcfileError {
                    line: number,
                    problem,
                }),
            }
        }
        if errors.is_empty() {
            Ok(file)
        } else {
            Err(errors)
        }
    }

    /// The process type of this name, `release` included.
    pub fn find(&self, name: &str) -> Option<&Process> {
        self.release
            .iter()
            .chain(&self.processes)
            .find(|process| process.name == name)
    }
}

fn parse_line(line: &str) -> Result<Option<(&str, CommandLine)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let Some((name, command)) = line.split_once(':') else {
        return Err("expected `name: command`, such as `web: ./bin/server`".to_owned());
    };
    let name = name.trim_end();
    if !is_process_name(name) {
        return Err(format!(
            "`{name}` is no name: use 1 to 63 of letters, digits, `-` and `_`"
        ));
    }
    if command.trim().is_empty() {
        return Err(format!("`{name}` has no command"));
    }
    if command.len() > COMMAND_BYTES_MAX {
        return Err(format!(
            "the command of `{name}` is longer than {COMMAND_BYTES_MAX} bytes"
        ));
    }
    let command = CommandLine::parse(command).map_err(|problem| format!("`{name}`: {problem}"))?;
    Ok(Some((name, command)))
}

/// 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`: it goes into file names and environment variables.
pub(crate) fn is_process_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&name.len()) && name.bytes().all(good)
}
