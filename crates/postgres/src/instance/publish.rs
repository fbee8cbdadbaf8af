//! What others are told, and the log.

use std::path::PathBuf;

use tokio::task::spawn_blocking;
use trilith_base::{BootTime, ServerName};
use trilith_ha::{Data, Local, Process, Ready};

use super::Instance;
use super::line::Look;
use crate::event::LogRotated;
use crate::limits::LOG_CHECK_INTERVAL;
use crate::logfile;
use crate::options::slot_name;
use crate::status::{CurrentRole, Phase, SlotStatus, Status};

impl Instance {
    /// Wakes whoever watches only when something has changed.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.publish(|status| status.phase = phase);
    }

    pub(super) fn publish_look(&mut self, local: &Local, asides: Vec<PathBuf>) {
        if matches!(local.process, Process::Ready(_)) {
            self.reported = None;
        }
        self.publish(|status| {
            match &local.process {
                Process::Ready(_) => status.phase = Phase::Running,
                Process::Silent { .. } => status.phase = Phase::Silent,
                // Why it does not run is more than that it does not.
                Process::Stopped if matches!(status.phase, Phase::Failed { .. }) => {}
                Process::Stopped => status.phase = Phase::Down,
                Process::Starting { .. } => {}
            }
            if let Data::Ready { system_id, .. } = local.data {
                status.system_id = Some(system_id);
            }
            status.asides = asides;
        });
    }

    pub(super) fn publish_ready(&self, look: &Look, ready: &Ready) {
        let slot_of = |name: &ServerName| {
            let slot_name = slot_name(name);
            let slot = look.slots.iter().find(|slot| slot.name == slot_name)?;
            Some(SlotStatus {
                replica: name.clone(),
                active: slot.active,
                held_bytes: slot.held_bytes,
            })
        };
        let slots = match look.in_recovery {
            true => Vec::new(),
            false => self
                .options
                .others()
                .filter_map(|peer| slot_of(&peer.name))
                .collect(),
        };
        self.publish(|status| {
            status.role = Some(match look.in_recovery {
                true => CurrentRole::Replica,
                false => CurrentRole::Primary,
            });
            status.lsn = Some(match &look.replica {
                Some(replica) => replica.replayed,
                None => ready.end().lsn,
            });
            status.streaming = look.replica.as_ref().map(|replica| replica.streaming);
            status.timeline = Some(ready.end().timeline);
            status.slots = slots;
        });
    }

    pub(super) async fn rotate_log(&mut self) {
        let now = BootTime::now();
        let last = *self.log_looked_at.get_or_insert(now);
        if now.since(last) < LOG_CHECK_INTERVAL {
            return;
        }
        self.log_looked_at = Some(now);
        let path = self.options.log_file.clone();
        match spawn_blocking(move || logfile::rotate(&path)).await {
            Ok(Ok(Some(bytes))) => {
                // What was there when PostgreSQL was started is gone.
                self.log_start = 0;
                self.telemetry.emit(&LogRotated { bytes });
            }
            Ok(Err(error)) => {
                let path = self.options.log_file.display();
                tracing::warn!(%path, %error, "the log of postgres cannot be rotated");
            }
            _ => {}
        }
    }
}
