//! Purpose: runs one PostgreSQL for this server, and observes those of all servers.
//! Box in the picture: database primary, database replica.
//! Invariants: only this crate runs PostgreSQL's programs; a data directory is put in place by one
//!   rename, and one that no longer fits is renamed aside, never deleted; passwords are never logged;
//!   PostgreSQL outlives this process, and the next one adopts it.
//! Start reading at: [`Postgres`], `agent.rs` (look, plan, carry out), `instance.rs` (looking and doing),
//!   [`guard`], [`Observer`].
//! Tested by: the tests beside each file, those of `instance` with real PostgreSQL; `tests/guard.rs`.
#![forbid(unsafe_code)]

mod agent;
mod binaries;
mod conf;
mod control;
mod error;
mod event;
mod fence;
mod files;
pub mod guard;
mod hot_standby;
mod inspect;
mod instance;
mod leftovers;
mod limits;
mod logfile;
mod lsn;
mod observe;
mod once;
mod options;
mod postmaster;
mod programs;
mod remote;
mod secrets;
mod sql;
mod stats;
mod status;
mod tenure;
mod tls;
mod wal;

pub use agent::{Changes, Postgres, Situation};
pub use binaries::{Binaries, find_bin_dir};
pub use error::{BinariesError, Error, OptionsError, SqlError};
pub use files::closed_folder;
pub use leftovers::stop_left_behind;
pub use lsn::{Lsn, ParseLsnError};
pub use observe::{ClusterView, Observer, ObserverOptions, ServerState, ServerView};
pub use once::{Once, OnceError, OnceOptions, run_once};
pub use options::{
    ADMIN_ROLE, FurtherDatabase, MAINTENANCE_DATABASE, MONITOR_ROLE, Options, OsUser, Peer,
    REPLICATION_ROLE, StopTimeouts, Synchronous, User, slot_name,
};
pub use secrets::{Password, Secrets, SecretsError, url};
pub use stats::{Labels, Reading, Stats, StatsView};
pub use status::{CurrentRole, Phase, SlotStatus, Status};
pub use tls::Tls;
