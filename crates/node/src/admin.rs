//! The admin socket: what changes something is asked for here, by who may read the state folder.
//!
//! A Unix socket of the server's own user with mode 0600: unlike a port on loopback, apps of other users
//! and pages in a browser cannot reach it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::NodeError;
use crate::limits::LAST_DRAIN_TIMEOUT;

const FILE_NAME: &str = "admin.sock";

/// Where the admin socket of a server with that state folder is.
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("run").join(FILE_NAME)
}

/// Serves until it is stopped.
pub(crate) struct AdminSocket {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    path: PathBuf,
}

impl AdminSocket {
    /// Listens. What an earlier process left is removed: the lock of the state folder says that it does
    /// not run any more.
    pub fn start(state: &Path, router: axum::Router) -> Result<Self, NodeError> {
        let path = socket_path(state);
        let failed = NodeError::file(&path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(&failed)?;
        // Until then the umask keeps others out: to connect takes the permission to write (unix(7)).
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(&failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let serve = axum::serve(listener, router).with_graceful_shutdown(async {
                // Dropping the sender stops it as well.
                let _ = stopped.await;
            });
            if let Err(error) = serve.await {
                tracing::error!(%error, "the admin socket failed");
            }
        });
        Ok(Self { stop, task, path })
    }

    pub async fn stop(self) {
        drop(self.stop);
        let mut task = self.task;
        if timeout(LAST_DRAIN_TIMEOUT, &mut task).await.is_err() {
            task.abort();
        }
        // Gone already when somebody cleared the folder.
        let _ = fs::remove_file(&self.path);
    }
}
