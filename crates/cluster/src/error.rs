/// Why the store could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or written: not damage, which is repaired by itself.
    #[error("cannot open the cluster store in {place}: {reason}")]
    Disk { place: String, reason: String },
    #[error("the cluster store did not start: {reason}")]
    Start { reason: String },
}
