//! Purpose: a whole cluster in one thread: the real store, the real state machine of the floating address, and
//!   the real planner of the database with a model of PostgreSQL, over simulated time, network, disks and
//!   kernels, under faults drawn from a seed.
//! Box in the picture: none; it tests `consensus`, `cluster`, `vip` and `ha`.
//! Invariants: equal seeds give equal traces, byte by byte; nothing here reads a clock, opens a socket or a
//!   file.
//! Start reading at: [`run`], then `world.rs`, `watcher.rs` and `postgres/check.rs` (what must hold), `faults.rs`
//!   (what goes wrong), `postgres.rs` and `agent.rs` (the database).
//! Tested by: `tests/seeds.rs`, `tests/plants.rs`, the `tests` module of each file.
#![forbid(unsafe_code)]

mod agent;
mod clock;
mod disk;
mod environment;
mod executor;
mod faults;
mod forget;
mod history;
mod holder;
mod keeper;
mod kernel;
pub mod limits;
mod linear;
mod load;
mod network;
mod plant;
mod postgres;
mod run;
mod trace;
mod watcher;
mod world;

pub use plant::Plant;
pub use run::{Report, Settings, run};
pub use trace::LogTime;
