use std::net::IpAddr;
use std::time::Duration;

use trilith_base::{BootTime, ServerName};
use trilith_consensus::Epoch;

use crate::fsm::State;

/// What this server knows of one floating address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressStatus {
    pub ip: IpAddr,
    /// Who has the lease, as the store shows it to this server. Without quorum that may be long ago.
    pub holder: Option<ServerName>,
    pub epoch: Option<Epoch>,
    /// This server's part in it.
    pub state: State,
    /// Held by this server without a lease.
    pub orphan: bool,
    /// Until when this server may hold it without another renewal. `None`: it does not hold it, or has
    /// no lease for it.
    pub deadline: Option<BootTime>,
    /// When this server last began or ceased to hold it. `None`: not since it was started.
    pub changed_at: Option<BootTime>,
    /// Whose it is when nobody ever held it.
    pub preferred: Option<ServerName>,
    /// The server an operator named, until the address has got there.
    pub wanted: Option<ServerName>,
    /// What last went wrong with it here; `None` once it went well.
    pub problem: Option<String>,
}

impl AddressStatus {
    /// How long this server may still hold it without another renewal.
    pub fn lease_remaining(&self, now: BootTime) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.since(now))
    }
}
