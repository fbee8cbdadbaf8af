//! `trilith check`.

use std::path::PathBuf;

use crate::args::{Check, DEFAULT_CONFIG};
use crate::config_file;
use crate::failure::{Failure, Outcome, USAGE};
use crate::terminal;

pub fn run(args: Check) -> Outcome {
    let path = args
        .file
        .or(args.config)
        .unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    match config_file::parse(&path)? {
        Ok(loaded) => {
            config_file::show(&loaded.warnings);
            let config = loaded.config;
            let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
            terminal::data(&format!(
                "{}: good ({}, {}, {})\n",
                path.display(),
                count(config.servers.len(), "server"),
                count(config.sites.len(), "site"),
                count(config.upstreams.len(), "upstream"),
            ));
            Ok(())
        }
        Err(diagnostics) => {
            config_file::show(&diagnostics);
            terminal::say(&diagnostics.summary());
            Err(Failure::silent(USAGE))
        }
    }
}
