//! Whether an unprivileged user can get somewhere at all.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::RunAs;

#[cfg(test)]
mod tests;

/// The first folder on the way to `path` (itself included) that `user` cannot enter, by the classic
/// permission bits; `None` when the way is open or a folder cannot be looked at.
///
/// Root's home is the usual case: a release below it cannot be run by `nobody`, and all the kernel
/// says is "permission denied" about the program.
pub fn first_closed_folder(path: &Path, user: &RunAs) -> Option<PathBuf> {
    if user.uid == 0 {
        return None;
    }
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut folders: Vec<&Path> = path.ancestors().collect();
    folders.reverse();
    for folder in folders {
        let Ok(metadata) = std::fs::metadata(folder) else {
            return None;
        };
        if !metadata.is_dir() {
            break;
        }
        let execute = if metadata.uid() == user.uid {
            0o100
        } else if metadata.gid() == user.gid {
            0o010
        } else {
            0o001
        };
        if metadata.mode() & execute == 0 {
            return Some(folder.to_owned());
        }
    }
    None
}
