//! Purpose: which server gets a request: algorithms, health, ejection, slow start, retry budget.
//! Box in the picture: load balancer, between the route and the web servers or upstream.
//! Invariants: no I/O, no clock, no randomness: time and jitter are arguments; an unusable server
//!   is never picked while a usable one exists; the last usable server is never ejected; what all
//!   workers must agree on is in atomics of [`Members`], and picking takes no lock.
//! Start reading at: [`Balancer::pick`], [`Members`], [`HealthMachine`].
//! Tested by: the tests beside each file, and the properties in `balancer/tests.rs` and
//!   `members/tests.rs`.
#![forbid(unsafe_code)]

mod balancer;
mod health;
mod limits;
mod members;
mod ring;
mod schedule;
mod server;
mod tried;

pub use balancer::{Algorithm, Balancer, Mode, NoPick, hash_client};
pub use health::{Health, HealthChange, HealthMachine, HealthPolicy};
pub use limits::{RETRIES_ALWAYS, TRIED_MAX};
pub use members::{Ejection, Members, RetryPermit};
pub use server::{Failure, Millis, ServerSpec, ServerState, Standing};
pub use tried::Tried;
