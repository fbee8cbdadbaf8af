//! The secrets folder: the cluster CA and the database passwords, the same on every server.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
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
