//! Steps, carried out at the model of PostgreSQL, as `crates/postgres/src/instance` does with the real one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use trilith_base::ServerName;
use trilith_ha::{Kind, StartAs, Step, StopMode, SyncSet};

use super::{Agent, Work};
use crate::environment::{Sleep, Timeout, spawn_for};
use crate::executor::{WORLD, executor};
use crate::limits::{PROMOTE_TIMEOUT, PROVE_TIMEOUT, STOP_FAST_MAX, STOP_IMMEDIATE_MAX};
use crate::plant::Plant;
use crate::postgres::{Confirm, Confirmed, Database, Process, State, fork, history};
use crate::world::{World, lock, name_of, server_name};

/// Between two looks whether something is done.
const POLL: Duration = Duration::from_millis(5);

impl Agent {
    pub(super) async fn execute(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Initdb => {
                self.takes(500, 2_000).await;
                self.make_database();
            }
            Step::Copy { from } => self.copy(self.place(from)?).await?,
            Step::Rewind { from } => self.rewind(self.place(from)?).await?,
            Step::Start { how } => self.start(how).await?,
            Step::Stop { mode } => self.stop(*mode).await,
            Step::Promote { sync, timeline } => self.promote(sync, *timeline).await?,
            Step::Follow { server } => self.follow(server.as_ref()).await?,
            Step::Sync {
                set,
                forget,
                prove: _,
            } => {
                let life = self.running()?;
                let forget = |server: usize| forget.contains(&server_name(server));
                self.switch(life, set, forget).await?;
            }
            Step::Open => self.set_open(true).await?,
            Step::Close => self.set_open(false).await?,
            Step::SetUp => {
                self.wait_while_frozen(50, 300).await?;
                lock(&self.world.databases).servers[self.server].set_up = true;
            }
            Step::Checkpoint => {
                self.wait_while_frozen(20, 400).await?;
                let mut databases = lock(&self.world.databases);
                let database = &mut databases.servers[self.server];
                database.checkpoint_timeline = database.history().end.timeline;
            }
            step => return Err(format!("no step of PostgreSQL: {step}")),
        }
        Ok(())
    }

    fn place(&self, name: &ServerName) -> Result<usize, String> {
        let mut servers = 0..self.world.shape.servers;
        let place = servers.find(|server| server_name(*server) == *name);
        place.ok_or_else(|| format!("no server {name}"))
    }

    fn running(&self) -> Result<u64, String> {
        self.life().ok_or_else(|| "PostgreSQL has ended".to_owned())
    }

    async fn takes(&self, shortest_ms: u64, longest_ms: u64) {
        let (shortest, longest) = (
            Duration::from_millis(shortest_ms),
            Duration::from_millis(longest_ms),
        );
        Sleep::new(self.world.draw_between(shortest, longest)).await;
    }

    /// Something that the running PostgreSQL does.
    async fn wait_while_frozen(&self, shortest_ms: u64, longest_ms: u64) -> Result<u64, String> {
        let life = self.running()?;
        let done = self
            .world
            .works(self.server, life, shortest_ms * 1_000, longest_ms * 1_000)
            .await;
        done.then_some(life)
            .ok_or_else(|| "PostgreSQL has ended".to_owned())
    }

    fn change<T>(&self, life: u64, change: impl FnOnce(&mut Process) -> T) -> Result<T, String> {
        let mut databases = lock(&self.world.databases);
        let process = databases.process(self.server, life);
        process
            .map(change)
            .ok_or_else(|| "PostgreSQL has ended".to_owned())
    }

    pub(super) fn founded(&self) {
        lock(&self.world.databases).servers[self.server].unfounded = false;
    }

    pub(super) fn kill_postgres(&mut self, why: &str) {
        self.world.kill_postgres(self.server, why);
        self.known = None;
    }

    fn make_database(&self) {
        let mut databases = lock(&self.world.databases);
        let system = databases.number();
        let database = &mut databases.servers[self.server];
        database.wal.clear();
        database.state = State::Ready;
        database.system = system;
        database.kind = Kind::Primary;
        (database.clean, database.unfounded, database.set_up) = (true, true, false);
        database.checkpoint_timeline = 1;
        databases.append(self.server, 1, false);
        databases.servers[self.server].flushed = 1;
    }

    // ---- Start and stop.

    async fn start(&mut self, how: &StartAs) -> Result<(), String> {
        if self.life().is_some() {
            return Ok(());
        }
        if lock(&self.world.databases).servers[self.server].disk_full {
            self.takes(20, 200).await;
            self.failures += 1;
            return Err("the disk is full".to_owned());
        }
        let life = self.world.start_postgres(self.server, how);
        loop {
            Sleep::new(POLL * 4).await;
            if self.change(life, |process| process.ready)? {
                break;
            }
        }
        if let StartAs::Primary { sync } = how {
            self.switch(life, sync, |_| false).await?;
        }
        Ok(())
    }

    async fn stop(&mut self, mode: StopMode) {
        let Some(life) = self.life() else {
            return;
        };
        if mode == StopMode::Fast {
            // It goes on whatever becomes of the agent.
            let (world, server) = (self.world.clone(), self.server);
            let stopping = spawn_for(WORLD, async move { world.stop_fast(server, life).await });
            let patience = Sleep::new(STOP_FAST_MAX);
            let _ = Timeout::new(patience, stopping).await;
        }
        if self.life() == Some(life) {
            match self.world.runs(self.server) {
                true => self.takes(1, 60).await,
                // It does not hear SIGQUIT, and is killed then.
                false => Sleep::new(STOP_IMMEDIATE_MAX).await,
            }
        }
        if self.life() == Some(life) {
            self.kill_postgres("an immediate stop");
        }
        self.known = None;
    }

    async fn promote(&mut self, sync: &SyncSet, timeline: u32) -> Result<(), String> {
        let life = self.running()?;
        let in_recovery = self.change(life, |process| {
            process.confirmed = None;
            process.wanted = Some(sync.clone());
            process.in_recovery
        })?;
        if in_recovery {
            self.reload(life, if_any(sync)).await?;
            let again = self.change(life, |process| process.promoting.replace(timeline))?;
            if again.is_none() {
                self.world.end_recovery(self.server, life);
            }
            let promoted: Work<'_, _> = Box::pin(self.see_end_of_recovery(life));
            let promoted = Timeout::new(Sleep::new(PROMOTE_TIMEOUT), promoted).await;
            promoted.map_err(|_| "recovery did not end".to_owned())??;
        }
        self.change(life, |process| process.open = false)?;
        self.switch(life, sync, |_| false).await?;
        // Somebody who was promoted and lost the lease meanwhile does not become the primary.
        if self.armed == Some(true) {
            self.world.check_complete(self.server, "is promoted");
        }
        Ok(())
    }

    async fn see_end_of_recovery(&self, life: u64) -> Result<(), String> {
        while self.change(life, |process| process.in_recovery)? {
            Sleep::new(POLL).await;
        }
        Ok(())
    }

    async fn follow(&self, server: Option<&ServerName>) -> Result<(), String> {
        let follow = server.map(|server| self.place(server)).transpose()?;
        let life = self.wait_while_frozen(5, 60).await?;
        if self.world.shape.plant == Some(Plant::VotesWhileReceiving) {
            self.wait_while_frozen(1_000, 3_000).await?;
        }
        let now = executor().now();
        let mut databases = lock(&self.world.databases);
        let database = &mut databases.servers[self.server];
        // An ending WAL receiver writes to disk what it has.
        database.flushed = database.wal.len();
        let process = databases.process(self.server, life);
        if let Some(process) = process {
            process.follow = follow;
            process.receiver = None;
            process.waits_since = Some(now);
            // The files that give its timeline the number are taken away again.
            process.promoting = None;
        }
        Ok(())
    }

    async fn set_open(&self, open: bool) -> Result<(), String> {
        let life = self.wait_while_frozen(5, 40).await?;
        self.change(life, |process| process.open = open)?;
        let (name, word) = (name_of(self.server), if open { "opens" } else { "closes" });
        self.world.note(format_args!("{name} {word}"));
        if open {
            self.world.check_complete(self.server, "opens");
        }
        Ok(())
    }

    // ---- Who confirms commits.

    /// Finishes what a step, or an earlier agent, left half done.
    pub(super) async fn settle(&self, life: u64) {
        let unsettled = self.change(life, |process| {
            if !process.ready || process.in_recovery || process.stopping {
                return None;
            }
            let before = process.confirmed.as_ref().map(|confirmed| &confirmed.set);
            if before.is_some_and(|set| process.conf == Confirm::Set(set.clone())) {
                return None;
            }
            let shown = match &process.conf {
                Confirm::Set(set) => Some(set),
                Confirm::Nobody => None,
            };
            let set = before.or(process.wanted.as_ref()).or(shown);
            Some(set.cloned().unwrap_or_default())
        });
        if let Ok(Some(set)) = unsettled {
            // The next look tries again.
            let _ = self.switch(life, &set, |_| true).await;
        }
    }

    async fn reload(&self, life: u64, conf: Confirm) -> Result<(), String> {
        self.wait_while_frozen(2, 10).await?;
        if !self.world.reload_postgres(self.server, life, conf) {
            return Err("PostgreSQL has ended".to_owned());
        }
        self.wait_while_frozen(2, 20).await?;
        Ok(())
    }

    async fn switch(
        &self,
        life: u64,
        set: &SyncSet,
        forget: impl Fn(usize) -> bool,
    ) -> Result<(), String> {
        let proven = self.change(life, |process| {
            process.confirmed.as_ref().is_some_and(|now| now.proven)
        })?;
        if !set.is_alone() && !proven {
            self.reload(life, Confirm::Nobody).await?;
            let waiting: Work<'_, _> = Box::pin(self.see_a_commit_wait(life));
            let seen = Timeout::new(Sleep::new(PROVE_TIMEOUT), waiting).await;
            seen.map_err(|_| "no commit was seen to wait".to_owned())??;
        }
        self.reload(life, Confirm::Set(set.clone())).await?;
        self.wait_while_frozen(1, 10).await?;
        self.world.end_senders(self.server, life, forget);
        let since = lock(&self.world.databases).servers[self.server].flushed;
        let proven = !set.is_alone();
        let set = set.clone();
        self.change(life, |process| {
            process.confirmed = Some(Confirmed { set, since, proven });
            process.wanted = None;
        })
    }

    async fn see_a_commit_wait(&self, life: u64) -> Result<(), String> {
        while !self.change(life, |process| process.waits)? {
            Sleep::new(POLL).await;
        }
        Ok(())
    }

    // ---- Other servers' data.

    /// The source's, if it is a primary and can be reached.
    fn source<T>(&self, from: usize, take: impl FnOnce(&Database) -> T) -> Result<T, String> {
        let world = &self.world;
        let (me, network) = (self.server, &world.network);
        let reach = !network.is_cut(me, from) && !network.is_cut(from, me) && world.runs(from);
        let databases = lock(&world.databases);
        let source = &databases.servers[from];
        match reach && source.is_primary() {
            true => Ok(take(source)),
            false => Err(format!("{} does not answer", name_of(from))),
        }
    }

    async fn copy(&mut self, from: usize) -> Result<(), String> {
        for _ in 0..4 {
            self.source(from, |_| ())?;
            self.takes(250, 750).await;
        }
        let copied = self.source(from, |source| {
            let wal = source.wal[..source.flushed].to_vec();
            (wal, source.system, source.checkpoint_timeline)
        })?;
        self.failures = 0;
        self.put_in_place(copied);
        Ok(())
    }

    fn put_in_place(&self, (wal, system, timeline): (Vec<crate::postgres::Entry>, u64, u32)) {
        let mut databases = lock(&self.world.databases);
        let database = &mut databases.servers[self.server];
        database.flushed = wal.len();
        (database.wal, database.system) = (wal, system);
        (database.state, database.kind) = (State::Ready, Kind::Replica);
        (database.clean, database.unfounded) = (true, false);
        (database.set_up, database.checkpoint_timeline) = (true, timeline);
    }

    async fn rewind(&mut self, from: usize) -> Result<(), String> {
        self.source(from, |_| ())?;
        self.recover_alone();
        self.takes(100, 400).await;
        // Until here nothing has been changed, and a source that went away does no harm.
        let theirs = self.source(from, |source| source.wal[..source.flushed].to_vec())?;
        {
            let mut databases = lock(&self.world.databases);
            let database = &mut databases.servers[self.server];
            let parted = fork(&history(&database.wal), &history(&theirs));
            let common = database.wal.get(..parted) == theirs.get(..parted);
            database.state = State::HalfMade;
            drop(databases);
            if !common {
                let name = name_of(self.server);
                self.world
                    .violate(format!("{name} is rewound to a place that is not common"));
            }
        }
        self.takes(100, 600).await;
        let copied = self.source(from, |source| {
            let wal = source.wal[..source.flushed].to_vec();
            (wal, source.system, source.checkpoint_timeline)
        })?;
        self.failures = 0;
        self.put_in_place(copied);
        Ok(())
    }

    /// A PostgreSQL that crashed is started for a moment, as a primary and with nobody connected, so that it
    /// recovers before it is rewound.
    fn recover_alone(&self) {
        let mut databases = lock(&self.world.databases);
        let database = &databases.servers[self.server];
        if database.clean {
            return;
        }
        let timeline = database.wal.last().map_or(1, |entry| entry.timeline);
        databases.append(self.server, timeline, false);
        let database = &mut databases.servers[self.server];
        database.flushed = database.wal.len();
        (database.kind, database.clean) = (Kind::Primary, true);
    }
}

/// From the first moment on every commit waits; who confirms it follows.
fn if_any(sync: &SyncSet) -> Confirm {
    match sync.is_alone() {
        true => Confirm::Set(SyncSet::alone()),
        false => Confirm::Nobody,
    }
}

impl World {
    /// Starts a postmaster; it goes on whatever becomes of the agent.
    fn start_postgres(self: &Arc<Self>, server: usize, how: &StartAs) -> u64 {
        let now = executor().now();
        let (kind, follow, sync) = match how {
            StartAs::Primary { sync } => (Kind::Primary, None, Some(sync.clone())),
            StartAs::Replica { follow } => (Kind::Replica, follow.as_ref(), None),
        };
        let mut servers = 0..self.shape.servers;
        let follow = servers.find(|other| Some(&server_name(*other)) == follow);
        let conf = sync.as_ref().map_or(Confirm::Set(SyncSet::alone()), if_any);
        let mut databases = lock(&self.databases);
        let life = databases.number();
        let database = &mut databases.servers[server];
        let crashed = !database.clean;
        (database.kind, database.clean) = (kind, database.clean && kind == Kind::Replica);
        database.begin_process(Process {
            life,
            ready: false,
            in_recovery: kind == Kind::Replica,
            stopping: false,
            role_since: now,
            ready_since: now,
            follow,
            receiver: None,
            waits_since: None,
            promoting: None,
            open: false,
            waits: false,
            waits_due: now,
            conf,
            confirmed: None,
            wanted: sync,
            senders: Default::default(),
            gone_since: Default::default(),
            hidden: BTreeSet::new(),
            waiting: BTreeSet::new(),
        });
        drop(databases);
        let name = name_of(server);
        self.note(format_args!("postgres of {name} starts as {kind:?}"));
        let world = self.clone();
        spawn_for(WORLD, async move {
            // Recovery takes its time.
            let longest = match (crashed, world.draw(20)) {
                (true, 0) => 14_000_000,
                (true, _) => 3_000_000,
                (false, _) => 800_000,
            };
            if !world.works(server, life, 60_000, longest).await {
                return;
            }
            let now = executor().now();
            let mut databases = lock(&world.databases);
            let database = &mut databases.servers[server];
            database.flushed = database.wal.len();
            if let Some(process) = databases.process(server, life) {
                (process.ready, process.ready_since, process.role_since) = (true, now, now);
            }
            drop(databases);
            world.note(format_args!("postgres of {} is ready", name_of(server)));
        });
        life
    }

    /// Ends sessions, writes a checkpoint, sends everything, ends.
    async fn stop_fast(self: &Arc<Self>, server: usize, life: u64) {
        let ready = {
            let mut databases = lock(&self.databases);
            let Some(process) = databases.process(server, life) else {
                return;
            };
            process.stopping = process.ready;
            process.receiver = None;
            process.ready
        };
        if !ready || !self.works(server, life, 30_000, 400_000).await {
            return;
        }
        let end = {
            let mut databases = lock(&self.databases);
            let database = &databases.servers[server];
            let timeline = database.wal.last().map_or(1, |entry| entry.timeline);
            if database.is_primary() {
                databases.append(server, timeline, false);
            }
            let database = &mut databases.servers[server];
            database.flushed = database.wal.len();
            database.flushed
        };
        loop {
            {
                let mut databases = lock(&self.databases);
                let Some(process) = databases.process(server, life) else {
                    return;
                };
                if process.senders.values().all(|sender| sender.flushed >= end) {
                    let database = &mut databases.servers[server];
                    database.end_process();
                    database.clean = true;
                    drop(databases);
                    let name = name_of(server);
                    self.note(format_args!("postgres of {name} has stopped"));
                    return;
                }
            }
            if !self.works(server, life, 5_000, 10_000).await {
                return;
            }
        }
    }

    /// PostgreSQL was told to end recovery: it does, whatever becomes of whoever told it.
    fn end_recovery(self: &Arc<Self>, server: usize, life: u64) {
        let world = self.clone();
        spawn_for(WORLD, async move {
            if world.works(server, life, 50_000, 300_000).await {
                world.begin_timeline(server, life);
            }
        });
    }

    fn begin_timeline(&self, server: usize, life: u64) {
        let now = executor().now();
        let mut databases = lock(&self.databases);
        let last = databases.servers[server].wal.last();
        let own = last.map_or(0, |entry| entry.timeline) + 1;
        let process = databases.process(server, life);
        let Some(process) = process.filter(|process| process.in_recovery && !process.stopping)
        else {
            return;
        };
        let timeline = match (self.shape.plant, process.promoting) {
            (Some(Plant::OwnTimelineNumbers), _) | (_, None) => own,
            (_, Some(timeline)) => timeline,
        };
        (process.in_recovery, process.role_since) = (false, now);
        (process.follow, process.receiver) = (None, None);
        process.gone_since.clear();
        databases.append(server, timeline, false);
        let database = &mut databases.servers[server];
        database.flushed = database.wal.len();
        (database.kind, database.clean) = (Kind::Primary, false);
        databases.counts.promotions += 1;
        drop(databases);
        let name = name_of(server);
        self.note(format_args!("{name} is promoted to timeline {timeline}"));
    }
}
