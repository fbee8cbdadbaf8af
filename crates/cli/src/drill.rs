//! A drill: a fault under load, and what users noticed of it.
//!
//! Load from where the users are, a look at who holds the floating address every few milliseconds,
//! the fault, the repair, and then a report, which is a function of what was seen.

mod args;
mod fault;
mod load;
mod netlink;
mod processes;
mod report;
mod run;
mod sql_load;
mod sql_report;
mod sql_run;
mod sql_session;
mod sql_verify;
mod sql_watch;
mod watch;
mod words;

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

// Load on the database.

/// Enough for a client that is held up; one that still waits then tries again.
const SQL_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// From a statement to the end of its answer. After that the connection is given up.
const SQL_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const SQL_RETRY_MIN: Duration = Duration::from_millis(10);
const SQL_RETRY_MAX: Duration = Duration::from_millis(100);
/// After so many rows of a connection it reads its last one again.
const READ_EVERY: u64 = 10;
/// The longest load at the highest rate.
const WRITES_MAX: usize = 700_000;
/// Gaps from here on are listed.
const GAP_TOLD: Duration = Duration::from_millis(100);
/// For the database to take the question which rows there are, and for a replica to have replayed.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
