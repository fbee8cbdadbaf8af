//! A new version: checked and in place here first, then committed for all.

use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use trilith_config::{Changes, Config, Diagnostics, diff};
use trilith_consensus::{Outcome, StoreError, View};
use trilith_monitor::api::ConfigVersion;

use super::{ConfigSync, Running, store};
use crate::board::unix_ms;
use crate::error::NodeError;
use crate::reload::Checked;

/// What became of a text.
#[derive(Debug)]
pub(crate) struct Published {
    /// The version in force now; `None`: a dry run in a cluster that has none.
    pub version: Option<u64>,
    /// Whether that is a new one.
    pub is_new: bool,
    /// Against the version that was in force.
    pub changes: Changes,
    pub warnings: Diagnostics,
}

/// Why a text was not published. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// It is no config that could be used here.
    #[error("{0}")]
    Invalid(Diagnostics),
    #[error("{0}")]
    Refused(String),
    /// It passed the check, and then could not be put in place.
    #[error("it could not be put in place here: {0}")]
    Apply(NodeError),
    /// Somebody else was faster.
    #[error("version {version} was published by {by} in the meantime")]
    Conflict { version: u64, by: String },
    #[error("the cluster has no config yet: a majority of its servers has to run first")]
    NoConfig,
    #[error("there is no version {wanted}; there are {known}")]
    NoSuchVersion { wanted: u64, known: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConfigSync {
    /// Makes `text` the cluster's config, unless it is that already. With `dry_run` it is checked only.
    /// It goes on when the caller is dropped.
    pub async fn publish(
        self: &Arc<Self>,
        text: String,
        by: String,
        dry_run: bool,
    ) -> Result<Published, PublishError> {
        let this = self.clone();
        let work = async move { this.publish_now(text.into(), &by, dry_run, None).await };
        joined(tokio::spawn(work).await)
    }

    /// Publishes the text of an earlier version as a new one. `None`: of the one before the current one.
    pub async fn rollback(
        self: &Arc<Self>,
        version: Option<u64>,
        by: String,
        dry_run: bool,
    ) -> Result<Published, PublishError> {
        let view = self.store.read().await?;
        let (current, _) = store::current(&view).ok_or(PublishError::NoConfig)?;
        let found = store::version(&view, version.unwrap_or(current.version.saturating_sub(1)))?;
        let (this, text, back) = (self.clone(), found.text.as_str().into(), found.version);
        let work = async move { this.publish_now(text, &by, dry_run, Some(back)).await };
        joined(tokio::spawn(work).await)
    }

    async fn publish_now(
        self: Arc<Self>,
        text: Arc<str>,
        by: &str,
        dry_run: bool,
        rollback_to: Option<u64>,
    ) -> Result<Published, PublishError> {
        let mut running = self.running.lock().await;
        let view = match (self.store.read().await, dry_run) {
            (Ok(view), _) => view,
            // What would change can be told without a majority.
            (Err(_), true) => self.store.view().borrow().clone(),
            (Err(error), false) => return Err(error.into()),
        };
        let current = store::current(&view).map(|(version, _)| version);
        let checked = self.check(text.clone()).await?;
        let changes = match &current {
            Some(current) => self.changes_since(current, &checked),
            None => checked.changes,
        };
        let number = current.as_ref().map(|current| current.version);
        let same = current.as_ref().is_some_and(|c| *c.text == *text);
        if dry_run || same {
            return Ok(Published {
                version: number,
                is_new: false,
                changes,
                warnings: checked.warnings,
            });
        }
        let new = ConfigVersion {
            version: number.unwrap_or(0) + 1,
            sha256: sha256(&text),
            by: by.to_owned(),
            at_unix_ms: unix_ms(SystemTime::now()),
            rollback_to,
            text: text.to_string(),
        };
        self.put_through(&mut running, &view, &new, checked.config)
            .await?;
        drop(running);
        Ok(Published {
            version: Some(new.version),
            is_new: true,
            changes,
            warnings: checked.warnings,
        })
    }

    /// In place here, then committed; taken back when that fails.
    async fn put_through(
        &self,
        running: &mut Running,
        view: &View,
        new: &ConfigVersion,
        config: Arc<Config>,
    ) -> Result<(), PublishError> {
        let txn = store::publish(view, new)?;
        let text: Arc<str> = new.text.as_str().into();
        let before = (self.reloader.latest(), running.text.clone());
        let applied = self.reloader.apply(config, text.clone()).await;
        let applied = applied.map_err(PublishError::Apply)?;
        let committed = match self.store.commit(txn).await {
            Ok(Outcome::Done { .. }) => Ok(()),
            Ok(Outcome::Refused { .. }) => Err(self.conflict().await),
            Err(StoreError::Unknown) => self.was_committed(new).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = committed {
            // The others do not have it, or will tell that they do: then it is taken up again.
            if let Err(error) = self.reloader.apply(before.0, before.1).await {
                tracing::error!(%error, "the config that was in force cannot be put back in place");
            }
            return Err(error);
        }
        running.text = text;
        running.version = Some(new.version);
        running.failed = None;
        running.publish_file = false;
        let restart = applied.restart.join(", ");
        tracing::info!(
            version = new.version,
            by = new.by,
            restart,
            "a new config is published"
        );
        let view = self.store.view().borrow().clone();
        self.settle_file(running, &view).await;
        self.tell(running);
        Ok(())
    }

    async fn was_committed(&self, new: &ConfigVersion) -> Result<(), PublishError> {
        let view = self.store.read().await.map_err(|_| StoreError::Unknown)?;
        match store::current(&view) {
            Some((current, _)) if current == *new => Ok(()),
            _ => Err(StoreError::Unknown.into()),
        }
    }

    async fn conflict(&self) -> PublishError {
        match self.store.read().await {
            Ok(view) => match store::current(&view) {
                Some((ConfigVersion { version, by, .. }, _)) => {
                    PublishError::Conflict { version, by }
                }
                None => PublishError::Refused("the cluster's config is gone".to_owned()),
            },
            Err(error) => error.into(),
        }
    }

    async fn check(&self, text: Arc<str>) -> Result<Checked, PublishError> {
        let reloader = self.reloader.clone();
        let checked = tokio::task::spawn_blocking(move || reloader.check(&text)).await;
        checked
            .map_err(|error| PublishError::Refused(error.to_string()))?
            .map_err(PublishError::Invalid)
    }

    /// This server may run with another one than the cluster, when that could not be used here.
    fn changes_since(&self, current: &ConfigVersion, checked: &Checked) -> Changes {
        match self.reloader.parse(&current.text) {
            Ok(loaded) => diff(&loaded.config, &checked.config),
            Err(_) => checked.changes.clone(),
        }
    }

    /// The config that this server was started with, as the cluster's first version; or, where it is to
    /// win, as the next one.
    pub(super) async fn publish_file(self: &Arc<Self>) {
        let mut running = self.running.lock().await;
        let Ok(view) = self.store.read().await else {
            return;
        };
        let current = store::current(&view).map(|(version, _)| version);
        let same = current.as_ref().is_some_and(|c| *c.text == *running.text);
        let newer = current.as_ref().map(|c| c.version) > running.found;
        if same || (current.is_some() && (newer || !running.publish_file)) {
            if let Some(current) = current.filter(|_| !same && running.publish_file) {
                tracing::warn!(
                    version = current.version,
                    by = current.by,
                    "a config was published after this server came: its file does not replace that"
                );
            }
            running.publish_file = false;
            return;
        }
        if view.get("config/current").is_some() && current.is_none() {
            // A newer program wrote it: that is not for this one to replace.
            running.publish_file = false;
            return;
        }
        let new = ConfigVersion {
            version: current.map_or(0, |current| current.version) + 1,
            sha256: sha256(&running.text),
            by: self.reloader.server().name.to_string(),
            at_unix_ms: unix_ms(SystemTime::now()),
            rollback_to: None,
            text: running.text.to_string(),
        };
        let committed = match store::publish(&view, &new) {
            Ok(txn) => self.store.commit(txn).await,
            Err(error) => {
                tracing::warn!(%error, "the config file cannot be shared with the other servers");
                running.publish_file = false;
                return;
            }
        };
        // Otherwise another server was faster, or the next try will do.
        if let Ok(Outcome::Done { .. }) = committed {
            tracing::info!(
                version = new.version,
                "the config file is the cluster's config now"
            );
            running.version = Some(new.version);
            running.publish_file = false;
            let view = self.store.view().borrow().clone();
            self.settle_file(&running, &view).await;
            self.tell(&running);
        }
    }
}

fn joined<T>(
    joined: Result<Result<T, PublishError>, tokio::task::JoinError>,
) -> Result<T, PublishError> {
    joined.unwrap_or_else(|error| Err(PublishError::Refused(error.to_string())))
}

/// Lower case hexadecimal.
pub(super) fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
