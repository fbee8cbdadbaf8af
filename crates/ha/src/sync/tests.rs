//! Whatever happens, in whatever order: enough reports of the recorded members show every write that was
//! acknowledged under what was in force.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::history::{History, Position};
use crate::lsn::Lsn;
use crate::observed::{Standby, SyncInForce};

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

fn name(at: usize) -> ServerName {
    ServerName::new(NAMES[at]).unwrap()
}

fn names(all: &[usize]) -> BTreeSet<ServerName> {
    all.iter().map(|at| name(*at)).collect()
}

fn set(acks: usize, members: &[usize]) -> SyncSet {
    let members = names(members);
    SyncSet { members, acks }
}

#[test]
fn what_is_safe() {
    for (recorded, in_force, safe) in [
        (SyncSet::alone(), SyncSet::alone(), true),
        (SyncSet::alone(), set(1, &[1, 2]), true),
        (set(1, &[1, 2]), set(1, &[1, 2]), true),
        (set(1, &[1, 2]), set(1, &[2]), true),
        (set(1, &[1, 2]), set(2, &[1, 2]), true),
        (set(2, &[1, 2, 3, 4]), set(2, &[1, 2]), true),
        (set(1, &[1]), set(1, &[1, 2]), false),
        (set(1, &[1]), SyncSet::alone(), false),
        (set(2, &[1, 2, 3]), set(1, &[1, 2, 3]), false),
        (set(1, &[1]), set(1, &[2]), false),
    ] {
        assert_eq!(
            is_safe(&recorded, &in_force),
            safe,
            "{recorded} with {in_force}"
        );
    }
}

#[test]
fn a_majority_with_the_primary() {
    for (others, acks, needed) in [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 3)] {
        let members: Vec<usize> = (1..=others).collect();
        let set = SyncSet::majority(names(&members));
        assert_eq!((set.acks, set.reports_needed()), (acks, needed), "{set}");
    }
    assert_eq!(SyncSet::majority(BTreeSet::new()), SyncSet::alone());
}

#[derive(Clone, Debug)]
enum Event {
    /// The primary writes.
    Write,
    /// A replica receives so much.
    Receive(usize, u64),
    /// A client is told that everything is done that enough replicas have.
    Acknowledge,
    Come(usize),
    Go(usize),
    /// One that has been gone for long.
    Lose(usize),
    /// The next move is made.
    Act,
    /// The file says the other thing now.
    Reconfigure,
    /// PostgreSQL ends, and starts as the plan has it.
    Crash,
}

struct Primary {
    ready: Ready,
    record: Record,
    policy: Policy,
    acknowledged: u64,
}

impl Primary {
    fn new(servers: usize) -> Self {
        let servers: Vec<ServerName> = (0..servers).map(name).collect();
        let standbys = servers[1..].iter().map(|server| Standby {
            name: server.clone(),
            streaming: false,
            flushed: Lsn(0),
            gone_for: Duration::from_secs(60),
        });
        let end = Position {
            timeline: 1,
            lsn: Lsn(1),
        };
        let ready = Ready {
            in_recovery: false,
            system_id: 1,
            history: History::new(Vec::new(), end),
            since: Duration::from_secs(60),
            follows: None,
            receiving: false,
            not_streaming: Duration::ZERO,
            settled: true,
            open: true,
            sync: SyncInForce {
                set: SyncSet::alone(),
                since: Lsn(1),
            },
            standbys: standbys.collect(),
            set_up: true,
            checkpointed: true,
            lowers: false,
        };
        let record = Record {
            term: 1,
            primary: servers[0].clone(),
            sync: SyncSet::alone(),
            open: true,
            base: None,
            expected: BTreeSet::new(),
            next: None,
            asynchronous: false,
            forced: false,
            timeline: 0,
            retaken: 0,
        };
        Self {
            policy: Policy::new(servers[0].clone(), servers, true),
            ready,
            record,
            acknowledged: 0,
        }
    }

    fn end(&self) -> u64 {
        self.ready.history.end.lsn.0
    }

    fn happens(&mut self, event: &Event) {
        let count = self.ready.standbys.len();
        let end = self.end();
        match event {
            Event::Write => self.ready.history.end.lsn.0 += 1,
            Event::Receive(at, much) => {
                let standby = &mut self.ready.standbys[at % count];
                if standby.streaming {
                    standby.flushed.0 = (standby.flushed.0 + much).min(end);
                }
            }
            Event::Acknowledge => {
                let set = &self.ready.sync.set;
                let mut flushed: Vec<u64> = self
                    .ready
                    .standbys
                    .iter()
                    .filter(|standby| standby.streaming && set.members.contains(&standby.name))
                    .map(|standby| standby.flushed.0)
                    .collect();
                flushed.sort_unstable();
                let confirmed = match set.acks {
                    0 => end,
                    acks if flushed.len() < acks => 0,
                    acks => flushed[flushed.len() - acks],
                };
                self.acknowledged = self.acknowledged.max(confirmed);
            }
            Event::Come(at) => {
                let standby = &mut self.ready.standbys[at % count];
                standby.streaming = true;
                standby.gone_for = Duration::ZERO;
            }
            Event::Go(at) | Event::Lose(at) => {
                let standby = &mut self.ready.standbys[at % count];
                standby.streaming = false;
                standby.gone_for = match event {
                    Event::Go(_) => Duration::ZERO,
                    _ => Duration::from_secs(60),
                };
            }
            Event::Act => self.act(),
            Event::Reconfigure => self.policy.synchronous ^= true,
            Event::Crash => {
                self.ready.open = false;
                self.ready.sync = SyncInForce {
                    set: at_start(&self.record, &self.policy),
                    since: Lsn(end),
                };
            }
        }
    }

    /// As the planner and PostgreSQL do.
    fn act(&mut self) {
        if !self.ready.open {
            let safe = is_safe(&self.record.sync, &self.ready.sync.set);
            self.ready.open = safe && (self.record.sync.is_alone() || self.ready.confirmed());
        }
        let target = target(&self.ready, &self.record, &self.policy);
        match next(&self.ready, &self.record.sync, &target, self.ready.open) {
            Move::None | Move::Confirm => {}
            Move::Record(set) => self.record.sync = set,
            Move::Switch { set, prove, .. } => {
                let first = self.ready.sync.set.is_alone() && !set.is_alone();
                assert!(
                    !first || !self.ready.open || prove,
                    "clients are in: prove it"
                );
                self.ready.sync = SyncInForce {
                    set,
                    since: Lsn(self.end()),
                };
            }
        }
    }

    /// However few of the members report, one of them has what was acknowledged.
    fn check(&self) {
        let set = &self.record.sync;
        // After a crash at the wrong moment of "off" nothing is promised, and nobody is in.
        if set.is_alone() || !self.ready.open {
            return;
        }
        assert!(
            is_safe(set, &self.ready.sync.set),
            "{set}: {}",
            self.ready.sync.set
        );
        let lacking = set.members.iter().filter(|member| {
            let standby = self.ready.standbys.iter().find(|one| one.name == **member);
            standby.is_none_or(|standby| standby.flushed.0 < self.acknowledged)
        });
        let lacking = lacking.count();
        assert!(
            lacking < set.reports_needed(),
            "{lacking} of {set} lack what was acknowledged up to {}: {:?}",
            self.acknowledged,
            self.ready.standbys
        );
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Write),
        6 => (0usize..4, 1u64..4).prop_map(|(at, much)| Event::Receive(at, much)),
        6 => Just(Event::Acknowledge),
        3 => (0usize..4).prop_map(Event::Come),
        2 => (0usize..4).prop_map(Event::Go),
        2 => (0usize..4).prop_map(Event::Lose),
        8 => Just(Event::Act),
        1 => Just(Event::Reconfigure),
        1 => Just(Event::Crash),
    ];
    proptest::collection::vec(event, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn enough_reports_show_every_acknowledged_write(servers in 2usize..=5, events in events()) {
        let mut primary = Primary::new(servers);
        for event in &events {
            primary.happens(event);
            primary.check();
        }
    }

    /// When nothing more happens, the set becomes what it should be, and stays so.
    #[test]
    fn it_comes_to_rest(servers in 2usize..=5, events in events()) {
        let mut primary = Primary::new(servers);
        for event in &events {
            primary.happens(event);
        }
        for at in 0..4 {
            primary.happens(&Event::Receive(at, 1_000));
        }
        // What is gone is gone for long, what is here receives.
        for standby in &mut primary.ready.standbys {
            if !standby.streaming {
                standby.gone_for = Duration::from_secs(60);
            }
        }
        for _ in 0..8 {
            primary.act();
            for at in 0..4 {
                primary.happens(&Event::Receive(at, 1_000));
            }
        }
        let wanted = target(&primary.ready, &primary.record, &primary.policy);
        prop_assert_eq!(&primary.record.sync, &wanted);
        prop_assert_eq!(&primary.ready.sync.set, &wanted);
        prop_assert!(primary.ready.open);
    }
}
