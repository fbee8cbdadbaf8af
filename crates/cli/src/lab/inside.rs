//! Doing something inside a network namespace.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

/// Where iproute2 keeps the names of namespaces (ip-netns(8)).
const FOLDER: &str = "/var/run/netns";

/// A network namespace, by name. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    pub(super) fn new(name: String) -> Self {
        Self(name)
    }

    /// Of any network namespace; `None` when it cannot be one.
    pub fn named(name: &str) -> Option<Self> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        plain.then(|| Self(name.to_owned()))
    }

    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.0)
    }

    /// This thread, and what it starts, moves there for good.
    pub fn enter(&self) -> io::Result<()> {
        let path = self.path();
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(&path).map_err(named)?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| named(errno.into()))
    }

    /// Runs `work` on a thread that lives there: its sockets and its child processes do too.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
