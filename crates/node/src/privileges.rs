//! Who may do what: started as root, PostgreSQL and the apps run as users without privileges, who
//! need a way to their folders.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;
use trilith_app::{RunAs, first_closed_folder};
use trilith_config::{Config, Role, Server};

use crate::error::NodeError;
use crate::limits::OPEN_FILES_WANTED;

pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Makes the state folder of a server with `run/` and `log/` in it, and checks that everybody who
/// works in it gets there. Returns the folder.
pub(crate) fn prepare_state(config: &Config, server: &Server) -> Result<PathBuf, NodeError> {
    let state = config.state_dir(&server.name);
    make_open_folder(&state)?;
    for name in ["run", "log"] {
        let folder = state.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&folder)
            .map_err(NodeError::file(&folder))?;
    }
    if is_root() {
        for user in users(config, server)? {
            if let Some(closed) = first_closed_folder(&state, &user) {
                return Err(NodeError::ClosedFolder {
                    user: user.name,
                    closed,
                    path: state,
                });
            }
        }
    }
    Ok(state)
}

/// Makes a folder and its parents. Those that are new let everybody through, whatever the umask;
/// those that were there stay as they are.
fn make_open_folder(path: &Path) -> Result<(), NodeError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();
    fs::create_dir_all(path).map_err(NodeError::file(path))?;
    if is_root() {
        for folder in missing {
            fs::set_permissions(folder, Permissions::from_mode(0o755))
                .map_err(NodeError::file(folder))?;
        }
    }
    Ok(())
}

/// The users that work in this server's state folder.
fn users(config: &Config, server: &Server) -> Result<Vec<RunAs>, NodeError> {
    let mut names = Vec::new();
    if let (Some(database), true) = (&config.database, server.has(Role::Db)) {
        names.push(database.os_user.as_str());
    }
    if server.has(Role::Web) {
        names.extend(config.apps.values().map(|app| app.user.as_str()));
    }
    names.sort_unstable();
    names.dedup();
    let users = names
        .into_iter()
        .map(|name| RunAs::lookup(name).map_err(NodeError::service));
    users.collect()
}

/// Whatever this process inherited open (from a shell, a service manager) is not handed on to apps and
/// PostgreSQL, which may run as other users. What it opens itself is closed for them already.
pub(crate) fn keep_descriptors() {
    // Beyond stdin, stdout and stderr.
    close_fds::set_fds_cloexec(3, &[]);
}

/// Raises the soft limit of open files: the default of 1,024 is for programs that use `select(2)`.
pub(crate) fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = hard.min(OPEN_FILES_WANTED);
    if soft < wanted {
        // Without it fewer connections are possible; that is no reason not to start.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}
