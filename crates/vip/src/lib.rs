//! Purpose: hold or release the floating addresses.
//! Box in the picture: floating address (VIP).
//! Invariants: only this crate touches addresses; an address is held only under an unexpired lease (an
//!   orphan excepted, and it says so); the deadline of a lease counts from before it was asked for; at the
//!   deadline the address goes, whatever else hangs.
//! Start reading at: [`Fsm`] (who holds, without any I/O), then [`Vip`] (the loop around it).
//! Tested by: `fsm/tests.rs` (scenarios, properties), `run/tests.rs`, `tests/` in network namespaces.

mod error;
mod event;
mod exec;
mod fsm;
mod hook;
mod l2;
pub mod limits;
mod loopback;
mod options;
mod run;
mod status;

pub use error::Error;
pub use fsm::{
    Answer, Effect, Fsm, Granted, Input, LeaveReason, Notice, Policy, Renewal, State, forget_txn,
    grant_txn, lease_key, revoke_txn, wanted_key,
};
pub use l2::remove_addresses;
pub use loopback::Listeners;
pub use options::{AddressOptions, Mode, OnQuorumLoss, Options};
pub use run::Vip;
pub use status::AddressStatus;
