//! The supervisor: starts the instances of a release, and stops them in the right order.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use trilith_telemetry::Telemetry;

use crate::instance::{Context, Instance, Order};
use crate::leftover::{Ledger, end_leftovers};
use crate::limits::INSTANCES_MAX;
use crate::log::{LogSink, LogThread};
use crate::ports::Ports;
use crate::procfile::is_process_name;
use crate::spawn::Spawner;
use crate::user::is_root;
use crate::{AppError, AppOptions, InstanceState, InstanceStatus, Options, first_closed_folder};

/// Runs the instances of one release on this server, and keeps them running.
///
/// Each instance is a task of its own that follows its `Life`; this type only starts them and
/// passes orders on. A rolling deploy can therefore run the instances of two releases side by side:
/// status entries are told apart by release and id.
///
/// Dropping it stops every instance without a drain, in the background, as long as the runtime
/// lives; with the runtime the processes end too (SIGKILL). Use [`Supervisor::stop`].
pub struct Supervisor {
    status: watch::Receiver<Vec<InstanceStatus>>,
    orders: watch::Sender<Order>,
    instances: Vec<JoinHandle<()>>,
    spawner: Option<Spawner>,
    logs: Vec<LogThread>,
}

impl Supervisor {
    /// Ends what a killed predecessor left running, then starts every instance. Returns without
    /// waiting for them to be ready: [`Supervisor::status`] tells. Call it inside a multi-thread
    /// runtime.
    ///
    /// # Errors
    /// Options that cannot work, a user that cannot reach the release, folders that cannot be made.
    /// An app that does not start is no error here but a state of its instances.
    pub async fn start(options: Options, telemetry: Telemetry) -> Result<Self, AppError> {
        check(&options)?;
        let run_dir = options.run_dir.clone();
        for (dir, mode) in [
            (&options.log_dir, 0o750),
            (&options.run_dir, 0o750),
            (&options.tmp_dir, 0o711),
        ] {
            prepare_dir(dir, mode)?;
        }
        check_reach(&options)?;
        let for_leftovers = telemetry.clone();
        let ledger = tokio::task::spawn_blocking(move || {
            end_leftovers(&run_dir, &for_leftovers);
            Ledger::create(&run_dir).map_err(|source| AppError::Io {
                what: "write instances.json in",
                path: run_dir,
                source,
            })
        });
        let ledger = ledger.await.map_err(|error| AppError::Thread {
            source: error.into(),
        })??;
        let spawner = Spawner::start(Some(ledger)).map_err(|source| AppError::Thread { source })?;

        let (board, status) = watch::channel(Vec::new());
        let (orders, _) = watch::channel(Order::Run);
        let context = Arc::new(Context {
            server: options.server,
            release: options.release,
            host: options.host,
            log_dir: options.log_dir,
            tmp_dir: options.tmp_dir,
            env: options.env,
            ports: Ports::new(options.host, options.ports),
            telemetry: telemetry.clone(),
            board,
        });
        let mut this = Self {
            status,
            orders,
            instances: Vec::new(),
            spawner: None,
            logs: Vec::new(),
        };
        for app in options.apps {
            let app = Arc::new(app);
            let (sink, log) = LogSink::open(&context.log_dir, &app.name, telemetry.clone())
                .map_err(|source| AppError::Io {
                    what: "open the log of an app in",
                    path: context.log_dir.clone(),
                    source,
                })?;
            this.logs.push(log);
            for number in 1..=app.instances {
                let context = Arc::clone(&context);
                let (app, sink) = (Arc::clone(&app), sink.clone());
                let instance = Instance::new(context, app, number, sink, spawner.handle());
                this.instances
                    .push(tokio::spawn(instance.run(this.orders.subscribe())));
            }
        }
        this.spawner = Some(spawner);
        Ok(this)
    }

    /// The state of every instance, now and whenever it changes. Instances keep their place in it.
    pub fn status(&self) -> watch::Receiver<Vec<InstanceStatus>> {
        self.status.clone()
    }

    /// Stops everything: every instance leaves the rotation ([`InstanceState::Draining`]), then
    /// `drained` is awaited (the caller's proof that no request is under way, or a time limit),
    /// then SIGTERM, and SIGKILL after each app's `stop_grace`. Returns when no process is left and
    /// every log is written.
    pub async fn stop(mut self, drained: impl Future<Output = ()>) {
        self.orders.send_replace(Order::Drain);
        let out_of_rotation = |status: &Vec<InstanceStatus>| {
            let out = |one: &InstanceStatus| {
                matches!(one.state, InstanceState::Draining | InstanceState::Stopped)
            };
            status.iter().all(out)
        };
        // An error means that every instance has ended already.
        if self.status.wait_for(out_of_rotation).await.is_ok() {
            drained.await;
        }
        self.orders.send_replace(Order::Stop);
        for instance in self.instances.drain(..) {
            if let Err(error) = instance.await {
                tracing::error!(%error, "an instance's task failed");
            }
        }
        let (spawner, logs) = (self.spawner.take(), std::mem::take(&mut self.logs));
        let finish = move || {
            spawner.into_iter().for_each(Spawner::finish);
            logs.into_iter().for_each(LogThread::finish);
        };
        let _ = tokio::task::spawn_blocking(finish).await;
    }
}

fn check(options: &Options) -> Result<(), AppError> {
    let mut names = BTreeSet::new();
    for app in &options.apps {
        let bad = |problem: &str| {
            Err(AppError::BadApp {
                app: app.name.clone(),
                problem: problem.to_owned(),
            })
        };
        if !is_process_name(&app.name) {
            return bad("its name has to be 1 to 63 of letters, digits, `-` and `_`");
        }
        if !names.insert(app.name.as_str()) {
            return bad("there are two of this name");
        }
        if app.instances > INSTANCES_MAX {
            return bad(&format!("more than {INSTANCES_MAX} instances"));
        }
        if !is_request_target(&app.health_path) {
            return bad("`health` has to be a path such as `/healthz`, percent-encoded");
        }
        check_env(app)?;
    }
    Ok(())
}

/// What a request line can carry (RFC 9112 section 3.2.1): no spaces, no control bytes.
fn is_request_target(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic())
}

fn check_env(app: &AppOptions) -> Result<(), AppError> {
    for (key, value) in &app.env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            let problem = format!("`{key}` cannot be set in an environment");
            return Err(AppError::BadApp {
                app: app.name.clone(),
                problem,
            });
        }
    }
    Ok(())
}

fn check_reach(options: &Options) -> Result<(), AppError> {
    if !is_root() {
        return Ok(());
    }
    for user in options.apps.iter().filter_map(|app| app.user.as_ref()) {
        for dir in [&options.release.dir, &options.tmp_dir] {
            if let Some(folder) = first_closed_folder(dir, user) {
                return Err(AppError::Unreachable {
                    user: user.name.clone(),
                    folder,
                });
            }
        }
    }
    Ok(())
}

/// Makes a folder, with its parents, that only we write in. One that exists keeps its own mode, but
/// lets in whom `mode` lets in.
pub(crate) fn prepare_dir(dir: &Path, mode: u32) -> Result<(), AppError> {
    let at = |what| {
        move |source| AppError::Io {
            what,
            path: dir.to_owned(),
            source,
        }
    };
    if !dir.is_dir() {
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent).map_err(at("make the folder of"))?;
        }
        DirBuilder::new()
            .mode(mode)
            .create(dir)
            .map_err(at("make"))?;
        return Ok(());
    }
    let before = dir.metadata().map_err(at("look at"))?.permissions().mode() & 0o7777;
    if before & mode != mode {
        let permissions = std::fs::Permissions::from_mode(before | mode);
        std::fs::set_permissions(dir, permissions).map_err(at("open"))?;
    }
    Ok(())
}
