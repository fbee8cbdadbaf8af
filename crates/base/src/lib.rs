//! Purpose: the few small types every crate needs: server names, byte sizes, durations, backoff, the clocks.
//! Box in the picture: none; everything stands on it.
//! Invariants: no I/O except reading clocks ([`SystemClock`], [`BootTime`]); no dependency on any other Trilith crate.
//! Start reading at: [`Backoff`], [`ByteSize`].
//! Tested by: the `tests` module of each file.
#![forbid(unsafe_code)]

mod backoff;
mod boot;
mod clock;
mod duration;
mod name;
mod settings;
mod size;

pub use backoff::Backoff;
pub use boot::BootTime;
pub use clock::{Clock, SystemClock};
pub use duration::{ParseDurationError, format_duration, parse_duration};
pub use name::{InvalidName, ServerName};
pub use settings::is_set_by_trilith;
pub use size::{ByteSize, ParseSizeError};
