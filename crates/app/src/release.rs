//! Releases: immutable, content-addressed copies of the code base.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::ReleaseError;
use crate::limits::{RELEASE_COPY_TRIES, RELEASES_KEPT};
use crate::release::tree::Tree;

mod tree;

#[cfg(test)]
mod tests;

/// The first 12 hex digits of the SHA-256 over every path, mode and content of a code base.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId(Arc<str>);

impl ReleaseId {
    pub const LENGTH: usize = 12;

    /// `None` unless `text` is 12 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == Self::LENGTH && text.bytes().all(hex)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A release on this server's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub id: ReleaseId,
    /// Its files. Belongs to the user this process runs as, readable by everyone, never written to.
    pub dir: PathBuf,
}

/// The folder of all releases: `<id>/` each, and `current`, a link to the one in use.
///
/// A release holds the code base's regular files (mode 0644, or 0755 when anybody may execute
/// them), folders (0755) and symbolic links that stay inside. Left out: `.git`, names that end in
/// `.tmp`, sockets, pipes and devices.
#[derive(Clone, Debug)]
pub struct Releases {
    dir: PathBuf,
}

impl Releases {
    /// `dir` is made when the first release is installed.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Makes a release of the code base at `source`, or finds that it is one already, and points
    /// `current` at it. Reads every file once, twice when it is new; blocks, so call it off the
    /// async threads.
    ///
    /// # Errors
    /// [`ReleaseError`]; then nothing has changed.
    pub fn install(&self, source: &Path) -> Result<Release, ReleaseError> {
        if !source.is_dir() {
            return Err(ReleaseError::NoCodeBase {
                path: source.to_owned(),
            });
        }
        fs::create_dir_all(&self.dir).map_err(at("make", &self.dir))?;
        // What an interrupted copy left.
        for name in self.names()? {
            if name.as_encoded_bytes().starts_with(b".new-") {
                remove_tree(&self.dir.join(name))?;
            }
        }
        for _ in 0..RELEASE_COPY_TRIES {
            let tree = Tree::read(source)?;
            let id = tree.id();
            let release = Release {
                dir: self.dir.join(id.as_str()),
                id,
            };
            if release.dir.is_dir() && tree.is_at(&release.dir) {
                self.make_current(&release)?;
                return Ok(release);
            }
            let new = self.dir.join(format!(".new-{}", release.id));
            fs::create_dir(&new).map_err(at("make", &new))?;
            let copied = tree.copy(source, &new);
            if !matches!(copied, Ok(ref id) if *id == release.id) {
                remove_tree(&new)?;
                match copied {
                    Err(error) if !is_vanished(&error) => return Err(error),
                    // It changed between the two readings: once more.
                    _ => continue,
                }
            }
            if release.dir.symlink_metadata().is_ok() {
                // Damaged, or cut short by a crash of the machine.
                tracing::warn!(release = %release.id, "release on disk is damaged, made anew");
                remove_tree(&release.dir)?;
            }
            fs::rename(&new, &release.dir).map_err(at("put in place", &release.dir))?;
            self.make_current(&release)?;
            return Ok(release);
        }
        Err(ReleaseError::KeepsChanging {
            path: source.to_owned(),
        })
    }

    /// The release `current` points at.
    pub fn current(&self) -> Option<Release> {
        let target = fs::read_link(self.dir.join("current")).ok()?;
        self.get(&ReleaseId::parse(target.to_str()?)?)
    }

    /// A release that is on this disk.
    pub fn get(&self, id: &ReleaseId) -> Option<Release> {
        let dir = self.dir.join(id.as_str());
        dir.is_dir().then(|| Release {
            id: id.clone(),
            dir,
        })
    }

    /// Every release on this disk, the one used last first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<Release>, ReleaseError> {
        let mut found = Vec::new();
        for name in self.names()? {
            let release = name
                .to_str()
                .and_then(ReleaseId::parse)
                .and_then(|id| self.get(&id));
            if let Some(release) = release {
                let used = fs::metadata(&release.dir).and_then(|metadata| metadata.modified());
                found.push((used.unwrap_or(SystemTime::UNIX_EPOCH), release));
            }
        }
        found.sort_by(|(one_used, one), (other_used, other)| {
            other_used.cmp(one_used).then_with(|| one.id.cmp(&other.id))
        });
        Ok(found.into_iter().map(|(_, release)| release).collect())
    }

    /// Removes old releases, so that [`RELEASES_KEPT`] stay. The current one and those `in_use`
    /// always do.
    ///
    /// # Errors
    /// A folder cannot be read or removed.
    pub fn remove_old(&self, in_use: &[ReleaseId]) -> Result<(), ReleaseError> {
        let current = self.current().map(|release| release.id);
        let keep: BTreeSet<&ReleaseId> = in_use.iter().chain(&current).collect();
        for release in self.list()?.iter().skip(RELEASES_KEPT) {
            if !keep.contains(&release.id) {
                remove_tree(&release.dir)?;
            }
        }
        Ok(())
    }

    /// Also marks it as just used, for [`Releases::list`].
    fn make_current(&self, release: &Release) -> Result<(), ReleaseError> {
        let touched =
            fs::File::open(&release.dir).and_then(|dir| dir.set_modified(SystemTime::now()));
        touched.map_err(at("touch", &release.dir))?;
        let link = self.dir.join("current");
        let new = self.dir.join(".current.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("remove", &new)(error));
            }
            _ => {}
        }
        symlink(release.id.as_str(), &new).map_err(at("make the link", &new))?;
        fs::rename(&new, &link).map_err(at("put in place", &link))
    }

    fn names(&self) -> Result<Vec<OsString>, ReleaseError> {
        let entries = fs::read_dir(&self.dir).map_err(at("read", &self.dir))?;
        entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<_>>()
            .map_err(at("read", &self.dir))
    }
}

/// Names that never belong to a release, wherever they stand.
fn is_ignored(name: &OsStr) -> bool {
    name == ".git" || name.as_encoded_bytes().ends_with(b".tmp")
}

fn is_vanished(error: &ReleaseError) -> bool {
    matches!(error, ReleaseError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn remove_tree(path: &Path) -> Result<(), ReleaseError> {
    fs::remove_dir_all(path).map_err(at("remove", path))
}

fn at<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ReleaseError + 'a {
    move |source| ReleaseError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}
