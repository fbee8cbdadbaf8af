//! Every state of small clusters, under every order of events up to a number of faults: never two writable
//! primaries, nothing that a client was shown is missing where clients are let in, no replica streams what
//! does not follow what it has, and from every state the cluster comes back by itself.
//!
//! The planner and the store's transactions are the real ones; PostgreSQL, the lease's clock, the guard and
//! the network are modelled in `explore/world.rs`. Each bug planted there has to be found.
//!
//! `TRILITH_EXPLORE=2` allows one fault more in each exploration, and looks at more states where not all are
//! seen; `3` two (hours, and much memory).

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "explore/search.rs"]
mod search;
#[path = "explore/world.rs"]
mod world;

use search::{Explored, explore};
use world::{Bug, Restarts, Setup};

const BASE: Setup = Setup {
    servers: 2,
    synchronous: true,
    founded: true,
    writes: 1,
    faults: 2,
    requests: 0,
    restarts: Restarts::Never,
    lowers: false,
    disks: false,
    late_views: false,
    leases_broken: false,
    liveness: true,
    bug: None,
};

fn more() -> u8 {
    let more = std::env::var("TRILITH_EXPLORE").ok();
    more.and_then(|more| more.parse().ok()).unwrap_or(1)
}

/// All of it, and nothing is wrong.
fn holds(setup: Setup) {
    let more = more();
    let setup = Setup {
        faults: setup.faults + more.saturating_sub(1),
        ..setup
    };
    let states_max = 2_000_000 * usize::from(more) * usize::from(more);
    let explored = explored(setup, states_max);
    assert!(
        explored.complete,
        "more than {states_max} states: {setup:?}"
    );
}

/// The states nearest to the first, and nothing is wrong: there are too many to see them all.
fn holds_nearby(setup: Setup) {
    explored(setup, 200_000 * usize::from(more()).pow(4));
}

fn explored(setup: Setup, states_max: usize) -> Explored {
    match explore(setup, states_max) {
        Ok(explored) => {
            println!("{} states of {setup:?}", explored.states);
            explored
        }
        Err(wrong) => panic!("{setup:?}\n{wrong}"),
    }
}

#[test]
fn two_servers_three_faults() {
    holds(Setup { faults: 3, ..BASE });
}

#[test]
fn two_servers_that_learn_late() {
    holds(Setup {
        late_views: true,
        writes: 2,
        ..BASE
    });
}

#[test]
fn two_servers_and_the_operator() {
    holds(Setup {
        faults: 1,
        requests: 1,
        late_views: true,
        ..BASE
    });
}

#[test]
fn three_servers_two_faults() {
    holds(Setup { servers: 3, ..BASE });
}

#[test]
fn three_servers_and_the_operator() {
    holds(Setup {
        servers: 3,
        faults: 1,
        requests: 1,
        writes: 0,
        ..BASE
    });
}

#[test]
fn three_servers_and_a_busy_operator() {
    holds(Setup {
        servers: 3,
        faults: 0,
        requests: 2,
        writes: 0,
        ..BASE
    });
}

/// Restarts one by one; those that lower what replicas must not have less of begin with the primary.
#[test]
fn two_servers_are_restarted() {
    let setup = Setup {
        faults: 1,
        requests: 1,
        restarts: Restarts::Alone,
        ..BASE
    };
    holds(setup);
    holds(Setup {
        lowers: true,
        writes: 0,
        ..setup
    });
}

#[test]
fn two_servers_are_restarted_by_a_busy_operator() {
    holds(Setup {
        faults: 0,
        requests: 2,
        restarts: Restarts::AsWell,
        writes: 0,
        ..BASE
    });
}

#[test]
fn three_servers_are_restarted() {
    let setup = Setup {
        servers: 3,
        faults: 0,
        requests: 1,
        restarts: Restarts::Alone,
        writes: 0,
        ..BASE
    };
    holds_nearby(setup);
    holds_nearby(Setup {
        lowers: true,
        ..setup
    });
}

#[test]
fn the_first_database() {
    let setup = Setup {
        founded: false,
        writes: 0,
        ..BASE
    };
    holds(setup);
    holds(Setup {
        servers: 3,
        faults: 1,
        ..setup
    });
}

#[test]
fn disks_are_lost_and_postgresql_does_not_start() {
    let setup = Setup {
        disks: true,
        ..BASE
    };
    holds(setup);
    holds(Setup {
        servers: 3,
        writes: 0,
        ..setup
    });
}

/// Writes may be lost; that is said. Everything else holds.
#[test]
fn asynchronous() {
    let setup = Setup {
        synchronous: false,
        ..BASE
    };
    holds(setup);
    holds(Setup {
        servers: 3,
        faults: 1,
        ..setup
    });
}

/// Neither agent nor guard nor clock does what it should: two primaries may run, and what is acknowledged
/// is in the promoted history all the same, because whoever votes has stopped receiving.
#[test]
fn votes_fence_even_when_leases_do_not() {
    let setup = Setup {
        leases_broken: true,
        liveness: false,
        ..BASE
    };
    holds(setup);
    holds(Setup {
        servers: 3,
        faults: 1,
        ..setup
    });
}

/// The bug is planted, and what it breaks is found.
fn found(bug: Bug, setup: Setup, what: &str) {
    let setup = Setup {
        bug: Some(bug),
        liveness: false,
        ..setup
    };
    match explore(setup, 2_000_000) {
        Ok(explored) => panic!("{bug:?} is not found: {explored:?}"),
        Err(wrong) => {
            let first = wrong.lines().next().unwrap_or_default();
            assert!(first.contains(what), "{wrong}");
            println!("{bug:?}: {wrong}");
        }
    }
}

#[test]
fn planted_a_stale_replica_promoted() {
    let setup = Setup { servers: 3, ..BASE };
    found(Bug::StaleReplicaPromoted, setup, "promoted without write");
}

#[test]
fn planted_the_set_widened_before_it_is_confirmed() {
    let setup = Setup { servers: 3, ..BASE };
    found(Bug::WidenedBeforeConfirmation, setup, "without write");
}

#[test]
fn planted_the_first_set_not_proven() {
    found(Bug::NotProven, Setup { faults: 3, ..BASE }, "without write");
}

#[test]
fn planted_votes_while_receiving() {
    let setup = Setup {
        servers: 3,
        leases_broken: true,
        ..BASE
    };
    found(Bug::VotesWhileReceiving, setup, "without write");
}

#[test]
fn planted_an_old_view_trusted() {
    let setup = Setup {
        servers: 3,
        leases_broken: true,
        ..BASE
    };
    found(Bug::OldViewTrusted, setup, "without write");
}

#[test]
fn planted_demotion_after_the_lease() {
    found(Bug::DemotedAfterTheLease, BASE, "two writable primaries");
}

#[test]
fn planted_opened_before_confirmation() {
    found(Bug::OpenedBeforeConfirmation, BASE, "without write");
}

#[test]
fn planted_timelines_numbered_by_postgresql() {
    let setup = Setup { servers: 3, ..BASE };
    found(Bug::OwnTimelineNumbers, setup, "what does not follow");
}
