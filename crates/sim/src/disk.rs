//! A disk in memory that keeps what was synced and nothing else.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;
use trilith_cluster::Medium;

use crate::environment::{Sleep, spawn_for};
use crate::executor::executor;
use crate::limits::{DISK_OPERATIONS_OF_THE_DYING_MAX, SECTOR_BYTES};

/// One server's disk. It survives its server.
pub struct Disk {
    state: Mutex<State>,
}

struct State {
    /// What is there after a power loss.
    durable: Vec<u8>,
    /// What the running system sees.
    current: Vec<u8>,
    /// Not yet durable, in the order they came.
    unsynced: Vec<Operation>,
    /// Handles of earlier lives do nothing any more.
    life: u64,
    /// Operations left until the life ends, once it is dying.
    fuse: Option<u64>,
    /// Says yes to every sync, and syncs nothing.
    lies: bool,
    speed: Speed,
    /// Work that was handed over and is not done.
    waiting: Vec<(u64, Job)>,
    jobs: u64,
    syncs: u64,
    rng: SmallRng,
}

type Job = Box<dyn FnOnce() + Send>;

enum Operation {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// How long a piece of work takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    pub shortest: Duration,
    pub longest: Duration,
}

impl Speed {
    pub const FAST: Self = Self {
        shortest: Duration::from_micros(100),
        longest: Duration::from_millis(2),
    };
}

/// What happens to the writes that nobody synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerLoss {
    /// None of them arrived.
    Nothing,
    /// The first so many did.
    Prefix,
    /// Any sectors of any of them did.
    Torn,
}

thread_local! {
    static DISKS: RefCell<Vec<Arc<Disk>>> = const { RefCell::new(Vec::new()) };
}

/// The disk of each server, in order. An empty list when the simulation is over.
pub fn install(disks: Vec<Arc<Disk>>) {
    DISKS.with(|cell| *cell.borrow_mut() = disks);
}

/// Runs `work` on the disk of the server whose code is running, at some moment of the time it takes. It runs
/// to its end even if nobody waits for it any more; unless the server dies.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let owner = executor().current();
    let Some(disk) = DISKS.with(|disks| disks.borrow().get(owner.server).cloned()) else {
        return work();
    };
    let result = Arc::new(Mutex::new(None));
    let slot = result.clone();
    let (number, before, after) = disk.hand_over(Box::new(move || {
        let done = work();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    }));
    let task = spawn_for(owner, async move {
        Sleep::new(before).await;
        if let Some(job) = disk.take(number) {
            job();
        }
        Sleep::new(after).await;
    });
    let _ = task.await;
    let done = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    match done {
        Some(done) => done,
        // The server is dying: nobody is left to wait for the result.
        None => std::future::pending().await,
    }
}

impl Disk {
    pub fn new(seed: u64, lies: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                durable: Vec::new(),
                current: Vec::new(),
                unsynced: Vec::new(),
                life: 0,
                fuse: None,
                lies,
                speed: Speed::FAST,
                waiting: Vec::new(),
                jobs: 0,
                syncs: 0,
                rng: SmallRng::seed_from_u64(seed),
            }),
        })
    }

    pub fn set_speed(&self, speed: Speed) {
        self.lock().speed = speed;
    }

    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The process ends: what it wrote stays with the operating system. Work under way may get a few
    /// operations further.
    pub fn kill(&self) {
        let (jobs, fuse) = {
            let mut state = self.lock();
            let jobs = std::mem::take(&mut state.waiting);
            let fuse = state.rng.random_range(0..DISK_OPERATIONS_OF_THE_DYING_MAX);
            state.fuse = Some(fuse);
            (jobs, fuse)
        };
        for (_, job) in jobs {
            if fuse > 0 {
                job();
            }
        }
        let mut state = self.lock();
        state.life += 1;
        state.fuse = None;
    }

    /// The machine loses its power, after [`Disk::kill`].
    pub fn lose_power(&self, how: PowerLoss) {
        let mut state = self.lock();
        let State {
            durable,
            unsynced,
            rng,
            ..
        } = &mut *state;
        let kept = match how {
            PowerLoss::Nothing => 0,
            PowerLoss::Prefix => rng.random_range(0..=unsynced.len()),
            PowerLoss::Torn => unsynced.len(),
        };
        for operation in unsynced.drain(..).take(kept) {
            if how == PowerLoss::Torn {
                operation.apply_some(durable, rng);
            } else {
                operation.apply(durable);
            }
        }
        state.unsynced.clear();
        state.current = state.durable.clone();
    }

    /// A new, empty disk takes the place of this one.
    pub fn replace(&self) {
        let mut state = self.lock();
        state.durable.clear();
        state.current.clear();
        state.unsynced.clear();
    }

    /// Some bytes of what is stored change by themselves. Whether there was anything to change.
    pub fn rot(&self) -> bool {
        let mut state = self.lock();
        let State {
            durable,
            current,
            rng,
            ..
        } = &mut *state;
        let length = durable.len().min(current.len());
        if length == 0 {
            return false;
        }
        for _ in 0..64 {
            let at = rng.random_range(0..length);
            let bits: u8 = rng.random_range(1..=255);
            durable[at] ^= bits;
            current[at] ^= bits;
        }
        true
    }

    fn hand_over(&self, job: Job) -> (u64, Duration, Duration) {
        let mut state = self.lock();
        let number = state.jobs;
        state.jobs += 1;
        state.waiting.push((number, job));
        let Speed { shortest, longest } = state.speed;
        let time = state.rng.random_range(shortest..=longest);
        let before = time.mul_f64(state.rng.random_range(0.0..1.0));
        (number, before, time - before)
    }

    fn take(&self, number: u64) -> Option<Job> {
        let mut state = self.lock();
        let index = state.waiting.iter().position(|(n, _)| *n == number)?;
        Some(state.waiting.remove(index).1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation {
    fn apply(self, to: &mut Vec<u8>) {
        match self {
            Self::Length(length) => to.resize(length, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[offset..end].copy_from_slice(&bytes);
            }
        }
    }

    /// Each sector arrives or does not.
    fn apply_some(self, to: &mut Vec<u8>, rng: &mut SmallRng) {
        match self {
            // A file's length is the file system's, which keeps a journal: it never goes backwards here.
            Self::Length(_) => self.apply(to),
            Self::Write { offset, bytes } => {
                for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if rng.random_bool(0.5) {
                        let offset = offset + index * SECTOR_BYTES;
                        let bytes = sector.to_vec();
                        Self::Write { offset, bytes }.apply(to);
                    }
                }
            }
        }
    }
}

/// The file as one life of its server gets it.
pub struct File {
    disk: Arc<Disk>,
    life: u64,
}

impl File {
    pub fn new(disk: Arc<Disk>) -> Self {
        let life = disk.lock().life;
        Self { disk, life }
    }
}

impl Medium for File {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let (disk, life) = (self.disk.clone(), self.life);
        Ok(Box::new(Handle { disk, life }))
    }

    fn set_aside(&self) -> io::Result<String> {
        // The dead do nothing any more: to them, too, the file looks damaged.
        let (disk, life) = (self.disk.clone(), self.life);
        drop(Handle { disk, life }.state()?);
        self.disk.replace();
        Ok("store.redb.damaged".to_owned())
    }
}

struct Handle {
    disk: Arc<Disk>,
    life: u64,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.life)
    }
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.lock();
        let alive = state.life == self.life && state.fuse != Some(0);
        if !alive {
            return Err(io::Error::other("this server is dead"));
        }
        if let Some(fuse) = &mut state.fuse {
            *fuse -= 1;
        }
        Ok(state)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let offset = offset as usize;
        let bytes = state
            .current
            .get(offset..offset + out.len())
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state()?;
        Operation::Length(length as usize).apply(&mut state.current);
        state.unsynced.push(Operation::Length(length as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.syncs += 1;
        if !state.lies {
            let unsynced = std::mem::take(&mut state.unsynced);
            for operation in unsynced {
                operation.apply(&mut state.durable);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let offset = offset as usize;
        let end = offset + data.len();
        if state.current.len() < end {
            state.current.resize(end, 0);
        }
        state.current[offset..end].copy_from_slice(data);
        let bytes = data.to_vec();
        state.unsynced.push(Operation::Write { offset, bytes });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
