//! The maps in the documents are the land: ARCHITECTURE.md names every crate, the index every decision.

use std::collections::BTreeSet;

use super::Problem;
use crate::repo::Repo;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const DECISIONS: &str = "docs/adr/README.md";

/// Each crate has one heading ``### `crates/edge` `` in ARCHITECTURE.md, and nothing else has.
pub fn architecture(repo: &Repo) -> Vec<Problem> {
    let Some(file) = repo.file(ARCHITECTURE) else {
        return vec![Problem::new(ARCHITECTURE, 0, "is missing")];
    };
    let mut crates: BTreeSet<&str> = repo
        .crates
        .iter()
        .map(|member| member.path.as_str())
        .collect();
    if repo.file("fuzz/Cargo.toml").is_some() {
        crates.insert("fuzz");
    }
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, line) in file.text.lines().enumerate() {
        let Some(name) = line
            .strip_prefix("### `")
            .and_then(|rest| rest.strip_suffix('`'))
        else {
            continue;
        };
        if !crates.contains(name) {
            problems.push(Problem::new(
                ARCHITECTURE,
                i + 1,
                format!("there is no crate `{name}`"),
            ));
        } else if !seen.insert(name) {
            problems.push(Problem::new(
                ARCHITECTURE,
                i + 1,
                format!("`{name}` has two headings"),
            ));
        }
    }
    for name in crates.difference(&seen) {
        let text = format!("`{name}` is missing from the code map: add a heading \"### `{name}`\"");
        problems.push(Problem::new(ARCHITECTURE, 0, text));
    }
    problems
}

/// Each record in docs/adr is in its index.
pub fn decisions(repo: &Repo) -> Vec<Problem> {
    let index = repo.file(DECISIONS).map_or("", |file| file.text.as_str());
    repo.files
        .iter()
        .filter_map(|file| file.path.strip_prefix("docs/adr/"))
        .filter(|name| *name != "README.md" && !index.contains(&format!("({name})")))
        .map(|name| Problem::new(DECISIONS, 0, format!("`{name}` is missing from the index")))
        .collect()
}
