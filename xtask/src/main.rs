//! Purpose: the project's own commands: `cargo xtask tidy`, `cargo xtask reference`.
//! Box in the picture: none; a tool for those who work on Trilith.
//! Invariants: `tidy` changes nothing; each rule is a function of a [`repo::Repo`], so that it can be
//!   tested on a made-up one.
//! Start reading at: [`tidy::RULES`].
//! Tested by: `tidy/tests.rs`, and by running it: `make test` does.
#![forbid(unsafe_code)]
// A tool for the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod reference;
mod repo;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "usage: cargo xtask tidy | reference

  tidy        check the project's own rules (CONTRIBUTING.md); exit code 1 when one is broken
  reference   write docs/reference/config.md from the table of keys in crates/config";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["tidy"] => tidy(),
        ["reference"] => reference::write().map(|()| ExitCode::SUCCESS),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    result.unwrap_or_else(|e| {
        eprintln!("error: {e:#}");
        ExitCode::FAILURE
    })
}

fn tidy() -> Result<ExitCode> {
    let repo = repo::Repo::load()?;
    let problems = tidy::problems(&repo);
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        eprintln!(
            "tidy: {} crates, {} files, nothing to say",
            repo.crates.len(),
            repo.files.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} problems", problems.len());
    Ok(ExitCode::FAILURE)
}
