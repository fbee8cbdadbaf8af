//! The secrets folder: the cluster CA and the database passwords, the same on every server.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use trilith_config::Config;
use trilith_postgres::Secrets as DatabaseSecrets;
use trilith_tls::{CA_CERTIFICATE_FILE, CA_KEY_FILE, Ca, TlsError};

use crate::error::NodeError;

/// Passwords of the database roles, mode 0600.
pub const DATABASE_FILE: &str = "database.passwords";

/// What a server reads from the folder.
pub(crate) struct Secrets {
    pub ca: Arc<Ca>,
    /// With `[database]`.
    pub database: Option<DatabaseSecrets>,
}

/// Makes what is not there yet; never replaces anything. Returns the files it made.
pub fn create(config: &Config) -> Result<Vec<PathBuf>, NodeError> {
    let dir = &config.cluster.secrets;
    let mut made = Vec::new();
    match Ca::load(dir) {
        Ok(_) => {}
        Err(TlsError::NoCa { .. }) => {
            Ca::create(dir, config.cluster.name.as_str(), SystemTime::now())?;
            made.extend([CA_CERTIFICATE_FILE, CA_KEY_FILE].map(|name| dir.join(name)));
        }
        Err(error) => return Err(error.into()),
    }
    if config.database.is_some() {
        let path = dir.join(DATABASE_FILE);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(NodeError::file(dir))?;
        let existed = path.exists();
        DatabaseSecrets::load_or_create(&path).map_err(NodeError::service)?;
        if !existed {
            made.push(path);
        }
    }
    Ok(made)
}

/// Reads the folder. A cluster of one server has nobody to share with, so it makes what is missing.
pub(crate) fn load(config: &Config) -> Result<Secrets, NodeError> {
    if let [_] = config.servers.as_slice() {
        for file in create(config)? {
            tracing::info!(file = %file.display(), "made a new secret");
        }
    }
    let dir = &config.cluster.secrets;
    let ca = Arc::new(Ca::load(dir)?);
    let database = match &config.database {
        Some(_) => {
            let path = dir.join(DATABASE_FILE);
            let secrets = DatabaseSecrets::load(&path).map_err(NodeError::service)?;
            Some(secrets.ok_or(NodeError::NoPasswords { path })?)
        }
        None => None,
    };
    Ok(Secrets { ca, database })
}

/// All that is in the folder, as it goes to a server that joins. `Debug` does not show it.
pub(crate) struct Bundle {
    /// PEM.
    pub ca_certificate: String,
    /// PEM.
    pub ca_key: String,
    pub database_passwords: Option<String>,
}

impl Bundle {
    /// What a server of that config needs.
    pub fn read(config: &Config) -> Result<Self, NodeError> {
        let dir = &config.cluster.secrets;
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(NodeError::file(&path))
        };
        Ok(Self {
            ca_certificate: read(CA_CERTIFICATE_FILE)?,
            ca_key: read(CA_KEY_FILE)?,
            database_passwords: match &config.database {
                Some(_) => Some(read(DATABASE_FILE)?),
                None => None,
            },
        })
    }

    /// Where each part belongs below `dir`, with its mode.
    pub fn files(&self, dir: &Path) -> Vec<(PathBuf, &str, u32)> {
        let mut files = vec![
            // The key first: a crash in between leaves no certificate that nobody can sign for.
            (dir.join(CA_KEY_FILE), self.ca_key.as_str(), 0o600),
            (
                dir.join(CA_CERTIFICATE_FILE),
                self.ca_certificate.as_str(),
                0o644,
            ),
        ];
        if let Some(passwords) = &self.database_passwords {
            files.push((dir.join(DATABASE_FILE), passwords, 0o600));
        }
        files
    }

    /// Whether a server can use what was written to `dir`.
    pub fn check(&self, dir: &Path) -> Result<(), NodeError> {
        Ca::load(dir)?;
        if self.database_passwords.is_some() {
            let path = dir.join(DATABASE_FILE);
            let secrets = DatabaseSecrets::load(&path).map_err(NodeError::service)?;
            secrets.ok_or(NodeError::NoPasswords { path })?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bundle(hidden)")
    }
}
