//! A small world: the cluster store, and for each server a machine, an agent that plans, and a PostgreSQL
//! of which only what matters is modelled: the WAL as a list of records, what of it is where, who streams
//! from whom, who confirms commits, what a start, a stop, a crash, a promotion, a rewind and a copy make of
//! it. The planner and the store's transactions are the real ones.

use std::sync::Arc;
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus::{Command, Epoch, Outcome, Revision, Txn, View};
use trilith_ha::operator::{self, Ask, Checked};
use trilith_ha::{
    Changes, Data, History, Kind, LeaseSeen, Local, Lsn, Observed, Policy, Position, PrimarySeen,
    Process, Ready, Request, RestartMove, SlotSeen, Standby, StartAs, Step, StopMode, StoreView,
    SyncInForce, SyncSet, txn,
};

/// A server, by its place in the file.
pub type Id = usize;

const NAMES: [&str; 3] = ["one", "two", "three"];
/// It is the primary, the lease is free, nothing came in: for long.
const RUNS: u8 = 8;
const FREE: u8 = 16;
const STALLED: u8 = 32;
/// Longer than every patience of the planner.
const LONG: Duration = Duration::from_secs(100_000);

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A candidate takes its own report for all that are needed.
    StaleReplicaPromoted,
    /// A changed synchronous set counts as confirmed at once.
    WidenedBeforeConfirmation,
    /// A replica reports while it goes on receiving.
    VotesWhileReceiving,
    /// A server that has just started follows whom the store named when it last ran.
    OldViewTrusted,
    /// The lease ends elsewhere before PostgreSQL is stopped.
    DemotedAfterTheLease,
    /// Clients are let in before replicas have what they will see.
    OpenedBeforeConfirmation,
    /// PostgreSQL chooses the number of a new timeline.
    OwnTimelineNumbers,
    /// A first synchronous set counts although commits may not wait yet.
    NotProven,
}

/// Whether the operator asks for restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarts {
    Never,
    AsWell,
    Alone,
}

/// What is to be explored, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub servers: usize,
    pub synchronous: bool,
    /// Whether there is a database already, everybody streaming.
    pub founded: bool,
    pub writes: u8,
    pub faults: u8,
    /// Requests of the operator: switchover, failover, pause, a server that stops.
    pub requests: u8,
    /// Restarts among them, or nothing else.
    pub restarts: Restarts,
    /// A restart is for settings of which replicas must not have less.
    pub lowers: bool,
    /// Whether disks are lost, and a PostgreSQL does not start any more, among the faults.
    pub disks: bool,
    /// Whether servers may learn late what is in the store.
    pub late_views: bool,
    /// Neither agent nor guard stops PostgreSQL when the lease ends.
    pub leases_broken: bool,
    /// Whether the goal has to be reached from every state.
    pub liveness: bool,
    pub bug: Option<Bug>,
}

#[derive(Clone, Debug, Default)]
pub struct Store {
    pub view: View,
    pub seen: StoreView,
}

impl Store {
    fn new(view: View) -> Arc<Self> {
        let seen = StoreView::read(&view);
        assert_eq!(seen.unreadable, None);
        Arc::new(Self { view, seen })
    }
}

/// A record of the WAL: its timeline, and what it is.
pub type Record = (u8, u8);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// 0: no data.
    pub system: u8,
    pub kind: Kind2,
    pub clean: bool,
    pub unfounded: bool,
    pub set_up: bool,
    pub wal: Vec<Record>,
    /// PostgreSQL does not start with these files.
    pub broken: bool,
    /// How often it was tried.
    pub failures: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind2 {
    Primary,
    Replica,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Run {
    Stopped,
    Replica {
        follow: Option<Id>,
    },
    Primary {
        open: bool,
        members: Vec<Id>,
        acks: usize,
        since: usize,
        /// Sessions may not know yet that commits wait.
        lagging: bool,
        /// Writes that wait for their acknowledgement.
        waiting: Vec<u8>,
    },
}

#[derive(Clone, Debug)]
pub struct Server {
    pub machine: bool,
    pub agent: bool,
    pub cut_store: bool,
    pub cut_peers: bool,
    pub view: Arc<Store>,
    pub quorum: bool,
    pub proven: bool,
    /// The deadline of the lease has passed.
    pub past: bool,
    pub yielding: bool,
    pub leaving: bool,
    /// What has been so for long: a bit for each replica that is gone, and those below.
    pub long: u8,
    /// The rest of the plan that is being carried out.
    pub queue: Vec<Step>,
    pub disk: Disk,
    pub run: Run,
    /// It runs since before its restart was asked for.
    pub old: bool,
}

#[derive(Clone)]
pub struct World {
    pub setup: Setup,
    pub store: Arc<Store>,
    pub servers: Vec<Arc<Server>>,
    pub writes: u8,
    pub faults: u8,
    pub requests: u8,
    /// Writes, by number, that clients were told are done.
    pub acked: u32,
    /// Writes that clients have seen or been told of.
    pub shown: u32,
    /// Data are gone for good: nobody may have every write any more.
    pub lost_disk: bool,
    /// What must never be.
    pub wrong: Option<String>,
    genesis: Arc<Store>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The agent carries out the next step; `true`: after a long time in which nothing happened.
    Act(Id, bool),
    /// The server learns what is in the store.
    Look(Id),
    Renew(Id),
    Receive(Id),
    Write(Id),
    Acknowledge(Id, u8),
    /// Every session knows now that commits wait.
    Settle(Id),
    /// The holder's deadline passes, and its primary is stopped.
    Deadline,
    Expire,
    Crash(Id),
    KillAgent(Id),
    KillServer(Id),
    /// It takes its data with it.
    LoseDisk(Id),
    /// It crashes, and does not start any more.
    Break(Id),
    Cut(Id),
    CutPeers(Id),
    /// Renewals fail for a while.
    Hiccup,
    Start(Id),
    Mend(Id),
    Switchover(Option<Id>),
    Failover(Id),
    Leave(Id),
    /// Of that server, or of all.
    Restart(Option<Id>),
    Exit(Id),
    Pause,
    Resume,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let store = Store::new(View::default());
        let disk = Disk {
            system: 0,
            kind: Kind2::Replica,
            clean: true,
            unfounded: false,
            set_up: false,
            wal: Vec::new(),
            broken: false,
            failures: 0,
        };
        let server = Server {
            machine: true,
            agent: true,
            cut_store: false,
            cut_peers: false,
            view: store.clone(),
            quorum: true,
            proven: false,
            past: false,
            yielding: false,
            leaving: false,
            long: 0,
            queue: Vec::new(),
            disk,
            run: Run::Stopped,
            old: false,
        };
        let mut world = Self {
            servers: (0..setup.servers)
                .map(|_| Arc::new(server.clone()))
                .collect(),
            genesis: store.clone(),
            store,
            writes: 0,
            faults: 0,
            requests: 0,
            acked: 0,
            shown: 0,
            lost_disk: false,
            wrong: None,
            setup,
        };
        if setup.founded {
            // The planner itself leads there.
            world.setup.bug = None;
            let mut steps = 0;
            while let Some((_, next)) = world.calm(true) {
                world = next;
                steps += 1;
                assert!(steps < 500, "the first database is never there");
            }
            assert_eq!(world.short_of_goal(), None, "{world:?}");
            world.setup.bug = setup.bug;
            world.genesis = world.store.clone();
        }
        world.writes = setup.writes;
        world.faults = setup.faults;
        world.requests = setup.requests;
        world
    }

    pub fn policy(&self, me: Id) -> Policy {
        let servers = NAMES[..self.setup.servers].iter().map(|name| server(name));
        let servers: Vec<ServerName> = servers.collect();
        Policy::new(servers[me].clone(), servers, self.setup.synchronous)
    }

    fn name(&self, id: Id) -> ServerName {
        server(NAMES[id])
    }

    fn get(&mut self, id: Id) -> &mut Server {
        Arc::make_mut(&mut self.servers[id])
    }

    pub fn holder(&self) -> Option<Id> {
        self.store.seen.holder().map(id)
    }

    fn reaches(&self, one: Id, other: Id) -> bool {
        let (one, other) = (&self.servers[one], &self.servers[other]);
        one.machine && other.machine && !one.cut_peers && !other.cut_peers
    }

    /// Whom that replica streams from: by the numbers of timelines and positions, as PostgreSQL does.
    pub fn source(&self, replica: Id) -> Option<Id> {
        let Run::Replica {
            follow: Some(source),
        } = self.servers[replica].run
        else {
            return None;
        };
        let (mine, theirs) = (&self.servers[replica].disk, &self.servers[source].disk);
        if !self.reaches(replica, source)
            || self.servers[source].run == Run::Stopped
            || mine.system != theirs.system
        {
            return None;
        }
        let (mine, theirs) = (history(&mine.wal), history(&theirs.wal));
        theirs.contains(mine.end).then_some(source)
    }

    // ---- What a server sees.

    pub fn observed(&self, me: Id, long: bool) -> Observed {
        let server = &self.servers[me];
        let mut store = server.view.seen.clone();
        let bits = if long { u8::MAX } else { server.long };
        let patience = |bit: u8| match bits & bit {
            0 => Duration::ZERO,
            _ => LONG,
        };
        let lease = match &store.lease {
            None => LeaseSeen::Free {
                since: patience(FREE),
            },
            Some((holder, epoch)) if id(holder) == me => {
                let (epoch, expired) = (*epoch, server.past);
                match server.proven && !expired {
                    true => LeaseSeen::Mine { epoch },
                    false => LeaseSeen::Unproven { epoch, expired },
                }
            }
            Some(_) => LeaseSeen::Other,
        };
        if self.setup.bug == Some(Bug::StaleReplicaPromoted)
            && let Some((record, _)) = &mut store.record
        {
            record.sync.acks = record.sync.members.len();
        }
        let primary = store
            .record
            .as_ref()
            .map(|(record, _)| id(&record.primary))
            .filter(|primary| *primary != me && self.reaches(me, *primary))
            .filter(|primary| self.servers[*primary].run != Run::Stopped)
            .map(|primary| self.primary_seen(primary));
        Observed {
            store,
            quorum: server.quorum || self.setup.bug == Some(Bug::OldViewTrusted),
            lease,
            local: self.local(me, &patience, lease),
            primary,
            changes: Changes::Seen,
            yielding: server.yielding && !long,
            // Each lease that was taken again has had its try.
            failures_before: (server.view.seen.record.as_ref())
                .map_or(0, |(record, _)| record.retaken),
            request_for: if long { LONG } else { Duration::ZERO },
            restart_for: (server.view.seen.restart.keys())
                .map(|name| (name.clone(), if long { LONG } else { Duration::ZERO }))
                .collect(),
            leaving: server.leaving,
        }
    }

    fn local(&self, me: Id, patience: &dyn Fn(u8) -> Duration, lease: LeaseSeen) -> Local {
        let Server { disk, run, .. } = &*self.servers[me];
        let data = match disk.system {
            0 => Data::Missing,
            system => Data::Ready {
                system_id: u64::from(system),
                kind: match disk.kind {
                    Kind2::Primary => Kind::Primary,
                    Kind2::Replica => Kind::Replica,
                },
                clean: disk.clean,
                history: history(&disk.wal),
                unfounded: disk.unfounded,
            },
        };
        let mut ready = Ready {
            in_recovery: true,
            system_id: u64::from(disk.system),
            history: history(&disk.wal),
            since: patience(RUNS),
            follows: None,
            receiving: false,
            not_streaming: Duration::ZERO,
            settled: true,
            open: false,
            sync: SyncInForce {
                set: SyncSet::alone(),
                since: Lsn(0),
            },
            standbys: Vec::new(),
            set_up: true,
            checkpointed: true,
            lowers: false,
        };
        let process = match run {
            Run::Stopped => Process::Stopped,
            Run::Replica { follow } => {
                let free = matches!(lease, LeaseSeen::Free { .. });
                let blind = self.setup.bug == Some(Bug::VotesWhileReceiving) && free;
                if let Some(follow) = follow
                    && !blind
                {
                    ready.follows = Some(self.name(*follow));
                    ready.receiving = true;
                    if self.source(me).is_none() {
                        ready.not_streaming = patience(STALLED);
                    }
                }
                Process::Ready(Box::new(ready))
            }
            Run::Primary {
                open,
                members,
                acks,
                since,
                ..
            } => {
                ready.in_recovery = false;
                ready.open = *open;
                ready.set_up = disk.set_up;
                ready.lowers = self.setup.lowers && self.servers[me].old;
                let trusting = match self.setup.bug {
                    Some(Bug::WidenedBeforeConfirmation) => *open,
                    Some(Bug::OpenedBeforeConfirmation) => !*open,
                    _ => false,
                };
                ready.sync = SyncInForce {
                    set: self.set(members, *acks),
                    since: Lsn(if trusting { 0 } else { *since as u64 }),
                };
                let others = (0..self.servers.len()).filter(|other| *other != me);
                ready.standbys = others
                    .map(|other| {
                        let streaming = self.source(other) == Some(me);
                        Standby {
                            name: self.name(other),
                            streaming,
                            flushed: Lsn(match streaming {
                                true => self.servers[other].disk.wal.len() as u64,
                                false => 0,
                            }),
                            gone_for: match streaming {
                                true => Duration::ZERO,
                                false => patience(1 << other),
                            },
                        }
                    })
                    .collect();
                Process::Ready(Box::new(ready))
            }
        };
        Local {
            data,
            process,
            asides: 0,
            failures: u32::from(disk.failures),
        }
    }

    fn primary_seen(&self, primary: Id) -> PrimarySeen {
        let server = &self.servers[primary];
        let history = history(&server.disk.wal);
        PrimarySeen {
            server: self.name(primary),
            is_primary: matches!(server.run, Run::Primary { .. }),
            system_id: u64::from(server.disk.system),
            checkpoint_timeline: history.end.timeline,
            history,
            oldest: Lsn(0),
            slot: SlotSeen::Ready,
        }
    }

    fn set(&self, members: &[Id], acks: usize) -> SyncSet {
        SyncSet {
            members: members.iter().map(|member| self.name(*member)).collect(),
            acks,
        }
    }

    // ---- What happens.

    /// Everything that may happen next. Some of it changes nothing.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let holder = self.holder();
        for me in 0..self.servers.len() {
            let server = &self.servers[me];
            if server.agent {
                actions.push(Action::Act(me, false));
                if server.queue.is_empty() {
                    actions.push(Action::Act(me, true));
                }
                actions.push(Action::Look(me));
                if holder == Some(me) && (server.past || !server.proven) {
                    actions.push(Action::Renew(me));
                }
                if server.leaving {
                    actions.push(Action::Exit(me));
                }
            } else {
                actions.push(Action::Start(me));
            }
            if server.cut_store || server.cut_peers || server.disk.broken {
                actions.push(Action::Mend(me));
            }
            match &server.run {
                Run::Stopped => {}
                Run::Replica { .. } => actions.push(Action::Receive(me)),
                Run::Primary {
                    open,
                    waiting,
                    lagging,
                    ..
                } => {
                    if *open && self.writes > 0 {
                        actions.push(Action::Write(me));
                    }
                    actions.extend(waiting.iter().map(|id| Action::Acknowledge(me, *id)));
                    if *lagging {
                        actions.push(Action::Settle(me));
                    }
                }
            }
        }
        if let Some(holder) = holder {
            let server = &self.servers[holder];
            if !server.past && (!server.agent || server.cut_store) {
                actions.push(Action::Deadline);
            }
            if server.past {
                actions.push(Action::Expire);
            }
        }
        if self.faults > 0 {
            for me in 0..self.servers.len() {
                let server = &self.servers[me];
                if server.run != Run::Stopped {
                    actions.push(Action::Crash(me));
                }
                if server.agent {
                    actions.extend([Action::KillAgent(me), Action::KillServer(me)]);
                }
                if self.setup.disks && server.machine && server.disk.system != 0 {
                    actions.extend([Action::LoseDisk(me), Action::Break(me)]);
                }
                if !server.cut_store {
                    actions.push(Action::Cut(me));
                }
                if !server.cut_peers && self.servers.len() > 2 {
                    actions.push(Action::CutPeers(me));
                }
            }
            if holder.is_some_and(|holder| !self.servers[holder].past) {
                actions.push(Action::Hiccup);
            }
        }
        let restarts = self.setup.restarts != Restarts::Never;
        if restarts && self.requests > 0 && self.store.seen.restart.is_empty() {
            let all = (0..self.servers.len()).map(Some).chain([None]);
            actions.extend(all.map(Action::Restart));
        }
        if self.requests > 0 && self.setup.restarts != Restarts::Alone {
            if self.store.seen.request.is_none() && self.store.seen.record.is_some() {
                actions.push(Action::Switchover(None));
                for to in 0..self.servers.len() {
                    actions.extend([Action::Switchover(Some(to)), Action::Failover(to)]);
                }
            }
            if !self.store.seen.paused {
                actions.push(Action::Pause);
            }
            actions.extend((0..self.servers.len()).map(Action::Leave));
        }
        if self.store.seen.paused {
            actions.push(Action::Resume);
        }
        actions
    }

    /// The world after that; `None`: it cannot happen, or changes nothing.
    pub fn after(&self, action: Action) -> Option<Self> {
        let mut world = self.clone();
        if !world.apply(action) {
            return None;
        }
        for me in 0..world.servers.len() {
            // After a start it may take a while to hear from the others.
            if !self.setup.late_views && world.servers[me].quorum {
                world.look(me);
            }
        }
        for me in 0..world.servers.len() {
            world.forget_times(me);
        }
        world.check();
        Some(world)
    }

    /// What is not so any more has not been so for long.
    fn forget_times(&mut self, me: Id) {
        let server = &self.servers[me];
        let mut long = 0;
        match &server.run {
            Run::Stopped => {}
            Run::Replica { follow } => {
                if follow.is_some() && self.source(me).is_none() {
                    long |= STALLED;
                }
            }
            Run::Primary { .. } => {
                long |= RUNS;
                for other in 0..self.servers.len() {
                    if other != me && self.source(other) != Some(me) {
                        long |= 1 << other;
                    }
                }
            }
        }
        if server.view.seen.lease.is_none() {
            long |= FREE;
        }
        if !server.agent {
            long = 0;
        }
        if server.long & long != server.long {
            self.get(me).long &= long;
        }
    }

    fn apply(&mut self, action: Action) -> bool {
        match action {
            Action::Act(me, long) => return self.act(me, long),
            Action::Look(me) => return self.look(me),
            Action::Renew(me) => {
                let server = &self.servers[me];
                if server.cut_store || server.view.seen.lease != self.store.seen.lease {
                    return false;
                }
                let server = self.get(me);
                (server.past, server.proven) = (false, true);
            }
            Action::Receive(me) => {
                let Some(source) = self.source(me) else {
                    return false;
                };
                let at = self.servers[me].disk.wal.len();
                let Some(record) = self.servers[source].disk.wal.get(at).copied() else {
                    return false;
                };
                self.get(me).disk.wal.push(record);
            }
            Action::Write(me) => {
                self.writes -= 1;
                let write = self.setup.writes - self.writes;
                let server = self.get(me);
                let timeline = server.disk.wal.last().map_or(1, |record| record.0);
                server.disk.wal.push((timeline, write));
                if let Run::Primary { waiting, .. } = &mut server.run {
                    waiting.push(write);
                }
            }
            Action::Acknowledge(me, write) => return self.acknowledge(me, write),
            Action::Settle(me) => {
                if let Run::Primary { lagging, .. } = &mut self.get(me).run {
                    *lagging = false;
                }
            }
            Action::Deadline => return self.deadline(),
            Action::Hiccup => {
                self.faults -= 1;
                return self.deadline();
            }
            Action::Expire => {
                let Some((_, epoch)) = self.store.seen.lease.clone() else {
                    return false;
                };
                let mut view = self.store.view.clone();
                let at = Revision(view.revision.0 + 1);
                let lease = trilith_ha::lease_key();
                let _ = view.apply(at, &Command::Expire { lease, epoch });
                self.store = Store::new(view);
            }
            Action::Crash(me) => {
                self.faults -= 1;
                self.stop(me, false);
                self.get(me).queue.clear();
            }
            Action::KillAgent(me) => {
                self.faults -= 1;
                self.end_agent(me);
            }
            Action::KillServer(me) => {
                self.faults -= 1;
                self.stop(me, false);
                self.end_agent(me);
                self.get(me).machine = false;
            }
            Action::Cut(me) => {
                self.faults -= 1;
                let server = self.get(me);
                (server.cut_store, server.cut_peers) = (true, true);
            }
            Action::LoseDisk(me) => {
                self.faults -= 1;
                self.lost_disk = true;
                self.stop(me, false);
                self.end_agent(me);
                let server = self.get(me);
                server.machine = false;
                server.disk.system = 0;
                server.disk.wal.clear();
                (server.disk.broken, server.disk.failures) = (false, 0);
            }
            Action::Break(me) => {
                if self.servers[me].disk.broken {
                    return false;
                }
                self.faults -= 1;
                self.stop(me, false);
                let server = self.get(me);
                server.queue.clear();
                server.disk.broken = true;
            }
            Action::CutPeers(me) => {
                self.faults -= 1;
                self.get(me).cut_peers = true;
            }
            Action::Start(me) => {
                // Its own disk may show an older state of the store, until it hears from the others.
                let genesis = self.genesis.clone();
                let server = self.get(me);
                (server.machine, server.agent) = (true, true);
                (server.view, server.quorum) = (genesis, false);
            }
            Action::Mend(me) => {
                let server = self.get(me);
                (server.disk.broken, server.disk.failures) = (false, 0);
                (server.cut_store, server.cut_peers) = (false, false);
            }
            Action::Switchover(to) => {
                let to = to.map(|to| self.name(to));
                let term = self.store.seen.term();
                return self.ask(&txn::request(&Request::Switchover { to, term }));
            }
            Action::Failover(to) => {
                let request = Request::Failover {
                    to: self.name(to),
                    accept_loss: false,
                    term: self.store.seen.term(),
                };
                return self.ask(&txn::request(&request));
            }
            Action::Pause => {
                let key = trilith_ha::paused_key();
                return self.ask(&Txn::compare_and_set(key, None, *b"{}"));
            }
            Action::Resume => {
                let key = trilith_ha::paused_key();
                let txn = Txn::new().then(trilith_consensus::Write::Delete { key });
                let _ = self.commit(&txn);
            }
            Action::Leave(me) => {
                if !self.servers[me].agent || self.servers[me].leaving {
                    return false;
                }
                self.requests -= 1;
                self.get(me).leaving = true;
            }
            Action::Restart(which) => {
                let ask = Ask::Restart {
                    servers: which.map(|one| self.name(one)).into_iter().collect(),
                };
                let servers = self.policy(0).servers;
                let Ok(Checked::Do(order)) = operator::check(&ask, &self.store.seen, &servers)
                else {
                    return false;
                };
                for name in &order.servers {
                    let server = self.get(id(name));
                    server.old = server.run != Run::Stopped;
                }
                return self.ask(&order.txn);
            }
            Action::Exit(me) => {
                let server = &self.servers[me];
                let held = server.view.seen.holder().map(id) == Some(me);
                if server.run != Run::Stopped || held || !server.queue.is_empty() {
                    return false;
                }
                self.end_agent(me);
                self.get(me).machine = false;
            }
        }
        true
    }

    fn ask(&mut self, txn: &Txn) -> bool {
        self.requests -= 1;
        self.commit(txn)
    }

    fn end_agent(&mut self, me: Id) {
        let server = self.get(me);
        server.agent = false;
        server.queue.clear();
        (server.proven, server.yielding, server.leaving) = (false, false, false);
    }

    fn deadline(&mut self) -> bool {
        let Some(holder) = self.holder() else {
            return false;
        };
        let late = self.setup.bug == Some(Bug::DemotedAfterTheLease) || self.setup.leases_broken;
        if !late && matches!(self.servers[holder].run, Run::Primary { .. }) {
            self.stop(holder, false);
            self.get(holder).queue.clear();
        }
        self.get(holder).past = true;
        true
    }

    fn look(&mut self, me: Id) -> bool {
        let server = &self.servers[me];
        let known = Arc::ptr_eq(&server.view, &self.store) && server.quorum;
        if !server.agent || server.cut_store || known {
            return false;
        }
        let store = self.store.clone();
        let server = self.get(me);
        let (old, new) = (&server.view.seen, &store.seen);
        if (&old.lease, &old.record) != (&new.lease, &new.record) {
            server.queue.clear();
        }
        if old.lease != new.lease && new.holder().map(id) != Some(me) {
            (server.past, server.proven) = (false, false);
        }
        server.view = store;
        server.quorum = true;
        true
    }

    fn acknowledge(&mut self, me: Id, write: u8) -> bool {
        let server = &self.servers[me];
        let Run::Primary {
            members,
            acks,
            lagging,
            ..
        } = &server.run
        else {
            return false;
        };
        let place = |record: &Record| record.1 == write;
        let Some(at) = server.disk.wal.iter().position(place) else {
            return false;
        };
        let confirms = |member: &&Id| {
            self.source(**member) == Some(me) && self.servers[**member].disk.wal.len() > at
        };
        if !*lagging && members.iter().filter(confirms).count() < *acks {
            return false;
        }
        if let Some(holder) = self.holder()
            && holder != me
            && matches!(self.servers[holder].run, Run::Primary { .. })
            && !self.servers[holder].disk.wal.iter().any(place)
        {
            let (me, holder) = (NAMES[me], NAMES[holder]);
            self.wrong = Some(format!(
                "{me} acknowledged what {holder} goes on without write"
            ));
        }
        self.acked |= 1 << write;
        self.shown |= 1 << write;
        if let Run::Primary { waiting, .. } = &mut self.get(me).run {
            waiting.retain(|waits| *waits != write);
        }
        true
    }

    fn stop(&mut self, me: Id, clean: bool) {
        let server = self.get(me);
        if matches!(server.run, Run::Primary { .. }) {
            server.disk.clean = clean;
        }
        server.run = Run::Stopped;
        server.old = false;
    }

    /// Carries out the next step of the plan. `false`: there is none.
    fn act(&mut self, me: Id, long: bool) -> bool {
        if self.servers[me].queue.is_empty() {
            let plan = trilith_ha::plan(&self.observed(me, long), &self.policy(me));
            let mut steps: Vec<Step> = plan.steps.into_iter().map(|act| act.step).collect();
            if steps.is_empty() || matches!(steps[0], Step::Wait | Step::Fail { .. }) {
                return false;
            }
            steps.reverse();
            let server = self.get(me);
            server.queue = steps;
            if long {
                server.yielding = false;
                server.long = u8::MAX;
            }
        }
        let Some(step) = self.get(me).queue.pop() else {
            return false;
        };
        let before = (self.servers[me].clone(), self.store.clone());
        if self.step(me, step) {
            return true;
        }
        self.get(me).queue.clear();
        // What fails, and changes nothing, has not happened.
        let (old, new) = (before.0, &self.servers[me]);
        !Arc::ptr_eq(&before.1, &self.store)
            || !Arc::ptr_eq(&old.view, &new.view)
            || old.disk != new.disk
            || old.run != new.run
            || !old.queue.is_empty()
    }

    fn step(&mut self, me: Id, step: Step) -> bool {
        let policy = self.policy(me);
        let epoch = match self.servers[me].view.seen.lease.as_ref() {
            Some((_, epoch)) => *epoch,
            None => Epoch(0),
        };
        match step {
            Step::Wait | Step::Fail { .. } => return false,
            Step::Checkpoint => {}
            Step::SetUp => self.get(me).disk.set_up = true,
            Step::Initdb => {
                self.get(me).disk = Disk {
                    system: 10 + me as u8,
                    kind: Kind2::Primary,
                    clean: true,
                    unfounded: true,
                    set_up: false,
                    wal: vec![(1, 50 + me as u8)],
                    broken: false,
                    failures: 0,
                };
            }
            Step::Copy { from } => {
                let from = id(&from);
                let source = &self.servers[from];
                if !self.reaches(me, from) || !matches!(source.run, Run::Primary { .. }) {
                    return false;
                }
                let disk = Disk {
                    kind: Kind2::Replica,
                    clean: true,
                    unfounded: false,
                    broken: false,
                    failures: 0,
                    ..source.disk.clone()
                };
                self.get(me).disk = disk;
            }
            Step::Rewind { from } => return self.rewind(me, id(&from)),
            Step::Start { .. } if self.servers[me].disk.broken => {
                // More than three make no difference.
                let disk = &mut self.get(me).disk;
                disk.failures = (disk.failures + 1).min(3);
                return false;
            }
            Step::Start { how } => self.start(me, how),
            Step::Stop { mode } => self.stop(me, mode == StopMode::Fast),
            Step::Promote { sync, timeline } => return self.promote(me, &sync, timeline),
            Step::Follow { server } => {
                if let Run::Replica { follow } = &mut self.get(me).run {
                    *follow = server.as_ref().map(id);
                }
            }
            Step::Sync { set, prove, .. } => {
                let unproven = self.setup.bug == Some(Bug::NotProven);
                let server = self.get(me);
                let end = server.disk.wal.len();
                if let Run::Primary {
                    open,
                    members,
                    acks,
                    since,
                    lagging,
                    ..
                } = &mut server.run
                {
                    *lagging = *open && *acks == 0 && set.acks > 0 && (!prove || unproven);
                    *members = set.members.iter().map(id).collect();
                    (*acks, *since) = (set.acks, end);
                }
            }
            Step::Open => return self.open(me),
            Step::Close => {
                if let Run::Primary { open, .. } = &mut self.get(me).run {
                    *open = false;
                }
            }
            Step::Report(report) => return self.tell(me, &txn::report(&policy.me, &report)),
            Step::TakeLease(take) => {
                if !self.tell(me, &take.txn(&policy)) {
                    return false;
                }
                let server = self.get(me);
                (server.proven, server.past) = (true, false);
            }
            Step::GiveUpLease {
                record,
                over,
                fulfils,
            } => {
                let txn = txn::give_up(record.as_deref(), over, epoch, fulfils);
                if !self.tell(me, &txn) {
                    return false;
                }
                let server = self.get(me);
                server.proven = false;
                server.yielding = record.is_none();
            }
            Step::WriteRecord(written) => {
                return self.tell(me, &txn::write_record(&written, epoch));
            }
            Step::Found { system_id } => {
                if !self.tell(me, &txn::found(system_id, epoch)) {
                    return false;
                }
                self.get(me).disk.unfounded = false;
            }
            Step::ForgetRequest { version } => return self.tell(me, &txn::end_request(version)),
            Step::ForgetReinit => return self.tell(me, &txn::end_reinit(&policy.me)),
            Step::Restart(next) => {
                if !self.tell(me, &next.txn(&policy.me)) {
                    return false;
                }
                if let RestartMove::Done { server, .. } = &next
                    && self.servers[id(server)].old
                {
                    self.wrong = Some(format!("{server} was not restarted, and counts as done"));
                }
            }
        }
        true
    }

    /// A transaction of that server's.
    fn tell(&mut self, me: Id, txn: &Txn) -> bool {
        if self.servers[me].cut_store {
            return false;
        }
        let done = self.commit(txn);
        let store = self.store.clone();
        let server = self.get(me);
        // What it is carrying out goes on from what it wrote itself.
        server.view = store;
        server.quorum = true;
        done
    }

    fn commit(&mut self, txn: &Txn) -> bool {
        let mut view = self.store.view.clone();
        let at = Revision(view.revision.0 + 1);
        let done = view.apply(at, &Command::Txn(txn.clone()));
        match done {
            Ok(Outcome::Done { .. }) => {
                self.store = Store::new(view);
                true
            }
            Ok(Outcome::Refused { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn start(&mut self, me: Id, how: StartAs) {
        let server = self.get(me);
        match how {
            StartAs::Primary { sync } => {
                server.disk.clean = false;
                server.long &= FREE;
                server.run = primary(&sync, server.disk.wal.len());
            }
            StartAs::Replica { follow } => {
                server.disk.kind = Kind2::Replica;
                let follow = follow.as_ref().map(id);
                server.run = Run::Replica { follow };
            }
        }
    }

    fn promote(&mut self, me: Id, sync: &SyncSet, timeline: u32) -> bool {
        let own = self.setup.bug == Some(Bug::OwnTimelineNumbers);
        let term = self.store.seen.term();
        let server = self.get(me);
        if !matches!(server.run, Run::Replica { .. }) {
            return false;
        }
        let last = server.disk.wal.last().map_or(1, |record| record.0);
        let timeline = if own { last + 1 } else { timeline as u8 };
        server.disk.wal.push((timeline, 100 + term as u8));
        server.disk.kind = Kind2::Primary;
        server.disk.clean = false;
        server.long &= FREE;
        server.run = primary(sync, server.disk.wal.len());
        self.complete(me, "promoted");
        true
    }

    fn open(&mut self, me: Id) -> bool {
        let server = self.get(me);
        let Run::Primary { open, waiting, .. } = &mut server.run else {
            return false;
        };
        *open = true;
        // What still waits is not visible to others; what a crash cut off from its session is.
        let waiting = waiting.clone();
        self.complete(me, "opened");
        let writes = self.servers[me].disk.wal.iter();
        let seen = writes.filter(|record| record.1 < 32 && !waiting.contains(&record.1));
        self.shown |= seen.fold(0, |all, record| all | 1 << record.1);
        true
    }

    /// pg_rewind: the last place that both histories have in common, by the numbers of timelines; from
    /// there on, the source's.
    fn rewind(&mut self, me: Id, from: Id) -> bool {
        let source = &self.servers[from];
        if !self.reaches(me, from) || !matches!(source.run, Run::Primary { .. }) {
            return false;
        }
        let theirs = source.disk.wal.clone();
        let mine = &self.servers[me].disk.wal;
        let (one, other) = (history(mine), history(&theirs));
        if one.end.timeline != other.end.timeline {
            let begin_of = |history: &History, timeline: u32| {
                let before = history.ended.iter().rev();
                let mut before = before.filter(|ended| ended.timeline < timeline);
                before.next().map_or(0, |ended| ended.lsn.0)
            };
            let ends = |history: &History| {
                let mut all = history.ended.clone();
                all.push(history.end);
                all
            };
            let mut fork = 0;
            for (a, b) in ends(&one).iter().zip(ends(&other)) {
                let same = a.timeline == b.timeline
                    && begin_of(&one, a.timeline) == begin_of(&other, b.timeline);
                if !same {
                    break;
                }
                fork = a.lsn.min(b.lsn).0 as usize;
            }
            if mine[..fork] != theirs[..fork] {
                self.wrong = Some(format!(
                    "{}: rewound to a place that is not common",
                    NAMES[me]
                ));
            }
            self.get(me).disk.wal = theirs;
        }
        let disk = &mut self.get(me).disk;
        (disk.kind, disk.clean) = (Kind2::Replica, true);
        true
    }

    // ---- What must be.

    /// Everything that clients were shown is here.
    fn complete(&mut self, me: Id, what: &str) {
        if !self.setup.synchronous {
            return;
        }
        let writes = self.servers[me].disk.wal.iter();
        let here = writes.filter(|record| record.1 < 32);
        let here = here.fold(0u32, |all, record| all | 1 << record.1);
        let lost = self.shown & !here;
        if lost != 0 {
            self.wrong = Some(format!("{} {what} without write {lost:b}", NAMES[me]));
        }
    }

    fn check(&mut self) {
        if self.wrong.is_some() {
            return;
        }
        let writable = self.servers.iter();
        let writable = writable.filter(|server| matches!(server.run, Run::Primary { .. }));
        if writable.count() > 1 && !self.setup.leases_broken {
            self.wrong = Some("two writable primaries".to_owned());
        }
        for (replica, name) in NAMES.iter().enumerate().take(self.servers.len()) {
            let Some(source) = self.source(replica) else {
                continue;
            };
            let (mine, theirs) = (
                &self.servers[replica].disk.wal,
                &self.servers[source].disk.wal,
            );
            if theirs[..mine.len()] != mine[..] {
                let source = NAMES[source];
                self.wrong = Some(format!("{name} streams from {source} what does not follow"));
            }
        }
    }

    /// What is missing: one primary, open, and all others that can stream from it, all of it.
    pub fn short_of_goal(&self) -> Option<String> {
        let primaries: Vec<Id> = (0..self.servers.len())
            .filter(|me| matches!(self.servers[*me].run, Run::Primary { .. }))
            .collect();
        let [primary] = primaries[..] else {
            return Some(format!("primaries: {primaries:?}"));
        };
        if self.holder() != Some(primary) {
            return Some("the primary does not hold the lease".to_owned());
        }
        let Run::Primary {
            open: true,
            members,
            waiting,
            ..
        } = &self.servers[primary].run
        else {
            return Some("the primary is not open".to_owned());
        };
        if !waiting.is_empty() {
            return Some("a write waits".to_owned());
        }
        let well = |me: &Id| {
            let server = &self.servers[*me];
            let able = server.agent && !server.disk.broken;
            able && *me != primary && self.reaches(*me, primary)
        };
        let replicas: Vec<Id> = (0..self.servers.len()).filter(well).collect();
        for replica in &replicas {
            let all = self.servers[*replica].disk.wal == self.servers[primary].disk.wal;
            if self.source(*replica) != Some(primary) || !all {
                return Some(format!("{} does not stream", NAMES[*replica]));
            }
        }
        for (name, (restart, _)) in &self.store.seen.restart {
            if id(name) == primary || replicas.contains(&id(name)) {
                return Some(format!("{name} is to be restarted: {restart:?}"));
            }
        }
        if self.setup.synchronous {
            let replicas: Vec<Id> = (0..self.servers.len())
                .filter(|me| self.source(*me) == Some(primary))
                .collect();
            let set = self.set(members, replicas.len().div_ceil(2));
            let recorded = self.store.seen.record.as_ref().map(|(record, _)| record);
            if *members != sorted(&replicas)
                || recorded.is_none_or(|record| record.sync != set || !record.open)
            {
                return Some("the synchronous set is not all replicas".to_owned());
            }
        }
        None
    }

    /// What happens next when nothing more goes wrong: one thing, always the same one. `mend`: what is
    /// broken is repaired.
    pub fn calm(&self, mend: bool) -> Option<(Action, Self)> {
        let all = 0..self.servers.len();
        let mut tries = Vec::new();
        for me in all.clone() {
            let server = &self.servers[me];
            if mend && !server.agent {
                tries.push(Action::Start(me));
            }
            if mend && (server.cut_store || server.cut_peers || server.disk.broken) {
                tries.push(Action::Mend(me));
            }
            if server.leaving {
                tries.push(Action::Exit(me));
            }
        }
        if self.store.seen.paused {
            tries.push(Action::Resume);
        }
        tries.extend(all.clone().map(Action::Look));
        if let Some(holder) = self.holder() {
            let server = &self.servers[holder];
            let gone = !server.agent || server.cut_store;
            match (server.past, gone) {
                (false, true) => tries.push(Action::Deadline),
                (true, true) => tries.push(Action::Expire),
                (past, false) if past || !server.proven => tries.push(Action::Renew(holder)),
                _ => {}
            }
        }
        for me in all.clone() {
            tries.push(Action::Receive(me));
            if let Run::Primary {
                waiting, lagging, ..
            } = &self.servers[me].run
            {
                if *lagging {
                    tries.push(Action::Settle(me));
                }
                tries.extend(waiting.iter().map(|write| Action::Acknowledge(me, *write)));
            }
        }
        let agents = all.filter(|me| self.servers[*me].agent);
        let agents: Vec<Id> = agents.collect();
        tries.extend(agents.iter().map(|me| Action::Act(*me, false)));
        tries.extend(agents.iter().map(|me| Action::Act(*me, true)));
        tries
            .into_iter()
            .find_map(|action| Some((action, self.after(action)?)))
    }
}

fn sorted(ids: &[Id]) -> Vec<Id> {
    // As the names are sorted in a set.
    let mut ids = ids.to_vec();
    ids.sort_by_key(|id| NAMES[*id]);
    ids
}

fn primary(sync: &SyncSet, end: usize) -> Run {
    Run::Primary {
        open: false,
        members: sync.members.iter().map(id).collect(),
        acks: sync.acks,
        since: end,
        lagging: false,
        waiting: Vec::new(),
    }
}

pub fn history(wal: &[Record]) -> History {
    let mut ended = Vec::new();
    for (at, pair) in wal.windows(2).enumerate() {
        if pair[0].0 != pair[1].0 {
            ended.push(Position {
                timeline: u32::from(pair[0].0),
                lsn: Lsn(at as u64 + 1),
            });
        }
    }
    let end = Position {
        timeline: wal.last().map_or(1, |record| u32::from(record.0)),
        lsn: Lsn(wal.len() as u64),
    };
    History::new(ended, end)
}

pub fn server(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

pub fn id(name: &ServerName) -> Id {
    let place = NAMES.iter().position(|known| *known == name.as_str());
    place.unwrap()
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seen = &self.store.seen;
        writeln!(f, "  lease {:?} paused {}", seen.lease, seen.paused)?;
        if let Some((record, _)) = &seen.record {
            writeln!(f, "  {record}")?;
        }
        for (name, (report, _)) in &seen.reports {
            writeln!(f, "  {name} reported {} {:?}", report.term, report.data)?;
        }
        if let Some((request, _)) = &seen.request {
            writeln!(f, "  {request:?}")?;
        }
        for (name, (restart, _)) in &seen.restart {
            writeln!(f, "  restart of {name}: {restart:?}")?;
        }
        for (me, server) in self.servers.iter().enumerate() {
            writeln!(
                f,
                "  {} up {}/{} cut {}/{} proven {} past {} yields {} leaves {} late {} {:?} {:?} {:?}",
                NAMES[me],
                server.machine,
                server.agent,
                server.cut_store,
                server.cut_peers,
                server.proven,
                server.past,
                server.yielding,
                server.leaving,
                !Arc::ptr_eq(&server.view, &self.store),
                server.disk,
                server.run,
                server.queue,
            )?;
        }
        write!(f, "  shown {:b} acked {:b}", self.shown, self.acked)
    }
}
