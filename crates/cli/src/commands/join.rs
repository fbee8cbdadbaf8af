//! `trilith join`: make this machine a server of a cluster.

use std::io::Read;

use trilith_node::join::join_blocking;

use crate::args::Join;
use crate::config_file;
use crate::failure::{Failure, Outcome};
use crate::terminal;

/// Longer texts are no tokens.
const TOKEN_BYTES_MAX: u64 = 4096;

pub fn run(args: &Join) -> Outcome {
    let token = match args.token.as_str() {
        "-" => read_stdin()?,
        token => token.to_owned(),
    };
    let config = config_file::absolute(&args.config)?;
    let joined = join_blocking(token.trim(), &config).map_err(|error| {
        let spent = error.token_is_spent();
        let failure = if error.is_usage() {
            Failure::usage(error)
        } else {
            Failure::failed(error)
        };
        match spent {
            true => {
                failure.next("trilith token create --server NAME   (on a server of the cluster)")
            }
            false => failure,
        }
    })?;
    for path in &joined.written {
        terminal::say(&format!("wrote {}", path.display()));
    }
    terminal::say(&format!(
        "this is server {} of the cluster {}; start it:",
        joined.server, joined.cluster
    ));
    terminal::say(&format!(
        "  trilith run --config {} --server {}",
        joined.config.display(),
        joined.server
    ));
    Ok(())
}

/// So that the token need not be in the shell's history.
fn read_stdin() -> Outcome<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(TOKEN_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("the token cannot be read: {error}")))?;
    Ok(text)
}
