//! Where a demo lives: its folder, the code base it serves.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::config_file::absolute;
use crate::failure::{Failure, Outcome, at};
use crate::terminal;

/// Where the state goes when unprivileged users cannot reach the folder that was asked for.
const OPEN_PLACE: &str = "/var/lib/trilith";
const EXAMPLE: &str = "examples/foobar";

/// The folder of a demo.
pub struct Place {
    /// As it was named, absolute.
    pub dir: PathBuf,
    /// Where it really is.
    pub state: PathBuf,
}

impl Place {
    /// Makes the folder. Started as root, PostgreSQL and the apps run as users without privileges,
    /// who have to be able to get there; where they are not, the state goes to a place where they
    /// are, and the folder becomes a link to it.
    pub fn prepare(dir: &Path) -> Outcome<Self> {
        let dir = absolute(dir)?;
        if nix::unistd::Uid::effective().is_root()
            && let Some(closed) = first_closed_to_others(&dir)
        {
            return Self::elsewhere(dir, &closed);
        }
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        Self::found(dir)
    }

    /// A folder that must exist; `None` when it does not.
    pub fn existing(dir: &Path) -> Outcome<Option<Self>> {
        let dir = absolute(dir)?;
        if dir.is_dir() {
            Self::found(dir).map(Some)
        } else {
            Ok(None)
        }
    }

    fn found(dir: PathBuf) -> Outcome<Self> {
        let state = dir.canonicalize().map_err(at(&dir))?;
        Ok(Self { dir, state })
    }

    fn elsewhere(dir: PathBuf, closed: &Path) -> Outcome<Self> {
        let state = Path::new(OPEN_PLACE).join(format!("demo-{:016x}", fnv1a(&dir)));
        fs::create_dir_all(&state).map_err(at(&state))?;
        // Whatever the umask: this is the point of the place.
        for folder in [Path::new(OPEN_PLACE), &state] {
            let permissions = fs::Permissions::from_mode(0o755);
            fs::set_permissions(folder, permissions).map_err(at(folder))?;
        }
        let linked = fs::read_link(&dir).is_ok_and(|target| target == state);
        if !linked {
            if let Some(parent) = dir.parent() {
                fs::create_dir_all(parent).map_err(at(parent))?;
            }
            // Only ever an empty folder.
            match fs::remove_dir(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Failure::failed(format!(
                        "the users that PostgreSQL and the apps run as cannot enter {}, and {} \
                         cannot become a link to a place they can: {error}",
                        closed.display(),
                        dir.display()
                    ))
                    .next("trilith demo --dir /var/lib/trilith/demo"));
                }
            }
            symlink(&state, &dir).map_err(at(&dir))?;
        }
        terminal::say(&format!(
            "{} is closed to the users that PostgreSQL and the apps run as, so the state is in {}; \
             {} is a link to it",
            closed.display(),
            state.display(),
            dir.display()
        ));
        Ok(Self { dir, state })
    }

    /// Held while a `trilith demo` command is at work on this folder.
    pub fn lock(&self) -> Outcome<File> {
        let path = self.state.join("demo.lock");
        let file = File::create(&path).map_err(at(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::failed(format!(
                "another `trilith demo` is at work in {}",
                self.dir.display()
            ))
            .next(super::stop_command(&self.dir))),
            Err(errno) => Err(at(&path)(errno.into())),
        }
    }
}

/// The first folder on the way to `path` that users who neither own it nor are in its group cannot
/// enter. Links are followed: the state is used by its real path. The last parts need not exist.
fn first_closed_to_others(path: &Path) -> Option<PathBuf> {
    let existing = path.ancestors().find(|folder| folder.exists())?;
    let real = existing.canonicalize().ok()?;
    let mut folders: Vec<&Path> = real.ancestors().collect();
    folders.reverse();
    folders
        .into_iter()
        .find(|folder| {
            fs::metadata(folder).is_ok_and(|m| m.is_dir() && m.permissions().mode() & 0o001 == 0)
        })
        .map(Path::to_owned)
}

/// The code base to serve: what was asked for, or the example of the checkout we are in.
pub fn code_base(asked: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(path) = asked {
        return if path.is_dir() {
            path.canonicalize().map_err(at(path))
        } else {
            Err(
                Failure::usage(format!("{} is not a folder", path.display()))
                    .next("trilith demo --code DIR   (a folder with a Procfile)"),
            )
        };
    }
    let here = std::env::current_dir().map_err(Failure::failed)?;
    here.ancestors()
        .map(|folder| folder.join(EXAMPLE))
        .find(|path| path.is_dir())
        .ok_or_else(|| {
            Failure::usage(format!("there is no {EXAMPLE} here or in a folder above"))
                .next("trilith demo --code DIR   (a folder with a Procfile)")
        })
}

/// FNV-1a: a name from a path that stays the same.
fn fnv1a(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_on_the_way_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(dir.path(), 0o755);
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        set(&home, 0o755);
        let inside = home.join("checkout/trilith-demo");
        assert_eq!(first_closed_to_others(&inside), None);
        set(&home, 0o700);
        assert_eq!(first_closed_to_others(&inside), Some(home.clone()));
        // A link to an open place, inside a closed one.
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        set(&open, 0o755);
        symlink(&open, home.join("link")).unwrap();
        assert_eq!(first_closed_to_others(&home.join("link")), None);
    }

    #[test]
    fn only_one_command_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::existing(dir.path()).unwrap().unwrap();
        let lock = place.lock().unwrap();
        assert!(place.lock().is_err());
        drop(lock);
        assert!(place.lock().is_ok());
        assert!(
            Place::existing(&dir.path().join("missing"))
                .unwrap()
                .is_none()
        );
    }
}
