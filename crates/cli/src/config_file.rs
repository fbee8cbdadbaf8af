//! Reading the config file, and showing what is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use trilith_config::{Config, Diagnostics, Loaded};

use crate::failure::{Failure, Outcome};
use crate::terminal;

/// A config that can be used. Errors go to stderr, and with [`Warnings::Show`] warnings too.
pub fn load(path: &Path, warnings: Warnings) -> Outcome<Config> {
    Ok(load_file(path, warnings)?.config)
}

/// [`load`], with the text: what a server is started with.
pub fn load_file(path: &Path, warnings: Warnings) -> Outcome<trilith_node::ConfigFile> {
    let text = read(path)?;
    match parse_text(path, &text)? {
        Ok(loaded) => {
            if warnings == Warnings::Show {
                show(&loaded.warnings);
            }
            Ok(trilith_node::ConfigFile {
                path: absolute(path)?,
                // The parser has refused what is not UTF-8.
                text: String::from_utf8_lossy(&text).into_owned(),
                config: loaded.config,
                publish: false,
            })
        }
        Err(diagnostics) => {
            show(&diagnostics);
            let next = format!("trilith check {}", path.display());
            Err(Failure::usage(diagnostics.summary()).next(next))
        }
    }
}

/// What to do with warnings: a command that only reads need not repeat them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warnings {
    Show,
    Hide,
}

/// Reads and checks the file. The outer error is about reading it.
pub fn parse(path: &Path) -> Outcome<Result<Loaded, Diagnostics>> {
    parse_text(path, &read(path)?)
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|error| {
        let failure = Failure::usage(format!("cannot read {}: {error}", path.display()));
        if error.kind() == std::io::ErrorKind::NotFound {
            failure.next(format!("trilith init --config {}", path.display()))
        } else {
            failure
        }
    })
}

fn parse_text(path: &Path, text: &[u8]) -> Outcome<Result<Loaded, Diagnostics>> {
    let path = absolute(path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    Ok(Config::parse(&path.display().to_string(), text, folder))
}

/// Everything the parser said, to stderr.
pub fn show(diagnostics: &Diagnostics) {
    let text = diagnostics.render(terminal::stderr_colour());
    if !text.is_empty() {
        terminal::say(text.trim_end());
    }
}

pub fn absolute(path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(crate::failure::at(path))
}
