//! One instance: performs what [`Life`] decides, and reports what happened.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trilith_base::{ServerName, format_duration};
use trilith_telemetry::Telemetry;

use crate::environment::{self, Contract};
use crate::event::{
    CrashLoop, InstanceAbandoned, InstanceFailed, InstanceReady, InstanceStopped, InstanceUnhealthy,
};
use crate::life::{Effect, Input, Life, Phase, Reason};
use crate::limits::{CRASH_LOOP_FROM, OUTPUT_DRAIN, TAIL_LINES_MAX, UNHEALTHY_RESTART_AFTER};
use crate::log::{LogSink, Stream, Tail, copy_lines};
use crate::ports::{Port, Ports};
use crate::probe::{ProbeError, probe};
use crate::spawn::{Plan, Running, SpawnHandle, describe};
use crate::user::is_root;
use crate::{AppKind, AppOptions, InstanceId, InstanceState, InstanceStatus, Release};

/// What all instances of a supervisor share.
pub(crate) struct Context {
    pub server: ServerName,
    pub release: Release,
    pub host: IpAddr,
    pub log_dir: PathBuf,
    pub tmp_dir: PathBuf,
    pub env: BTreeMap<String, String>,
    pub ports: Ports,
    pub telemetry: Telemetry,
    pub board: watch::Sender<Vec<InstanceStatus>>,
}

/// What an instance is told. Only ever goes up; a sender that is gone means [`Order::Stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Run,
    Drain,
    Stop,
}

type ProbeFuture = Pin<Box<dyn Future<Output = Result<(), ProbeError>> + Send>>;

pub(crate) struct Instance {
    context: Arc<Context>,
    app: Arc<AppOptions>,
    id: InstanceId,
    name: Arc<str>,
    sink: LogSink,
    spawner: SpawnHandle,
    life: Life,
    process: Option<Process>,
    probe: Option<ProbeFuture>,
    tail: Tail,
    /// Processes started so far.
    starts: u32,
    /// Why the supervisor ended the process, when it did.
    ended_for: Option<String>,
    killed: bool,
    last_probe_problem: Option<String>,
    last_failure: Option<String>,
}

struct Process {
    running: Running,
    started: Instant,
    address: Option<SocketAddr>,
    /// Keeps the port from being given to another instance.
    _port: Option<Port>,
    readers: [JoinHandle<()>; 2],
}

impl Instance {
    pub(crate) fn new(
        context: Arc<Context>,
        app: Arc<AppOptions>,
        number: u16,
        sink: LogSink,
        spawner: SpawnHandle,
    ) -> Self {
        let id = InstanceId::new(&app.name, number);
        let life = Life::new(app.kind, app.start_timeout, app.stop_grace, Instant::now());
        let instance = Self {
            context,
            app,
            name: id.to_string().into(),
            id,
            sink,
            spawner,
            life,
            process: None,
            probe: None,
            tail: Tail::new(TAIL_LINES_MAX),
            starts: 0,
            ended_for: None,
            killed: false,
            last_probe_problem: None,
            last_failure: None,
        };
        instance.context.board.send_modify(|board| {
            board.push(InstanceStatus {
                id: instance.id.clone(),
                release: instance.context.release.id.clone(),
                kind: instance.app.kind,
                state: InstanceState::Starting,
                since: SystemTime::now(),
                pid: None,
                address: None,
                restarts: 0,
                last_failure: None,
            });
        });
        instance
    }

    /// Runs until the instance is stopped.
    pub(crate) async fn run(mut self, mut orders: watch::Receiver<Order>) {
        let mut obeyed = Order::Run;
        while self.life.phase() != Phase::Stopped {
            let timer = self.life.next_timer();
            let input = tokio::select! {
                biased;
                order = next_order(&mut orders, obeyed) => {
                    obeyed = order;
                    if order == Order::Drain { Input::Drain } else { Input::Stop }
                }
                () = process_ended(self.process.as_ref(), self.life.phase()) => Input::Exited,
                result = poll_probe(&mut self.probe) => {
                    self.probe = None;
                    let good = result.is_ok();
                    self.last_probe_problem = result.err().map(|error| error.to_string());
                    Input::Probe(good)
                }
                () = sleep_until(timer) => Input::Timer,
            };
            self.take(input).await;
        }
    }

    /// Feeds the life, and does what it says until it says nothing more.
    async fn take(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            if input == Input::Exited {
                self.collect().await;
            }
            let before = self.life.phase();
            let effect = self.life.on(input, Instant::now(), rand::random());
            self.report(before);
            self.publish();
            next = match effect {
                Some(effect) => self.perform(effect).await,
                None => None,
            };
        }
    }

    async fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Spawn => match self.spawn().await {
                Ok(()) => return Some(Input::Spawned),
                Err(problem) => {
                    self.note(&format!("not started: {problem}"));
                    self.ended_for = Some(problem);
                    return Some(Input::SpawnFailed);
                }
            },
            Effect::Probe => {
                if let Some(address) = self.process.as_ref().and_then(|process| process.address) {
                    let path = self.app.health_path.clone();
                    self.probe = Some(Box::pin(async move { probe(address, &path).await }));
                }
            }
            Effect::Terminate(reason) => {
                self.probe = None;
                self.ended_for = self.why(reason);
                self.signal(Signal::SIGTERM);
            }
            Effect::Kill => {
                self.killed = true;
                self.signal(Signal::SIGKILL);
            }
            Effect::Abandon => {
                if let Some(process) = self.process.take() {
                    let pid = process.running.pid();
                    let event = InstanceAbandoned {
                        app: &self.app.name,
                        instance: &self.name,
                        pid,
                    };
                    self.context.telemetry.emit(&event);
                    process.readers.iter().for_each(JoinHandle::abort);
                    process.running.abandon();
                }
            }
        }
        None
    }

    async fn spawn(&mut self) -> Result<(), String> {
        let context = &self.context;
        let port = match self.app.kind {
            AppKind::Worker => None,
            AppKind::Web => {
                let port = context.ports.choose(&context.server, &self.id, self.starts);
                Some(port.ok_or_else(|| "no free port in the range for instances".to_owned())?)
            }
        };
        let address = port
            .as_ref()
            .map(|port| SocketAddr::new(context.host, port.number()));
        let tmp_dir = context.tmp_dir.join(&*self.name);
        let user = self.app.user.as_ref().filter(|_| is_root());
        let contract = Contract {
            server: context.server.as_str(),
            instance: &self.name,
            release: context.release.id.as_str(),
            listen: address,
            tmp_dir: &tmp_dir,
            user: user.map(|user| user.name.as_str()),
        };
        let env = environment::build(environment::ours(), &context.env, &self.app.env, &contract);
        let plan = Plan {
            app: self.app.name.clone(),
            instance: self.name.to_string(),
            release: context.release.id.to_string(),
            command: self.app.command.clone(),
            env,
            dir: context.release.dir.clone(),
            tmp_dir,
            user: user.cloned(),
        };
        self.starts += 1;
        self.ended_for = None;
        self.killed = false;
        self.last_probe_problem = None;
        self.tail.take();
        let spawned = self
            .spawner
            .spawn(plan)
            .await
            .map_err(|error| error.to_string())?;
        let (running, stdout, stderr) =
            Running::new(spawned).map_err(|error| format!("cannot watch the process: {error}"))?;
        let listens = address
            .map(|address| format!(", listens on {address}"))
            .unwrap_or_default();
        self.note(&format!("started: pid {}{listens}", running.pid()));
        let read = |pipe, stream| {
            let (sink, tail) = (self.sink.clone(), self.tail.clone());
            tokio::spawn(copy_lines(pipe, Arc::clone(&self.name), stream, sink, tail))
        };
        self.process = Some(Process {
            running,
            started: Instant::now(),
            address,
            _port: port,
            readers: [read(stdout, Stream::Stdout), read(stderr, Stream::Stderr)],
        });
        Ok(())
    }

    /// Takes what an ended process leaves: the rest of its group, its last words, its status.
    async fn collect(&mut self) {
        self.probe = None;
        let Some(process) = self.process.take() else {
            return;
        };
        // An app is its whole group: what the first process leaves running would be out of reach.
        self.log_signal_error(process.running.signal(Signal::SIGKILL));
        let until = tokio::time::Instant::now() + OUTPUT_DRAIN;
        for mut reader in process.readers {
            // A process that left the group may hold a pipe open: do not wait for it.
            if tokio::time::timeout_at(until, &mut reader).await.is_err() {
                reader.abort();
            }
        }
        let pid = process.running.pid();
        let end = match process.running.reap() {
            Ok(status) => describe(status),
            Err(error) => format!("unknown end ({error})"),
        };
        self.spawner.forget(pid);
        self.note(&format!("ended: {end}"));
        if self.life.is_draining() {
            let event = InstanceStopped {
                app: &self.app.name,
                instance: &self.name,
                end: &end,
                killed: self.killed,
            };
            self.context.telemetry.emit(&event);
        }
        self.ended_for = Some(match self.ended_for.take() {
            Some(reason) => format!("{reason} ({end})"),
            None => end,
        });
    }

    /// Tells of a change of phase.
    fn report(&mut self, before: Phase) {
        let now = Instant::now();
        let (app, instance) = (&*self.id.app, &*self.name);
        let telemetry = &self.context.telemetry;
        match (before, self.life.phase()) {
            (Phase::Starting { .. }, Phase::Live { .. }) => {
                if let Some(process) = &self.process {
                    let pid = process.running.pid();
                    let took = now.duration_since(process.started);
                    telemetry.emit(&InstanceReady {
                        app,
                        instance,
                        pid,
                        took,
                    });
                }
            }
            (Phase::Unhealthy { .. }, Phase::Live { .. }) => {
                tracing::info!(instance, "instance is healthy again, in rotation");
            }
            (Phase::Live { .. }, Phase::Unhealthy { .. }) => {
                let problem = self.last_probe_problem.as_deref().unwrap_or_default();
                telemetry.emit(&InstanceUnhealthy {
                    app,
                    instance,
                    problem,
                });
            }
            (before, Phase::Waiting { until }) if before != self.life.phase() => {
                let problem = self
                    .ended_for
                    .clone()
                    .unwrap_or_else(|| "unknown end".to_owned());
                let failures = self.life.failures();
                telemetry.emit(&InstanceFailed {
                    app,
                    instance,
                    problem: &problem,
                    output: &self.tail.take(),
                    failures,
                    next_start_in: until.saturating_duration_since(now),
                });
                if failures == CRASH_LOOP_FROM {
                    let log_file = self.context.log_dir.join(format!("app-{app}.log"));
                    telemetry.emit(&CrashLoop {
                        app,
                        instance,
                        failures,
                        log_file: &log_file,
                    });
                }
                self.last_failure = Some(problem);
            }
            _ => {}
        }
    }

    /// Brings the status up to date.
    fn publish(&self) {
        let state = self.state();
        let process = self.process.as_ref();
        let pid = process.map(|process| process.running.pid());
        let address = process.and_then(|process| process.address);
        let restarts = self.starts.saturating_sub(1);
        self.context.board.send_if_modified(|board| {
            let release = &self.context.release.id;
            let mine = board
                .iter_mut()
                .find(|one| one.id == self.id && one.release == *release);
            let Some(mine) = mine else { return false };
            let mut new = InstanceStatus {
                state,
                pid,
                address,
                restarts,
                last_failure: self.last_failure.clone(),
                ..mine.clone()
            };
            if same_state(new.state, mine.state) {
                new.state = mine.state;
            } else {
                new.since = SystemTime::now();
            }
            let changed = *mine != new;
            *mine = new;
            changed
        });
    }

    fn state(&self) -> InstanceState {
        if self.life.is_draining() && self.life.phase() != Phase::Stopped {
            return InstanceState::Draining;
        }
        match self.life.phase() {
            Phase::Waiting { .. } if self.life.failures() == 0 => InstanceState::Starting,
            Phase::Waiting { until } => InstanceState::Backoff {
                until: SystemTime::now() + until.saturating_duration_since(Instant::now()),
                attempt: self.life.failures(),
            },
            Phase::Starting { .. } => InstanceState::Starting,
            Phase::Live { .. } => InstanceState::Live,
            Phase::Unhealthy { .. } | Phase::Ending { .. } => InstanceState::Unhealthy,
            Phase::Stopped => InstanceState::Stopped,
        }
    }

    fn why(&self, reason: Reason) -> Option<String> {
        let (what, time) = match reason {
            Reason::NotReadyInTime => ("not ready within", self.app.start_timeout),
            Reason::Unhealthy => ("unhealthy for", UNHEALTHY_RESTART_AFTER),
            Reason::Stop => return None,
        };
        let time = format_duration(time);
        let problem = self
            .last_probe_problem
            .as_deref()
            .unwrap_or("no health check ended");
        Some(format!("{what} {time}: {problem}"))
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            self.log_signal_error(process.running.signal(signal));
        }
    }

    fn log_signal_error(&self, result: std::io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(instance = &*self.name, %error, "cannot signal the instance");
        }
    }

    fn note(&self, text: &str) {
        self.sink
            .write(&self.name, Stream::Trilith, text.as_bytes());
    }
}

/// Two backoffs are the same when they are the same attempt; their wall-clock times differ by
/// rounding.
fn same_state(one: InstanceState, other: InstanceState) -> bool {
    match (one, other) {
        (
            InstanceState::Backoff { attempt: one, .. },
            InstanceState::Backoff { attempt: other, .. },
        ) => one == other,
        _ => one == other,
    }
}

/// The next order above `obeyed`. Cancel-safe.
async fn next_order(orders: &mut watch::Receiver<Order>, obeyed: Order) -> Order {
    if obeyed == Order::Stop {
        return pending().await;
    }
    match orders.wait_for(|order| *order > obeyed).await {
        Ok(order) => *order,
        Err(_) => Order::Stop,
    }
}

/// The end of the process. While it is being stopped, the others of its group are waited for too:
/// they use the grace time as well.
async fn process_ended(process: Option<&Process>, phase: Phase) {
    match process {
        None => pending().await,
        Some(process) if matches!(phase, Phase::Ending { .. }) => {
            process.running.group_ended().await;
        }
        Some(process) => process.running.leader_ended().await,
    }
}

async fn poll_probe(probe: &mut Option<ProbeFuture>) -> Result<(), ProbeError> {
    match probe {
        Some(probe) => probe.await,
        None => pending().await,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => pending().await,
    }
}
