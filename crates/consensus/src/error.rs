/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No majority of the voters is reachable, or they have not agreed on a leader yet. Nothing was done.
    #[error("the cluster has no leader at the moment: {reason}")]
    NoLeader { reason: String },
    /// It was sent, and no answer came: it may have been done or not. Read before trying again.
    #[error("no answer from the cluster store: the change may have been made or not")]
    Unknown,
    /// The lease is not held under that epoch (any more).
    #[error("the lease is lost")]
    LeaseLost,
    #[error("{what}: {is}, but at most {max}")]
    TooLarge {
        what: &'static str,
        is: usize,
        max: usize,
    },
    #[error("{reason}")]
    Invalid { reason: String },
    /// This process's part of the store has ended.
    #[error("the cluster store of this server has stopped")]
    Stopped,
}
