//! The content of a code base: read, hashed, compared, copied.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{ReleaseId, at, is_ignored};
use crate::ReleaseError;
use crate::limits::{RELEASE_BYTES_MAX, RELEASE_DEPTH_MAX, RELEASE_ENTRIES_MAX};

/// What a code base holds, sorted by path; a folder comes before what is in it.
pub(super) struct Tree {
    entries: Vec<Entry>,
}

struct Entry {
    /// Relative to the code base.
    path: PathBuf,
    node: Node,
}

enum Node {
    Folder,
    File {
        executable: bool,
        size: u64,
        hash: [u8; 32],
    },
    Link {
        target: PathBuf,
    },
}

impl Tree {
    /// Reads everything, the content of files included.
    pub(super) fn read(source: &Path) -> Result<Self, ReleaseError> {
        let mut entries = Vec::new();
        // Folders still to be read, with their depth: no recursion, so no code base can overflow a
        // stack.
        let mut folders = vec![(PathBuf::new(), 1)];
        let mut bytes = 0;
        while let Some((folder, depth)) = folders.pop() {
            if depth > RELEASE_DEPTH_MAX {
                return Err(ReleaseError::TooDeep {
                    path: source.join(folder),
                    max: RELEASE_DEPTH_MAX,
                });
            }
            for name in names_in(&source.join(&folder))? {
                let path = folder.join(name);
                let Some(node) = read_node(source, &path, &mut bytes)? else {
                    continue;
                };
                if matches!(node, Node::Folder) {
                    folders.push((path.clone(), depth + 1));
                }
                entries.push(Entry { path, node });
                if entries.len() > RELEASE_ENTRIES_MAX {
                    let max = RELEASE_ENTRIES_MAX;
                    return Err(ReleaseError::TooManyEntries {
                        path: source.to_owned(),
                        max,
                    });
                }
            }
        }
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Self { entries })
    }

    /// The same for the same paths, modes and contents, whatever owner, time and umask.
    pub(super) fn id(&self) -> ReleaseId {
        let mut hasher = Sha256::new();
        // Every part has its length in front, so that no two trees give the same bytes.
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        for Entry { path, node } in &self.entries {
            part(path.as_os_str().as_bytes());
            match node {
                Node::Folder => part(b"folder"),
                Node::File {
                    executable, hash, ..
                } => {
                    part(if *executable { b"program" } else { b"file" });
                    part(hash);
                }
                Node::Link { target } => {
                    part(b"link");
                    part(target.as_os_str().as_bytes());
                }
            }
        }
        let hex: String = hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        ReleaseId(hex[..ReleaseId::LENGTH].into())
    }

    /// Whether a copy at `dir` looks whole: every entry there, of the right kind, mode and size.
    /// Contents are not read, and additions (such as caches a language keeps beside its files) do
    /// not matter.
    pub(super) fn is_at(&self, dir: &Path) -> bool {
        self.entries.iter().all(|entry| {
            let path = dir.join(&entry.path);
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                return false;
            };
            match &entry.node {
                Node::Folder => metadata.is_dir(),
                Node::File {
                    executable, size, ..
                } => {
                    let mode = metadata.mode() & 0o777;
                    metadata.is_file() && metadata.len() == *size && mode == file_mode(*executable)
                }
                Node::Link { target } => fs::read_link(&path).is_ok_and(|found| found == *target),
            }
        })
    }

    /// Copies everything into `to`, an empty folder, and returns the id of what was copied: another
    /// than [`Tree::id`] when the source changed meanwhile.
    pub(super) fn copy(&self, source: &Path, to: &Path) -> Result<ReleaseId, ReleaseError> {
        set_mode(to, 0o755)?;
        let mut copied = Vec::with_capacity(self.entries.len());
        for Entry { path, node } in &self.entries {
            let target_path = to.join(path);
            let node = match node {
                Node::Folder => {
                    DirBuilder::new()
                        .mode(0o755)
                        .create(&target_path)
                        .map_err(at("make", &target_path))?;
                    set_mode(&target_path, 0o755)?;
                    Node::Folder
                }
                Node::File { executable, .. } => {
                    let (size, hash) = copy_file(&source.join(path), &target_path)?;
                    set_mode(&target_path, file_mode(*executable))?;
                    Node::File {
                        executable: *executable,
                        size,
                        hash,
                    }
                }
                Node::Link { target } => {
                    symlink(target, &target_path).map_err(at("make the link", &target_path))?;
                    Node::Link {
                        target: target.clone(),
                    }
                }
            };
            copied.push(Entry {
                path: path.clone(),
                node,
            });
        }
        Ok(Self { entries: copied }.id())
    }
}

fn file_mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

/// Explicitly: what creating calls are given is cut down by the umask.
fn set_mode(path: &Path, mode: u32) -> Result<(), ReleaseError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at("set the mode of", path))
}

fn names_in(folder: &Path) -> Result<Vec<OsString>, ReleaseError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(at("read", folder))? {
        let name = entry.map_err(at("read", folder))?.file_name();
        if !is_ignored(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// `None` for what is neither file, folder nor link, and for what is gone again.
fn read_node(source: &Path, path: &Path, bytes: &mut u64) -> Result<Option<Node>, ReleaseError> {
    let full = source.join(path);
    let metadata = match fs::symlink_metadata(&full) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(at("look at", &full))?,
    };
    if metadata.is_dir() {
        return Ok(Some(Node::Folder));
    }
    if metadata.is_symlink() {
        let target = fs::read_link(&full).map_err(at("read the link", &full))?;
        if !stays_inside(path, &target) {
            return Err(ReleaseError::LinkOutside { path: full, target });
        }
        return Ok(Some(Node::Link { target }));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    // Checked before it is read: nobody wants to wait for the hash of a database dump to learn
    // this.
    if bytes.saturating_add(metadata.len()) > RELEASE_BYTES_MAX {
        let max_bytes = RELEASE_BYTES_MAX;
        return Err(ReleaseError::TooLarge {
            path: source.to_owned(),
            max_bytes,
        });
    }
    let (size, hash) = copy_bytes(&full, &mut io::sink())?;
    *bytes = bytes.saturating_add(size);
    Ok(Some(Node::File {
        executable: metadata.mode() & 0o111 != 0,
        size,
        hash,
    }))
}

/// Whether a link at `link` (relative to the code base) leads to a place inside: relative, and with
/// `..` only at its start and not further up than the code base. `..` after a name could leave by
/// way of another link.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    let mut named = false;
    for component in target.components() {
        match component {
            Component::ParentDir if named || depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

fn copy_file(from: &Path, to: &Path) -> Result<(u64, [u8; 32]), ReleaseError> {
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(at("make", to))?;
    copy_bytes(from, &mut out)
}

/// Reads a file through to `out`; its size and hash.
fn copy_bytes(from: &Path, out: &mut impl Write) -> Result<(u64, [u8; 32]), ReleaseError> {
    // Not through a link that was put there since we looked.
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nofollow)
        .open(from)
        .map_err(at("read", from))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(at("read", from))?;
        if count == 0 {
            return Ok((size, hasher.finalize().into()));
        }
        size += count as u64;
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(at("copy", from))?;
    }
}
