//! The cluster's config: one text, versioned, in the cluster store; every server runs with it.
//!
//! A new version is checked and put in place on the server that was asked, then committed, then put in
//! place by all others. What cannot be used there is not committed; what is committed survives the loss of
//! any minority. Without a majority the running config simply stays.
//!
//! Start reading at [`ConfigSync::publish`], then [`ConfigSync::run`].

pub(crate) mod file;
mod publish;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use trilith_consensus::{Store, View};
use trilith_monitor::api::{ConfigEntry, ConfigState, ConfigVersion};

use crate::limits::{CONFIG_FOUND_RETRY, CONFIG_FOUND_STEP, CONFIG_LOOK_INTERVAL};
use crate::reload::Reloader;
pub(crate) use file::{AtStart, at_start};
pub(crate) use publish::{PublishError, Published};

/// Keeps this server's config and the cluster's the same. One per process.
pub(crate) struct ConfigSync {
    store: Arc<dyn Store>,
    reloader: Arc<Reloader>,
    /// Folder of the server's state: the version in use is remembered there, for the next start.
    state_dir: PathBuf,
    /// Held while a version is being put in place, and while one is published.
    running: tokio::sync::Mutex<Running>,
    state: watch::Sender<ConfigState>,
}

/// What this server runs with.
struct Running {
    text: Arc<str>,
    version: Option<u64>,
    /// The file is to become the cluster's next version where it differs (`trilith run --use-file`).
    publish_file: bool,
    /// The cluster's version when this server came: what is published later is newer than the file.
    found: Option<u64>,
    /// The newest version that cannot be used here, and why.
    failed: Option<(u64, String)>,
}

impl ConfigSync {
    /// `start`: what [`at_start`] chose and the reloader runs with. To be made before anything is
    /// published; nothing happens until [`ConfigSync::run`] runs.
    pub fn new(
        store: Arc<dyn Store>,
        reloader: Arc<Reloader>,
        state_dir: PathBuf,
        start: AtStart,
    ) -> Arc<Self> {
        let state = ConfigState {
            version: start.version,
            file: start.file_differs,
            ..ConfigState::default()
        };
        Arc::new(Self {
            store,
            reloader,
            state_dir,
            running: tokio::sync::Mutex::new(Running {
                text: start.in_force.text,
                version: start.version,
                publish_file: start.publish_file,
                found: None,
                failed: None,
            }),
            state: watch::Sender::new(state),
        })
    }

    /// What `trilith status` says about the config of this server.
    pub fn state(&self) -> ConfigState {
        self.state.borrow().clone()
    }

    /// The cluster's version, as far as this server knows.
    pub fn current(&self) -> Option<ConfigVersion> {
        store::current(&self.store.view().borrow()).map(|(version, _)| version)
    }

    /// One of the versions that are kept.
    pub fn version(&self, version: u64) -> Result<ConfigVersion, PublishError> {
        store::version(&self.store.view().borrow(), version)
    }

    /// The versions that are kept, the newest first.
    pub fn history(&self) -> Vec<ConfigEntry> {
        let versions = store::history(&self.store.view().borrow());
        versions.iter().rev().map(ConfigVersion::entry).collect()
    }

    /// Follows the cluster's config. Ends when the store does.
    pub async fn run(self: Arc<Self>) {
        let mut view = self.store.view();
        let mut looked = Instant::now();
        let mut publish_at = Instant::now() + self.patience();
        if self.running.lock().await.publish_file && !self.find().await {
            return;
        }
        loop {
            let now = view.borrow_and_update().clone();
            let current = store::current(&now).map(|(version, _)| version);
            let missing = current.is_none();
            let look = looked.elapsed() >= CONFIG_LOOK_INTERVAL;
            if look {
                looked = Instant::now();
            }
            if let Some(current) = current {
                self.follow(&current, &now, look).await;
            }
            let wants = missing || self.running.lock().await.publish_file;
            if wants && Instant::now() >= publish_at {
                self.publish_file().await;
                publish_at = Instant::now() + CONFIG_FOUND_RETRY;
            }
            let next = match wants {
                true => publish_at.min(looked + CONFIG_LOOK_INTERVAL),
                false => looked + CONFIG_LOOK_INTERVAL,
            };
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                () = sleep_until(next) => {}
            }
        }
    }

    /// Waits for the cluster's version of the moment. `false`: the store has ended.
    async fn find(&self) -> bool {
        let view = self.store.view();
        loop {
            if let Ok(view) = self.store.read().await {
                let current = store::current(&view).map(|(version, _)| version.version);
                self.running.lock().await.found = current;
                return true;
            }
            if view.has_changed().is_err() {
                return false;
            }
            sleep(CONFIG_FOUND_RETRY).await;
        }
    }

    /// Puts a version in place, unless this server runs with it. `look`: look at the file all the same,
    /// and try again what failed.
    async fn follow(&self, current: &ConfigVersion, view: &View, look: bool) {
        let mut running = self.running.lock().await;
        if running.publish_file {
            return;
        }
        let is_new = running.version != Some(current.version) || *running.text != *current.text;
        let failed = matches!(&running.failed, Some((version, _)) if *version == current.version);
        if is_new && (!failed || look) {
            self.take_up(&mut running, current).await;
        }
        if is_new || look {
            self.settle_file(&running, view).await;
        }
        self.tell(&running);
    }

    async fn take_up(&self, running: &mut Running, current: &ConfigVersion) {
        let version = current.version;
        if *running.text == *current.text {
            running.version = Some(version);
            running.failed = None;
            return;
        }
        let text: Arc<str> = current.text.as_str().into();
        let config = match self.reloader.parse(&text) {
            Ok(loaded) => Arc::new(loaded.config),
            Err(diagnostics) => {
                // An older program may not know a key that a newer one published.
                let summary = diagnostics.summary();
                return self.give_up(running, version, summary);
            }
        };
        match self.reloader.apply(config, text.clone()).await {
            Ok(applied) => {
                let restart = applied.restart.join(", ");
                tracing::info!(
                    version,
                    by = current.by,
                    restart,
                    "a new config is in force"
                );
                running.text = text;
                running.version = Some(version);
                running.failed = None;
            }
            Err(error) => self.give_up(running, version, error.to_string()),
        }
    }

    fn give_up(&self, running: &mut Running, version: u64, reason: String) {
        let known = matches!(&running.failed, Some((failed, _)) if *failed == version);
        if !known {
            tracing::warn!(version, reason, "the cluster's config cannot be used here");
        }
        running.failed = Some((version, reason));
    }

    /// Remembers the version for the next start, and writes it into the file unless that was edited.
    async fn settle_file(&self, running: &Running, view: &View) {
        let Some(version) = running.version else {
            return;
        };
        let work = file::Settle {
            path: self.reloader.path().to_owned(),
            state_dir: self.state_dir.clone(),
            text: running.text.clone(),
            version,
            outdated: store::history(view).into_iter().map(|v| v.text).collect(),
        };
        // Reads and writes files.
        let settled = tokio::task::spawn_blocking(move || work.run()).await;
        let differs = settled.unwrap_or_else(|error| Some(error.to_string()));
        if let (Some(problem), None) = (&differs, &self.state.borrow().file) {
            tracing::info!(problem, "about the config file");
        }
        self.state.send_modify(|state| state.file = differs);
    }

    fn tell(&self, running: &Running) {
        let restart = self.reloader.restart_needed(&self.reloader.latest());
        let failed = running.failed.as_ref().map(|(version, reason)| {
            format!("the cluster's config, version {version}, cannot be used here: {reason}")
        });
        self.state.send_if_modified(|state| {
            let before = state.clone();
            state.version = running.version;
            state.restart = restart;
            state.failed = failed;
            *state != before
        });
    }

    /// The first server of the file founds; the others only if that does not.
    fn patience(&self) -> Duration {
        let servers = &self.reloader.latest().servers;
        let name = &self.reloader.server().name;
        let position = servers.iter().position(|server| server.name == *name);
        let position = position.unwrap_or(servers.len());
        CONFIG_FOUND_STEP * u32::try_from(position).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
