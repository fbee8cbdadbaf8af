//! Folders and files: owned by PostgreSQL's account, replaced whole or not at all, never deleted when
//! they may hold data.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, FileContext};
use crate::limits::SOCKET_PATH_BYTES_MAX;
use crate::options::{Options, OsUser};

/// The account that PostgreSQL's files belong to.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// Set only when this process is root and so has to hand files over.
    pub os_user: Option<OsUser>,
}

impl Owner {
    pub fn of(options: &Options) -> Self {
        let os_user = options
            .os_user
            .clone()
            .filter(|_| rustix::process::geteuid().is_root());
        Self { os_user }
    }

    /// The user id that files of ours have.
    pub fn uid(&self) -> u32 {
        match &self.os_user {
            Some(user) => user.uid,
            None => rustix::process::geteuid().as_raw(),
        }
    }

    fn give(&self, file: &File) -> io::Result<()> {
        let Some(user) = &self.os_user else {
            return Ok(());
        };
        let uid = rustix::fs::Uid::from_raw(user.uid);
        let gid = rustix::fs::Gid::from_raw(user.gid);
        Ok(rustix::fs::fchown(file.as_fd(), Some(uid), Some(gid))?)
    }

    /// Makes the private folder `path` (mode 0700) if it is missing, and owns it. Its parents are made
    /// as needed and stay ours, readable for all.
    pub fn make_private_folder(&self, path: &Path) -> Result<(), Error> {
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.at("create folder", path)?,
        }
        // Opened without following links: in a folder that others can write to (such as /tmp),
        // somebody may have put one there.
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(
                (rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW).bits() as i32,
            )
            .open(path)
            .at("open folder", path)?;
        let found = folder.metadata().at("look at folder", path)?.uid();
        let root = rustix::process::geteuid().is_root();
        let ours = found == self.uid() || (root && found == 0);
        if !ours {
            return Err(Error::Blocked {
                what: format!("{path:?} belongs to another user (id {found})"),
                hint: format!("remove it: `rm -r {}`", path.display()),
            });
        }
        self.give(&folder).at("change the owner of", path)?;
        folder
            .set_permissions(fs::Permissions::from_mode(0o700))
            .at("change the mode of", path)
    }

    /// Replaces `path` with `text`, whole and durable, or leaves it alone.
    pub fn write_file(&self, path: &Path, text: &str, mode: u32) -> Result<(), Error> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).at("remove", &unfinished);
            }
            _ => {}
        }
        // `create_new` does not follow a link that PostgreSQL's account may have put there.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&unfinished)
            .at("create", &unfinished)?;
        file.write_all(text.as_bytes())
            .and_then(|()| self.give(&file))
            .and_then(|()| file.sync_all())
            .at("write", &unfinished)?;
        fs::rename(&unfinished, path).at("replace", path)?;
        sync_parent(path)
    }

    /// Like [`Owner::write_file`], unless `path` holds just that already. Whether it was written.
    pub fn write_file_if_changed(&self, path: &Path, text: &str, mode: u32) -> Result<bool, Error> {
        if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(false);
        }
        self.write_file(path, text, mode).map(|()| true)
    }
}

/// Makes `path` and its parents, readable for all whatever the umask says. Existing ones stay as they
/// are.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    match fs::create_dir(path) {
        // Another one, of another box of this server, was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other.at("create folder", path)?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).at("change the mode of", path)
}

/// Makes renames and new names in the folder of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .at("sync folder", parent)
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Makes everything in the file system of `path` durable. Blocks.
///
/// Done once after a new data directory has been filled: its thousand files, each synced by itself,
/// take seconds.
pub(crate) fn sync_file_system(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
        .at("sync the file system of", path)
}

/// The outermost folder on the way to `path` that `user` may not pass through, if there is one.
///
/// PostgreSQL runs as `user` and needs the whole path to its data: a data directory below a home
/// directory of mode 0700 cannot work. Access lists are not looked at.
pub fn closed_folder(path: &Path, user: &OsUser) -> Option<PathBuf> {
    let mut closed = None;
    for folder in path.ancestors().skip(1) {
        let Ok(found) = fs::metadata(folder) else {
            continue;
        };
        let bit = if found.uid() == user.uid {
            0o100
        } else if found.gid() == user.gid {
            0o010
        } else {
            0o001
        };
        if found.mode() & bit == 0 {
            closed = Some(folder.to_owned());
        }
    }
    closed
}

/// Where the Unix socket goes: `run_dir`, or a short folder of our own when that path is too long.
/// Always the same for the same options, so that a restarted server finds what runs there.
pub(crate) fn socket_folder(options: &Options, runtime_dir: Option<&Path>) -> PathBuf {
    let fits = |folder: &Path| {
        let name = format!(".s.PGSQL.{}", options.port);
        folder.as_os_str().len() + 1 + name.len() <= SOCKET_PATH_BYTES_MAX
    };
    if fits(&options.run_dir) {
        return options.run_dir.clone();
    }
    let owner = Owner::of(options);
    let hash = fnv1a(options.data_dir.as_os_str().as_encoded_bytes());
    let name = format!("trilith-{}-{hash:016x}", owner.uid());
    runtime_dir
        .filter(|folder| folder.is_absolute() && owner.os_user.is_none())
        .map(|folder| folder.join(&name))
        .filter(|folder| fits(folder))
        .unwrap_or_else(|| Path::new("/tmp").join(&name))
}

/// What lies beside the data directory `postgres`: `postgres.<kind>...`, sorted.
pub(crate) fn siblings(data_dir: &Path, kind: &str) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (data_dir.parent(), data_dir.file_name()) else {
        return Vec::new();
    };
    let prefix = format!("{}.{kind}", name.to_string_lossy());
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// `postgres` -> `postgres.<suffix>`.
pub(crate) fn sibling(data_dir: &Path, suffix: &str) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Renames the data directory to `postgres.aside-<seconds>` (with a number when that is taken).
pub(crate) fn move_aside(data_dir: &Path, seconds: u64) -> Result<PathBuf, Error> {
    let mut target = sibling(data_dir, &format!("aside-{seconds}"));
    let mut number = 2;
    while target.symlink_metadata().is_ok() {
        target = sibling(data_dir, &format!("aside-{seconds}-{number}"));
        number += 1;
    }
    fs::rename(data_dir, &target).at("rename", data_dir)?;
    sync_parent(&target)?;
    Ok(target)
}

/// A short stable hash for names (FNV-1a, 64 bits). Not for secrets.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
