//! Documents and generated files.

use super::Problem;
use crate::reference::PATH as REFERENCE;
use crate::repo::Repo;

/// Marks of unfinished work. In two parts, so that this file does not break its own rule.
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("HA", "CK:"),
];

/// What is not there is not there; what should be is an issue.
pub fn unfinished_words(repo: &Repo) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in &repo.files {
        for (i, line) in file.text.lines().enumerate() {
            if let Some(word) = WORDS.iter().find(|word| line.contains(*word)) {
                let text = format!("{word}: finish it, or leave it out and open an issue");
                problems.push(Problem::new(&file.path, i + 1, text));
            }
        }
    }
    problems
}

pub fn changelog(repo: &Repo) -> Vec<Problem> {
    const CHANGELOG: &str = "CHANGELOG.md";
    let found = repo.file(CHANGELOG).is_some_and(|file| {
        file.text
            .lines()
            .any(|line| line.trim_end() == "## Unreleased")
    });
    if found {
        Vec::new()
    } else {
        vec![Problem::new(
            CHANGELOG,
            0,
            "needs a section \"## Unreleased\"",
        )]
    }
}

/// The page is made from the table of keys.
pub fn config_reference(repo: &Repo) -> Vec<Problem> {
    match repo.file(REFERENCE) {
        Some(file) if file.text == repo.config_reference => Vec::new(),
        _ => vec![Problem::new(
            REFERENCE,
            0,
            "differs from the table of keys in crates/config; type: cargo xtask reference",
        )],
    }
}
