//! What can go wrong, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a supervisor could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("app `{app}`: {problem}")]
    BadApp { app: String, problem: String },
    #[error(
        "no user `{name}` on this machine: create it, or set `user` of the app to one that exists"
    )]
    NoSuchUser { name: String },
    #[error("cannot look up user `{name}`: {source}")]
    UserLookup { name: String, source: io::Error },
    #[error(
        "user `{user}` cannot enter {folder}, so it cannot run anything below it: \
         open it with `chmod o+x {folder}`, or keep the data somewhere else"
    )]
    Unreachable { user: String, folder: PathBuf },
    #[error("cannot {what} {path}: {source}")]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot start the thread that starts processes: {source}")]
    Thread { source: io::Error },
}

/// Why a Procfile line is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Procfile line {line}: {problem}")]
pub struct ProcfileError {
    /// Counts from 1.
    pub line: usize,
    pub problem: String,
}

/// Why a code base could not be made a release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("there is no code base at {path}: set `[code] path` to the folder of the application")]
    NoCodeBase { path: PathBuf },
    #[error("cannot {what} {path}: {source}")]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{path} is a symbolic link to {target}, which is not inside the code base: \
         replace it with a copy, or with a relative link that stays inside"
    )]
    LinkOutside { path: PathBuf, target: PathBuf },
    #[error(
        "the code base at {path} has more than {max} files and folders: \
         point `[code] path` at the application alone"
    )]
    TooManyEntries { path: PathBuf, max: usize },
    #[error(
        "the code base at {path} has more than {max_bytes} bytes: \
         keep data and build products out of it"
    )]
    TooLarge { path: PathBuf, max_bytes: u64 },
    #[error("{path} is more than {max} folders deep")]
    TooDeep { path: PathBuf, max: usize },
    #[error(
        "the code base at {path} kept changing while it was copied: deploy when its build is done"
    )]
    KeepsChanging { path: PathBuf },
}
