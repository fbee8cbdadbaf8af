//! What earlier processes of this server left behind, and where things lie that outlive them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::socket_folder;
use crate::inspect::{Running, running};
use crate::options::Options;
use crate::postmaster::{Postmaster, clear_orphans};
use crate::programs::kill_left_helper;

/// Stops a PostgreSQL (or the copying of one) that a killed process left running with this data
/// directory. Whether there was one. Only for when no [`Postgres`](crate::Postgres) looks after it.
pub async fn stop_left_behind(options: &Options) -> Result<bool, Error> {
    options.validate()?;
    let folder = run_folder(options);
    kill_left_helper(&folder);
    let Some(Running { pid, .. }) = running(&options.data_dir) else {
        clear_orphans(&options.data_dir).await?;
        return Ok(false);
    };
    if let Some(postmaster) = Postmaster::adopt(pid, &options.data_dir)? {
        postmaster.stop(options.stop).await?;
    }
    remove_spare_folder(options, &folder);
    Ok(true)
}

/// Where the socket lies, and files that are needed for a moment.
pub(crate) fn run_folder(options: &Options) -> PathBuf {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    socket_folder(options, runtime_dir.as_deref())
}

/// A folder outside of the state folder is not left behind.
pub(crate) fn remove_spare_folder(options: &Options, folder: &Path) {
    if folder != options.run_dir {
        // Not when something is in it, or when it never was.
        let _ = fs::remove_dir(folder);
    }
}
