//! Purpose: fuzz targets: any bytes a stranger may send, and what must hold for them.
//! Box in the picture: where bytes come in: HTTP/1.1, paths, the config file.
//! Invariants: a target only calls a check; the checks stand beside the code they check.
//! Start reading at: `fuzz_targets/`, then `crates/http1/tests/support/checks.rs`.
//! Tested by: `cargo +nightly fuzz run http1_request` (`make fuzz`).
#![forbid(unsafe_code)]

#[path = "../../crates/http1/tests/support/checks.rs"]
pub mod checks;
#[path = "../../crates/http1/tests/support/reference.rs"]
mod reference;
