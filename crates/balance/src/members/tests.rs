use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::health::Health;
use crate::server::ServerState;

pub(crate) fn spec(n: usize) -> ServerSpec {
    ServerSpec {
        key: format!("10.0.0.{n}:80"),
        weight: 1,
        backup: false,
        in_flight_max: 0,
        state: Arc::new(ServerState::unchecked()),
    }
}

fn members(count: usize) -> Members {
    Members::new((0..count).map(spec).collect())
}

fn fail(members: &Members, server: usize, times: u32, now: Millis) -> Option<Ejection> {
    (0..times)
        .map(|_| members.failed(server, Failure::Connect, now))
        .last()
        .flatten()
}

#[test]
fn ejects_after_five_in_a_row_and_longer_each_time() {
    let members = members(3);
    let mut now = Millis(1_000);
    assert_eq!(fail(&members, 1, 4, now), None);
    members.succeeded(1);
    assert_eq!(
        fail(&members, 1, 4, now),
        None,
        "a success begins the count anew"
    );
    let ejection = members.failed(1, Failure::BadGateway, now).unwrap();
    assert_eq!((ejection.server, ejection.until), (1, Millis(31_000)));
    assert_eq!(members.servers()[1].state.standing(now), Standing::Ejected);

    now = Millis(31_000);
    assert_eq!(
        members.servers()[1].state.standing(now),
        Standing::Usable { permille: 100 },
        "comes back slowly"
    );
    assert_eq!(
        fail(&members, 1, 5, now).unwrap().until,
        Millis(31_000 + 60_000)
    );

    now = Millis(91_000 + 10_000);
    assert_eq!(
        members.servers()[1].state.standing(now),
        Standing::Usable { permille: 1000 }
    );
    // A good minute forgives two ejections.
    now = Millis(91_000 + 60_000);
    assert_eq!(
        fail(&members, 1, 5, now).unwrap().until,
        Millis(now.0 + 30_000)
    );
}

#[test]
fn ejects_half_at_most() {
    let now = Millis(5);
    for (servers, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let members = members(servers);
        let ejected = (0..servers)
            .filter(|s| {
                fail(&members, *s, 20, now).is_some() || {
                    members.servers()[*s].state.ejected_until(now).is_some()
                }
            })
            .count();
        assert_eq!(ejected, most, "{servers} servers");
    }
}

#[test]
fn a_check_readmits_after_connect_errors_only() {
    let now = Millis(7);
    let members = members(2);
    let state = &members.servers()[0].state;
    assert!(!state.readmit(now), "is not ejected");
    fail(&members, 0, 5, now);
    assert!(state.readmit(now));
    assert!(matches!(
        state.standing(now),
        Standing::Usable { permille: 100 }
    ));

    for _ in 0..5 {
        members.failed(0, Failure::BadGateway, now);
    }
    assert!(state.ejected_until(now).is_some());
    assert!(!state.readmit(now));
}

#[test]
fn coming_up_after_down_starts_slowly_and_ends_an_ejection() {
    let members = members(2);
    let state = &members.servers()[0].state;
    fail(&members, 0, 5, Millis(1));
    state.set_health(Health::Down, Millis(2));
    assert_eq!(state.standing(Millis(3)), Standing::Down);
    state.set_health(Health::Up, Millis(1_000));
    for (now, permille) in [
        (1_000, 100),
        (2_000, 100),
        (6_000, 500),
        (10_999, 999),
        (11_000, 1000),
    ] {
        assert_eq!(
            state.standing(Millis(now)),
            Standing::Usable { permille },
            "{now}"
        );
    }
    assert_eq!(
        state.standing(Millis(1_500)),
        Standing::Usable { permille: 1000 },
        "it is over"
    );
}

#[test]
fn a_new_server_starts_at_once() {
    for first in [Health::Checking, Health::Down] {
        let state = ServerState::checking();
        assert_eq!(state.standing(Millis(0)), Standing::Checking);
        state.set_health(first, Millis(0));
        state.set_health(Health::Up, Millis(0));
        assert_eq!(
            state.standing(Millis(0)),
            Standing::Usable { permille: 1000 }
        );
    }
}

#[test]
fn slow_start_takes_its_share_of_turns_evenly() {
    for permille in [100, 333, 500, 999, 1000] {
        let state = ServerState::unchecked();
        let taken = (0..1000).filter(|_| state.takes_turn(permille)).count();
        assert_eq!(taken as u64, permille);
    }
}

#[test]
fn the_retry_budget_has_a_floor_and_a_share() {
    let members = members(2);
    let permits: Vec<_> = (0..3).map(|_| members.begin_retry(20).unwrap()).collect();
    assert!(members.begin_retry(20).is_none());
    for _ in 0..50 {
        assert!(members.servers()[0].state.begin(0));
    }
    let more: Vec<_> = (0..7).map(|_| members.begin_retry(20).unwrap()).collect();
    assert!(
        members.begin_retry(20).is_none(),
        "20 % of 50 are under way"
    );
    for permit in permits.into_iter().chain(more) {
        members.end_retry(permit);
    }
    assert_eq!(members.retrying(), 0);
    assert!(members.begin_retry(0).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Fail(usize, Failure),
    Succeed(usize),
    Health(usize, Health),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let failure = prop_oneof![Just(Failure::Connect), Just(Failure::BadGateway)];
    let health = prop_oneof![Just(Health::Up), Just(Health::Down), Just(Health::Checking)];
    prop_oneof![
        8 => (0usize..8, failure).prop_map(|(s, f)| Step::Fail(s, f)),
        1 => (0usize..8).prop_map(Step::Succeed),
        1 => (0usize..8, health).prop_map(|(s, h)| Step::Health(s, h)),
        1 => (0u64..40_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn an_ejection_leaves_a_usable_server(
        count in 1usize..8,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let members = members(count);
        let mut now = Millis(1);
        for step in steps {
            match step {
                Step::Fail(s, failure) => {
                    if let Some(ejection) = members.failed(s % count, failure, now) {
                        prop_assert!(!members.is_panicking(now));
                        prop_assert!(ejection.until > now);
                    }
                }
                Step::Succeed(s) => members.succeeded(s % count),
                Step::Health(s, health) => {
                    members.servers()[s % count].state.set_health(health, now);
                }
                Step::Pass(ms) => now.0 += ms,
            }
            let ejected = members
                .servers()
                .iter()
                .filter(|s| s.state.ejected_until(now).is_some())
                .count();
            prop_assert!(ejected * 2 <= count);
        }
    }
}

#[test]
fn two_workers_cannot_eject_the_last_two() {
    for _ in 0..50 {
        let members = Arc::new(members(2));
        let threads: Vec<_> = (0..2)
            .map(|server| {
                let members = members.clone();
                std::thread::spawn(move || {
                    for _ in 0..100 {
                        members.failed(server, Failure::Connect, Millis(9));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(!members.is_panicking(Millis(9)));
    }
}
