use trilith_base::ServerName;

use super::*;
use crate::lsn::Lsn;

fn peer(name: &str, last: u8) -> Peer {
    Peer {
        name: ServerName::new(name).unwrap(),
        address: ([10, 0, 0, last], 5433).into(),
    }
}

fn observed(data: DataState) -> Observed {
    Observed {
        major: 15,
        data_dir: "/srv/postgres".to_owned(),
        data,
        running: None,
        unfinished: false,
        asides: 0,
        peers: Vec::new(),
        rejoin: None,
    }
}

fn ready(standby: bool) -> DataState {
    DataState::Ready {
        major: 15,
        system_id: 7,
        standby,
    }
}

fn unreachable() -> PeerAnswer {
    PeerAnswer::Unreachable {
        why: "connection refused".to_owned(),
    }
}

fn primary_answer(system_id: u64, slot: Slot) -> PeerAnswer {
    PeerAnswer::Primary {
        system_id,
        flushed: Lsn(1000),
        oldest: Lsn(500),
        slot,
    }
}

impl Observed {
    fn hears(mut self, peer: Peer, answer: PeerAnswer) -> Self {
        self.peers.push(PeerSeen {
            name: peer.name,
            address: peer.address,
            answer,
        });
        self
    }

    fn runs(mut self, reachable: bool) -> Self {
        self.running = Some(RunningSeen { pid: 42, reachable });
        self
    }
}

fn text(observed: &Observed, role: &Role) -> String {
    let slot = "trilith_two";
    plan(observed, Policy { role, slot }).to_string()
}

fn as_primary(observed: Observed) -> String {
    let replicas = vec![peer("two", 2), peer("three", 3)];
    text(&observed, &Role::Primary { replicas })
}

fn as_replica(observed: Observed) -> String {
    let primary = peer("one", 1);
    text(&observed, &Role::Replica { primary })
}

#[test]
fn a_new_primary() {
    let seen = observed(DataState::Missing)
        .hears(peer("two", 2), unreachable())
        .hears(peer("three", 3), unreachable());
    let expected = "\
make a new database: the data folder is empty
  1. initdb into a folder beside the data folder
  2. put the new data folder in place
  3. start PostgreSQL
  4. create roles, database and slots
";
    assert_eq!(as_primary(seen.clone()), expected);

    let killed_in_initdb = Observed {
        unfinished: true,
        data: DataState::Empty,
        ..seen
    };
    let expected = "\
make a new database: the data folder is empty
  1. remove the unfinished copy
  2. initdb into a folder beside the data folder
  3. put the new data folder in place
  4. start PostgreSQL
  5. create roles, database and slots
";
    assert_eq!(as_primary(killed_in_initdb), expected);
}

#[test]
fn a_primary_that_lost_its_disk_makes_no_empty_database() {
    let seen = observed(DataState::Missing)
        .hears(peer("two", 2), unreachable())
        .hears(peer("three", 3), PeerAnswer::Replica { system_id: 7 });
    let expected = "\
a person must act
  1. give up: this server is to be the primary and has no data, but three (10.0.0.3:5433) holds a \
database; list three first among the db servers, and promote its copy by hand there: pg_ctl -D <its \
data folder> start, promote, stop
";
    assert_eq!(as_primary(seen), expected);
}

#[test]
fn a_primary_with_data() {
    let expected = "\
start the primary
  1. write the configuration
  2. start PostgreSQL
  3. create roles, database and slots
";
    assert_eq!(as_primary(observed(ready(false))), expected);

    let expected = "\
adopt the primary: it is running
  1. write the configuration
  2. adopt PostgreSQL, process 42
  3. reload the configuration if it changed
  4. create roles, database and slots
";
    assert_eq!(as_primary(observed(ready(false)).runs(true)), expected);

    let expected = "\
restart the primary: it runs with another port or socket folder
  1. stop PostgreSQL, process 42
  2. write the configuration
  3. start PostgreSQL
  4. create roles, database and slots
";
    assert_eq!(as_primary(observed(ready(false)).runs(false)), expected);
}

#[test]
fn a_second_primary_is_not_started() {
    let seen = observed(ready(false)).hears(peer("two", 2), primary_answer(7, Slot::Missing));
    let expected = "\
a person must act
  1. give up: two (10.0.0.2:5433) is primary of this very database; two primaries would drift apart: \
stop one of them
";
    assert_eq!(as_primary(seen), expected);

    // A replica is as it should be.
    let seen = observed(ready(false)).hears(peer("two", 2), PeerAnswer::Replica { system_id: 7 });
    assert!(as_primary(seen).starts_with("start the primary\n"));
}

#[test]
fn roles_are_not_swapped_by_themselves() {
    let expected = "\
a person must act
  1. give up: this server's data is a replica's, and the file makes this server the primary; list the \
primary's server first among the db servers again; if it is lost for good, promote this copy by hand: \
pg_ctl -D /srv/postgres start, promote, stop
";
    assert_eq!(as_primary(observed(ready(true))), expected);

    let expected = "\
a person must act
  1. give up: this server's data was a primary's, and the file makes this server a replica; list this \
server first among the db servers again; or have it copied anew: `mv /srv/postgres /srv/postgres.old`
";
    assert_eq!(as_replica(observed(ready(false))), expected);
}

#[test]
fn data_that_nobody_here_can_use() {
    let expected = "\
a person must act
  1. give up: the data folder /srv/postgres needs PostgreSQL 16, and 15 is installed; run `apt-get \
install postgresql-16`, or set database.bin_dir
";
    let newer = DataState::Ready {
        major: 16,
        system_id: 7,
        standby: true,
    };
    assert_eq!(as_replica(observed(newer.clone())), expected);
    assert_eq!(as_primary(observed(newer)), expected);

    let expected = "\
a person must act
  1. give up: the data folder /srv/postgres holds a database of PostgreSQL 15 that Trilith did not \
make; move it away: `mv /srv/postgres /srv/postgres.old`
";
    let what = "a database of PostgreSQL 15".to_owned();
    let foreign = observed(DataState::NotOurs { what });
    assert_eq!(as_replica(foreign.clone()), expected);
    assert_eq!(as_primary(foreign), expected);

    let expected = "\
a person must act
  1. give up: the data folder /srv/postgres is damaged: the folder base is missing; restore it, or move \
it away and start anew: `mv /srv/postgres /srv/postgres.old`
";
    let what = "the folder base is missing".to_owned();
    assert_eq!(as_primary(observed(DataState::HalfMade { what })), expected);
}

#[test]
fn a_new_replica() {
    let one = || peer("one", 1);
    let wait = |why: &str| format!("wait for the primary\n  1. wait: {why}\n");
    for (answer, why) in [
        (unreachable(), "one (10.0.0.1:5433): connection refused"),
        (
            PeerAnswer::Replica { system_id: 7 },
            "one (10.0.0.1:5433) is a replica",
        ),
        (
            primary_answer(7, Slot::Missing),
            "one (10.0.0.1:5433) has no slot trilith_two yet",
        ),
        (
            primary_answer(7, Slot::Active),
            "slot trilith_two of one (10.0.0.1:5433) is still in use",
        ),
    ] {
        let seen = observed(DataState::Missing).hears(one(), answer);
        assert_eq!(as_replica(seen), wait(why));
    }

    let mut seen = observed(DataState::Missing).hears(one(), primary_answer(7, Slot::Ready));
    seen.unfinished = true;
    let expected = "\
copy the primary: no data yet
  1. remove the unfinished copy
  2. copy one (10.0.0.1:5433) into a folder beside the data folder
  3. put the new data folder in place
  4. start PostgreSQL
";
    assert_eq!(as_replica(seen), expected);
}

#[test]
fn a_replica_with_data_starts_whatever_the_primary_does() {
    let expected = "\
start the replica
  1. write the configuration
  2. start PostgreSQL
";
    for answer in [
        unreachable(),
        primary_answer(7, Slot::Missing),
        primary_answer(7, Slot::Ready),
        PeerAnswer::Replica { system_id: 8 },
    ] {
        let seen = observed(ready(true)).hears(peer("one", 1), answer);
        assert_eq!(as_replica(seen), expected);
    }
    let expected = "\
adopt the replica: it is running
  1. write the configuration
  2. adopt PostgreSQL, process 42
  3. reload the configuration if it changed
";
    let seen = observed(ready(true)).hears(peer("one", 1), unreachable());
    assert_eq!(as_replica(seen.runs(true)), expected);
}

#[test]
fn a_replica_that_cannot_catch_up_is_copied_anew() {
    let mut seen = observed(ready(true))
        .hears(peer("one", 1), primary_answer(7, Slot::Active))
        .runs(true);
    seen.rejoin = Some(Rejoin::WalGone);
    let expected = "\
copy the primary: the primary no longer has the WAL that this copy needs
  1. stop PostgreSQL, process 42
  2. copy one (10.0.0.1:5433) into a folder beside the data folder
  3. set the data folder aside: the primary no longer has the WAL that this copy needs
  4. put the new data folder in place
  5. start PostgreSQL
";
    assert_eq!(as_replica(seen.clone()), expected);

    // Three folders lie aside: that is enough disk.
    seen.asides = 3;
    let expected = "\
a person must act
  1. give up: the replica must be copied anew (the primary no longer has the WAL that this copy needs), \
and too many folders lie aside; look at /srv/postgres.aside-*, and delete those that are not needed
";
    assert_eq!(as_replica(seen), expected);
}

#[test]
fn a_replica_of_another_database_is_replaced_when_the_primary_says_so() {
    let seen = observed(ready(true)).hears(peer("one", 1), primary_answer(8, Slot::Ready));
    let expected = "\
copy the primary: this copy is of another database
  1. copy one (10.0.0.1:5433) into a folder beside the data folder
  2. set the data folder aside: this copy is of another database
  3. put the new data folder in place
  4. start PostgreSQL
";
    assert_eq!(as_replica(seen), expected);

    let what = "global/pg_control cannot be read".to_owned();
    let damaged = observed(DataState::HalfMade { what });
    let waiting = as_replica(damaged.hears(peer("one", 1), unreachable()));
    assert!(waiting.starts_with("wait for the primary\n"), "{waiting}");
}

#[test]
fn who_cannot_catch_up() {
    let verdict = |system_id, received| {
        cannot_catch_up(system_id, Lsn(received), &primary_answer(7, Slot::Ready))
    };
    assert_eq!(verdict(7, 500), None);
    assert_eq!(verdict(7, 1000), None);
    assert_eq!(verdict(7, 499), Some(Rejoin::WalGone));
    assert_eq!(verdict(7, 1001), Some(Rejoin::Ahead));
    assert_eq!(verdict(8, 700), Some(Rejoin::Foreign));
    assert_eq!(cannot_catch_up(7, Lsn(1), &unreachable()), None);
}
