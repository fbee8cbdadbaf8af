//! Which crate may depend on which, and on what else.

use super::Problem;
use crate::repo::{Crate, Repo};

/// The rows of ARCHITECTURE.md, from the ground up. Dependencies point strictly downward.
const ROWS: &[&[&str]] = &[
    &["base"],
    &[
        "config",
        "http1",
        "route",
        "balance",
        "pgproto",
        "ha",
        "consensus",
        "tsdb",
    ],
    &["http", "net", "tls", "telemetry"],
    &[
        "edge", "web", "app", "postgres", "sqlproxy", "cluster", "vip", "firewall", "monitor",
    ],
    // `sim` is a test, on which nothing depends.
    &["node", "sim"],
    &["cli"],
];

/// The arrows allowed inside a row.
const ARROWS: &[(&str, &str)] = &[
    ("edge", "web"),
    ("ha", "consensus"),
    ("http", "net"),
    ("tls", "net"),
];

/// No I/O, no clock, no randomness: so none of the packages that are for just that.
const PURE_ROW: usize = 1;
const IMPURE_PACKAGES: &[&str] = &[
    "tokio",
    "mio",
    "rustix",
    "nix",
    "libc",
    "socket2",
    "rand",
    "getrandom",
    "tempfile",
    "hyper",
    "tracing",
];

/// What one of them may use all the same: channels, without a runtime.
const PURE_EXCEPTIONS: &[(&str, &str)] = &[("consensus", "tokio")];

/// One TLS stack; nothing unmaintained. The same list as in deny.toml.
const BANNED_PACKAGES: &[&str] = &[
    "ring",
    "openssl",
    "openssl-sys",
    "native-tls",
    "serde_yaml",
    "serde_yml",
];

fn name(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

fn manifest(member: &Crate) -> String {
    format!("{}/Cargo.toml", member.path)
}

/// Dependencies between members point downward.
pub fn direction(repo: &Repo) -> Vec<Problem> {
    let mut problems = Vec::new();
    for member in &repo.crates {
        let manifest = manifest(member);
        let Some(from) = name(&member.path) else {
            problems.extend(tool_dependencies(member));
            continue;
        };
        let Some(from_row) = row(from) else {
            problems.push(Problem::new(
                &manifest,
                0,
                format!("`{from}` is in no row; add it to ROWS in xtask/src/tidy/layers.rs and to ARCHITECTURE.md"),
            ));
            continue;
        };
        for path in &member.dependencies {
            let Some((to, to_row)) = name(path).and_then(|to| Some((to, row(to)?))) else {
                problems.push(Problem::new(
                    &manifest,
                    0,
                    format!(
                        "`{from}` must not depend on `{path}`, which is no crate of the picture"
                    ),
                ));
                continue;
            };
            if to_row >= from_row && !ARROWS.contains(&(from, to)) {
                let why = if to_row == from_row {
                    "beside"
                } else {
                    "above"
                };
                problems.push(Problem::new(
                    &manifest,
                    0,
                    format!("`{from}` must not depend on `{to}`, which stands {why} it"),
                ));
            }
        }
    }
    problems
}

/// Tools and tests may use the crates, but are used by nothing; examples stand alone.
fn tool_dependencies(member: &Crate) -> Vec<Problem> {
    if !member.path.starts_with("examples/") {
        return Vec::new();
    }
    member
        .dependencies
        .iter()
        .map(|path| {
            let text = format!("an example must not depend on `{path}`: it is somebody's site");
            Problem::new(&manifest(member), 0, text)
        })
        .collect()
}

/// The pure row takes in nothing that does I/O, and calls nothing that does.
pub fn pure_crates(repo: &Repo) -> Vec<Problem> {
    const CALLS: &[&str] = &[
        "std::fs",
        "std::process",
        "std::env",
        "std::thread",
        "Instant::now",
        "SystemTime::now",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
    ];
    let mut problems = Vec::new();
    for member in &repo.crates {
        let Some(name) = name(&member.path).filter(|name| row(name) == Some(PURE_ROW)) else {
            continue;
        };
        for package in member
            .packages
            .iter()
            .filter(|p| IMPURE_PACKAGES.contains(&p.as_str()))
            .filter(|p| !PURE_EXCEPTIONS.contains(&(name, p.as_str())))
        {
            let text = format!("`{name}` is pure: no I/O, clock or randomness, so not `{package}`");
            problems.push(Problem::new(&manifest(member), 0, text));
        }
        let sources = format!("{}/src/", member.path);
        for file in repo
            .rust_files()
            .filter(|file| file.path.starts_with(&sources))
        {
            for (number, line) in file.code().filter(|(_, line)| !is_comment(line)) {
                if let Some(call) = CALLS.iter().find(|call| line.contains(*call)) {
                    let text =
                        format!("`{name}` is pure: take it as an argument instead of `{call}`");
                    problems.push(Problem::new(&file.path, number, text));
                }
            }
        }
    }
    problems
}

/// What no build may take in, however deep.
pub fn banned_packages(repo: &Repo) -> Vec<Problem> {
    BANNED_PACKAGES
        .iter()
        .filter(|package| repo.built_packages.contains(**package))
        .map(|package| {
            let text = format!(
                "`{package}` is banned (deny.toml) but built; `cargo tree -i {package}` shows who wants it"
            );
            Problem::new("Cargo.lock", 0, text)
        })
        .collect()
}

pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}
