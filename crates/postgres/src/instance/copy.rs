//! Where the data come from: made anew, copied from another server, or taken back to where they part from
//! another server's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use trilith_base::{Clock, ServerName, SystemClock};
use trilith_ha::Kind;

use super::Instance;
use super::disk::check_room;
use super::event::{DataFetched, Way};
use super::settings::{ConfirmedBy, Settings};
use crate::error::{Error, FileContext};
use crate::event::DataSetAside;
use crate::files::{move_aside, sibling, sync_file_system, sync_parent};
use crate::inspect::running;
use crate::limits::{COPY_PATIENCE, COPY_WATCH_INTERVAL};
use crate::options::Peer;
use crate::programs::rewound;
use crate::remote::{ask_primary, timed_out};
use crate::status::Phase;

impl Instance {
    /// A new, empty database.
    pub(super) async fn initdb(&mut self) -> Result<(), Error> {
        self.check_stopped()?;
        self.set_phase(Phase::Initialising);
        let binaries = self.any_binaries()?;
        let target = self.make_unfinished().await?;
        self.programs(&binaries).initdb(&target).await?;
        self.write_unfounded_mark(&target)?;
        let settings = Settings::closed_primary(ConfirmedBy::alone());
        self.finish_unfinished(&target, &settings, Kind::Primary)
            .await?;
        self.install("a new database takes its place")
    }

    /// That server's data instead of what is here, which is set aside.
    pub(super) async fn copy(&mut self, from: &ServerName) -> Result<(), Error> {
        let began = Instant::now();
        self.check_stopped()?;
        let peer = self.source(from)?;
        let binaries = self.any_binaries()?;
        self.set_phase(Phase::BaseBackup { percent: None });
        let target = self.make_unfinished().await?;
        // What an earlier try left there has just made room.
        check_room(&target)?;
        let heard = Heard::new();
        let on_percent = |percent| {
            heard.now();
            let percent = Some(percent);
            self.set_phase(Phase::BaseBackup { percent });
        };
        let programs = self.programs(&binaries);
        tokio::select! {
            copied = programs.base_backup(&peer, &target, on_percent) => copied?,
            error = stuck("copying the primary", &heard) => return Err(error),
        }
        self.remove_marks_in(&target)?;
        let settings = Settings::replica(Some(from.clone()));
        self.finish_unfinished(&target, &settings, Kind::Replica)
            .await?;
        self.install(&format!("a copy of {from} takes its place"))?;
        self.failures.reset();
        self.telemetry.emit(&DataFetched {
            way: Way::Copied,
            from,
            took: began.elapsed(),
        });
        Ok(())
    }

    /// Back to where the histories parted, and from there on that server's.
    pub(super) async fn rewind(&mut self, from: &ServerName) -> Result<(), Error> {
        let began = Instant::now();
        self.check_stopped()?;
        check_room(&self.options.data_dir)?;
        let peer = self.source(from)?;
        let binaries = self.any_binaries()?;
        self.set_phase(Phase::Rewinding { percent: None });
        let dir = self.options.data_dir.clone();
        let heard = Heard::new();
        let on_percent = |percent| {
            heard.now();
            let percent = Some(percent);
            self.set_phase(Phase::Rewinding { percent });
        };
        let programs = self.programs(&binaries);
        let rewinding = tokio::select! {
            rewound = programs.rewind(&peer, on_percent) => rewound,
            error = stuck("rewinding", &heard) => Err(error),
        };
        let changed = match rewinding {
            Ok(changed) => changed,
            Err(error) => {
                // A primary that went away meanwhile says nothing about the data here.
                let still_there = ask_primary(&self.options, &peer).await;
                if still_there.is_ok_and(|seen| seen.is_primary) {
                    self.failures.add();
                }
                return Err(error);
            }
        };
        // What it brought along is that server's: settings, marks, and what says whose data they are.
        self.remove_marks_in(&dir)?;
        let settings = Settings::replica(Some(from.clone()));
        self.finish_unfinished(&dir, &settings, Kind::Replica)
            .await?;
        rewound(&dir)?;
        match changed {
            true => self.failures.reset(),
            // Part of a record may lie behind what it has replayed, of a primary that died while it wrote it:
            // pg_rewind sees nothing wrong, and PostgreSQL asks for the rest of it for ever. If the histories
            // are found to part again, a copy is due.
            false => self.failures.add(),
        }
        self.disk.parted = false;
        self.telemetry.emit(&DataFetched {
            way: Way::Rewound,
            from,
            took: began.elapsed(),
        });
        Ok(())
    }

    /// Nobody must work in a folder that is about to be another one.
    fn check_stopped(&self) -> Result<(), Error> {
        match running(&self.options.data_dir) {
            Some(running) => Err(Error::Blocked {
                what: format!("PostgreSQL, process {}, runs in that folder", running.pid),
                hint: "nothing: it is stopped first".to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn source(&self, server: &ServerName) -> Result<Peer, Error> {
        let peer = self.options.peer(server).cloned();
        peer.ok_or_else(|| Error::Blocked {
            what: format!("there is no database server {server} to get the data from"),
            hint: "look at the servers in the configuration file".to_owned(),
        })
    }

    /// A new, empty folder beside the data directory.
    async fn make_unfinished(&self) -> Result<PathBuf, Error> {
        let path = sibling(&self.options.data_dir, "new");
        let old = path.clone();
        let removed = spawn_blocking(move || fs::remove_dir_all(old)).await;
        match removed {
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).at("remove", &path);
            }
            _ => {}
        }
        self.owner.make_private_folder(&path)?;
        Ok(path)
    }

    /// What a program has filled becomes ours, and durable.
    async fn finish_unfinished(
        &self,
        target: &Path,
        settings: &Settings,
        kind: Kind,
    ) -> Result<(), Error> {
        self.write_config(target, settings)?;
        self.write_kind(target, kind)?;
        let target = target.to_owned();
        let syncing = spawn_blocking(move || sync_file_system(&target));
        // It can only fail to be joined when the runtime shuts down.
        syncing.await.unwrap_or(Ok(()))
    }

    /// The finished folder becomes the data directory; what is there is kept beside it.
    fn install(&mut self, why: &str) -> Result<(), Error> {
        let target = self.options.data_dir.clone();
        match fs::remove_dir(&target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Something is in it.
            Err(_) => {
                let seconds = SystemClock.since_epoch().as_secs();
                let to = move_aside(&target, seconds)?;
                self.telemetry.emit(&DataSetAside { why, to: &to });
                self.publish(|status| status.asides.push(to));
            }
        }
        fs::rename(sibling(&target, "new"), &target).at("put in place", &target)?;
        sync_parent(&target)?;
        // That was about the old one.
        rewound(&target)
    }
}

/// When a program last said how far it is.
struct Heard(Mutex<Instant>);

impl Heard {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn now(&self) {
        *self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Instant::now();
    }

    fn ago(&self) -> Duration {
        let heard = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        heard.elapsed()
    }
}

/// Completes when a program says nothing for a long time.
async fn stuck(doing: &'static str, heard: &Heard) -> Error {
    while heard.ago() < COPY_PATIENCE {
        sleep(COPY_WATCH_INTERVAL).await;
    }
    timed_out(doing, COPY_PATIENCE)
}
