//! Purpose: the cluster store: `consensus` on openraft, its log in one file, leases, members.
//! Box in the picture: cluster, beside every server.
//! Invariants: only this crate opens the store's file; nothing is acknowledged before a majority
//!   has it on disk; a renewal waits for no disk and is never granted by a leader that may have been
//!   replaced; no type of openraft leaves this crate but through [`Environment`]; types are
//!   serialised only in [`msg`] and the messages of joining.
//! Start reading at: [`Cluster`], `leases.rs`, `disk.rs`, `members.rs`.
//! Tested by: the `tests` module of each file; `tests/` with several servers in one process; `sim`.
#![forbid(unsafe_code)]

mod disk;
mod environment;
mod error;
mod etcd;
mod event;
mod health;
pub mod http;
mod inner;
pub mod join;
mod lead;
mod leases;
pub mod limits;
mod machine;
mod members;
pub mod msg;
mod options;
mod peers;
mod raft;
mod run;
mod seldom;
mod status;
mod store;
mod token;
mod transport;
mod whereabouts;

pub use disk::DatabasePart;
pub use environment::Environment;
pub use error::Error;
pub use etcd::{EtcdOptions, EtcdStore};
pub use health::{ClusterHealth, Stage};
pub use http::{HttpTransport, PeerName, router};
pub use machine::Machine;
pub use options::{DiskPlace, Listed, Medium, Options, Timing};
pub use run::Cluster;
pub use seldom::Seldom;
pub use token::{InvalidToken, Token, TokenId, TokenSecret};
pub use transport::{CallError, Peer, Transport};
