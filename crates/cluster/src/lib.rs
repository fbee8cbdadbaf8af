//! Purpose: the cluster store on openraft, membership, join tokens.
//! Box in the picture: cluster, beside every server.
//! Invariants: only this crate opens the store's file.
//! Start reading at: this file.
//! Tested by: nothing yet.
#![forbid(unsafe_code)]

mod environment;

pub use environment::Environment;
