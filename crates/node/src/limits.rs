//! Every bound of this crate.

use std::time::Duration;

/// Threads of the runtime for everything but requests.
pub(crate) const CONTROL_THREADS: usize = 2;
/// A peer that has not told its state by then is shown as down.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest answer of a peer.
pub(crate) const PEER_ANSWER_BYTES_MAX: usize = 4 << 20;
/// For a TLS handshake on the cluster port.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections on the cluster port; each edge opens a few per worker.
pub(crate) const PEER_CONNECTIONS_MAX: usize = 16_384;
pub(crate) const LISTEN_BACKLOG: u32 = 4_096;
/// How often idle connections to app instances are looked at.
pub(crate) const REAP_INTERVAL: Duration = Duration::from_secs(5);
/// An edge's heads grow by its `X-Forwarded-*` fields, so the cluster port takes more than any
/// edge.
pub(crate) const PEER_HEAD_BYTES_MAX: usize = 128 * 1024;
pub(crate) const PEER_FIELDS_MAX: usize = 256;
pub(crate) const PEER_TARGET_BYTES_MAX: usize = 64 * 1024;
/// On the cluster port the edge has the say about slow clients; this only ends what is dead.
pub(crate) const PEER_BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Once the drain has begun, how long requests of other edges may take.
pub(crate) const PEER_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for what is left over afterwards: admin requests, sessions of apps that are gone.
pub(crate) const LAST_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the apps wait for the database before they are started without it.
pub(crate) const DATABASE_WAIT: Duration = Duration::from_secs(60);
pub(crate) const DATABASE_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Between tries of a release command that failed; doubled each time up to the maximum.
pub(crate) const RELEASE_RETRY_MIN: Duration = Duration::from_secs(2);
pub(crate) const RELEASE_RETRY_MAX: Duration = Duration::from_secs(60);
/// Open files: sockets of clients, upstreams, sessions. The soft limit is raised to this at most.
pub(crate) const OPEN_FILES_WANTED: u64 = 65_536;

/// How long apps wait for a first usable replica before they start without one.
pub(crate) const REPLICA_PATIENCE: Duration = Duration::from_secs(10);
/// How often an edge's server asks itself whether its edge works, how long an answer may take, and how
/// many bad ones in a row it takes to give a floating address away.
pub(crate) const EDGE_CHECK_INTERVAL: Duration = Duration::from_millis(250);
pub(crate) const EDGE_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
pub(crate) const EDGE_CHECK_FALL: u32 = 2;
/// Threads of the cluster store's own runtime: one may be busy while another renews a lease.
pub(crate) const CLUSTER_THREADS: usize = 2;

/// How often a server looks whether its config file is still the cluster's version, and tries again to
/// use one that it could not use.
pub(crate) const CONFIG_LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// While the cluster has no config yet: how much longer each server waits than the one before it in the
/// file, and how long between tries.
pub(crate) const CONFIG_FOUND_STEP: Duration = Duration::from_secs(2);
pub(crate) const CONFIG_FOUND_RETRY: Duration = Duration::from_secs(1);
/// Versions of the config that are kept.
pub(crate) const CONFIG_VERSIONS_MAX: u64 = 20;
/// How long a reload waits for the other servers, and how often it asks them.
pub(crate) const CONFIG_OTHERS_WAIT: Duration = Duration::from_secs(5);
pub(crate) const CONFIG_OTHERS_POLL: Duration = Duration::from_millis(100);
/// From the cluster port to the PostgreSQL of the same server.
pub(crate) const POSTGRES_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
