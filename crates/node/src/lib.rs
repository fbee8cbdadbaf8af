//! Purpose: one server: lowers the config file into every service's options, starts them in order,
//!   feeds what one knows to those who need it, and stops them in order.
//! Box in the picture: the frame around all boxes of one server.
//! Invariants: only this crate knows roles and every service crate; no domain logic here; whatever
//!   ends the start, what was started is stopped; PostgreSQL is the last to stop; a panic anywhere
//!   ends the process.
//! Start reading at: [`run`], then `services.rs` (the order), `feed.rs`, `status.rs`.
//! Tested by: `status/tests.rs`, `lower/tests.rs`, `pidfile/tests.rs`, `e2e`.
#![forbid(unsafe_code)]

pub mod admin;
mod board;
mod cluster;
mod config_sync;
mod control;
mod database;
pub mod database_guard;
mod db_control;
mod edge_health;
mod error;
mod feed;
mod floating;
pub mod guard;
pub mod join;
mod leftovers;
mod limits;
mod lower;
mod peers;
pub mod pidfile;
mod privileges;
mod release;
mod reload;
mod run;
pub mod secrets;
mod services;
mod state;
mod status;
mod tokens;

pub use error::NodeError;
pub use leftovers::stop_left_behind;
pub use run::{ConfigFile, abort_on_panic, run, run_blocking};
pub use status::cluster_status;
pub use trilith_telemetry::{LogError, LogFormat, LogOptions, init_logging};
