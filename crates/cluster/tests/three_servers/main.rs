//! Three servers in one process, in real time. One program for all these tests: each would compile the whole
//! consensus anew.

#![allow(clippy::unwrap_used)]

mod addresses;
mod store;
mod suite;
mod support;
