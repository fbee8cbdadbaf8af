//! Purpose: the cluster store's trait and types: compare-and-set, leases with epochs, watches; the state
//!   machine that every implementation replicates; an in-memory reference.
//! Box in the picture: cluster, beside every server.
//! Invariants: no I/O, no clock, no randomness; [`View::apply`] depends on nothing but its arguments, so
//!   that every server comes to the same state; an epoch is never given twice; a lease has one holder per
//!   epoch.
//! Start reading at: [`Store`], [`View::apply`], [`Txn`].
//! Tested by: `view/tests.rs`, `memory/tests.rs`, `suite/tests.rs`, `sim`.
#![forbid(unsafe_code)]

mod error;
mod limits;
mod memory;
mod name;
mod store;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
mod txn;
mod view;

pub use error::StoreError;
pub use limits::{
    ENTRIES_MAX, KEY_BYTES_MAX, LEASES_MAX, STATE_BYTES_MAX, TXN_STEPS_MAX, VALUE_BYTES_MAX,
};
pub use memory::MemoryStore;
pub use name::{InvalidKey, Key};
pub use store::{BoxFuture, Member, Membership, Store};
pub use txn::{Command, Condition, Outcome, Txn, Write};
pub use view::{Entry, Epoch, Lease, Revision, View};
