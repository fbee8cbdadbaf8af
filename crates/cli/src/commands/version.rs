//! `trilith version`.

use crate::args::Version;
use crate::failure::Outcome;
use crate::terminal;

pub fn run(args: &Version) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    terminal::data(&if args.json {
        format!(
            "{}\n",
            serde_json::json!({ "schema": 1, "version": version })
        )
    } else {
        format!("trilith {version}\n")
    });
    Ok(())
}
