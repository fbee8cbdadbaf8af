//! Every state that can be reached, breadth first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use trilith_consensus::Revision;
use trilith_ha::{ReportedData, Request, Restart, StoreView};

use super::world::{Action, Run, Setup, Store, World};

/// Enough that two states of a few million have never the same.
type Print = u128;

#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    /// Whether there was nothing left to look at.
    pub complete: bool,
}

/// Explores until something is wrong, or `states_max` have been seen.
///
/// # Errors
/// What went wrong, and how it came to that.
pub fn explore(setup: Setup, states_max: usize) -> Result<Explored, String> {
    let first = World::new(setup);
    let mut parents: HashMap<Print, (Print, Option<Action>)> = HashMap::new();
    let mut good = [HashSet::new(), HashSet::new()];
    let mut queue = VecDeque::new();
    parents.insert(print(&first), (0, None));
    queue.push_back(first);
    while let Some(world) = queue.pop_front() {
        let from = print(&world);
        if setup.liveness {
            let trace = |what: String| format!("{what}\n{}", replay(setup, &parents, from));
            if !world.lost_disk {
                settles(&world, true, &mut good[0]).map_err(trace)?;
            }
            // Not more than one thing: it must come to terms with that by itself.
            let happened = (setup.faults - world.faults) + (setup.requests - world.requests);
            if setup.founded && happened <= 1 {
                settles(&world, false, &mut good[1]).map_err(trace)?;
            }
        }
        for action in world.actions() {
            let Some(next) = world.after(action) else {
                continue;
            };
            let to = print(&next);
            if to == from || parents.contains_key(&to) {
                continue;
            }
            if let Some(wrong) = &next.wrong {
                let how = replay(setup, &parents, from);
                return Err(format!("{wrong}, after {action:?}\n{how}"));
            }
            parents.insert(to, (from, Some(action)));
            if parents.len() >= states_max {
                return Ok(Explored {
                    states: parents.len(),
                    complete: false,
                });
            }
            queue.push_back(next);
        }
    }
    Ok(Explored {
        states: parents.len(),
        complete: true,
    })
}

/// Whether the goal is reached when nothing more goes wrong.
fn settles(world: &World, mend: bool, good: &mut HashSet<Print>) -> Result<(), String> {
    let mut path = Vec::new();
    let mut world = world.clone();
    let mut steps = Vec::new();
    loop {
        let here = print(&world);
        if good.contains(&here) {
            break;
        }
        path.push(here);
        let Some((action, next)) = world.calm(mend) else {
            match world.short_of_goal() {
                None => break,
                Some(what) => {
                    return Err(format!(
                        "stuck (mended: {mend}): {what}\n{world:?}\nafter {steps:?}\nfrom"
                    ));
                }
            }
        };
        if let Some(wrong) = next.wrong {
            return Err(format!("{wrong}, after {steps:?} {action:?}\nfrom"));
        }
        steps.push(action);
        if steps.len() > 300 {
            return Err(format!(
                "no end (mended: {mend}): {:?}\n{world:?}\nfrom",
                &steps[200..]
            ));
        }
        world = next;
    }
    good.extend(path);
    Ok(())
}

/// How it came to that state.
fn replay(
    setup: Setup,
    parents: &HashMap<Print, (Print, Option<Action>)>,
    mut at: Print,
) -> String {
    let mut actions = Vec::new();
    while let Some((from, Some(action))) = parents.get(&at) {
        actions.push(*action);
        at = *from;
    }
    actions.reverse();
    let mut world = World::new(setup);
    let mut out = String::new();
    for action in actions {
        let plan = match action {
            Action::Act(me, long) if world.servers[me].queue.is_empty() => {
                trilith_ha::plan(&world.observed(me, long), &world.policy(me)).to_string()
            }
            _ => String::new(),
        };
        out += &format!("{action:?} {}\n", plan.trim().replace('\n', " "));
        if let Some(next) = world.after(action) {
            world = next;
        }
    }
    format!("{out}{world:?}")
}

/// What makes a state: revisions count only by whether they are still those of the store.
fn print(world: &World) -> Print {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        hash(world, &mut hasher);
        hasher.finish()
    };
    u128::from(half(1)) << 64 | u128::from(half(2))
}

fn hash(world: &World, to: &mut DefaultHasher) {
    (world.writes, world.faults, world.requests).hash(to);
    (world.acked, world.shown, world.lost_disk).hash(to);
    hash_store(&world.store.seen, to);
    for server in &world.servers {
        let flags = [
            server.machine,
            server.agent,
            server.cut_store,
            server.cut_peers,
            server.quorum,
            server.proven,
            server.past,
            server.yielding,
            server.leaving,
            server.old,
        ];
        flags.hash(to);
        server.long.hash(to);
        server.disk.hash(to);
        match &server.run {
            // Nobody can tell any more.
            Run::Primary {
                open,
                members,
                acks,
                since,
                lagging,
                waiting,
            } => (2, open, members, acks, since, lagging, waiting).hash(to),
            run => run.hash(to),
        }
        server.queue.len().hash(to);
        if !server.queue.is_empty() {
            format!("{:?}", server.queue).hash(to);
        }
        if !server.agent || Arc::ptr_eq(&server.view, &world.store) {
            0.hash(to);
        } else {
            hash_stale(&server.view, &world.store, to);
        }
    }
}

fn hash_stale(view: &Store, store: &Store, to: &mut DefaultHasher) {
    hash_store(&view.seen, to);
    (view.seen.lease == store.seen.lease).hash(to);
    let version = |store: &Store, key: &str| store.view.get(key).map(|entry| entry.version);
    for (key, entry) in &view.view.entries {
        let same: bool = version(store, key.as_str()) == Some::<Revision>(entry.version);
        same.hash(to);
    }
}

/// Terms count only by whether they are the record's: nothing else is ever asked of them.
fn hash_store(seen: &StoreView, to: &mut DefaultHasher) {
    let now = seen.term();
    seen.holder().hash(to);
    seen.cluster
        .as_ref()
        .map(|cluster| cluster.system_id)
        .hash(to);
    (seen.paused, seen.record.is_some()).hash(to);
    if let Some((record, _)) = &seen.record {
        (&record.primary, &record.sync.members).hash(to);
        (record.sync.acks, record.open, record.base).hash(to);
        (&record.expected, &record.next, record.asynchronous).hash(to);
        (record.timeline, record.retaken > 0).hash(to);
    }
    for (name, (report, _)) in &seen.reports {
        (name, report.term == now).hash(to);
        match &report.data {
            ReportedData::Database {
                system_id, history, ..
            } => (system_id, history).hash(to),
            _ => 0.hash(to),
        }
    }
    for (name, (restart, _)) in &seen.restart {
        let restart = match restart {
            Restart::Asked => 0,
            Restart::Turn { term } => 1 + u8::from(*term == now),
            Restart::Begun => 3,
        };
        (name, restart).hash(to);
    }
    match &seen.request {
        Some((Request::Switchover { to: name, term }, _)) => (1, name, *term == now).hash(to),
        Some((Request::Failover { to: name, term, .. }, _)) => (2, name, *term == now).hash(to),
        None => 0.hash(to),
    }
}
