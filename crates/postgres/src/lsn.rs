//! Positions in the write-ahead log: those of `ha`.

pub use trilith_ha::{Lsn, ParseLsnError};
