//! Mistakes put in on purpose: each is noticed.

use trilith_sim::{Plant, Settings, run};

/// How many seeds a mistake may survive.
const SEEDS_MAX: u64 = 60;

#[track_caller]
fn noticed(plant: Plant, as_one_of: &[&str]) {
    noticed_from(1, plant, as_one_of);
}

/// Beginning with a seed that noticed it when this was written: a seed with a database takes a while.
#[track_caller]
fn noticed_from(first: u64, plant: Plant, as_one_of: &[&str]) {
    let settings = Settings {
        plant: Some(plant),
        database: plant.is_of_the_database(),
        trace: false,
    };
    let mut seeds = first..first + SEEDS_MAX;
    let violation = seeds.find_map(|seed| run(seed, settings).violation);
    let Some(violation) = violation else {
        panic!("{plant} survived {SEEDS_MAX} seeds");
    };
    let fits = as_one_of.iter().any(|text| violation.contains(text));
    assert!(fits, "{plant} was noticed as something else: {violation}");
}

const TWO_HOLDERS: &str = "both hold";

#[test]
fn a_lease_that_counts_from_the_reply() {
    noticed(Plant::LeaseFromReply, &[TWO_HOLDERS]);
}

#[test]
fn a_holder_that_leaves_no_time_to_stop() {
    noticed(Plant::NoBudget, &[TWO_HOLDERS]);
}

#[test]
fn a_vote_forgotten_on_restart() {
    noticed(
        Plant::ForgottenVote,
        &[
            "another one on",
            "acknowledged",
            "panicked",
            "had been told",
            "no order",
        ],
    );
}

#[test]
fn a_disk_that_does_not_sync() {
    // openraft notices some of it itself, by an assertion.
    let texts = [
        "acknowledged",
        "another one on",
        "no order",
        "not everything works",
        "had been told",
    ];
    noticed(
        Plant::LyingDisk,
        &[texts.as_slice(), &["panicked", "ended itself"]].concat(),
    );
}

#[test]
fn a_renewal_that_nobody_confirmed() {
    noticed(
        Plant::NoConfirmation,
        &[TWO_HOLDERS, "no order", "had been told"],
    );
}

#[test]
fn leases_that_end_with_their_leader() {
    noticed(Plant::LeasesExpireWithLeader, &[TWO_HOLDERS]);
}

#[test]
fn a_read_of_what_happens_to_be_here() {
    noticed(Plant::StaleRead, &["had been told", "no order"]);
}

#[test]
fn a_commit_that_is_sent_twice() {
    noticed(Plant::BlindRetry, &["no order"]);
}

#[test]
fn an_address_that_outlives_its_process() {
    noticed(Plant::ImmortalAddress, &[TWO_HOLDERS]);
}

#[test]
fn an_expiry_that_ends_a_newer_lease() {
    noticed(Plant::ExpiryWithoutEpoch, &[TWO_HOLDERS]);
}

// The database.

/// A write that somebody was told of or shown is not there, or on fewer servers than the store says.
const LOST: &[&str] = &["without writes", "acknowledged write"];

#[test]
fn a_replica_that_lacks_writes_is_promoted() {
    noticed(Plant::StaleReplicaPromoted, LOST);
}

#[test]
fn a_synchronous_set_that_counts_before_it_has_confirmed() {
    noticed(Plant::WidenedBeforeConfirmation, LOST);
}

#[test]
fn a_primary_that_is_stopped_after_its_lease() {
    noticed_from(
        185,
        Plant::DemotedAfterTheLease,
        &[&["two primaries"], LOST].concat(),
    );
}

#[test]
fn a_vote_of_somebody_who_goes_on_receiving() {
    noticed_from(202, Plant::VotesWhileReceiving, LOST);
}

#[test]
fn a_primary_that_opens_before_replicas_have_what_it_shows() {
    noticed_from(190, Plant::OpenedBeforeConfirmation, LOST);
}

#[test]
fn a_timeline_with_a_number_that_another_one_has() {
    noticed(
        Plant::OwnTimelineNumbers,
        &[&["what does not follow", "not common"], LOST].concat(),
    );
}

#[test]
fn a_primary_that_nobody_stops_has_nobody_who_confirms() {
    let settings = Settings {
        plant: Some(Plant::PrimaryNotStopped),
        database: true,
        trace: false,
    };
    for seed in 1..=8 {
        assert_eq!(run(seed, settings).violation, None, "seed {seed}");
    }
}
