//! `trilith join`: a new server fetches what the others have, and writes it down.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use trilith_cluster::join::{JoinError, Joined};
use trilith_cluster::{InvalidToken, Token};
use trilith_config::Config;

use crate::error::NodeError;
use crate::secrets::Bundle;

/// What was done.
#[derive(Debug)]
pub struct JoinedHere {
    pub cluster: String,
    /// Which server of the config this is.
    pub server: String,
    pub config: PathBuf,
    /// Files that were made; what was there already, with the same content, is not among them.
    pub written: Vec<PathBuf>,
}

/// Why this server did not join, or could not keep what it was given.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailure {
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error(transparent)]
    Cluster(#[from] JoinError),
    #[error("cannot write {}: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    /// From here on the token is used up.
    #[error("the token was used, but {0}")]
    Afterwards(Afterwards),
}

/// What can go wrong once the cluster has let this server in.
#[derive(Debug, thiserror::Error)]
pub enum Afterwards {
    #[error("{} is here already with other content, and is left as it is", path.display())]
    Differs { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("this version of trilith cannot use the cluster's config: {reason}")]
    Config { reason: String },
    #[error("the secrets it was given are unusable: {reason}")]
    Secrets { reason: String },
}

impl JoinFailure {
    /// Whether the command line is to blame.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Token(_))
    }

    /// Whether it takes another token to try again.
    pub fn token_is_spent(&self) -> bool {
        matches!(
            self,
            Self::Afterwards(_) | Self::Cluster(JoinError::Lost { .. } | JoinError::Refused { .. })
        )
    }
}

/// Uses the token, and writes the cluster's config to `config` and its secrets where that says.
/// Nothing that is there is changed. Run it before the server is started.
///
/// # Errors
/// Then nothing was written, or only a part of it; all of it can be deleted.
pub fn join_blocking(token: &str, config: &Path) -> Result<JoinedHere, JoinFailure> {
    let token = Token::parse(token)?;
    let folder = config.parent().unwrap_or(Path::new("/"));
    check_writable(folder).map_err(|source| JoinFailure::Unwritable {
        path: folder.to_owned(),
        source,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| JoinFailure::Unwritable {
            path: PathBuf::from("/proc"),
            source,
        })?;
    let joined = runtime.block_on(trilith_cluster::join::join(&token))?;
    settle(joined, config).map_err(JoinFailure::Afterwards)
}

/// Better known before the token is used.
fn check_writable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let probe = unfinished(&folder.join("join"));
    let made = File::create_new(&probe);
    let _ = fs::remove_file(&probe);
    made.map(drop)
}

/// Writes what was received, after all of it was checked.
fn settle(joined: Joined, config_path: &Path) -> Result<JoinedHere, Afterwards> {
    let welcome = joined.welcome;
    let folder = config_path.parent().unwrap_or(Path::new("/"));
    let shown = config_path.display().to_string();
    let loaded = Config::parse(&shown, welcome.config.as_bytes(), folder);
    let config = loaded
        .map_err(|diagnostics| Afterwards::Config {
            reason: diagnostics.render(false),
        })?
        .config;
    if config.server(&joined.server).is_none() {
        let reason = format!("it has no server `{}`", joined.server);
        return Err(Afterwards::Config { reason });
    }
    let bundle = Bundle {
        ca_certificate: welcome.ca_certificate,
        ca_key: welcome.ca_key,
        database_passwords: welcome.database_passwords,
    };
    let secrets = &config.cluster.secrets;
    check_secrets(&bundle, secrets)?;

    let mut files = bundle.files(secrets);
    files.push((config_path.to_owned(), welcome.config.as_str(), 0o644));
    // All or nothing, as far as what was here before is concerned.
    for (path, text, _) in &files {
        is_there(path, text)?;
    }
    make_secret_folder(secrets).map_err(file_error(secrets))?;
    let mut written = Vec::new();
    for (path, text, mode) in files {
        if write_new(&path, text, mode)? {
            written.push(path);
        }
    }
    Ok(JoinedHere {
        cluster: welcome.cluster,
        server: joined.server.to_string(),
        config: config_path.to_owned(),
        written,
    })
}

/// Reads the secrets back from a folder that is thrown away: as the server will read them.
fn check_secrets(bundle: &Bundle, secrets: &Path) -> Result<(), Afterwards> {
    let trial = unfinished(secrets);
    let parent = trial.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(file_error(parent))?;
    DirBuilder::new()
        .mode(0o700)
        .create(&trial)
        .map_err(file_error(&trial))?;
    let checked = bundle
        .files(&trial)
        .into_iter()
        .try_for_each(|(path, text, mode)| write_new(&path, text, mode).map(drop))
        .and_then(|()| {
            bundle
                .check(&trial)
                .map_err(|error: NodeError| Afterwards::Secrets {
                    reason: error.to_string(),
                })
        });
    let _ = fs::remove_dir_all(&trial);
    checked
}

fn make_secret_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether a file with that content is there.
fn is_there(path: &Path, text: &str) -> Result<bool, Afterwards> {
    match fs::read(path) {
        Ok(there) if there == text.as_bytes() => Ok(true),
        Ok(_) => Err(Afterwards::Differs {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(file_error(path)(error)),
    }
}

/// Makes a file, whole or not at all; false when it was there already.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<bool, Afterwards> {
    if is_there(path, text)? {
        return Ok(false);
    }
    let new = unfinished(path);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        // A link, unlike a rename, does not replace a file that appeared meanwhile.
        .and_then(|()| fs::hard_link(&new, path));
    let _ = fs::remove_file(&new);
    written.map_err(file_error(path))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(file_error(folder))?;
    Ok(true)
}

/// A name beside `path` that nobody else uses.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".joining-{}", std::process::id()));
    PathBuf::from(name)
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> Afterwards + use<> {
    let path = path.to_owned();
    move |source| Afterwards::File { path, source }
}

#[cfg(test)]
mod tests;
