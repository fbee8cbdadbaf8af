//! Errors. Each says where, what, and what to do.

use std::io;
use std::path::PathBuf;

/// A value in [`crate::Options`] that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("database.parameters.{name}: {why}")]
    Parameter { name: String, why: &'static str },
    #[error("database.parameters: more than {max} settings")]
    TooManyParameters { max: usize },
    #[error("database.{what} = \"{name}\": {why}")]
    Identifier {
        what: &'static str,
        name: String,
        why: &'static str,
    },
    #[error("database.os_user = \"{name}\": {why}; install PostgreSQL or name another account")]
    OsUser { name: String, why: String },
    #[error("PostgreSQL refuses to run as root: set database.os_user, such as \"postgres\"")]
    NoOsUser,
    #[error("postgres {what} = {path:?}: must be an absolute path in UTF-8 on one line")]
    Path { what: &'static str, path: PathBuf },
    #[error("postgres: needs one to eight addresses to listen on, and a port")]
    Listen,
    #[error("postgres: more than {max} database servers")]
    TooManyServers { max: usize },
}

/// Why PostgreSQL's programs cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinariesError {
    #[error(
        "PostgreSQL is not installed (looked in {looked}): run `apt-get install postgresql`, or set database.bin_dir"
    )]
    NotFound { looked: String },
    #[error(
        "{path:?} is PostgreSQL {version}; 15 or newer is needed: run `apt-get install postgresql`, or set database.bin_dir"
    )]
    TooOld { path: PathBuf, version: String },
    #[error("{path:?}: {why}; set database.bin_dir to the folder that holds postgres and initdb")]
    Unusable { path: PathBuf, why: String },
}

/// What went wrong in one attempt. The manager reports it and tries again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error("{doing} {path:?}: {source}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{what}")]
    Blocked { what: String, hint: String },
    #[error("{program} failed: {output}")]
    Program {
        program: &'static str,
        output: String,
    },
    #[error("PostgreSQL ended while starting ({how}): {log}")]
    Start { how: String, log: String },
    #[error("{doing}: {source}")]
    Sql {
        doing: &'static str,
        source: SqlError,
    },
    #[error("{doing}: no answer within {seconds} s")]
    Timeout { doing: &'static str, seconds: u64 },
    #[error("process {pid}: {doing}: {source}")]
    Process {
        pid: u32,
        doing: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] trilith_consensus::StoreError),
    #[error("PostgreSQL must not be writable without a guard: {why}")]
    Guard { why: String },
}

impl Error {
    pub(crate) fn guard(why: String) -> Self {
        Self::Guard { why }
    }

    /// What to do about it, when there is something better than to wait.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Blocked { hint, .. } => Some(hint.clone()),
            Self::Sql { source, .. } if source.is_wrong_password() => Some(
                "the passwords in the secrets folder are not those the database was made with: \
                 put the old secrets folder back"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// An error from PostgreSQL, printed with its message and not only its kind.
#[derive(Debug, thiserror::Error)]
#[error("{}", sql_text(.0))]
pub struct SqlError(#[from] pub tokio_postgres::Error);

impl SqlError {
    pub(crate) fn is_wrong_password(&self) -> bool {
        use tokio_postgres::error::SqlState;
        matches!(
            self.0.code(),
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
        )
    }

    /// "the database system is starting up", "... shutting down", "... not yet accepting".
    pub(crate) fn is_not_ready(&self) -> bool {
        self.0.code() == Some(&tokio_postgres::error::SqlState::CANNOT_CONNECT_NOW)
    }
}

fn sql_text(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    if text == "error connecting to server" {
        // What follows says as much, and this may have to fit a table.
        text.clear();
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    if text.is_empty() {
        return error.to_string();
    }
    text
}

pub(crate) trait FileContext<T> {
    fn at(self, doing: &'static str, path: &std::path::Path) -> Result<T, Error>;
}

impl<T> FileContext<T> for io::Result<T> {
    fn at(self, doing: &'static str, path: &std::path::Path) -> Result<T, Error> {
        self.map_err(|source| Error::File {
            doing,
            path: path.to_owned(),
            source,
        })
    }
}

pub(crate) trait SqlContext<T> {
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> SqlContext<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Sql {
            doing,
            source: SqlError(source),
        })
    }
}
