use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::*;
use crate::memory::MemoryStore;
use crate::store::Membership;

struct Memory(Vec<MemoryStore>, Bug);

/// What an implementation could get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    ReadIsOld,
    SomeWritesAreForgotten,
    ConditionsAreIgnored,
    WritesComeOneByOne,
    LeasesEndEarly,
    LeasesNeverEnd,
    RenewalDoesNothing,
    RenewalNeverFails,
    RevocationTakesAnyEpoch,
    NothingIsTooLarge,
    WatchIsDead,
    DiskIsLost,
}

impl Memory {
    fn of(names: &[&str]) -> Self {
        let names = names.iter().map(|name| ServerName::new(name).unwrap());
        Self(MemoryStore::cluster(names), Bug::None)
    }
}

impl Harness for Memory {
    fn servers(&self) -> usize {
        self.0.len()
    }

    fn name(&self, server: usize) -> ServerName {
        self.0[server].name().clone()
    }

    fn store(&self, server: usize) -> Arc<dyn Store> {
        let store = self.0[server].clone();
        match self.1 {
            Bug::None => Arc::new(store),
            bug => Arc::new(Buggy { store, bug }),
        }
    }

    fn now(&self) -> BootTime {
        self.0[0].now()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0[0].advance(self.0[0].now() + time);
        })
    }

    fn kill(&self, server: usize) -> BoxFuture<'_, bool> {
        self.0[server].stop();
        Box::pin(async { true })
    }

    fn restart(&self, server: usize) -> BoxFuture<'_, ()> {
        self.0[server].start();
        Box::pin(async move {
            if self.1 == Bug::DiskIsLost {
                let view = self.0[server].read().await.unwrap_or_default();
                let delete = |(key, _): (&Key, _)| Write::Delete { key: key.clone() };
                let writes = view.entries.iter().map(delete).collect();
                let conditions = Vec::new();
                let lose = Txn { conditions, writes };
                let _ = self.0[server].commit(lose).await;
            }
        })
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn slack(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[tokio::test]
async fn the_reference_passes_with_three_servers() {
    all(&Memory::of(&["one", "two", "three"])).await;
}

#[tokio::test]
async fn the_reference_passes_with_one_server() {
    all(&Memory::of(&["one"])).await;
}

#[tokio::test]
async fn the_reference_passes_when_all_answers_are_late() {
    let memory = Memory::of(&["one", "two", "three", "four", "five"]);
    // The clock must go on while a call waits for its answer.
    let clock = memory.0[0].clone();
    for store in &memory.0 {
        store.delay(Duration::from_millis(5));
    }
    let ticking = tokio::spawn(async move {
        loop {
            clock.advance(clock.now() + Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    });
    all(&memory).await;
    ticking.abort();
}

struct Buggy {
    store: MemoryStore,
    bug: Bug,
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

impl Buggy {
    fn spoil(&self, mut txn: Txn) -> Txn {
        for write in &mut txn.writes {
            match (self.bug, write) {
                (Bug::LeasesEndEarly, Write::Grant { ttl, .. }) => *ttl -= *ttl / 10,
                (Bug::LeasesNeverEnd, Write::Grant { ttl, .. }) => *ttl *= 1000,
                (Bug::RevocationTakesAnyEpoch, Write::Revoke { lease, epoch }) => {
                    let view = self.store.view().borrow().clone();
                    if let Some(lease) = view.lease(lease.as_str()) {
                        *epoch = lease.epoch;
                    }
                }
                (Bug::NothingIsTooLarge, Write::Put { value, .. }) => {
                    *value = value[..value.len().min(1000)].into();
                }
                _ => {}
            }
        }
        if self.bug == Bug::ConditionsAreIgnored {
            txn.conditions.clear();
        }
        txn
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let txn = self.spoil(txn);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        match self.bug {
            Bug::SomeWritesAreForgotten if call.is_multiple_of(5) => Ok(Outcome::Done {
                revision: Revision(self.store.view().borrow().revision.0 + 1),
            }),
            Bug::WritesComeOneByOne => {
                let Txn { conditions, writes } = txn;
                let mut outcome = None;
                for (place, write) in writes.into_iter().enumerate() {
                    let mut one = Txn::new().then(write);
                    if place == 0 {
                        one.conditions.clone_from(&conditions);
                    }
                    let done = self.store.commit(one).await?;
                    if let Outcome::Refused { index } = done {
                        let first = if place == 0 { 0 } else { conditions.len() };
                        return Ok(Outcome::Refused {
                            index: first + place + index,
                        });
                    }
                    outcome = Some(done);
                }
                match outcome {
                    Some(outcome) => Ok(outcome),
                    None => {
                        self.store
                            .commit(Txn {
                                conditions,
                                ..Txn::new()
                            })
                            .await
                    }
                }
            }
            _ => self.store.commit(txn).await,
        }
    }

    async fn read(&self) -> Result<Arc<View>, StoreError> {
        let view = self.store.read().await?;
        Ok(match self.bug {
            // As of before the last change.
            Bug::ReadIsOld => {
                let mut old = (*view).clone();
                let newest = old.entries.iter().max_by_key(|(_, entry)| entry.version);
                let newest = newest.map(|(key, _)| key.clone());
                newest.map(|key| old.entries.remove(&key));
                Arc::new(old)
            }
            _ => view,
        })
    }

    async fn renew(&self, lease: &Key, epoch: Epoch) -> Result<(), StoreError> {
        match self.bug {
            Bug::RenewalDoesNothing => {
                let view = self.store.read().await?;
                let held = view.lease(lease.as_str()).is_some_and(|l| l.epoch == epoch);
                held.then_some(()).ok_or(StoreError::LeaseLost)
            }
            Bug::RenewalNeverFails => {
                let _ = self.store.renew(lease, epoch).await;
                Ok(())
            }
            _ => self.store.renew(lease, epoch).await,
        }
    }
}

impl Store for Buggy {
    fn read(&self) -> BoxFuture<'_, Result<Arc<View>, StoreError>> {
        Box::pin(self.read())
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.commit(txn))
    }

    fn renew(&self, lease: &Key, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        let lease = lease.clone();
        Box::pin(async move { self.renew(&lease, epoch).await })
    }

    fn view(&self) -> watch::Receiver<Arc<View>> {
        let known = self.store.view();
        match self.bug {
            Bug::WatchIsDead => watch::channel(known.borrow().clone()).1,
            _ => known,
        }
    }

    fn membership(&self) -> watch::Receiver<Arc<Membership>> {
        self.store.membership()
    }
}

#[test]
fn the_suite_catches_bugs() {
    let bugs = [
        Bug::ReadIsOld,
        Bug::SomeWritesAreForgotten,
        Bug::ConditionsAreIgnored,
        Bug::WritesComeOneByOne,
        Bug::LeasesEndEarly,
        Bug::LeasesNeverEnd,
        Bug::RenewalDoesNothing,
        Bug::RenewalNeverFails,
        Bug::RevocationTakesAnyEpoch,
        Bug::NothingIsTooLarge,
        Bug::WatchIsDead,
        Bug::DiskIsLost,
    ];
    for bug in bugs {
        let caught = std::panic::catch_unwind(|| {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.build().unwrap();
            let mut memory = Memory::of(&["one", "two", "three"]);
            memory.1 = bug;
            runtime.block_on(all(&memory));
        });
        assert!(caught.is_err(), "{bug:?} was not noticed");
    }
}
