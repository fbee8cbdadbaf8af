//! Every bound and interval of this crate.

use std::time::Duration;

use trilith_base::Backoff;

/// How long a lease lasts without renewal (default).
pub const TTL: Duration = Duration::from_millis(1_300);
/// Between two renewals (default).
pub const RENEW_EVERY: Duration = Duration::from_millis(200);
/// Renewals under way at one time: a slow one must not hold up the next, but they must not pile up.
pub const RENEWALS_MAX: usize = 8;
/// What a release may take: the holder's deadline is this much before the end of its lease.
pub const STOP_BUDGET: Duration = Duration::from_millis(50);
/// Two clocks run apart by at most this part of the time to live: 1/1000, ten times what NTP allows.
pub const DRIFT_DIVISOR: u32 = 1_000;

/// The kernel removes an address with a lifetime of N seconds N to 1.1 N seconds after it was set.
/// Measured: 1.01 to 1.03 s for N = 1, when anything else keeps the machine awake. Its timer rounds
/// up to 250 ms (net/ipv4/devinet.c, check_lifetime) and does not wake an idle processor, which was seen
/// to take until 2.2 s; the next holder's probe sees such an address, and waits.
pub const KERNEL_LIFETIME_PERCENT: u32 = 110;
/// The longest lifetime given to an address, whatever the lease.
pub const KERNEL_LIFETIME_SECONDS_MAX: u32 = 30;

/// How long others leave an address that nobody ever held to the server it belongs to.
pub const FIRST_GRANT_WAIT: Duration = Duration::from_secs(3);
/// How long others leave an address to the server that an operator named.
pub const WANTED_WAIT: Duration = Duration::from_secs(1);
/// Whoever holds addresses already comes later for one more: per address.
pub const HELD_DELAY: Duration = Duration::from_millis(60);
/// So that not all ask at the same moment: per place in the file.
pub const ORDER_DELAY: Duration = Duration::from_millis(15);
/// Before a grant that was refused or failed is tried again.
pub const GRANT_RETRY: Duration = Duration::from_millis(100);
/// The same when no answer came: the view may still show that it was granted.
pub const GRANT_UNKNOWN_RETRY: Duration = Duration::from_millis(500);
/// Before a failed release or revocation is tried again.
pub const LEAVE_RETRY: Duration = Duration::from_millis(100);
/// Before a failed take is tried again.
pub const TAKE_RETRY: Duration = Duration::from_millis(200);
/// Failed takes in a row after which another server shall have the lease.
pub const TAKE_FAILURES_MAX: u32 = 3;
/// How long a server that had to give a lease back unused leaves it to others.
pub const GIVEN_BACK_PAUSE: Duration = Duration::from_secs(5);
/// How long a holder of the lease waits for somebody else who still answers for the address.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(3);
/// Between two probes then.
pub const PROBE_RETRY: Duration = Duration::from_millis(50);

/// How long an unanswered probe counts.
pub const PROBE_VALID: Duration = Duration::from_millis(500);
/// Before an operator's wish that is fulfilled is deleted again.
pub const FORGET_RETRY: Duration = Duration::from_secs(1);

/// Without quorum: how long nobody may answer for the address before it is taken.
pub const ORPHAN_WAIT: Duration = Duration::from_secs(3);
/// So that of several orphans one is first: per place in the file.
pub const ORPHAN_ORDER_DELAY: Duration = Duration::from_millis(500);
/// Between two probes of a server without quorum.
pub const ORPHAN_PROBE_EVERY: Duration = Duration::from_millis(250);
/// Unanswered probes that it takes at least: a process that slept has not watched.
pub const ORPHAN_PROBES_MIN: u32 = 8;
/// How long a frame that was received shows that the interface hears.
pub const HEARING_VALID: Duration = Duration::from_secs(1);
/// Gateways that are asked for a sign of life; what is read of the list of routes to find them.
pub const GATEWAYS_MAX: usize = 4;
pub const ROUTES_BYTES_MAX: u64 = 16 * 1024;
/// Between two announcements against somebody else who claims the address (RFC 5227, 2.4 c).
pub const DEFEND_EVERY: Duration = Duration::from_secs(1);

/// One request to the kernel.
pub const NETLINK_TIMEOUT: Duration = Duration::from_millis(500);
/// The interfaces are looked at on every change, and after this long.
pub const INTERFACE_LOOK_EVERY: Duration = Duration::from_secs(5);
/// Probes in a row, and between two of them.
pub const PROBE_SENDS: u32 = 3;
pub const PROBE_SEND_EVERY: Duration = Duration::from_millis(25);
/// From the first probe until nobody has answered.
pub const PROBE_ANSWER_WAIT: Duration = Duration::from_millis(80);
/// When the network is told, counted from the take.
pub const ANNOUNCE_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// And from then on: sooner than switches forget a port (300 s).
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(60);
/// A frame of ARP or neighbour discovery is far shorter; the rest is cut off.
pub const FRAME_BYTES_MAX: usize = 2_048;
pub const SOCKET_BUFFER_BYTES: usize = 256 * 1024;
/// What somebody said and nobody has looked at yet.
pub const SIGHTINGS_MAX: usize = 256;

/// Between two claims of an address that are looked at.
pub const CLAIM_PAUSE: Duration = Duration::from_millis(10);
/// How long a release waits for a refresh that is under way.
pub const RELEASE_TURN_WAIT: Duration = Duration::from_millis(20);

/// Opening or closing the edge's listeners.
pub const LISTENERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs of a hook before it counts as failed.
pub const HOOK_TRIES: u32 = 3;
pub const HOOK_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
/// What is kept of each of a hook's outputs.
pub const HOOK_OUTPUT_BYTES_MAX: usize = 4 * 1024;
/// How long the output of a hook that has ended is waited for.
pub const HOOK_OUTPUT_WAIT: Duration = Duration::from_millis(500);

/// A grant or a revocation. Longer than the store takes by itself.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Waking up later than this is worth a line.
pub const LOOP_DELAY_EVENT: Duration = Duration::from_millis(250);
/// What [`crate::Vip::release_all`] takes at most.
pub const RELEASE_ALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A list of interfaces or addresses that the kernel has no time for is asked for again.
pub(crate) const LIST_PAUSE: Duration = Duration::from_millis(5);
pub(crate) const LIST_TRIES: u32 = 20;

/// While an address is held, how soon after a suspend the loop sees that time has passed. Part of what
/// the simulation allows a machine that wakes.
pub const SUSPEND_CHECK: Duration = Duration::from_millis(50);
/// With nothing to do, the loop waits for news, and no longer than this.
pub(crate) const IDLE_WAIT: Duration = Duration::from_secs(3600);
