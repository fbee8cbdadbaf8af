//! The passwords of the cluster's database: made once, kept in one file, never shown.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

/// Length of a generated password: 32 of 62 characters, 190 bits.
const PASSWORD_LENGTH: usize = 32;
const PASSWORD_BYTES_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 4096;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A password. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// One password per role. The same on every server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// Of [`crate::ADMIN_ROLE`].
    pub superuser: Password,
    /// Of [`crate::REPLICATION_ROLE`].
    pub replication: Password,
    /// Of the application's role.
    pub app: Password,
    /// Of [`crate::MONITOR_ROLE`].
    pub monitor: Password,
}

/// Why the file of passwords cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("{doing} {path:?}: {source}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{path:?} line {line}: {why}; put the file back from another server's secrets folder")]
    Malformed {
        path: PathBuf,
        line: usize,
        why: &'static str,
    },
    #[error("{path:?} can be read by other users: run `chmod 600 {}`", path.display())]
    Exposed { path: PathBuf },
    #[error("the system gave no random numbers: {0}")]
    Random(io::Error),
}

impl Password {
    /// `text` must be 1 to 200 of `A-Z a-z 0-9 _ -`, which need no escaping in a URL, a connection
    /// string or a password file.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let valid = (1..=PASSWORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
        valid.then(|| Self(text.to_owned()))
    }

    /// A new one from the operating system's random numbers.
    pub fn generate() -> Result<Self, SecretsError> {
        let mut text = String::with_capacity(PASSWORD_LENGTH);
        let mut bytes = [0u8; 64];
        while text.len() < PASSWORD_LENGTH {
            SysRng
                .try_fill_bytes(&mut bytes)
                .map_err(|error| SecretsError::Random(io::Error::other(error.to_string())))?;
            push_fair(&mut text, &bytes);
        }
        Ok(Self(text))
    }

    /// The password itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Characters of a password from random bytes, until it is long enough.
fn push_fair(text: &mut String, bytes: &[u8]) {
    // 248 is the last multiple of 62 in a byte: beyond it some characters would be likelier.
    let fair = bytes.iter().filter(|byte| **byte < 248);
    let characters = fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
    text.extend(characters.take(PASSWORD_LENGTH - text.len()));
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl Secrets {
    /// New passwords.
    pub fn generate() -> Result<Self, SecretsError> {
        Ok(Self {
            superuser: Password::generate()?,
            replication: Password::generate()?,
            app: Password::generate()?,
            monitor: Password::generate()?,
        })
    }

    /// Reads the passwords from `path`, or makes the file (mode 0600) with new ones when there is
    /// none. The folder must exist. Of several processes that do this at once on one machine, all get
    /// the passwords of the one that was first; a crash leaves either no file or a whole one.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretsError> {
        if let Some(secrets) = Self::load(path)? {
            return Ok(secrets);
        }
        let secrets = Self::generate()?;
        if secrets.create(path)? {
            return Ok(secrets);
        }
        Self::load(path)?.ok_or_else(|| SecretsError::File {
            doing: "read",
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// Reads the passwords from `path`; `None` when there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, SecretsError> {
        let error = |source| SecretsError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(source)),
        };
        if file.metadata().map_err(error)?.mode() & 0o077 != 0 {
            return Err(SecretsError::Exposed {
                path: path.to_owned(),
            });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(error)?;
        Self::parse(&text)
            .map(Some)
            .map_err(|(line, why)| SecretsError::Malformed {
                path: path.to_owned(),
                line,
                why,
            })
    }

    /// Of a further user: derived from the superuser's, so that every server knows it without being told.
    pub fn of_user(&self, user: &str) -> Password {
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(self.superuser.expose()));
        let mut text = String::with_capacity(PASSWORD_LENGTH);
        let mut block = 0u32;
        while text.len() < PASSWORD_LENGTH {
            let mut mac = Hmac::<Sha256>::new(&key.into());
            mac.update(b"trilith database user\0");
            mac.update(&block.to_be_bytes());
            mac.update(user.as_bytes());
            push_fair(&mut text, &mac.finalize().into_bytes());
            block += 1;
        }
        Password(text)
    }

    /// Makes the file; `false` when somebody else was faster.
    fn create(&self, path: &Path) -> Result<bool, SecretsError> {
        let error = |doing, path: &Path, source| SecretsError::File {
            doing,
            path: path.to_owned(),
            source,
        };
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}.new", Password::generate()?.expose()));
        let unfinished = PathBuf::from(unfinished);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(self.print().as_bytes())?;
                file.sync_all()
            })
            .map_err(|source| error("write", &unfinished, source));
        // A link, unlike a rename, does not replace a file that appeared meanwhile.
        let linked = written.and_then(|()| match fs::hard_link(&unfinished, path) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(error("create", path, source)),
        });
        let _ = fs::remove_file(&unfinished);
        if let (Ok(true), Some(folder)) = (&linked, path.parent()) {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|source| error("sync", folder, source))?;
        }
        linked
    }

    /// The file's text: TOML, so that people can read it.
    fn print(&self) -> String {
        let mut text = "# Passwords of the cluster's database. The same on every server. Keep it \
                        secret, and keep a copy.\n"
            .to_owned();
        for (name, password) in [
            ("superuser", &self.superuser),
            ("replication", &self.replication),
            ("app", &self.app),
            ("monitor", &self.monitor),
        ] {
            text.push_str(&format!("{name} = \"{}\"\n", password.expose()));
        }
        text
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut found: [Option<Password>; 4] = Default::default();
        for (index, line) in text.lines().enumerate() {
            let at = |why| (index + 1, why);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or(at("expected name = \"password\""))?;
            let slot = match name.trim() {
                "superuser" => 0,
                "replication" => 1,
                "app" => 2,
                "monitor" => 3,
                _ => return Err(at("unknown name")),
            };
            let password = value
                .trim()
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .and_then(Password::new)
                .ok_or(at("a password is 1 to 200 of A-Z a-z 0-9 _ - in quotes"))?;
            if found[slot].replace(password).is_some() {
                return Err(at("given twice"));
            }
        }
        let last = text.lines().count();
        match found {
            [Some(superuser), Some(replication), Some(app), Some(monitor)] => Ok(Self {
                superuser,
                replication,
                app,
                monitor,
            }),
            _ => Err((
                last,
                "a password is missing (superuser, replication, app, monitor)",
            )),
        }
    }
}

/// The address of a database, as in `DATABASE_URL`. Names that [`crate::Options::validate`] permits, and
/// passwords, need no escaping.
pub fn url(user: &str, password: &Password, entry: SocketAddr, database: &str) -> String {
    let password = password.expose();
    format!("postgresql://{user}:{password}@{entry}/{database}")
}

#[cfg(test)]
mod tests;
