//! The unprivileged user apps run as.

use nix::unistd::{Uid, User};

use crate::AppError;

/// Whom an app runs as when this process is root. Its processes have this user and this group, and
/// no supplementary groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    pub name: String,
    pub uid: u32,
    /// The user's primary group.
    pub gid: u32,
}

impl RunAs {
    /// Looks the user up in the machine's user database. Reads files; call it at start-up.
    ///
    /// # Errors
    /// [`AppError::NoSuchUser`], [`AppError::UserLookup`].
    pub fn lookup(name: &str) -> Result<Self, AppError> {
        match User::from_name(name) {
            Ok(Some(user)) => Ok(Self {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            }),
            Ok(None) => Err(AppError::NoSuchUser {
                name: name.to_owned(),
            }),
            Err(errno) => Err(AppError::UserLookup {
                name: name.to_owned(),
                source: errno.into(),
            }),
        }
    }
}

/// True when this process may become another user.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}
