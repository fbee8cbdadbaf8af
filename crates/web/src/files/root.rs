//! Opening files beneath a folder, and nowhere else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// A folder whose files are served.
///
/// The folder is held open, so that nothing that happens to its name can lead a request elsewhere;
/// now and then it is opened anew, so that a folder put in its place (a build that starts with
/// `rm -r`) is found.
#[derive(Debug)]
pub struct Root {
    code: PathBuf,
    folder: PathBuf,
    resolver: Resolver,
    reopen_after_ms: u64,
    open: ArcSwapOption<OpenFolder>,
}

#[derive(Debug)]
struct OpenFolder {
    fd: OwnedFd,
    opened_ms: u64,
}

/// What a path beneath the folder leads to.
#[derive(Debug)]
pub enum Found {
    File(OwnedFd, Stat),
    Folder,
}

/// Whether opening may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Fails with [`Errno::AGAIN`] when the way is not in the kernel's memory, where the kernel can
    /// tell.
    No,
    Yes,
}

impl Root {
    /// `folder` is relative to `code` and has only plain components. Neither need exist yet.
    pub fn new(code: &Path, folder: &Path, resolver: Resolver, reopen_after_ms: u64) -> Self {
        Self {
            code: code.to_owned(),
            folder: folder.to_owned(),
            resolver,
            reopen_after_ms,
            open: ArcSwapOption::empty(),
        }
    }

    /// Opens what `path` (relative, no leading slash) leads to. Symlinks are followed as long as
    /// they stay beneath the folder (not at all on kernels before 5.6).
    pub fn find(&self, path: &Path, now_ms: u64, wait: Wait) -> Result<Found, Errno> {
        let folder = self.folder(now_ms, wait)?;
        // Neither a FIFO nor a terminal may stop or take over the process.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.resolver.open(folder.fd.as_fd(), path, flags, wait)?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Found::File(fd, stat)),
            FileType::Directory => Ok(Found::Folder),
            _ => Err(Errno::NOENT),
        }
    }

    fn folder(&self, now_ms: u64, wait: Wait) -> Result<Arc<OpenFolder>, Errno> {
        if let Some(folder) = &*self.open.load()
            && now_ms.saturating_sub(folder.opened_ms) < self.reopen_after_ms
        {
            return Ok(Arc::clone(folder));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = open_code(&self.code)
            .and_then(|code| self.resolver.open(code.as_fd(), &self.folder, flags, wait));
        match opened {
            Ok(fd) => {
                let folder = Arc::new(OpenFolder {
                    fd,
                    opened_ms: now_ms,
                });
                self.open.store(Some(Arc::clone(&folder)));
                Ok(folder)
            }
            // Asked again without hurry.
            Err(Errno::AGAIN) if wait == Wait::No => Err(Errno::AGAIN),
            Err(errno) => {
                self.open.store(None);
                Err(errno)
            }
        }
    }
}

/// Whether the code base is there. (Its own path is the operator's: symlinks are followed.)
pub fn open_code(code: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(code, flags, Mode::empty())
}

/// Whether a path of the config may name something beneath the code base.
pub fn is_beneath(path: &Path) -> bool {
    path.components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}

/// Whether `path` beneath the code base is a folder.
pub fn is_folder(code: &Path, path: &Path, resolver: Resolver) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    open_code(code)
        .and_then(|fd| resolver.open(fd.as_fd(), path, flags, Wait::Yes))
        .is_ok()
}

/// How this kernel opens a path beneath a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// `openat2` with `RESOLVE_BENEATH` (Linux 5.6), and, where `cached`, `RESOLVE_CACHED` (5.12).
    Openat2 { cached: bool },
    /// One component at a time, refusing symlinks.
    Walk,
}

impl Resolver {
    /// Asks the kernel.
    pub fn probe() -> Self {
        let probe = |resolve| {
            rustix::fs::openat2(
                rustix::fs::CWD,
                ".",
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | resolve,
            )
        };
        // Besides ENOSYS: sandboxes that do not know the call refuse it with EPERM.
        match (probe(ResolveFlags::CACHED), probe(ResolveFlags::empty())) {
            (Ok(_) | Err(Errno::AGAIN), _) => Self::Openat2 { cached: true },
            (Err(_), Ok(_)) => Self::Openat2 { cached: false },
            (Err(_), Err(_)) => Self::Walk,
        }
    }

    fn open(
        self,
        folder: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
        wait: Wait,
    ) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let Self::Openat2 { cached } = self else {
            return walk(folder, path, flags);
        };
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if cached && wait == Wait::No {
            resolve |= ResolveFlags::CACHED;
            return rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve);
        }
        // EAGAIN: a rename somewhere on the machine raced with a `..` in a symlink (openat2(2)).
        for _ in 0..RENAME_RACES_MAX {
            match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::BUSY)
    }
}

const RENAME_RACES_MAX: u32 = 16;

fn walk(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parent: Option<OwnedFd> = None;
    let mut components = path
        .components()
        .filter(|c| *c != Component::CurDir)
        .peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(Errno::XDEV);
        };
        let at = parent.as_ref().map_or(folder, AsFd::as_fd);
        if components.peek().is_none() {
            return open_last(at, name.as_ref(), flags);
        }
        parent = Some(rustix::fs::openat(at, name, step, Mode::empty())?);
    }
    // The folder itself.
    rustix::fs::openat(folder, ".", flags, Mode::empty())
}

fn open_last(at: BorrowedFd<'_>, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    // With O_PATH, O_NOFOLLOW opens the symlink itself; O_DIRECTORY (which we give along) refuses it.
    debug_assert!(!flags.contains(OFlags::PATH) || flags.contains(OFlags::DIRECTORY));
    rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    pub size: u64,
    /// Nanoseconds since 1970; before that, 0.
    pub modified_ns: u64,
    /// When the file was last written or renamed; unlike the other, no program can set it back.
    pub changed_ns: u64,
}

impl Identity {
    pub fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    pub fn of_open(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::of(&rustix::fs::fstat(file)?))
    }
}

fn nanoseconds(seconds: i64, nanoseconds: impl TryInto<u64>) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests;
