//! The live instances of apps, shared by all workers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::options::InstanceAddr;

/// Every app that was ever named, by name. Numbers are never used twice.
#[derive(Debug, Default)]
pub struct Apps {
    /// Taken when options or instances change, never by a request.
    all: Mutex<Vec<Arc<App>>>,
}

impl Apps {
    /// The app of that name; without instances if it is new.
    pub fn get(&self, name: &str) -> Arc<App> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(app) = all.iter().find(|app| *app.name == *name) {
            return Arc::clone(app);
        }
        let app = Arc::new(App {
            name: name.into(),
            number: all.len(),
            instances: ArcSwap::default(),
        });
        all.push(Arc::clone(&app));
        app
    }
}

#[derive(Debug)]
pub struct App {
    pub name: Arc<str>,
    /// Counts from 0, for tables.
    pub number: usize,
    instances: ArcSwap<InstanceSet>,
}

/// The live instances at one moment.
pub type InstanceSet = Vec<Arc<Instance>>;

#[derive(Debug)]
pub struct Instance {
    pub id: Arc<str>,
    pub address: SocketAddr,
    /// Requests under way, from all workers.
    in_flight: AtomicU32,
}

impl App {
    pub fn instances(&self) -> arc_swap::Guard<Arc<InstanceSet>> {
        self.instances.load()
    }

    /// Whether the set is another than before. An instance that stays keeps its count.
    pub fn set_instances(&self, live: &[InstanceAddr]) -> bool {
        let old = self.instances.load();
        let same = |instance: &Instance, new: &InstanceAddr| {
            *instance.id == *new.id && instance.address == new.address
        };
        let unchanged = old.len() == live.len()
            && old
                .iter()
                .zip(live)
                .all(|(instance, new)| same(instance, new));
        if unchanged {
            return false;
        }
        let set = live.iter().map(|new| {
            let known = old.iter().find(|instance| same(instance, new));
            known
                .cloned()
                .unwrap_or_else(|| Arc::new(Instance::new(new)))
        });
        self.instances.store(Arc::new(set.collect()));
        true
    }
}

impl Instance {
    fn new(at: &InstanceAddr) -> Self {
        Self {
            id: at.id.as_str().into(),
            address: at.address,
            in_flight: AtomicU32::new(0),
        }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }
}

/// A request under way; dropped when its response has been read to the end, or given up.
#[derive(Debug)]
pub struct InFlight(Arc<Instance>);

impl InFlight {
    pub fn new(instance: &Arc<Instance>) -> Self {
        instance.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(instance))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
