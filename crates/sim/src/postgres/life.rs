//! What goes on in a machine whether or not anybody looks: processes read their configuration, dead
//! connections are noticed, and the guard does its work.

use std::sync::Arc;
use std::time::Duration;

use trilith_base::BootTime;

use super::Confirm;
use crate::environment::{Sleep, nanos, spawn_for};
use crate::executor::{Nanos, WORLD, executor};
use crate::limits::{GUARD_GRACE, SENDER_TIMEOUT};
use crate::world::{World, lock, name_of};

/// How often things are looked at.
const TICK: Duration = Duration::from_millis(5);

pub fn run(world: &Arc<World>) {
    for server in 0..world.shape.servers {
        let ticking = world.clone();
        spawn_for(WORLD, async move {
            loop {
                Sleep::new(TICK).await;
                tick(&ticking, server);
            }
        });
        super::stream::run(world, server);
    }
}

fn tick(world: &Arc<World>, server: usize) {
    let now = executor().now();
    if lock(&world.kernel).sleeps(server) {
        return;
    }
    let guard = lock(&world.databases).servers[server].guard;
    let boot = BootTime(executor().boot_time(executor().owner(server)));
    if let Some(deadline) = guard.deadline
        && boot >= deadline + GUARD_GRACE
    {
        let mut databases = lock(&world.databases);
        if databases.servers[server].process.is_some() {
            databases.counts.fenced += 1;
            drop(databases);
            let name = name_of(server);
            world.kill_postgres(server, &format!("the guard of {name}"));
        }
    }
    let mut databases = lock(&world.databases);
    let database = &mut databases.servers[server];
    if database.frozen {
        return;
    }
    let Some(process) = &mut database.process else {
        return;
    };
    if now >= process.waits_due {
        process.waits = !process.alone();
        if !process.waits {
            process.waiting.clear();
        }
    }
    let conf = process.conf.clone();
    let mut silent = Vec::new();
    for (replica, sender) in &mut process.senders {
        if now >= sender.conf_due {
            sender.conf = conf.clone();
        }
        if now > sender.heard_at + nanos(SENDER_TIMEOUT) {
            silent.push(*replica);
        }
    }
    for replica in silent {
        process.forget_sender(replica, now);
    }
}

impl World {
    /// New configuration files: each process reads them when it gets to it.
    pub fn reload_postgres(&self, server: usize, life: u64, conf: Confirm) -> bool {
        let now = executor().now();
        let soon = |longest: u64| now + nanos(Duration::from_micros(self.draw(longest)));
        let mut databases = lock(&self.databases);
        let Some(process) = databases.process(server, life) else {
            return false;
        };
        if process.conf != conf {
            process.conf = conf;
            process.waits_due = soon(150_000);
            for sender in process.senders.values_mut() {
                sender.conf_due = soon(40_000);
            }
        }
        true
    }

    /// Ends connections of replicas, and with them what they confirm.
    pub fn end_senders(&self, server: usize, life: u64, whose: impl Fn(usize) -> bool) {
        let now: Nanos = executor().now();
        let mut databases = lock(&self.databases);
        if let Some(process) = databases.process(server, life) {
            let ended: Vec<usize> = process
                .senders
                .keys()
                .copied()
                .filter(|r| whose(*r))
                .collect();
            for replica in ended {
                process.forget_sender(replica, now);
            }
        }
    }
}
