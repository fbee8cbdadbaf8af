//! Tasks, timers and clocks of a whole cluster on one thread, in virtual time.
//!
//! Every task belongs to a server, or to the world (the network, the clients, the faults). Which ready task
//! runs next is drawn from the seed: the order in which wakers were called plays no part, so neither do the
//! random numbers that tokio's channels draw inside.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, BinaryHeap};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::clock::Clock;
use crate::limits::POLLS_PER_INSTANT_MAX;

/// True time since the simulation began, nanoseconds. No server can read it.
pub type Nanos = u64;

/// The server that a task belongs to; the life ends with a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub server: usize,
    pub life: u32,
}

/// What belongs to no server.
pub const WORLD: Owner = Owner {
    server: usize::MAX,
    life: 0,
};

pub struct Executor {
    now: Cell<Nanos>,
    current: Cell<Owner>,
    tasks: RefCell<Vec<Option<Task>>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Ready>,
    timers: RefCell<BinaryHeap<Timer>>,
    timer_count: Cell<u64>,
    servers: RefCell<Vec<Lived>>,
    rng: RefCell<SmallRng>,
    /// First panic of a task.
    panicked: RefCell<Option<String>>,
    polls: Cell<u64>,
}

struct Task {
    owner: Owner,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    waker: Arc<TaskWaker>,
}

/// A server as far as the executor cares.
struct Lived {
    life: u32,
    clock: Clock,
    paused: bool,
    /// Tasks that would run were it not paused.
    parked: BTreeSet<usize>,
}

#[derive(Default)]
struct Ready {
    ids: Mutex<BTreeSet<usize>>,
}

struct TaskWaker {
    id: usize,
    /// A waker may outlive its task, whose number then is somebody else's.
    over: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.over.load(Ordering::Relaxed) {
            let mut ids = self
                .ready
                .ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            ids.insert(self.id);
        }
    }
}

struct Timer {
    at: Nanos,
    number: u64,
    waker: Waker,
    cancelled: Arc<AtomicBool>,
}

thread_local! {
    static EXECUTOR: RefCell<Option<Rc<Executor>>> = const { RefCell::new(None) };
}

/// The one of this thread.
///
/// # Panics
/// Outside of a simulation.
pub fn executor() -> Rc<Executor> {
    try_executor().unwrap_or_else(|| panic!("this thread runs no simulation"))
}

pub fn try_executor() -> Option<Rc<Executor>> {
    EXECUTOR
        .try_with(|cell| cell.borrow().clone())
        .ok()
        .flatten()
}

impl Executor {
    /// Becomes the one of this thread, until it is dropped by [`Executor::finish`].
    pub fn install(seed: u64) -> Rc<Self> {
        let executor = Rc::new(Self {
            now: Cell::new(0),
            current: Cell::new(WORLD),
            tasks: RefCell::default(),
            free: RefCell::default(),
            ready: Arc::default(),
            timers: RefCell::default(),
            timer_count: Cell::new(0),
            servers: RefCell::default(),
            rng: RefCell::new(SmallRng::seed_from_u64(seed)),
            panicked: RefCell::default(),
            polls: Cell::new(0),
        });
        EXECUTOR.with(|cell| *cell.borrow_mut() = Some(executor.clone()));
        executor
    }

    pub fn finish(&self) {
        let servers = self.servers.borrow().len();
        for server in 0..servers {
            self.end_life(server);
        }
        let all: Vec<_> = self.tasks.borrow_mut().drain(..).collect();
        drop(all);
        self.timers.borrow_mut().clear();
        EXECUTOR.with(|cell| *cell.borrow_mut() = None);
    }

    pub fn add_server(&self, clock: Clock) -> usize {
        let mut servers = self.servers.borrow_mut();
        servers.push(Lived {
            life: 0,
            clock,
            paused: false,
            parked: BTreeSet::new(),
        });
        servers.len() - 1
    }

    pub fn now(&self) -> Nanos {
        self.now.get()
    }

    pub fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Whose code runs at the moment.
    pub fn current(&self) -> Owner {
        self.current.get()
    }

    pub fn owner(&self, server: usize) -> Owner {
        let life = self.servers.borrow()[server].life;
        Owner { server, life }
    }

    pub fn take_panic(&self) -> Option<String> {
        self.panicked.borrow_mut().take()
    }

    /// Runs something as if it were called by a task of `owner`.
    pub fn within<T>(&self, owner: Owner, work: impl FnOnce() -> T) -> T {
        let before = self.current.replace(owner);
        let result = work();
        self.current.set(before);
        result
    }

    /// A number below `bound`, for what servers draw and what schedules.
    pub fn draw(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().random_range(0..bound.max(1))
    }

    pub fn draw_u64(&self) -> u64 {
        self.rng.borrow_mut().random()
    }

    // Tasks.

    pub fn spawn(&self, owner: Owner, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if owner != WORLD && self.owner(owner.server) != owner {
            // The last words of a life that ended: nobody runs them.
            drop(future);
            return;
        }
        let id = self.free.borrow_mut().pop();
        let mut tasks = self.tasks.borrow_mut();
        let id = id.unwrap_or_else(|| {
            tasks.push(None);
            tasks.len() - 1
        });
        let waker = Arc::new(TaskWaker {
            id,
            over: AtomicBool::new(false),
            ready: self.ready.clone(),
        });
        waker.wake_by_ref();
        tasks[id] = Some(Task {
            owner,
            future: Some(future),
            waker,
        });
    }

    /// Runs until nothing is to be done before `end`.
    ///
    /// # Errors
    /// When tasks go on for ever without time passing, or one of them panicked.
    pub fn run_until(
        &self,
        end: Nanos,
        mut step: impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let mut at_this_instant = 0_u64;
        loop {
            while let Some(id) = self.next_ready() {
                self.poll(id);
                if let Some(text) = self.take_panic() {
                    return Err(format!("a task panicked: {text}"));
                }
                step()?;
                at_this_instant += 1;
                if at_this_instant > POLLS_PER_INSTANT_MAX {
                    return Err("tasks go round and round without time passing".to_owned());
                }
            }
            at_this_instant = 0;
            if !self.advance(end) {
                self.now.set(end);
                return Ok(());
            }
        }
    }

    fn next_ready(&self) -> Option<usize> {
        loop {
            let mut ids = self
                .ready
                .ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let count = ids.len();
            if count == 0 {
                return None;
            }
            let index = if count == 1 {
                0
            } else {
                self.draw(count as u64) as usize
            };
            let id = ids.iter().nth(index).copied()?;
            ids.remove(&id);
            drop(ids);
            let owner = match self.tasks.borrow().get(id) {
                Some(Some(task)) => task.owner,
                _ => continue,
            };
            if owner != WORLD {
                let mut servers = self.servers.borrow_mut();
                let server = &mut servers[owner.server];
                if server.paused {
                    server.parked.insert(id);
                    continue;
                }
            }
            return Some(id);
        }
    }

    fn poll(&self, id: usize) {
        let (owner, mut future, waker) = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(Some(task)) = tasks.get_mut(id) else {
                return;
            };
            let Some(future) = task.future.take() else {
                return;
            };
            (task.owner, future, task.waker.clone())
        };
        self.polls.set(self.polls.get() + 1);
        let handle = Waker::from(waker.clone());
        let mut context = Context::from_waker(&handle);
        let result = self.within(owner, || {
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)))
        });
        // Its life may have ended meanwhile, by its own doing.
        let alive = matches!(self.tasks.borrow().get(id), Some(Some(task)) if Arc::ptr_eq(&task.waker, &waker));
        match result {
            Ok(Poll::Pending) if alive => {
                if let Some(Some(task)) = self.tasks.borrow_mut().get_mut(id) {
                    task.future = Some(future);
                }
                return;
            }
            Ok(_) => {}
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "without words".to_owned());
                self.panicked.borrow_mut().get_or_insert(text);
            }
        }
        if alive {
            self.remove(id);
        }
        self.within(owner, || drop(future));
    }

    fn remove(&self, id: usize) -> Option<Task> {
        let task = self.tasks.borrow_mut().get_mut(id)?.take()?;
        task.waker.over.store(true, Ordering::Relaxed);
        self.free.borrow_mut().push(id);
        Some(task)
    }

    /// Drops every task of a server, as kill -9 does. What they held is dropped in the old life.
    pub fn end_life(&self, server: usize) {
        let owner = self.owner(server);
        {
            let mut servers = self.servers.borrow_mut();
            let lived = &mut servers[server];
            lived.life += 1;
            lived.paused = false;
            lived.parked.clear();
        }
        let ids: Vec<usize> = (self.tasks.borrow().iter().enumerate())
            .filter(|(_, task)| task.as_ref().is_some_and(|task| task.owner == owner))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            let task = self.remove(id);
            self.within(owner, || drop(task));
        }
    }

    pub fn set_paused(&self, server: usize, paused: bool) {
        let mut servers = self.servers.borrow_mut();
        let lived = &mut servers[server];
        lived.paused = paused;
        if !paused {
            let mut ids = self
                .ready
                .ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            ids.append(&mut lived.parked);
        }
    }

    // Time.

    /// Changes a server's clock. Sleepers look again when they would have woken without the change.
    pub fn with_clock<T>(&self, server: usize, change: impl FnOnce(&mut Clock, Nanos) -> T) -> T {
        change(&mut self.servers.borrow_mut()[server].clock, self.now())
    }

    /// The monotonic clock of whoever it is: that of its sleeps.
    pub fn monotonic(&self, owner: Owner) -> Nanos {
        match owner {
            WORLD => self.now(),
            Owner { server, .. } => self.servers.borrow()[server].clock.monotonic(self.now()),
        }
    }

    pub fn boot_time(&self, owner: Owner) -> Duration {
        match owner {
            WORLD => Duration::from_nanos(self.now()),
            Owner { server, .. } => self.servers.borrow()[server].clock.boot(self.now()),
        }
    }

    /// Wakes when the monotonic clock of `owner` may show `deadline`.
    pub fn wake_at(&self, owner: Owner, deadline: Nanos, waker: &Waker) -> Arc<AtomicBool> {
        let at = match owner {
            WORLD => deadline,
            Owner { server, .. } => {
                let servers = self.servers.borrow();
                servers[server].clock.reaches(deadline, self.now())
            }
        };
        let cancelled = Arc::new(AtomicBool::new(false));
        let number = self.timer_count.get();
        self.timer_count.set(number + 1);
        self.timers.borrow_mut().push(Timer {
            at: at.max(self.now() + 1),
            number,
            waker: waker.clone(),
            cancelled: cancelled.clone(),
        });
        cancelled
    }

    /// Goes to the next moment at which something is due; whether there is one before `end`.
    fn advance(&self, end: Nanos) -> bool {
        loop {
            let Some(at) = self.timers.borrow().peek().map(|timer| timer.at) else {
                return false;
            };
            if at > end {
                return false;
            }
            let mut woken = false;
            loop {
                let mut timers = self.timers.borrow_mut();
                if timers.peek().is_none_or(|timer| timer.at != at) {
                    break;
                }
                let timer = timers.pop();
                drop(timers);
                if let Some(timer) = timer.filter(|t| !t.cancelled.swap(true, Ordering::Relaxed)) {
                    timer.waker.wake();
                    woken = true;
                }
            }
            if woken {
                self.now.set(at);
                return true;
            }
        }
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    /// The earliest is the greatest: `BinaryHeap` gives the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[cfg(test)]
mod tests;
