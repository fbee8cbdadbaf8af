//! Picking a server.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use xxhash_rust::xxh3::xxh3_64;

use crate::limits::{BOUNDED_LOAD_FREE, BOUNDED_LOAD_PERCENT};
use crate::members::Members;
use crate::ring::Ring;
use crate::schedule::smooth_round;
use crate::server::{Millis, ServerSpec, Standing};
use crate::tried::Tried;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Smooth weighted round robin (nginx), exact over all workers.
    #[default]
    RoundRobin,
    /// Fewest requests under way in relation to the weight; ties in turn.
    LeastConnections,
    /// One client, one server, as long as it is usable: consistent hashing with bounded load.
    IpHash,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// All servers take requests; backups do when none of the others is usable.
    #[default]
    ActiveActive,
    /// The first usable server in the order given takes all of them; backups come last.
    ActivePassive,
}

/// Why no server was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPick {
    /// Usable servers have all the requests they may have.
    Full,
    /// This request has tried every server that is as good as any.
    AllTried,
}

/// Picks servers for one way of balancing over [`Members`]. Shared by all workers: what they share
/// is one position in a precomputed sequence, so turns are exact whoever takes them.
#[derive(Debug)]
pub struct Balancer {
    members: Arc<Members>,
    algorithm: Algorithm,
    /// In order of preference: a tier is used when no server of those before it can be.
    tiers: Box<[Tier]>,
}

#[derive(Debug)]
struct Tier {
    /// One round; names each server of the tier at least once.
    round: Box<[u16]>,
    servers: Box<[u16]>,
    ring: Ring,
    cursor: Cursor,
}

/// On a cache line of its own: every pick of every worker writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cursor(AtomicUsize);

impl Cursor {
    fn next(&self) -> usize {
        self.0.fetch_add(1, Relaxed)
    }
}

impl Balancer {
    pub fn new(members: Arc<Members>, algorithm: Algorithm, mode: Mode) -> Self {
        let tiers = tiers(members.servers(), mode)
            .into_iter()
            .map(|servers| Tier::new(members.servers(), servers, algorithm))
            .collect();
        Self {
            members,
            algorithm,
            tiers,
        }
    }

    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// A server for a request of the client that [`hash_client`] gave `client` for, none of
    /// `tried`. The request is counted in; give it back with [`Members::end`].
    ///
    /// Usable servers come first. When there is none at all, those that are not known yet, then
    /// those that are ejected, then those that are down: rather any than none. Within that, by
    /// tier.
    pub fn pick(&self, now: Millis, client: u64, tried: &Tried) -> Result<usize, NoPick> {
        if self.algorithm != Algorithm::RoundRobin || !tried.is_empty() {
            return self.pick_carefully(now, client, tried, None);
        }
        // The usual case: the server whose turn it is can take it.
        let Some(tier) = self.tiers.first() else {
            return Err(NoPick::AllTried);
        };
        let server = tier.next_turn();
        let spec = &self.members.servers()[server];
        if spec.state.standing(now) == (Standing::Usable { permille: 1000 })
            && spec.state.begin(spec.in_flight_max)
        {
            return Ok(server);
        }
        self.pick_carefully(now, client, tried, Some(server))
    }

    /// `turn`: whose turn of the first tier has been taken from its sequence already.
    fn pick_carefully(
        &self,
        now: Millis,
        client: u64,
        tried: &Tried,
        mut turn: Option<usize>,
    ) -> Result<usize, NoPick> {
        let servers = self.members.servers();
        let class = |server: usize| Class::of(&servers[server], now);
        let best = (0..servers.len()).map(class).min();
        for tier in &self.tiers {
            // Twice, for the case that another worker takes a server's last place in between.
            for _ in 0..2 {
                let is_candidate = |server: usize| {
                    Some(class(server)) == best
                        && !tried.contains(server)
                        && has_room(&servers[server])
                };
                let turn = turn.take();
                let Some(server) = self.pick_in_tier(tier, now, client, turn, &is_candidate) else {
                    break;
                };
                if servers[server].state.begin(servers[server].in_flight_max) {
                    return Ok(server);
                }
            }
            // A backup does not help out a busy server, only a dead one.
            let full = tier
                .servers
                .iter()
                .map(|s| usize::from(*s))
                .any(|server| Some(class(server)) == best && !tried.contains(server));
            if full {
                return Err(NoPick::Full);
            }
        }
        Err(NoPick::AllTried)
    }

    fn pick_in_tier(
        &self,
        tier: &Tier,
        now: Millis,
        client: u64,
        turn: Option<usize>,
        is_candidate: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let candidates = || {
            tier.servers
                .iter()
                .map(|s| usize::from(*s))
                .filter(|s| is_candidate(*s))
        };
        let first = candidates().next()?;
        match self.algorithm {
            Algorithm::RoundRobin => {
                let taker = self.next_taker(tier, now, turn, is_candidate);
                Some(taker.unwrap_or(first))
            }
            Algorithm::LeastConnections => self.least_loaded(tier, candidates(), now),
            Algorithm::IpHash => Some(self.by_hash(tier, client, is_candidate).unwrap_or(first)),
        }
    }

    /// A server that cannot take its turn passes it on. Each pass takes a position of its own from
    /// the shared sequence, so that what is left of the sequence stays even.
    fn next_taker(
        &self,
        tier: &Tier,
        now: Millis,
        turn: Option<usize>,
        is_candidate: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let servers = self.members.servers();
        // In slow start a server takes a tenth of its turns or more: ten rounds always end this.
        let turns = (0..10 * tier.round.len()).map(|_| tier.next_turn());
        turn.into_iter().chain(turns).find(|server| {
            let spec = &servers[*server];
            is_candidate(*server) && spec.state.takes_turn(permille(spec, now))
        })
    }

    fn least_loaded(
        &self,
        tier: &Tier,
        candidates: impl Iterator<Item = usize>,
        now: Millis,
    ) -> Option<usize> {
        let servers = self.members.servers();
        // From 1, so that servers never picked (at 0) have waited longer than the one picked first.
        let turn = (tier.cursor.next() as u32).wrapping_add(1);
        // In slow start a server weighs less. Loads are compared as fractions, without division.
        let load = |server: usize| {
            let spec = &servers[server];
            let weight = u64::from(spec.weight.max(1)) * permille(spec, now);
            (u64::from(spec.state.in_flight()), weight)
        };
        let waited = |server: usize| turn.wrapping_sub(servers[server].state.picked_at());
        let best = candidates.reduce(|best, server| {
            let ((a, a_weight), (b, b_weight)) = (load(best), load(server));
            let (a, b) = (u128::from(a * b_weight), u128::from(b * a_weight));
            if b < a || (b == a && waited(server) > waited(best)) {
                server
            } else {
                best
            }
        })?;
        servers[best].state.set_picked_at(turn);
        Some(best)
    }

    /// The first server on the ring that is not far above its share of the load.
    fn by_hash(
        &self,
        tier: &Tier,
        client: u64,
        is_candidate: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let servers = self.members.servers();
        let mut owner = None;
        for server in tier.ring.walk(client) {
            if !is_candidate(server) {
                continue;
            }
            owner = owner.or(Some(server));
            let in_flight = u64::from(servers[server].state.in_flight());
            if in_flight < BOUNDED_LOAD_FREE
                || in_flight < bounded_load(tier, servers, server, is_candidate)
            {
                return Some(server);
            }
        }
        owner
    }
}

impl Tier {
    fn new(all: &[ServerSpec], servers: Vec<u16>, algorithm: Algorithm) -> Self {
        let specs = servers.iter().map(|s| (*s, &all[usize::from(*s)]));
        let weights: Vec<_> = specs.clone().map(|(s, spec)| (s, spec.weight)).collect();
        let ring = if algorithm == Algorithm::IpHash {
            Ring::new(specs.map(|(s, spec)| (s, spec.key.as_str(), spec.weight)))
        } else {
            Ring::default()
        };
        Self {
            round: smooth_round(&weights).into(),
            servers: servers.into(),
            ring,
            cursor: Cursor::default(),
        }
    }

    fn next_turn(&self) -> usize {
        usize::from(self.round[self.cursor.next() % self.round.len()])
    }
}

/// What a server is good for, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Usable,
    Checking,
    Ejected,
    Down,
}

impl Class {
    fn of(spec: &ServerSpec, now: Millis) -> Self {
        match spec.state.standing(now) {
            Standing::Usable { .. } => Self::Usable,
            Standing::Checking => Self::Checking,
            Standing::Ejected => Self::Ejected,
            Standing::Down => Self::Down,
        }
    }
}

fn permille(spec: &ServerSpec, now: Millis) -> u64 {
    match spec.state.standing(now) {
        Standing::Usable { permille } => permille,
        // Picked for want of a better one: then there is no reason to spare it.
        _ => 1000,
    }
}

fn has_room(spec: &ServerSpec) -> bool {
    spec.in_flight_max == 0 || spec.state.in_flight() < spec.in_flight_max
}

/// [`BOUNDED_LOAD_PERCENT`] of the server's share of the tier's requests, the next one included.
fn bounded_load(
    tier: &Tier,
    servers: &[ServerSpec],
    server: usize,
    is_candidate: &dyn Fn(usize) -> bool,
) -> u64 {
    let weight = |spec: &ServerSpec| u64::from(spec.weight.max(1));
    let candidates = tier
        .servers
        .iter()
        .map(|s| usize::from(*s))
        .filter(|s| is_candidate(*s))
        .map(|s| &servers[s]);
    let (load, weights) = candidates.fold((1, 0), |(load, weights), spec| {
        (
            load + u64::from(spec.state.in_flight()),
            weights + weight(spec),
        )
    });
    (load * weight(&servers[server]) * BOUNDED_LOAD_PERCENT).div_ceil(100 * weights.max(1))
}

fn tiers(servers: &[ServerSpec], mode: Mode) -> Vec<Vec<u16>> {
    let (backups, actives): (Vec<u16>, Vec<u16>) =
        (0..servers.len() as u16).partition(|s| servers[usize::from(*s)].backup);
    let tiers = match mode {
        Mode::ActiveActive => vec![actives, backups],
        Mode::ActivePassive => actives
            .into_iter()
            .chain(backups)
            .map(|s| vec![s])
            .collect(),
    };
    tiers.into_iter().filter(|tier| !tier.is_empty()).collect()
}

/// The number that stands for a client in [`Balancer::pick`]: of its whole IPv4 address, or of the
/// first 64 bits of its IPv6 address, since the rest changes with time (RFC 8981).
pub fn hash_client(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => xxh3_64(&v4.octets()),
        IpAddr::V6(v6) => xxh3_64(&v6.octets()[..8]),
    }
}

#[cfg(test)]
mod tests;
