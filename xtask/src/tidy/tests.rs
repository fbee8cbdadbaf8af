//! Each rule on a made-up project: one that keeps it, and one that breaks it.

use super::*;
use crate::repo::{Crate, File};

fn member(path: &str, dependencies: &[&str]) -> Crate {
    Crate {
        path: path.to_owned(),
        dependencies: dependencies.iter().map(|&path| path.to_owned()).collect(),
        packages: Vec::new(),
    }
}

fn file(path: &str, text: &str) -> File {
    File {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn repo(crates: Vec<Crate>, files: Vec<File>) -> Repo {
    Repo {
        crates,
        files,
        ..Repo::default()
    }
}

#[track_caller]
fn check(rule: Rule, repo: &Repo, expected: &[&str]) {
    let found: Vec<String> = rule(repo).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.contains(expected),
            "{found}\nshould contain\n{expected}"
        );
    }
}

#[test]
fn dependencies_point_downward() {
    let allowed = vec![
        member("crates/base", &[]),
        member("crates/http1", &["crates/base"]),
        member("crates/http", &["crates/http1", "crates/net"]),
        member("crates/edge", &["crates/web", "crates/http"]),
        member("crates/cli", &["crates/node", "crates/base"]),
        member("bench", &["crates/http"]),
        member("examples/foobar", &[]),
    ];
    check(layers::direction, &repo(allowed, vec![]), &[]);

    let broken = vec![
        member("crates/base", &["crates/http1"]),
        member("crates/web", &["crates/edge"]),
        member("crates/route", &["crates/balance"]),
        member("crates/app", &["bench"]),
        member("crates/surprise", &[]),
        member("examples/foobar", &["crates/base"]),
    ];
    check(
        layers::direction,
        &repo(broken, vec![]),
        &[
            "crates/base/Cargo.toml: `base` must not depend on `http1`, which stands above it",
            "`web` must not depend on `edge`, which stands beside it",
            "`route` must not depend on `balance`",
            "`app` must not depend on `bench`, which is no crate of the picture",
            "`surprise` is in no row",
            "an example must not depend on `crates/base`",
        ],
    );
}

#[test]
fn pure_crates_do_nothing_but_compute() {
    let mut route = member("crates/route", &[]);
    route.packages = vec!["memchr".to_owned(), "rand".to_owned()];
    let text = "//! Takes std::fs::File? No.\nfn now() -> Instant {\n    Instant::now()\n}\n";
    let tested = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    let files = vec![
        file("crates/route/src/lib.rs", text),
        file("crates/route/src/path.rs", tested),
        file("crates/route/src/path/tests.rs", "use std::fs;\n"),
        file("crates/net/src/lib.rs", "use std::fs;\n"),
    ];
    check(
        layers::pure_crates,
        &repo(vec![route, member("crates/net", &[])], files),
        &[
            "so not `rand`",
            "crates/route/src/lib.rs:3: `route` is pure",
        ],
    );
}

#[test]
fn banned_packages_are_found_however_deep() {
    let mut repo = repo(vec![], vec![]);
    repo.built_packages = ["aws-lc-rs", "ring"]
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    check(layers::banned_packages, &repo, &["`ring` is banned"]);
}

#[test]
fn the_code_map_is_the_code() {
    let crates = vec![member("crates/base", &[]), member("crates/edge", &[])];
    let map = "# Architecture\n### `crates/base`\n### `crates/gone`\n### `crates/base`\n";
    check(
        map::architecture,
        &repo(crates, vec![file("ARCHITECTURE.md", map)]),
        &[
            "there is no crate `crates/gone`",
            "`crates/base` has two",
            "`crates/edge` is missing",
        ],
    );
    check(
        map::architecture,
        &repo(vec![], vec![]),
        &["ARCHITECTURE.md: is missing"],
    );
}

#[test]
fn the_index_lists_every_decision() {
    let files = vec![
        file("docs/adr/README.md", "- [One](0001-one.md)\n"),
        file("docs/adr/0001-one.md", "# One\n"),
        file("docs/adr/0002-two.md", "# Two\n"),
    ];
    check(
        map::decisions,
        &repo(vec![], files),
        &["`0002-two.md` is missing"],
    );
}

const HEADER: &str = "//! Purpose: a.\n//! Box in the picture: b.\n//! Invariants: c;\n//!   more.\n\
                      //! Start reading at: d.\n//! Tested by: e.\n#![forbid(unsafe_code)]\n";

#[test]
fn every_crate_says_what_it_is() {
    let crates = || vec![member("crates/base", &[])];
    let good = vec![file("crates/base/src/lib.rs", HEADER)];
    check(source::headers, &repo(crates(), good), &[]);

    let without = HEADER.replace("//! Invariants: c;\n", "");
    let bad = vec![file("crates/base/src/lib.rs", &without)];
    check(
        source::headers,
        &repo(crates(), bad),
        &["needs a line \"//! Invariants: ...\""],
    );
    check(source::headers, &repo(crates(), vec![]), &["has neither"]);
}

#[test]
fn files_and_lines_have_a_limit() {
    let long = "fn f() {}\n".repeat(801);
    let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    let wide = format!("// {}\n// https://{}\n", "x".repeat(200), "x".repeat(200));
    let files = vec![
        file("crates/a/src/long.rs", &long),
        file("crates/a/src/tested.rs", &tests),
        file("crates/a/src/long/tests.rs", &long),
        file("crates/a/src/wide.rs", &wide),
    ];
    check(
        source::lengths,
        &repo(vec![], files),
        &["801 lines", "crates/a/src/wide.rs:1: 203 columns"],
    );
}

#[test]
fn unsafe_is_for_few() {
    let crates = vec![member("crates/net", &[]), member("crates/base", &[])];
    let files = vec![
        file("crates/net/src/lib.rs", "//! Purpose: sockets.\n"),
        file("crates/base/src/lib.rs", "//! Purpose: types.\n"),
    ];
    check(
        source::forbid_unsafe,
        &repo(crates, files),
        &["crates/base/src/lib.rs:1: needs the line"],
    );
}

#[test]
fn only_the_command_line_prints() {
    let files = vec![
        file(
            "crates/cli/src/main.rs",
            "fn main() { println!(\"hello\"); }\n",
        ),
        file(
            "crates/edge/src/lib.rs",
            "// println!(1)\nfn f() { eprintln!(\"hello\"); }\n",
        ),
        file(
            "crates/edge/tests/it.rs",
            "fn f() { println!(\"hello\"); }\n",
        ),
    ];
    check(
        source::printing,
        &repo(vec![], files),
        &["crates/edge/src/lib.rs:2: only crates/cli prints"],
    );
}

#[test]
fn serialised_types_have_few_homes() {
    let text = "#[derive(Clone, Serialize)]\nstruct S;\n";
    let files = vec![
        file("crates/config/src/model.rs", text),
        file("crates/monitor/src/api/server.rs", text),
        file("crates/edge/src/lib.rs", text),
    ];
    check(
        source::serialised_types,
        &repo(vec![], files),
        &["crates/edge/src/lib.rs:1"],
    );
}

#[test]
fn nothing_unfinished_is_kept() {
    let text = format!("fine\nand {}: later\n", concat!("TO", "DO"));
    check(
        texts::unfinished_words,
        &repo(vec![], vec![file("docs/x.md", &text)]),
        &["docs/x.md:2"],
    );
}

#[test]
fn the_changelog_has_a_place_for_the_next_change() {
    check(texts::changelog, &repo(vec![], vec![]), &["CHANGELOG.md"]);
    let files = vec![file("CHANGELOG.md", "# Changelog\n\n## Unreleased\n")];
    check(texts::changelog, &repo(vec![], files), &[]);
}

#[test]
fn the_reference_is_what_the_table_of_keys_makes() {
    let mut repo = repo(vec![], vec![file("docs/reference/config.md", "old")]);
    repo.config_reference = "new".to_owned();
    check(texts::config_reference, &repo, &["cargo xtask reference"]);
    repo.files[0].text = "new".to_owned();
    check(texts::config_reference, &repo, &[]);
}
