//! What the store needs of the world around it. The machine provides it, or a simulation.

use std::future::Future;
use std::time::Duration;

use openraft::AsyncRuntime;
use trilith_base::BootTime;

/// Clock, tasks and randomness. Nothing else of this crate's core may read a clock, spawn, or sleep
/// by itself: so a simulation can run a whole cluster in virtual time.
pub trait Environment:
    AsyncRuntime + Clone + Copy + Ord + PartialOrd + Send + Sync + Unpin + 'static
{
    /// This server's clock since boot.
    fn boot_time() -> BootTime;

    /// Waits, on this server's clock.
    fn pause(time: Duration) -> impl Future<Output = ()> + Send;

    /// Runs something that may block on the disk.
    fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send;

    /// Bits nobody can guess or repeat (a seeded simulation can).
    fn random() -> u64;
}
