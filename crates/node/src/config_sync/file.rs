//! The config file of this server, and what it remembers of the cluster's version for the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trilith_base::ServerName;
use trilith_config::Config;
use trilith_config::limits::FILE_BYTES_MAX;
use trilith_monitor::api::ConfigVersion;

use super::publish::sha256;
use crate::tokens::InForce;

/// In the server's state folder: the version that it ran with last.
const REMEMBERED: &str = "run/config.json";

/// What a server starts with.
pub(crate) struct AtStart {
    pub in_force: InForce,
    /// The cluster's version that this is; `None`: not known yet.
    pub version: Option<u64>,
    /// It is to become the cluster's next version, where it differs.
    pub publish_file: bool,
    /// What to say about the file, when it is another one than this.
    pub file_differs: Option<String>,
}

/// What a server starts with: the version of the cluster that it ran with last, if it did and the file
/// is another one by now; else the file. `use_file`: the file, and it becomes the cluster's next version.
/// With one server in it the file always is: there is nobody else to agree with. Blocks on files.
pub(crate) fn at_start(
    file: InForce,
    path: &Path,
    state_dir: &Path,
    me: &ServerName,
    use_file: bool,
) -> AtStart {
    let use_file = use_file || file.config.servers.len() == 1;
    let plain = |version, publish_file| AtStart {
        in_force: file.clone(),
        version,
        publish_file,
        file_differs: None,
    };
    let Some(remembered) = remembered(state_dir) else {
        return plain(None, use_file);
    };
    if *remembered.text == *file.text {
        return plain(Some(remembered.version), use_file);
    }
    if use_file {
        return plain(None, true);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.display().to_string();
    let version = remembered.version;
    // Not if this program cannot use it, or the server went under another name.
    let config = match Config::parse(&name, &remembered.text, folder) {
        Ok(loaded) if loaded.config.server(me).is_some() => loaded.config,
        _ => return plain(None, false),
    };
    let differs = differs(path, version);
    tracing::warn!(file = %path.display(), version, "{differs}");
    AtStart {
        in_force: InForce {
            config: Arc::new(config),
            text: remembered.text.into(),
        },
        version: Some(version),
        publish_file: false,
        file_differs: Some(differs),
    }
}

fn differs(path: &Path, version: u64) -> String {
    format!(
        "{} differs from the cluster's version {version}, which is in force: `trilith reload` makes the \
         file the next version, `trilith config show > {}` takes the cluster's",
        path.display(),
        path.display()
    )
}

fn remembered(state_dir: &Path) -> Option<ConfigVersion> {
    let text = read(&state_dir.join(REMEMBERED), 2 * FILE_BYTES_MAX).ok()?;
    let remembered: ConfigVersion = serde_json::from_str(&text).ok()?;
    (sha256(&remembered.text) == remembered.sha256).then_some(remembered)
}

/// Makes the file and what is remembered the same as what is in force.
pub(super) struct Settle {
    pub path: PathBuf,
    pub state_dir: PathBuf,
    pub text: Arc<str>,
    pub version: u64,
    /// Texts of the cluster that may be replaced.
    pub outdated: Vec<String>,
}

impl Settle {
    /// What there is to say about the file, if it is not what is in force. Blocks on files.
    pub fn run(self) -> Option<String> {
        if let Err(error) = self.remember() {
            tracing::warn!(%error, "the config's version cannot be remembered");
        }
        let path = &self.path;
        let found = match read(path, FILE_BYTES_MAX) {
            Ok(found) => found,
            Err(error) => return Some(format!("{} cannot be read: {error}", path.display())),
        };
        if *found == *self.text {
            return None;
        }
        if !self.outdated.contains(&found) {
            return Some(differs(path, self.version));
        }
        match replace(path, &self.text) {
            Ok(()) => {
                let version = self.version;
                tracing::info!(file = %path.display(), version, "wrote the config file");
                None
            }
            Err(error) => Some(format!(
                "{} is an older version, and cannot be replaced by the cluster's version {}: {error}",
                path.display(),
                self.version
            )),
        }
    }

    fn remember(&self) -> io::Result<()> {
        let path = self.state_dir.join(REMEMBERED);
        let known = remembered(&self.state_dir);
        if known.is_some_and(|k| k.version == self.version && *k.text == *self.text) {
            return Ok(());
        }
        let remembered = ConfigVersion {
            version: self.version,
            sha256: sha256(&self.text),
            by: String::new(),
            at_unix_ms: 0,
            rollback_to: None,
            text: self.text.to_string(),
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let json = serde_json::to_string(&remembered)?;
        write_new(&path, &path.with_extension("json.new"), &json, 0o600, None)
    }
}

/// Whole or not at all, with the mode and the owner of the file before. A link stays a link.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let before = path.metadata()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".trilith-new");
    let mode = before.permissions().mode() & 0o7777;
    let owner = (before.uid(), before.gid());
    write_new(&path, &path.with_file_name(name), text, mode, Some(owner))
}

fn write_new(
    path: &Path,
    temporary: &Path,
    text: &str,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    // What an earlier try left.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_into(temporary, text, mode, owner).and_then(|()| {
        fs::rename(temporary, path)?;
        // The name is durable when its folder is.
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        // It only takes room.
        let _ = fs::remove_file(temporary);
    }
    written
}

fn write_into(path: &Path, text: &str, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    if let Some((user, group)) = owner {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (user, group) {
            fchown(&file, Some(user), Some(group))?;
        }
    }
    // After the owner: a change of that takes bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

fn read(path: &Path, bytes_max: usize) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(bytes_max as u64 + 1).read_to_string(&mut text)?;
    match text.len() > bytes_max {
        true => Err(io::Error::other("it is too long")),
        false => Ok(text),
    }
}
