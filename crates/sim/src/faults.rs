//! What goes wrong, and when: drawn from the seed before the run, so that it can be read.

pub mod database;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Speed;
use crate::environment::{Sleep, spawn_for};
use crate::executor::{WORLD, executor};
use crate::limits::RATE_PPM_MAX;
use crate::network::Link;
use crate::world::{World, name_of};

/// One fault. It ends by itself after its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9; started again after the time.
    Kill(usize),
    KillAll,
    /// The power goes, and comes back after the time.
    PowerLoss(usize),
    PowerLossOfAll,
    /// SIGSTOP.
    Pause(usize),
    /// The machine sleeps: its boot clock steps by that time, its monotonic clock and its kernel's ticks
    /// stand still.
    Suspend(usize),
    /// From now on the clock runs at another rate, as when time synchronisation slews it. (It steps the
    /// wall clock only, which nothing here reads.)
    ClockRate(usize),
    /// These on one side, the others on the other.
    Split(Vec<usize>),
    /// Each server hears its two neighbours only.
    Ring,
    /// These two do not hear each other; everybody else hears both.
    Apart(usize, usize),
    /// Nothing gets from the first to the second.
    OneWay(usize, usize),
    /// Nobody hears this server; it hears everybody.
    Mute(usize),
    Loss {
        per_mille: u32,
    },
    Slow {
        longest: Duration,
    },
    SlowDisk(usize, Duration),
    SlowDisks(Duration),
    /// The disk is replaced by an empty one; the server is down meanwhile.
    DiskLoss(usize),
    /// Stored bytes change; the server is down meanwhile.
    DiskRot(usize),
    /// The server's own edge does not answer.
    Unhealthy(usize),
    Drain(usize),
    /// An operator moves the address.
    Move {
        address: usize,
        to: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

/// Faults of `servers` servers, from when they are sure to be a cluster until `until`.
pub fn plan(
    seed: u64,
    servers: usize,
    addresses: usize,
    from: Duration,
    until: Duration,
) -> Vec<Event> {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x6661_756c_7473);
    let mut events = Vec::new();
    let mut at = from + Duration::from_millis(100);
    // A cluster survives the loss of a minority of its disks, one after the other has been replaced.
    let mut disks_left = (servers - 1) / 2;
    let longest_gap = rng.random_range(500..6_000_u64);
    while at < until {
        let lasts = Duration::from_millis(match rng.random_range(0..4) {
            0 => rng.random_range(10..300),
            1 | 2 => rng.random_range(300..3_000),
            _ => rng.random_range(3_000..8_000),
        });
        let fault = draw(&mut rng, servers, addresses, &mut disks_left);
        events.push(Event { at, lasts, fault });
        at += Duration::from_millis(rng.random_range(50..longest_gap));
    }
    events
}

fn draw(rng: &mut SmallRng, servers: usize, addresses: usize, disks_left: &mut usize) -> Fault {
    let one = rng.random_range(0..servers);
    let two = (one + rng.random_range(1..servers)) % servers;
    match rng.random_range(0..100) {
        0..12 => Fault::Kill(one),
        12..15 => Fault::KillAll,
        15..22 => Fault::PowerLoss(one),
        22..26 => Fault::PowerLossOfAll,
        26..36 => Fault::Pause(one),
        36..40 => Fault::Suspend(one),
        40..43 => Fault::ClockRate(one),
        43..50 => {
            let minority = rng.random_range(1..=servers / 2);
            Fault::Split(
                (0..minority)
                    .map(|offset| (one + offset) % servers)
                    .collect(),
            )
        }
        50..55 => Fault::Apart(one, two),
        55..58 => Fault::Ring,
        58..63 => Fault::OneWay(one, two),
        63..67 => Fault::Mute(one),
        67..72 => Fault::Loss {
            per_mille: rng.random_range(5..200),
        },
        72..77 => Fault::Slow {
            longest: Duration::from_millis(rng.random_range(5..150)),
        },
        77..82 => Fault::SlowDisk(one, Duration::from_millis(rng.random_range(20..3_000))),
        82..84 => Fault::SlowDisks(Duration::from_millis(rng.random_range(20..400))),
        84..88 if *disks_left > 0 => {
            *disks_left -= 1;
            if rng.random_bool(0.5) {
                Fault::DiskLoss(one)
            } else {
                Fault::DiskRot(one)
            }
        }
        84..92 => Fault::Unhealthy(one),
        92..96 => Fault::Drain(one),
        _ => Fault::Move {
            address: rng.random_range(0..addresses),
            to: one,
        },
    }
}

/// Does each fault at its time, and ends it.
pub fn run(world: &Arc<World>, events: Vec<Event>) {
    for event in events {
        let world = world.clone();
        spawn_for(WORLD, async move {
            Sleep::new(event.at).await;
            world.note(format_args!("fault {event}"));
            strike(&world, &event).await;
            world.note(format_args!("end of {}", event.fault));
        });
    }
}

async fn strike(world: &Arc<World>, event: &Event) {
    let rest = || Sleep::new(event.lasts);
    let all = 0..world.shape.servers;
    match &event.fault {
        Fault::Kill(server) => {
            world.kill(*server);
            rest().await;
            world.start(*server);
        }
        Fault::PowerLoss(server) => {
            world.lose_power(*server);
            rest().await;
            world.start(*server);
        }
        Fault::KillAll => {
            all.clone().for_each(|server| world.kill(server));
            rest().await;
            all.for_each(|server| world.start(server));
        }
        Fault::PowerLossOfAll => {
            all.clone().for_each(|server| world.lose_power(server));
            rest().await;
            all.for_each(|server| world.start(server));
        }
        Fault::DiskLoss(server) => {
            world.lose_power(*server);
            world.disks[*server].replace();
            rest().await;
            world.start(*server);
        }
        Fault::DiskRot(server) => {
            world.kill(*server);
            world.rot(*server);
            rest().await;
            world.start(*server);
        }
        Fault::Pause(server) => {
            world.pause(*server, true);
            rest().await;
            world.pause(*server, false);
        }
        Fault::Suspend(server) => {
            world.suspend(*server, true);
            rest().await;
            world.suspend(*server, false);
        }
        Fault::ClockRate(server) => {
            let widest = RATE_PPM_MAX.unsigned_abs();
            let rate = world.draw(2 * widest + 1).cast_signed() - RATE_PPM_MAX;
            world.note(format_args!("{} runs {rate} ppm fast", name_of(*server)));
            executor().with_clock(*server, |clock, now| clock.set_rate(rate, now));
        }
        Fault::Split(side) => {
            let across = |from: usize, to: usize| side.contains(&from) != side.contains(&to);
            cut_while(world, event.lasts, across).await;
        }
        Fault::Ring => {
            let count = world.shape.servers;
            let apart = |from: usize, to: usize| {
                let distance = (from + count - to) % count;
                distance != 1 && distance != count - 1
            };
            cut_while(world, event.lasts, apart).await;
        }
        Fault::Apart(one, two) => {
            let between = |from, to| (from, to) == (*one, *two) || (to, from) == (*one, *two);
            cut_while(world, event.lasts, between).await;
        }
        Fault::OneWay(one, two) => {
            cut_while(world, event.lasts, |from, to| from == *one && to == *two).await;
        }
        Fault::Mute(server) => {
            cut_while(world, event.lasts, |from, _| from == *server).await;
        }
        Fault::Loss { per_mille } => {
            world
                .network
                .change(|_, _, link| link.loss_per_mille = *per_mille);
            rest().await;
            world
                .network
                .change(|_, _, link| link.loss_per_mille = Link::GOOD.loss_per_mille);
        }
        Fault::Slow { longest } => {
            world.network.change(|_, _, link| link.longest = *longest);
            rest().await;
            world
                .network
                .change(|_, _, link| link.longest = Link::GOOD.longest);
        }
        Fault::SlowDisk(server, longest) => {
            slow_while(world, event.lasts, *longest, &[*server]).await;
        }
        Fault::SlowDisks(longest) => {
            let all: Vec<usize> = all.collect();
            slow_while(world, event.lasts, *longest, &all).await;
        }
        Fault::Unhealthy(server) => {
            world.set_health(*server, false);
            rest().await;
            world.set_health(*server, true);
        }
        Fault::Drain(server) => {
            world.set_drain(*server, true);
            rest().await;
            world.set_drain(*server, false);
        }
        Fault::Move { address, to } => world.wish(*address, *to),
    }
}

/// Other faults may cut or heal the same links meanwhile: that, too, happens.
async fn cut_while(world: &World, lasts: Duration, which: impl Fn(usize, usize) -> bool) {
    let set = |cut: bool| {
        world.network.change(|from, to, link| {
            if which(from, to) {
                link.cut = cut;
            }
        });
    };
    set(true);
    Sleep::new(lasts).await;
    set(false);
}

async fn slow_while(world: &World, lasts: Duration, longest: Duration, servers: &[usize]) {
    let slow = Speed {
        shortest: longest / 10,
        longest,
    };
    for server in servers {
        world.disks[*server].set_speed(slow);
    }
    Sleep::new(lasts).await;
    for server in servers {
        world.disks[*server].set_speed(Speed::FAST);
    }
}

/// Ends everything that may still be wrong.
pub fn heal(world: &Arc<World>) {
    world.note(format_args!("heal"));
    world.network.change(|_, _, link| *link = Link::GOOD);
    for server in 0..world.shape.servers {
        world.disks[server].set_speed(Speed::FAST);
        world.suspend(server, false);
        world.pause(server, false);
        world.set_health(server, true);
        world.set_drain(server, false);
        world.start(server);
    }
    if world.shape.database.is_some() {
        database::heal(world);
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.fault, self.lasts)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |server: &usize| name_of(*server);
        match self {
            Self::Kill(server) => write!(f, "kill {}", name(server)),
            Self::KillAll => f.write_str("kill all"),
            Self::PowerLoss(server) => write!(f, "power loss of {}", name(server)),
            Self::PowerLossOfAll => f.write_str("power loss of all"),
            Self::Pause(server) => write!(f, "pause {}", name(server)),
            Self::Suspend(server) => write!(f, "suspend {}", name(server)),
            Self::ClockRate(server) => write!(f, "another rate for the clock of {}", name(server)),
            Self::Split(side) => {
                let side: Vec<&str> = side.iter().map(name).collect();
                write!(f, "split {} off", side.join(", "))
            }
            Self::Ring => f.write_str("ring"),
            Self::Apart(one, two) => write!(f, "cut {} and {} apart", name(one), name(two)),
            Self::OneWay(from, to) => write!(f, "cut {} to {}", name(from), name(to)),
            Self::Mute(server) => write!(f, "mute {}", name(server)),
            Self::Loss { per_mille } => write!(f, "lose {per_mille} of 1000 messages"),
            Self::Slow { longest } => write!(f, "messages take until {longest:?}"),
            Self::SlowDisk(server, longest) => {
                write!(f, "disk of {} takes until {longest:?}", name(server))
            }
            Self::SlowDisks(longest) => write!(f, "all disks take until {longest:?}"),
            Self::DiskLoss(server) => write!(f, "lose the disk of {}", name(server)),
            Self::DiskRot(server) => write!(f, "rot the disk of {}", name(server)),
            Self::Unhealthy(server) => write!(f, "edge of {} unhealthy", name(server)),
            Self::Drain(server) => write!(f, "drain {}", name(server)),
            Self::Move { address, to } => write!(f, "move address {address} to {}", name(to)),
        }
    }
}
