//! `trilith explain`.

use trilith_config::keys;

use crate::args::Explain;
use crate::failure::{Failure, Outcome};
use crate::terminal;

pub fn run(args: &Explain) -> Outcome {
    let Some(key) = &args.key else {
        terminal::data(&overview());
        return Ok(());
    };
    match keys::explain(key) {
        Ok(text) => {
            terminal::data(&format!("{}\n", text.trim_end()));
            Ok(())
        }
        Err(unknown) => Err(Failure::usage(unknown).next("trilith explain")),
    }
}

/// Every table with the first sentence about it.
fn overview() -> String {
    let width = keys::SECTIONS
        .iter()
        .map(|s| s.path.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for section in keys::SECTIONS {
        let first = section
            .meaning
            .split_inclusive(". ")
            .next()
            .unwrap_or_default();
        text.push_str(&format!("{:width$}  {}\n", section.path, first.trim_end()));
    }
    text
}
