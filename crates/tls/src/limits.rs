//! Every bound of this crate.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the cluster CA is valid.
pub const CA_VALIDITY: Duration = DAY.saturating_mul(3_652);
/// How long certificates issued by the cluster CA are valid.
pub const LEAF_VALIDITY: Duration = DAY.saturating_mul(90);
/// How often a running server issues its certificates anew.
pub const LEAF_REISSUE_INTERVAL: Duration = DAY;
/// Certificates are valid from this long ago, for servers whose clocks differ.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
/// TLS 1.3 tickets sent per handshake: OpenSSL and BoringSSL send as many; rustls would send 4.
pub(crate) const TICKETS_PER_HANDSHAKE: usize = 2;
/// TLS sessions a server remembers for its own connections to peers.
pub(crate) const PEER_SESSIONS: usize = 64;
