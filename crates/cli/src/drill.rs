//! A drill: a fault under load, and what users noticed of it.
//!
//! Load from where the users are, a look at who holds the floating address every few milliseconds,
//! the fault, the repair, and then a report, which is a function of what was seen.

mod args;
mod fault;
mod load;
mod netlink;
mod report;
mod run;
mod watch;

pub use args::Arguments;
pub use run::run;

use std::time::Duration;

/// Load without a fault, before it and after the repair.
const QUIET: Duration = Duration::from_millis(1_500);
/// How long the servers may take to be ready again.
const RECOVERY: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// From the connection to the end of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Enough for the highest rate with every request running into its timeouts.
const UNDER_WAY_MAX: usize = 8_192;
/// The longest drill at the highest rate.
const REQUESTS_MAX: usize = 200_000;
const ANSWER_BYTES_MAX: usize = 1 << 20;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
/// Longest time without a successful new connection.
const GAP_GOAL: Duration = Duration::from_millis(2_500);
/// A server that was cut off and took the address there as an orphan gives way when it is back: it
/// asks four times a second whether somebody else has it.
const ORPHAN_YIELDS: Duration = Duration::from_secs(1);
