//! `tests/broken/NAME.toml` must give exactly `NAME.stderr`; `tests/good/NAME.toml` must be accepted,
//! with the warnings of `NAME.stderr`, if there is one. `TRILITH_BLESS=1` writes what is missing or
//! differs: read the change before you commit it.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use trilith_config::{Config, commented_template, reference_markdown};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn bless() -> bool {
    std::env::var_os("TRILITH_BLESS").is_some_and(|value| value == "1")
}

/// All `.toml` files of a folder with their content, by name.
fn files(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(here(folder)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// Compares, or writes when blessing. Returns the complaint.
fn compare(path: &Path, actual: &str) -> Option<String> {
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return None;
    }
    if bless() {
        match actual {
            "" => std::fs::remove_file(path).unwrap(),
            _ => std::fs::write(path, actual).unwrap(),
        }
        return None;
    }
    let path = path.display();
    Some(format!("{path}: expected\n{expected}\nbut got\n{actual}\n"))
}

#[test]
fn broken_files_say_what_is_wrong() {
    let files = files("tests/broken");
    assert!(files.len() >= 45, "only {} broken files", files.len());
    let mut complaints = String::new();
    for (path, content) in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let actual = match Config::parse(name, content, Path::new("/etc/trilith")) {
            Ok(_) => panic!("{name} is accepted"),
            Err(diagnostics) => format!("{diagnostics}\n{}\n", diagnostics.summary()),
        };
        if let Some(complaint) = compare(&path.with_extension("stderr"), &actual) {
            writeln!(complaints, "{complaint}").unwrap();
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
}

#[test]
fn good_files_are_accepted() {
    let mut complaints = String::new();
    for (path, content) in files("tests/good") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let loaded = Config::parse(name, content, Path::new("/etc/trilith")).unwrap();
        if let Some(complaint) =
            compare(&path.with_extension("stderr"), &loaded.warnings.to_string())
        {
            writeln!(complaints, "{complaint}").unwrap();
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = here("../../docs/reference/config.md");
    let complaint = compare(&path, &reference_markdown());
    assert!(
        complaint.is_none(),
        "run TRILITH_BLESS=1 cargo test -p trilith-config"
    );
}

#[test]
fn the_template_is_what_was_reviewed() {
    let complaint = compare(&here("tests/good/template.toml"), &commented_template());
    assert!(complaint.is_none(), "{}", complaint.unwrap_or_default());
}
