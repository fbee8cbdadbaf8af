//! Purpose: fuzz targets: any bytes a stranger may send, and what must hold for them.
//! Box in the picture: where bytes come in: HTTP/1.1, paths, the config file, other servers, the store's
//!   file.
//! Invariants: a target only calls a check; the checks stand beside the code they check.
//! Start reading at: `fuzz_targets/`, then `crates/http1/tests/properties/checks/mod.rs`.
//! Tested by: the property tests of `trilith-http1`, which call the same checks; `README.md` says how
//!   to run the targets.
#![forbid(unsafe_code)]

#[path = "../../crates/http1/tests/properties/checks/mod.rs"]
pub mod http1;

pub mod cluster;
