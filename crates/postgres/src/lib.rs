//! Purpose: runs one PostgreSQL for this server, and observes those of all servers.
//! Box in the picture: database primary, database replica.
//! Invariants: only this crate runs PostgreSQL's programs; a data directory is put in place by one
//!   rename, and one that no longer fits is renamed aside, never deleted; passwords are never logged;
//!   PostgreSQL outlives this process, and the next one adopts it.
//! Start reading at: [`Postgres`], `plan.rs` (what is to be done), `run.rs` and `execute.rs` (doing it), [`Observer`].
//! Tested by: `plan/tests.rs` (golden plans), the tests beside each file, `tests/cluster.rs` (real ones).
#![forbid(unsafe_code)]

mod agent;
mod binaries;
mod conf;
mod control;
mod error;
mod event;
mod execute;
mod fence;
mod files;
pub mod guard;
mod inspect;
mod instance;
mod limits;
mod logfile;
mod lsn;
mod observe;
mod once;
mod options;
mod plan;
mod postmaster;
mod programs;
mod remote;
mod run;
mod secrets;
mod sql;
mod stats;
mod status;
mod supervise;
mod tenure;
mod tls;
mod wal;

pub use binaries::{Binaries, find_bin_dir};
pub use error::{BinariesError, Error, OptionsError, SqlError};
pub use files::closed_folder;
pub use lsn::{Lsn, ParseLsnError};
pub use observe::{ClusterView, Observer, ObserverOptions, ServerState, ServerView};
pub use once::{Once, OnceError, OnceOptions, run_once};
pub use options::{
    ADMIN_ROLE, MAINTENANCE_DATABASE, MONITOR_ROLE, Options, OsUser, Peer, REPLICATION_ROLE, Role,
    StopTimeouts, Synchronous, slot_name,
};
pub use agent::{Changes, Postgres, Situation};
pub use run::stop_left_behind;
pub use secrets::{Password, Secrets, SecretsError};
pub use stats::{Labels, Reading, Stats, StatsView};
pub use status::{CurrentRole, Phase, SlotStatus, Status};
pub use tls::Tls;
