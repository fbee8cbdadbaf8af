//! A session's commit, and what it may say.

use std::sync::Arc;
use std::time::Duration;

use super::State;
use crate::environment::Sleep;
use crate::world::{World, lock, name_of, server_name};

/// Between two looks whether a commit may go on.
const LOOK: Duration = Duration::from_millis(2);

/// Writes one entry and returns its number once the session may say that it is done. The session's client
/// may be gone meanwhile.
pub async fn commit(world: &Arc<World>, server: usize, life: u64) -> Option<u64> {
    let (place, id) = {
        let mut databases = lock(&world.databases);
        let timeline = databases.servers[server].wal.last()?.timeline;
        let process = databases.process(server, life)?;
        if process.stopping || process.in_recovery || !process.ready {
            return None;
        }
        let (place, id) = databases.append(server, timeline, true);
        databases.process(server, life)?.hidden.insert(place);
        (place, id)
    };
    if !world.works(server, life, 200, 3_000).await {
        return None;
    }
    {
        let mut databases = lock(&world.databases);
        let database = &mut databases.servers[server];
        database.flushed = database.flushed.max(place);
        let process = database.process.as_mut()?;
        if process.waits {
            process.waiting.insert(place);
        }
    }
    loop {
        {
            let mut databases = lock(&world.databases);
            let process = databases.process(server, life)?;
            if process.stopping {
                return None;
            }
            if !process.waiting.contains(&place) {
                process.hidden.remove(&place);
                break;
            }
        }
        Sleep::new(LOOK).await;
    }
    if !world.works(server, life, 20, 100).await {
        return None;
    }
    check_recorded(world, server, id);
    Some(id)
}

/// What the store says about acknowledged writes is true of this one.
fn check_recorded(world: &Arc<World>, server: usize, id: u64) {
    if !world.is_synchronous() {
        return;
    }
    let Some((record, _)) = world.newest_store_view().record.clone() else {
        return;
    };
    let here = record.primary == server_name(server) && record.open;
    if !here || record.sync.is_alone() {
        return;
    }
    let have = {
        let databases = lock(&world.databases);
        let all = databases.servers.iter().enumerate();
        let have = all.filter(|(other, database)| {
            let flushed = &database.wal[..database.flushed];
            // One that has lost its disk had it a moment ago.
            let has = flushed.iter().any(|entry| entry.id == id);
            let lost = database.state == State::Missing;
            record.sync.members.contains(&server_name(*other)) && (has || lost)
        });
        have.count()
    };
    if have < record.sync.acks {
        world.violate(format!(
            "{} acknowledged write {id} that {have} of {} have",
            name_of(server),
            record.sync
        ));
    }
}
