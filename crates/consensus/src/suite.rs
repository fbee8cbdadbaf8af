//! What every implementation of [`Store`] must pass, in one place. Each runs it with a [`Harness`] of its
//! own: `cargo test` of this crate on [`MemoryStore`](crate::MemoryStore), `cluster` on its own.
//!
//! A case fails by panicking. What a healthy store may do under load (an election, an answer that never
//! came) ends an attempt; the case then begins again under other names, a few times.

mod cases;
mod faults;
mod leases;
mod watches;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use trilith_base::{BootTime, ServerName};

use crate::error::StoreError;
use crate::name::Key;
use crate::store::{BoxFuture, Store};
use crate::txn::{Condition, Outcome, Txn, Write};
use crate::view::{Epoch, Revision, View};

/// A cluster to try things on. It may be the same for all cases; none leaves a server down.
pub trait Harness: Sync {
    /// How many servers there are, at least one. They are numbered from 0.
    fn servers(&self) -> usize;

    fn name(&self, server: usize) -> ServerName;

    /// The store as that server sees it. Asked for anew after a restart.
    fn store(&self, server: usize) -> Arc<dyn Store>;

    /// The clock that [`pause`](Self::pause) is counted on.
    fn now(&self) -> BootTime;

    fn pause(&self, time: Duration) -> BoxFuture<'_, ()>;

    /// Ends a server's part without warning (kill -9). False when this harness cannot.
    fn kill(&self, server: usize) -> BoxFuture<'_, bool>;

    /// Starts it again, with its disk.
    fn restart(&self, server: usize) -> BoxFuture<'_, ()>;

    /// A time to live that this store can keep to, such as 1 s. Cases wait for several of it.
    fn ttl(&self) -> Duration;

    /// How much later than its time a lease may end at the most, elections on a busy machine included.
    fn slack(&self) -> Duration {
        Duration::from_secs(20)
    }
}

type Case = for<'a> fn(&'a Try<'a>) -> Pin<Box<dyn Future<Output = Result<(), Retry>> + 'a>>;

/// Runs every case, one after the other.
///
/// # Panics
/// When the store breaks a rule; the message names case and rule.
pub async fn all(harness: &dyn Harness) {
    for name in names() {
        run(harness, name).await;
    }
}

/// The names of all cases, in the order in which [`all`] runs them.
pub fn names() -> impl Iterator<Item = &'static str> {
    table().into_iter().map(|(name, _)| name)
}

/// Runs one case.
///
/// # Panics
/// When the store breaks a rule, or there is no such case.
pub async fn run(harness: &dyn Harness, name: &str) {
    const ATTEMPTS: usize = 5;
    let table = table();
    let case = table.into_iter().find(|(case, _)| *case == name);
    let (name, case) = case.unwrap_or_else(|| panic!("there is no case `{name}`"));
    let mut last = None;
    for attempt in 0..ATTEMPTS {
        let attempt = Try {
            harness,
            scope: format!("suite/{name}/{attempt}"),
        };
        attempt.ready().await;
        match case(&attempt).await {
            Ok(()) => return,
            Err(retry) => last = Some(retry),
        }
    }
    panic!("{name}: {ATTEMPTS} attempts came to nothing; the last one: {last:?}");
}

fn table() -> Vec<(&'static str, Case)> {
    macro_rules! cases {
        ($($module:ident :: $name:ident),* $(,)?) => {
            vec![$((stringify!($name), |t| Box::pin($module::$name(t)))),*]
        };
    }
    cases![
        cases::compare_and_set,
        cases::conditions_are_told_apart,
        cases::all_or_nothing,
        cases::a_later_write_sees_an_earlier_one,
        cases::what_is_out_of_bounds_is_refused,
        cases::the_largest_value_fits,
        cases::the_state_is_bounded,
        cases::a_write_is_read_through_any_server,
        cases::concurrent_increments_are_all_counted,
        leases::a_lease_is_granted_to_one,
        leases::epochs_grow,
        leases::renewal_keeps_a_lease,
        leases::a_lease_runs_out,
        leases::a_revoked_lease_is_gone,
        leases::a_condition_fences,
        watches::a_watch_goes_forward_and_arrives,
        watches::a_watch_sees_leases,
        watches::who_takes_part_is_known,
        faults::one_server_killed,
        faults::a_lease_outlives_any_other_server,
        faults::all_servers_killed,
    ]
}

/// Why an attempt ended without a verdict.
enum Retry {
    Store(StoreError),
    /// Something that may happen on a busy machine.
    Chance(&'static str),
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Chance(what) => f.write_str(what),
        }
    }
}

impl From<StoreError> for Retry {
    #[track_caller]
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoLeader { .. } | StoreError::Unknown => Self::Store(error),
            _ => panic!("the store refused: {error}"),
        }
    }
}

/// One attempt at a case.
struct Try<'a> {
    harness: &'a dyn Harness,
    /// Begins every key of it.
    scope: String,
}

impl Try<'_> {
    fn servers(&self) -> usize {
        self.harness.servers()
    }

    fn store(&self, server: usize) -> Arc<dyn Store> {
        self.harness.store(server % self.servers())
    }

    fn name(&self, server: usize) -> ServerName {
        self.harness.name(server % self.servers())
    }

    fn key(&self, name: impl fmt::Display) -> Key {
        Key::new(&format!("{}/{name}", self.scope)).expect("a key of the suite")
    }

    fn now(&self) -> BootTime {
        self.harness.now()
    }

    fn ttl(&self) -> Duration {
        self.harness.ttl()
    }

    async fn pause(&self, time: Duration) {
        self.harness.pause(time).await;
    }

    /// Waits until every server's calls are answered.
    async fn ready(&self) {
        for server in 0..self.servers() {
            self.answers(server).await;
        }
    }

    async fn answers(&self, server: usize) {
        self.wait("the store answers", async || {
            self.store(server).read().await.ok()
        })
        .await;
    }

    /// Asks every 20 ms until there is something, for at most a minute.
    async fn wait<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        const PATIENCE: Duration = Duration::from_secs(60);
        let begin = self.now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            let waited = self.now().since(begin);
            assert!(waited < PATIENCE, "{}: waited for: {what}", self.scope);
            self.pause(Duration::from_millis(20)).await;
        }
    }

    async fn read(&self, server: usize) -> Result<Arc<View>, Retry> {
        Ok(self.store(server).read().await?)
    }

    async fn commit(&self, server: usize, txn: Txn) -> Result<Outcome, Retry> {
        Ok(self.store(server).commit(txn).await?)
    }

    /// A transaction that must succeed.
    async fn done(&self, server: usize, txn: Txn) -> Result<Revision, Retry> {
        match self.commit(server, txn.clone()).await? {
            Outcome::Done { revision } => Ok(revision),
            Outcome::Refused { index } => {
                panic!("{}: refused at {index}: {txn:?}", self.scope)
            }
        }
    }

    /// A transaction that must be refused there.
    async fn refused(&self, server: usize, at: usize, txn: Txn) -> Result<(), Retry> {
        let outcome = self.commit(server, txn.clone()).await?;
        let expected = Outcome::Refused { index: at };
        assert_eq!(outcome, expected, "{}: {txn:?}", self.scope);
        Ok(())
    }

    async fn put(&self, server: usize, key: &Key, value: &str) -> Result<Revision, Retry> {
        self.done(server, Txn::new().then(put(key, value))).await
    }

    async fn grant(&self, server: usize, lease: &Key) -> Result<Epoch, Retry> {
        let txn = Txn::grant(lease.clone(), self.name(server), self.ttl());
        Ok(Epoch(self.done(server, txn).await?.0))
    }
}

fn put(key: &Key, value: &str) -> Write {
    Write::Put {
        key: key.clone(),
        value: value.as_bytes().into(),
    }
}

fn absent(key: &Key) -> Condition {
    Condition::Absent { key: key.clone() }
}

fn free(lease: &Key) -> Condition {
    Condition::Free {
        lease: lease.clone(),
    }
}

fn held(lease: &Key, epoch: Epoch) -> Condition {
    Condition::Held {
        lease: lease.clone(),
        epoch,
    }
}

fn unchanged(key: &Key, version: Revision) -> Condition {
    Condition::Unchanged {
        key: key.clone(),
        version,
    }
}

fn text(view: &View, key: &Key) -> Option<String> {
    let entry = view.get(key.as_str())?;
    Some(String::from_utf8_lossy(&entry.value).into_owned())
}

#[cfg(test)]
mod tests;
