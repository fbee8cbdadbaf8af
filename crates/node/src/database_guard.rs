//! The guard of this server's PostgreSQL: where its pipe is, and how this program becomes one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use trilith_postgres::Options;
pub use trilith_postgres::guard::run;
use trilith_postgres::guard::{Guard, GuardOptions};

use crate::guard::COMMAND;

/// `trilith guard --postgres DATA_DIR --fifo PIPE`, with the pipe `run/guard.fifo` in the state folder:
/// that folder is ours, while PostgreSQL's account may change what is in its own.
pub fn options(postgres: &Options) -> GuardOptions {
    let fifo = fifo(postgres);
    let args: [OsString; 5] = [
        COMMAND.into(),
        "--postgres".into(),
        postgres.data_dir.clone().into(),
        "--fifo".into(),
        fifo.clone().into(),
    ];
    GuardOptions {
        // The link stays good when the file is replaced by a newer version.
        program: "/proc/self/exe".into(),
        args: args.into(),
        fifo,
    }
}

/// Starts the guard of `postgres`, or finds the one that an earlier process of this server started.
///
/// # Errors
/// There is none and none can be started: this server must not have the primary.
pub fn start(postgres: &Options) -> std::io::Result<Guard> {
    Guard::start(options(postgres))
}

fn fifo(postgres: &Options) -> PathBuf {
    postgres
        .run_dir
        .parent()
        .unwrap_or(Path::new("/"))
        .join("guard.fifo")
}
