//! Purpose: which site and which route a request is for: hosts, path patterns, path normalisation.
//! Box in the picture: edge and web server, right after the request head.
//! Invariants: pure; a normal path begins with one `/`, has no dot segment, no empty segment and no
//!   control byte, and normalising it again changes nothing; matching never allocates.
//! Start reading at: [`Router`], [`normalise_path`].
//! Tested by: the tests beside each file (tables and properties).
#![forbid(unsafe_code)]

mod path;
mod pattern;
mod router;

pub use path::{PathError, decode_path, encode_path, forward_path, normalise_path, strip_prefix};
pub use pattern::{InvalidPattern, PathPattern};
pub use router::{HostTable, Match, PathTable, Router, RouterBuilder, RouterError};
