//! Purpose: the harness of the end-to-end tests: starts the real thing, talks to it, kills parts of it.
//! Box in the picture: all of it, from the outside: a client before it, an operator beside it.
//! Invariants: nothing here links a crate of Trilith; each test process has loopback addresses of its
//!   own; whatever a test starts is gone when it ends, and a process left behind is a failure.
//! Start reading at: [`Demo`], [`OneServer`], [`Client`], [`Load`], [`lists`].
//! Tested by: `tests/`, which use it.
#![forbid(unsafe_code)]
// Test output.
#![allow(clippy::print_stderr)]

mod block;
mod client;
mod code_base;
mod command;
mod database;
mod demo;
mod drill;
mod inserts;
mod kinto;
mod lab;
pub mod lists;
mod load;
mod logs;
pub mod malformed;
mod one_server;
mod posts;
mod process;
mod random;
mod sql;
mod stub;
mod tls;
mod wait;

pub use block::Block;
pub use client::{Client, RawAnswer, Response, raw};
pub use code_base::{copy_folder, example_code_base};
pub use command::{Output, run, trilith};
pub use database::Standing;
pub use demo::{Demo, DemoOptions, Kill};
pub use drill::{Drill, PauseGoal, drills_per_fault, drills_per_fault_of_database};
pub use inserts::{Inserted, Inserts};
pub use kinto::Kinto;
pub use lab::no_labs_here;
pub use load::{Load, Report};
pub use logs::unexpected_lines;
pub use one_server::OneServer;
pub use posts::{Post, Posted, Posts};
pub use process::Process;
pub use random::Random;
pub use sql::{Sql, Trouble};
pub use stub::Stub;
pub use wait::{eventually, holds_within};
