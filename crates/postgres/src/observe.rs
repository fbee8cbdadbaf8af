//! Watches the PostgreSQL of every server: who is primary, who follows, and how far behind.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_postgres::Statement;
use tokio_postgres::types::PgLsn;
use trilith_base::ServerName;
use trilith_telemetry::Telemetry;

use crate::error::{Error, SqlContext};
use crate::event::DatabaseStateChanged;
use crate::limits::{OBSERVE_INTERVAL, OBSERVE_TIMEOUT};
use crate::lsn::Lsn;
use crate::options::Peer;
use crate::remote::{Session, describe, monitor_config, timed_out};
use crate::secrets::Password;
use crate::tls::Tls;

/// Whom to ask, how often, how patiently.
#[derive(Clone, Debug)]
pub struct ObserverOptions {
    /// Every database server, this one included.
    pub targets: Vec<Peer>,
    /// Of [`crate::MONITOR_ROLE`].
    pub password: Password,
    /// Other servers answer over TLS only.
    pub tls: Option<Tls>,
    /// Between the starts of two questions to one server.
    pub interval: Duration,
    /// For one question, connecting included. After that the server counts as down.
    pub timeout: Duration,
}

impl ObserverOptions {
    /// Every 500 ms, with 1 s for an answer.
    pub fn new(targets: Vec<Peer>, password: Password) -> Self {
        Self {
            targets,
            password,
            tls: None,
            interval: OBSERVE_INTERVAL,
            timeout: OBSERVE_TIMEOUT,
        }
    }
}

/// All database servers as last seen, in the order of [`ObserverOptions::targets`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    pub servers: Vec<ServerView>,
}

/// One database server as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    pub name: ServerName,
    pub address: SocketAddr,
    pub state: ServerState,
    /// Primary: end of the WAL written. Replica: end of the WAL replayed. `None` while down.
    pub lsn: Option<Lsn>,
    /// Replica: bytes of the primary's WAL that it has not replayed. `None` when either is down.
    /// Both positions are up to [`ObserverOptions::interval`] old.
    pub lag_bytes: Option<u64>,
    /// Replica: whether WAL flows in from the primary.
    pub streaming: Option<bool>,
    pub system_id: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// No answer, or none that helps.
    Down {
        why: String,
    },
    Primary,
    Replica,
}

impl ServerState {
    /// `down`, `primary` or `replica`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Down { .. } => "down",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl ClusterView {
    /// The one primary. `None` when there is none, and when several claim to be it: then nobody can
    /// tell from here which one may be written to.
    pub fn primary(&self) -> Option<&ServerView> {
        let mut primaries = self.primaries();
        primaries.next().filter(|_| primaries.next().is_none())
    }

    /// All that claim to be primary.
    pub fn primaries(&self) -> impl Iterator<Item = &ServerView> {
        self.servers
            .iter()
            .filter(|server| server.state == ServerState::Primary)
    }

    /// Replicas that answer, of the primary's database if there is a primary.
    pub fn replicas(&self) -> impl Iterator<Item = &ServerView> {
        let system_id = self.primary().and_then(|primary| primary.system_id);
        self.servers.iter().filter(move |server| {
            server.state == ServerState::Replica
                && (system_id.is_none() || server.system_id == system_id)
        })
    }

    pub fn get(&self, name: &ServerName) -> Option<&ServerView> {
        self.servers.iter().find(|server| server.name == *name)
    }
}

/// Asks all servers until it is dropped.
pub struct Observer {
    view: watch::Receiver<ClusterView>,
    _tasks: JoinSet<()>,
}

impl Observer {
    /// Starts asking, on the current tokio runtime. Until a server has answered it counts as down.
    pub fn start(options: ObserverOptions, telemetry: Telemetry) -> Self {
        let servers = options.targets.iter().map(not_asked_yet).collect();
        let (sender, view) = watch::channel(ClusterView { servers });
        // One slot per server: each has at most one answer under way.
        let (answers, queue) = mpsc::channel(options.targets.len().max(1));
        let mut tasks = JoinSet::new();
        for (index, target) in options.targets.iter().enumerate() {
            let probe = Probe {
                config: monitor_config(target.address, &options.password),
                server: target.name.clone(),
                tls: options.tls.clone(),
                timeout: options.timeout,
                connected: None,
            };
            tasks.spawn(probe.run(index, options.interval, answers.clone()));
        }
        tasks.spawn(collect(queue, sender, telemetry));
        Self {
            view,
            _tasks: tasks,
        }
    }

    /// What is seen, always the newest. It changes only when something did.
    pub fn view(&self) -> watch::Receiver<ClusterView> {
        self.view.clone()
    }
}

fn not_asked_yet(target: &Peer) -> ServerView {
    ServerView {
        name: target.name.clone(),
        address: target.address,
        state: ServerState::Down {
            why: "not asked yet".to_owned(),
        },
        lsn: None,
        lag_bytes: None,
        streaming: None,
        system_id: None,
    }
}

/// An answer of one server.
struct Answer {
    in_recovery: bool,
    lsn: Lsn,
    streaming: bool,
    system_id: u64,
}

const QUERY: &str = "\
    select pg_is_in_recovery(),
           case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                else pg_current_wal_lsn() end,
           exists (select from pg_stat_wal_receiver where status = 'streaming'),
           (select system_identifier from pg_control_system())";

struct Probe {
    config: tokio_postgres::Config,
    server: ServerName,
    tls: Option<Tls>,
    timeout: Duration,
    connected: Option<(Session, Statement)>,
}

impl Probe {
    async fn run(
        mut self,
        index: usize,
        interval: Duration,
        answers: mpsc::Sender<(usize, Result<Answer, String>)>,
    ) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let answer = match tokio::time::timeout(self.timeout, self.ask()).await {
                Ok(answer) => answer,
                Err(_) => Err(timed_out("asking a database server", self.timeout)),
            };
            if answer.is_err() {
                // Whatever state it is in, it is not to be trusted: the next round connects anew.
                self.connected = None;
            }
            let answer = answer.map_err(|error| describe(&error));
            if answers.send((index, answer)).await.is_err() {
                return;
            }
        }
    }

    async fn ask(&mut self) -> Result<Answer, Error> {
        let doing = "asking a database server";
        let (session, statement) = match &mut self.connected {
            Some(connected) => connected,
            empty => {
                let (server, tls) = (&self.server, self.tls.as_ref());
                let session =
                    Session::connect_peer(&self.config, server, tls, self.timeout).await?;
                let statement = session.prepare(QUERY).await.doing(doing)?;
                empty.insert((session, statement))
            }
        };
        let row = session.query_one(&*statement, &[]).await.doing(doing)?;
        let read = || {
            Ok(Answer {
                in_recovery: row.try_get(0)?,
                lsn: Lsn(row.try_get::<_, Option<PgLsn>>(1)?.map_or(0, u64::from)),
                streaming: row.try_get(2)?,
                system_id: row.try_get::<_, i64>(3)?.cast_unsigned(),
            })
        };
        read().doing(doing)
    }
}

async fn collect(
    mut queue: mpsc::Receiver<(usize, Result<Answer, String>)>,
    sender: watch::Sender<ClusterView>,
    telemetry: Telemetry,
) {
    while let Some((index, answer)) = queue.recv().await {
        sender.send_if_modified(|view| {
            let before = view.clone();
            apply(view, index, answer);
            if let (Some(old), Some(new)) = (before.servers.get(index), view.servers.get(index))
                && old.state.word() != new.state.word()
            {
                telemetry.emit(&DatabaseStateChanged { server: new });
            }
            *view != before
        });
    }
}

/// Puts one answer into the view and works out everybody's lag anew.
fn apply(view: &mut ClusterView, index: usize, answer: Result<Answer, String>) {
    let Some(server) = view.servers.get_mut(index) else {
        return;
    };
    match answer {
        Ok(answer) => {
            server.state = if answer.in_recovery {
                ServerState::Replica
            } else {
                ServerState::Primary
            };
            server.lsn = Some(answer.lsn);
            server.streaming = answer.in_recovery.then_some(answer.streaming);
            server.system_id = Some(answer.system_id);
        }
        Err(why) => {
            server.state = ServerState::Down { why };
            server.lsn = None;
            server.streaming = None;
            server.system_id = None;
        }
    }
    let primary = view.primary().and_then(|primary| primary.lsn);
    for server in &mut view.servers {
        server.lag_bytes = match (&server.state, primary, server.lsn) {
            (ServerState::Replica, Some(primary), Some(replayed)) => {
                Some(primary.bytes_since(replayed))
            }
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests;
