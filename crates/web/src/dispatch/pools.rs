//! The connections of one worker to app instances.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use trilith_http::{ClientOptions, Endpoint, Pool};
use trilith_telemetry::{HotCounter, WorkerMetrics};

use crate::dispatch::instances::{App, Instance, InstanceSet};

/// Of every app, by its number.
pub struct WorkerPools {
    options: ClientOptions,
    metrics: WorkerMetrics,
    apps: RefCell<Vec<Option<Rc<AppPools>>>>,
}

/// Connections to the instances of one app, as of one set of instances.
pub struct AppPools {
    set: Arc<InstanceSet>,
    /// One for each instance of `set`.
    pools: Vec<Pool>,
    /// Where the next search for an instance begins.
    next: Cell<usize>,
    pub counters: AppCounters,
}

#[derive(Clone)]
pub struct AppCounters {
    pub requests: HotCounter,
    pub retries: HotCounter,
    pub try_another: HotCounter,
    metrics: WorkerMetrics,
    app: Arc<str>,
}

/// Instances that a request was tried on, by position.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    positions: u64,
    pub count: u32,
}

impl WorkerPools {
    pub fn new(options: ClientOptions, metrics: WorkerMetrics) -> Self {
        Self {
            options,
            metrics,
            apps: RefCell::default(),
        }
    }

    /// Up to date with the app's instances.
    pub fn of(&self, app: &App) -> Rc<AppPools> {
        let set = app.instances();
        let mut apps = self.apps.borrow_mut();
        if apps.len() <= app.number {
            apps.resize(app.number + 1, None);
        }
        let slot = &mut apps[app.number];
        match slot {
            Some(pools) if Arc::ptr_eq(&pools.set, &set) => Rc::clone(pools),
            _ => {
                let pools = Rc::new(self.update(app, &set, slot.as_deref()));
                *slot = Some(Rc::clone(&pools));
                pools
            }
        }
    }

    /// Closes connections that have been idle for too long or that their instance has closed.
    pub fn reap(&self) {
        for pools in self.apps.borrow().iter().flatten() {
            pools.pools.iter().for_each(Pool::reap);
        }
    }

    /// Instances that stay keep their connections; those of the others are closed.
    fn update(&self, app: &App, set: &Arc<InstanceSet>, old: Option<&AppPools>) -> AppPools {
        let known = |instance: &Arc<Instance>| {
            let old = old?;
            let position = old
                .set
                .iter()
                .position(|known| Arc::ptr_eq(known, instance))?;
            Some(old.pools[position].clone())
        };
        let pools = set.iter().map(|instance| {
            known(instance).unwrap_or_else(|| {
                let endpoint = Endpoint {
                    address: instance.address,
                    tls: None,
                };
                Pool::new(endpoint, self.options.clone())
            })
        });
        let pools = pools.collect();
        if let Some(old) = old {
            for (gone, pool) in old.set.iter().zip(&old.pools) {
                if !set.iter().any(|live| Arc::ptr_eq(live, gone)) {
                    pool.close();
                }
            }
        }
        AppPools {
            set: Arc::clone(set),
            pools,
            next: Cell::new(old.map_or(0, |old| old.next.get())),
            counters: AppCounters::new(&self.metrics, &app.name),
        }
    }
}

impl std::fmt::Debug for WorkerPools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerPools({} apps)", self.apps.borrow().len())
    }
}

impl AppPools {
    /// The instance with the fewest requests under way that has not been tried; the instances take
    /// turns where several have equally few.
    pub fn pick(&self, tried: &mut Tried) -> Option<(&Arc<Instance>, &Pool)> {
        let count = self.set.len();
        let first = self.next.get();
        let mut best: Option<(u32, usize)> = None;
        for step in 0..count {
            let at = (first + step) % count;
            let load = self.set[at].in_flight();
            if !tried.contains(at) && best.is_none_or(|(least, _)| load < least) {
                best = Some((load, at));
            }
        }
        let (_, at) = best?;
        self.next.set(at + 1);
        tried.add(at);
        Some((&self.set[at], &self.pools[at]))
    }
}

impl Tried {
    /// Positions past the bits share the last one: with that many instances nobody misses one.
    fn bit(at: usize) -> u64 {
        1 << at.min(63)
    }

    fn contains(self, at: usize) -> bool {
        self.positions & Self::bit(at) != 0
    }

    fn add(&mut self, at: usize) {
        self.positions |= Self::bit(at);
        self.count += 1;
    }
}

impl AppCounters {
    fn new(metrics: &WorkerMetrics, app: &Arc<str>) -> Self {
        let counter = |name, help| metrics.counter(name, help, vec![("app", app.to_string())]);
        Self {
            requests: counter("web_app_requests", "Requests sent to app instances"),
            retries: counter(
                "web_app_retries",
                "Requests sent again, to another instance",
            ),
            try_another: counter(
                "web_app_try_another",
                "Requests that no instance of this server could take",
            ),
            metrics: metrics.clone(),
            app: Arc::clone(app),
        }
    }

    /// Counts a failure of an instance. Rare, so the series is looked up.
    pub fn failed(&self, kind: &'static str) {
        let labels = vec![("app", self.app.to_string()), ("kind", kind.to_owned())];
        let help = "Requests that an app instance failed to answer";
        self.metrics.counter("web_app_failures", help, labels).inc();
    }
}
