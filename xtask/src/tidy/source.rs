//! How a source file looks.

use super::Problem;
use super::layers::is_comment;
use crate::repo::Repo;

/// What the head of each crate tells, in this order.
const HEADER: &[&str] = &[
    "//! Purpose:",
    "//! Box in the picture:",
    "//! Invariants:",
    "//! Start reading at:",
    "//! Tested by:",
];

const LINES_MAX: usize = 800;
/// rustfmt keeps code within 100; comments and texts may be a little over.
const COLUMNS_MAX: usize = 120;

/// Crates whose work needs `unsafe`.
const MAY_BE_UNSAFE: &[&str] = &["crates/net", "crates/web", "crates/vip"];

/// Who talks to a terminal.
const MAY_PRINT: &[&str] = &["crates/cli/", "bench/", "e2e/", "xtask/", "examples/"];

/// Where a type may be written to or read from something outside the process.
const MAY_SERIALISE: &[&str] = &[
    // The config file.
    "crates/config/",
    // What servers say to each other.
    "crates/cluster/src/msg",
    // What a server says that joins, and what the store keeps of tokens.
    "crates/cluster/src/join/msg",
    // What the cluster store keeps of the database.
    "crates/ha/src/history.rs",
    "crates/ha/src/operator.rs",
    "crates/ha/src/record.rs",
    // What the admin API answers.
    "crates/monitor/src/api",
    // What a server left running, so that its next start can stop it: read by nobody else.
    "crates/app/src/leftover",
    // Not part of the product.
    "bench/",
    "e2e/",
    "xtask/",
    "examples/",
];

/// Every crate begins by saying what it is.
pub fn headers(repo: &Repo) -> Vec<Problem> {
    let mut problems = Vec::new();
    for member in repo
        .crates
        .iter()
        .filter(|member| !member.path.starts_with("examples/"))
    {
        let Some(file) = repo.root_file(member) else {
            problems.push(Problem::new(
                &member.path,
                0,
                "has neither src/lib.rs nor src/main.rs",
            ));
            continue;
        };
        let mut lines = file.text.lines().take_while(|line| line.starts_with("//!"));
        for part in HEADER {
            if !lines.any(|line| line.starts_with(part) && line.len() > part.len()) {
                let text =
                    format!("the header needs a line \"{part} ...\", in the order of crates/base");
                problems.push(Problem::new(&file.path, 1, text));
                break;
            }
        }
    }
    problems
}

/// Files that can be read in one sitting, lines that fit.
pub fn lengths(repo: &Repo) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in repo.rust_files() {
        let lines = file.code().count();
        if lines > LINES_MAX {
            let text = format!("{lines} lines; past {LINES_MAX}, split it where it has a seam");
            problems.push(Problem::new(&file.path, 0, text));
        }
        for (i, line) in file.code() {
            let columns = line.chars().count();
            // A link cannot be wrapped, and a message to people is easier to find in one piece.
            if columns > COLUMNS_MAX && !line.contains("https://") && !line.contains('"') {
                let text = format!("{columns} columns; 100 is the aim, {COLUMNS_MAX} the limit");
                problems.push(Problem::new(&file.path, i, text));
            }
        }
    }
    problems
}

/// `unsafe` is for the crates whose work needs it.
pub fn forbid_unsafe(repo: &Repo) -> Vec<Problem> {
    repo.crates
        .iter()
        .filter(|member| !MAY_BE_UNSAFE.contains(&member.path.as_str()))
        .filter_map(|member| repo.root_file(member))
        .filter(|file| {
            !file
                .text
                .lines()
                .any(|line| line == "#![forbid(unsafe_code)]")
        })
        .map(|file| Problem::new(&file.path, 1, "needs the line #![forbid(unsafe_code)]"))
        .collect()
}

/// A server has no terminal to write to.
pub fn printing(repo: &Repo) -> Vec<Problem> {
    const MACROS: &[&str] = &["println!", "print!", "dbg!"];
    code_lines(repo, MAY_PRINT)
        .filter_map(|(path, number, line)| {
            let name = MACROS.iter().find(|name| line.contains(*name))?;
            let text =
                format!("only crates/cli prints; use an event or `tracing` instead of {name}");
            Some(Problem::new(path, number, text))
        })
        .collect()
}

/// Serialised types are an interface: they have few, known homes.
pub fn serialised_types(repo: &Repo) -> Vec<Problem> {
    code_lines(repo, MAY_SERIALISE)
        .filter(|(_, _, line)| {
            line.contains("derive(") && (line.contains("Serialize") || line.contains("Deserialize"))
        })
        .map(|(path, number, _)| {
            let text = "types are serialised only in config, cluster::msg and monitor::api (and the \
                        exceptions in xtask/src/tidy/source.rs)";
            Problem::new(path, number, text)
        })
        .collect()
}

/// Lines of code, without comments and tests, outside the given places.
fn code_lines<'a>(
    repo: &'a Repo,
    except: &'a [&str],
) -> impl Iterator<Item = (&'a str, usize, &'a str)> {
    repo.rust_files()
        .filter(|file| !except.iter().any(|place| file.path.starts_with(place)))
        .flat_map(|file| {
            file.code()
                .map(|(number, line)| (file.path.as_str(), number, line))
        })
        .filter(|(_, _, line)| !is_comment(line))
}
