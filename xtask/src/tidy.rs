//! The rules that no other tool checks.

mod layers;
mod map;
mod source;
mod texts;

use std::fmt;

use crate::repo::Repo;

/// A broken rule, as `file:line: what is wrong, and what to do`.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    path: String,
    /// From 1; 0 when it is about the whole file.
    line: usize,
    text: String,
}

impl Problem {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

type Rule = fn(&Repo) -> Vec<Problem>;

/// Every rule.
pub const RULES: &[Rule] = &[
    layers::direction,
    layers::pure_crates,
    layers::banned_packages,
    map::architecture,
    map::decisions,
    source::headers,
    source::lengths,
    source::forbid_unsafe,
    source::printing,
    source::serialised_types,
    texts::unfinished_words,
    texts::changelog,
    texts::config_reference,
];

/// What all rules have to say.
pub fn problems(repo: &Repo) -> Vec<Problem> {
    RULES.iter().flat_map(|rule| rule(repo)).collect()
}

#[cfg(test)]
mod tests;
