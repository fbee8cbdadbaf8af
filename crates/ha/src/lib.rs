//! Purpose: who should be the primary of the database, and the next steps towards that: the pure planner
//!   of one server. What it is told comes from the cluster store and from the local PostgreSQL; what it
//!   says is carried out by `postgres`.
//! Box in the picture: database primary, database replica.
//! Invariants: no I/O, no clock, no randomness; a primary is started, promoted or opened only under a
//!   lease of this server; the record of the synchronous set and what is in force at the primary always
//!   overlap, so that whoever is promoted has every acknowledged write; a replica reports its position
//!   only after it has stopped receiving.
//! Start reading at: [`plan`], [`Record`], `succession.rs` (who may take a free lease), `sync.rs` (the
//!   synchronous set).
//! Tested by: `scenarios/` (golden plans), `tests/explore.rs` (every state of small clusters), the tests
//!   beside each file, `sim`.
#![forbid(unsafe_code)]

mod history;
mod limits;
mod lsn;
mod memory;
mod observed;
pub mod operator;
mod plan;
mod planner;
mod policy;
mod record;
mod succession;
mod sync;
pub mod txn;

pub use history::{History, ParseHistoryError, Position, parse_history};
pub use limits::*;
pub use lsn::{Lsn, ParseLsnError};
pub use memory::{Memory, Parts, Tenure, needs_primary};
pub use observed::{
    Changes, Data, Kind, LeaseSeen, Local, Observed, PrimarySeen, Process, Ready, SlotSeen,
    Standby, SyncInForce,
};
pub use plan::{Act, Plan, StartAs, Step, StopMode};
pub use planner::plan;
pub use policy::Policy;
pub use record::{
    ClusterRecord, Record, Report, ReportedData, Request, Restart, StoreView, SyncSet, cluster_key,
    ended_key, lease_key, paused_key, record_key, reinit_key, report_key, request_key, restart_key,
};
pub use txn::{RestartMove, TakeLease, Written};
