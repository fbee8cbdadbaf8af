use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::health::Health;
use crate::members::tests::spec;
use crate::server::{Failure, ServerState};

const NOW: Millis = Millis(1_000_000);

fn balancer(servers: Vec<ServerSpec>, algorithm: Algorithm, mode: Mode) -> Balancer {
    Balancer::new(Arc::new(Members::new(servers)), algorithm, mode)
}

fn weighted(weights: &[u32]) -> Vec<ServerSpec> {
    (0..)
        .zip(weights)
        .map(|(n, weight)| ServerSpec {
            weight: *weight,
            ..spec(n)
        })
        .collect()
}

fn down(balancer: &Balancer, server: usize) {
    balancer.members().servers()[server]
        .state
        .set_health(Health::Down, NOW);
}

/// Picks, and ends the request at once.
fn pick(balancer: &Balancer, client: u64) -> usize {
    let server = balancer.pick(NOW, client, &Tried::none()).unwrap();
    balancer.members().end(server);
    server
}

fn counts(picks: impl IntoIterator<Item = usize>) -> BTreeMap<usize, u32> {
    let mut counts = BTreeMap::new();
    for server in picks {
        *counts.entry(server).or_default() += 1;
    }
    counts
}

#[test]
fn sixty_over_three_are_twenty_each_whoever_picks() {
    let balancer = balancer(
        weighted(&[1, 1, 1]),
        Algorithm::RoundRobin,
        Mode::ActiveActive,
    );
    let picks: Vec<usize> = std::thread::scope(|scope| {
        let workers: Vec<_> = [7, 13, 1, 39]
            .map(|share| {
                let balancer = &balancer;
                scope.spawn(move || (0..share).map(|_| pick(balancer, 0)).collect::<Vec<_>>())
            })
            .into();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect()
    });
    assert_eq!(counts(picks), BTreeMap::from([(0, 20), (1, 20), (2, 20)]));
}

#[test]
fn the_turns_of_a_dead_server_go_to_all_others() {
    let balancer = balancer(
        weighted(&[1, 1, 1]),
        Algorithm::RoundRobin,
        Mode::ActiveActive,
    );
    down(&balancer, 1);
    let counts = counts((0..60).map(|_| pick(&balancer, 0)));
    assert_eq!(counts, BTreeMap::from([(0, 30), (2, 30)]));
}

#[test]
fn backups_wait_until_all_others_are_gone() {
    for algorithm in [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::IpHash,
    ] {
        let mut servers = weighted(&[1, 1, 1, 1]);
        servers[1].backup = true;
        servers[3].backup = true;
        let balancer = balancer(servers, algorithm, Mode::ActiveActive);
        let used = |balancer: &Balancer| -> Vec<usize> {
            counts((0..200).map(|n| pick(balancer, n << 56)))
                .into_keys()
                .collect()
        };
        assert_eq!(used(&balancer), [0, 2]);
        down(&balancer, 0);
        assert_eq!(used(&balancer), [2]);
        down(&balancer, 2);
        assert_eq!(used(&balancer), [1, 3]);
        balancer.members().servers()[0]
            .state
            .set_health(Health::Up, NOW);
        assert_eq!(
            used(&balancer),
            [0],
            "slow start is no reason to use a backup"
        );
    }
}

#[test]
fn active_passive_uses_one_at_a_time_in_order() {
    let mut servers = weighted(&[1, 1, 1]);
    servers[0].backup = true;
    let balancer = balancer(servers, Algorithm::RoundRobin, Mode::ActivePassive);
    for expected in [1, 2, 0] {
        assert!((0..10).all(|n| pick(&balancer, n) == expected));
        down(&balancer, expected);
    }
    assert_eq!(
        pick(&balancer, 0),
        1,
        "all down: the first, rather than none"
    );
}

#[test]
fn a_retry_takes_another_server_and_then_a_backup() {
    let mut servers = weighted(&[1, 1, 1]);
    servers[2].backup = true;
    let balancer = balancer(servers, Algorithm::RoundRobin, Mode::ActiveActive);
    let mut tried = Tried::none();
    for expected in [0, 1, 2] {
        let server = balancer.pick(NOW, 0, &tried).unwrap();
        assert_eq!(server, expected);
        tried.add(server);
    }
    assert_eq!(balancer.pick(NOW, 0, &tried), Err(NoPick::AllTried));
}

#[test]
fn a_full_server_makes_wait_and_does_not_wake_the_backup() {
    let mut servers = weighted(&[1, 1]);
    servers[0].in_flight_max = 2;
    servers[1].backup = true;
    let balancer = balancer(servers, Algorithm::RoundRobin, Mode::ActiveActive);
    for _ in 0..2 {
        assert_eq!(balancer.pick(NOW, 0, &Tried::none()), Ok(0));
    }
    assert_eq!(balancer.pick(NOW, 0, &Tried::none()), Err(NoPick::Full));
    assert_eq!(balancer.members().in_flight(), 2);
    balancer.members().end(0);
    assert_eq!(balancer.pick(NOW, 0, &Tried::none()), Ok(0));
}

#[test]
fn least_connections_fills_up_by_weight() {
    let balancer = balancer(
        weighted(&[1, 3]),
        Algorithm::LeastConnections,
        Mode::ActiveActive,
    );
    let picks: Vec<_> = (0..40)
        .map(|_| balancer.pick(NOW, 0, &Tried::none()).unwrap())
        .collect();
    assert_eq!(counts(picks), BTreeMap::from([(0, 10), (1, 30)]));
}

#[test]
fn least_connections_breaks_ties_in_turn() {
    let balancer = balancer(
        weighted(&[1, 1, 1]),
        Algorithm::LeastConnections,
        Mode::ActiveActive,
    );
    let picks: Vec<_> = (0..6).map(|_| pick(&balancer, 0)).collect();
    assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    // With one busy server the other two still take turns.
    assert_eq!(balancer.pick(NOW, 0, &Tried::none()), Ok(0));
    let picks: Vec<_> = (0..4).map(|_| pick(&balancer, 0)).collect();
    assert_eq!(picks, [1, 2, 1, 2]);
}

#[test]
fn ip_hash_keeps_a_client_and_moves_only_whom_it_must() {
    let balancer = balancer(weighted(&[1, 1, 1]), Algorithm::IpHash, Mode::ActiveActive);
    let clients: Vec<u64> = (0..250u8)
        .map(|n| hash_client([10, 0, 3, n].into()))
        .collect();
    let home: Vec<_> = clients.iter().map(|c| pick(&balancer, *c)).collect();
    assert!(counts(home.iter().copied()).len() == 3);
    assert!(
        clients
            .iter()
            .zip(&home)
            .all(|(c, h)| pick(&balancer, *c) == *h)
    );
    down(&balancer, 1);
    for (client, home) in clients.iter().zip(&home) {
        let now = pick(&balancer, *client);
        assert!(if *home == 1 { now != 1 } else { now == *home });
    }
}

#[test]
fn ip_hash_bounds_the_load_of_one_client() {
    let balancer = balancer(weighted(&[1, 1, 1]), Algorithm::IpHash, Mode::ActiveActive);
    let client = hash_client([10, 0, 0, 1].into());
    let home = pick(&balancer, client);
    let picks = |count| -> BTreeMap<usize, u32> {
        counts((0..count).map(|_| balancer.pick(NOW, client, &Tried::none()).unwrap()))
    };
    assert_eq!(
        picks(BOUNDED_LOAD_FREE as u32),
        BTreeMap::from([(home, 128)])
    );
    let more = picks(900);
    let total = 128 + 900;
    let most = more[&home] + 128;
    assert_eq!(more.len(), 2, "two servers can hold it all");
    assert!(
        most <= total / 2 + 1,
        "half is 1.5 of a third: {most} of {total}"
    );
    assert!(most >= total / 2 - 1);
}

#[test]
fn clients_are_hashed_by_what_stays() {
    let hash = |ip: &str| hash_client(ip.parse().unwrap());
    assert_eq!(hash("10.1.2.3"), hash("::ffff:10.1.2.3"));
    assert_ne!(hash("10.1.2.3"), hash("10.1.2.4"));
    assert_eq!(hash("2001:db8:1:2::3"), hash("2001:db8:1:2:aaaa::4"));
    assert_ne!(hash("2001:db8:1:2::3"), hash("2001:db8:1:3::3"));
}

#[test]
fn unknown_servers_serve_only_while_nothing_better_is_known() {
    let servers = (0..3)
        .map(|n| ServerSpec {
            state: Arc::new(ServerState::checking()),
            ..spec(n)
        })
        .collect();
    let balancer = balancer(servers, Algorithm::RoundRobin, Mode::ActiveActive);
    assert_eq!(counts((0..30).map(|_| pick(&balancer, 0))).len(), 3);
    balancer.members().servers()[1]
        .state
        .set_health(Health::Up, NOW);
    assert!((0..30).all(|_| pick(&balancer, 0) == 1));
    down(&balancer, 1);
    assert!((0..30).all(|_| pick(&balancer, 0) != 1));
}

#[test]
fn slow_start_gives_a_share_that_grows() {
    let balancer = balancer(weighted(&[1, 1]), Algorithm::RoundRobin, Mode::ActiveActive);
    down(&balancer, 0);
    balancer.members().servers()[0]
        .state
        .set_health(Health::Up, NOW);
    let share_at = |after: u64| {
        let now = Millis(NOW.0 + after);
        let picks = (0..1100).map(|_| {
            let server = balancer.pick(now, 0, &Tried::none()).unwrap();
            balancer.members().end(server);
            server
        });
        counts(picks).get(&0).copied().unwrap_or(0)
    };
    assert!(
        (90..=110).contains(&share_at(1_000)),
        "a tenth of a turn in eleven tenths"
    );
    assert!((355..=380).contains(&share_at(5_000)));
    assert_eq!(share_at(10_000), 550);
}

#[test]
fn nobody_is_a_clear_answer() {
    for mode in [Mode::ActiveActive, Mode::ActivePassive] {
        let balancer = balancer(Vec::new(), Algorithm::RoundRobin, mode);
        assert_eq!(balancer.pick(NOW, 0, &Tried::none()), Err(NoPick::AllTried));
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Usable,
    Checking,
    Ejected,
    Down,
}

fn server() -> impl Strategy<Value = (u32, bool, Kind)> {
    let kind = prop_oneof![
        Just(Kind::Usable),
        Just(Kind::Checking),
        Just(Kind::Ejected),
        Just(Kind::Down)
    ];
    (1u32..10, any::<bool>(), kind)
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        Just(Algorithm::RoundRobin),
        Just(Algorithm::LeastConnections),
        Just(Algorithm::IpHash)
    ]
}

proptest! {
    #[test]
    fn a_usable_server_comes_first(
        servers in prop::collection::vec(server(), 1..9),
        algorithm in algorithm(),
        passive: bool,
        clients in prop::collection::vec(any::<u64>(), 1..40),
    ) {
        let specs: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(n, (weight, backup, kind))| {
                let state = ServerState::checking();
                match kind {
                    Kind::Checking => {}
                    Kind::Down => state.set_health(Health::Down, NOW),
                    Kind::Usable => state.set_health(Health::Up, NOW),
                    Kind::Ejected => {
                        state.set_health(Health::Up, NOW);
                        state.eject(Failure::Connect, NOW);
                    }
                }
                ServerSpec { weight: *weight, backup: *backup, state: Arc::new(state), ..spec(n) }
            })
            .collect();
        let mode = if passive { Mode::ActivePassive } else { Mode::ActiveActive };
        let balancer = balancer(specs, algorithm, mode);
        let usable: Vec<_> = (0..servers.len())
            .filter(|s| matches!(servers[*s].2, Kind::Usable))
            .collect();
        let usable_active = usable.iter().any(|s| !servers[*s].1);
        for client in clients {
            // Every try of a request: distinct servers, usable ones only while there are any.
            let mut tried = Tried::none();
            let first = balancer.pick(NOW, client, &tried).unwrap();
            prop_assert!(usable.is_empty() || usable.contains(&first));
            prop_assert!(!usable_active || !servers[first].1, "a backup was used");
            tried.add(first);
            while let Ok(next) = balancer.pick(NOW, client, &tried) {
                prop_assert!(!tried.contains(next));
                prop_assert!(usable.is_empty() || usable.contains(&next));
                tried.add(next);
                balancer.members().end(next);
            }
            balancer.members().end(first);
        }
        prop_assert_eq!(balancer.members().in_flight(), 0);
    }

    #[test]
    fn round_robin_is_exact_over_rounds(
        weights in prop::collection::vec(1u32..20, 1..8),
        rounds in 1usize..4,
    ) {
        let balancer = balancer(weighted(&weights), Algorithm::RoundRobin, Mode::ActiveActive);
        let total: u32 = weights.iter().sum();
        let divisor = weights.iter().fold(0, |d, w| gcd(d, *w));
        let round = total / divisor;
        let picks = (0..round as usize * rounds).map(|_| pick(&balancer, 0));
        for (server, count) in counts(picks) {
            prop_assert_eq!(count, weights[server] / divisor * rounds as u32);
        }
    }

    #[test]
    fn in_flight_limits_hold(
        limits in prop::collection::vec(1u32..5, 1..6),
        algorithm in algorithm(),
        clients in prop::collection::vec(any::<u64>(), 1..60),
    ) {
        let specs = limits
            .iter()
            .enumerate()
            .map(|(n, max)| ServerSpec { in_flight_max: *max, ..spec(n) })
            .collect();
        let balancer = balancer(specs, algorithm, Mode::ActiveActive);
        let room: u32 = limits.iter().sum();
        for (n, client) in clients.into_iter().enumerate() {
            let picked = balancer.pick(NOW, client, &Tried::none());
            prop_assert_eq!(picked.is_ok(), n < room as usize);
            if let Err(why) = picked {
                prop_assert_eq!(why, NoPick::Full);
            }
        }
        for (spec, max) in balancer.members().servers().iter().zip(&limits) {
            prop_assert!(spec.state.in_flight() <= *max);
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
