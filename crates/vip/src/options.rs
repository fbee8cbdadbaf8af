use std::net::IpAddr;
use std::time::Duration;

use trilith_base::ServerName;

use crate::fsm::Policy;
use crate::limits;

/// What `node` makes of the config.
#[derive(Clone, Debug)]
pub struct Options {
    pub me: ServerName,
    pub addresses: Vec<AddressOptions>,
    pub mode: Mode,
    /// Servers with role `edge`, in file order: those that may hold an address.
    pub edges: Vec<ServerName>,
    pub on_quorum_loss: OnQuorumLoss,
    /// How long a lease lasts without renewal; [`limits::TTL`].
    pub ttl: Duration,
    /// [`limits::RENEW_EVERY`].
    pub renew_every: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressOptions {
    pub ip: IpAddr,
    /// Length of the prefix of the network it belongs to: how the interface is found. The address itself
    /// is added as /32 or /128.
    pub prefix: u8,
    /// Whose it is when nobody ever held it. `None`: the first address is the first edge's, and so on.
    pub preferred: Option<ServerName>,
}

/// How an address is brought up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The holder binds listeners to it; for addresses that every server has, such as 127.0.0.1.
    Loopback,
    /// The holder adds it to an interface and tells the network. `None`: the interface that has an
    /// address in the same network.
    L2 { interface: Option<String> },
    /// Programs bring it up and down, see `hook.rs`.
    Hook {
        take: Vec<String>,
        release: Vec<String>,
        timeout: Duration,
    },
    /// Somebody else's business: nothing is held.
    None,
}

/// What a holder does that is cut off from the majority, once its lease has run out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnQuorumLoss {
    /// Release it; take it again when nobody answers for it, until somebody does. In mode `l2` only:
    /// the others cannot ask the network.
    #[default]
    Orphan,
    /// Release it.
    Release,
}

impl Options {
    /// With the intervals of [`limits`].
    pub fn new(me: ServerName, edges: Vec<ServerName>, mode: Mode) -> Self {
        Self {
            me,
            addresses: Vec::new(),
            mode,
            edges,
            on_quorum_loss: OnQuorumLoss::default(),
            ttl: limits::TTL,
            renew_every: limits::RENEW_EVERY,
        }
    }

    /// How address number `index` is looked after.
    pub fn policy(&self, index: usize) -> Option<Policy> {
        let address = self.addresses.get(index)?;
        let mut policy = Policy::new(address.ip, index, self.me.clone(), self.edges.clone());
        policy.ttl = self.ttl;
        policy.renew_every = self.renew_every;
        if address.preferred.is_some() {
            policy.preferred = address.preferred.clone();
        }
        Some(match self.mode {
            Mode::L2 { .. } => policy.with_network(self.on_quorum_loss == OnQuorumLoss::Orphan),
            _ => policy,
        })
    }
}
