//! The store's one file: log, vote, snapshot.
//!
//! Every change is one redb transaction that is durable before the call returns, and so is its number
//! in the witness. Damage is found when the file is opened: every page against redb's checksums,
//! every record against ours, the whole against the witness: redb may have gone back to the commit
//! before. A damaged file is set aside and a new one begun under a new id, because a server that forgot a
//! vote or an entry it acknowledged must not count as the one that gave it.

mod log;
mod machine;
mod medium;
mod part;
mod record;
mod witness;

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::msg::{Entry, Life, NodeId, Position, Snapshot, Vote};
use crate::options::{DiskPlace, Medium};

pub(crate) use log::LogStore;
pub(crate) use machine::{Applied, StateMachine, meta};
pub use part::DatabasePart;
use record::{Damage, Generation, seal, unseal};
use witness::Witness;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");

/// Pages redb keeps in memory. The whole state is a few megabytes.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Of the records' form.
const FORMAT: u32 = 1;

/// The file, open. All calls but `begun` block.
pub(crate) struct Disk {
    id: NodeId,
    /// `None` once closed.
    file: RwLock<Option<File>>,
    /// Of the last commit; held during a commit, so that one follows the other.
    generation: Mutex<Generation>,
    begun: HighestVote,
    /// The last position known to be committed: goes into the file with the next write. That it may
    /// be lost costs nothing: the next leader says it again.
    committed: Mutex<Option<Position>>,
}

struct File {
    database: Database,
    witness: Witness,
}

/// The highest vote this server ever *began* to save. It is raised before the write starts, so a
/// server that says "still the old one" has certainly not voted for another yet. See `leases.rs`.
pub(crate) struct HighestVote(Mutex<(u64, NodeId)>);

/// What is in a file when it is opened.
pub(crate) struct Opened {
    pub disk: Disk,
    /// Where the damaged predecessor is now, and what was wrong with it.
    pub set_aside: Option<(String, String)>,
}

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("{0}")]
    Database(String),
    #[error("damaged: {0}")]
    Damaged(#[from] Damage),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("closed")]
    Closed,
}

/// Why it was not opened.
enum Refusal {
    Damaged(String),
    /// Locked, no space, no permission: setting the file aside would make it worse.
    Failed(String),
}

impl Disk {
    /// Opens the file or makes a new one. `id` is the life of a new one.
    pub(crate) fn open(place: &DiskPlace, id: impl Fn() -> NodeId) -> Result<Opened, Error> {
        let (medium, name): (Arc<dyn Medium>, String) = match place {
            DiskPlace::Folder(path) => {
                let folder = medium::Folder(path.clone());
                (Arc::new(folder), path.display().to_string())
            }
            DiskPlace::Medium(medium) => (medium.clone(), "its medium".to_owned()),
        };
        let failed = |reason: String| Error::Disk {
            place: name.clone(),
            reason,
        };
        let problem = match Self::open_medium(&*medium, &id) {
            Ok(disk) => {
                return Ok(Opened {
                    disk,
                    set_aside: None,
                });
            }
            Err(Refusal::Failed(reason)) => return Err(failed(reason)),
            Err(Refusal::Damaged(problem)) => problem,
        };
        let to = (medium.set_aside())
            .map_err(|error| failed(format!("it is damaged ({problem}), and {error}")))?;
        match Self::open_medium(&*medium, &id) {
            Ok(disk) => Ok(Opened {
                disk,
                set_aside: Some((to, problem)),
            }),
            Err(Refusal::Damaged(reason) | Refusal::Failed(reason)) => Err(failed(reason)),
        }
    }

    fn open_medium(medium: &dyn Medium, id: &impl Fn() -> NodeId) -> Result<Self, Refusal> {
        let failed = |error: std::io::Error| Refusal::Failed(error.to_string());
        let storage: Arc<dyn StorageBackend> = medium.open().map_err(failed)?.into();
        let empty = storage.len().map_err(failed)? == 0;
        if witness::without_witness(&*storage).map_err(failed)? {
            let reason = "it was written before the first release, in another form: stop this \
                 server, move the file away and start it again; one server after the other, so that \
                 each gets everything back from the others";
            return Err(Refusal::Failed(reason.to_owned()));
        }
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(DatabasePart::of(storage.clone()))
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                    Refusal::Failed(error.to_string())
                }
                DatabaseError::Storage(redb::StorageError::Io(error))
                    if !matches!(
                        error.kind(),
                        std::io::ErrorKind::InvalidData
                            | std::io::ErrorKind::InvalidInput
                            | std::io::ErrorKind::UnexpectedEof
                    ) =>
                {
                    Refusal::Failed(error.to_string())
                }
                error => Refusal::Damaged(error.to_string()),
            })?;
        // redb has locked the file: nobody else writes the witness now.
        let witness = Witness::new(storage);
        let mut disk = Self {
            id: 0,
            file: RwLock::new(Some(File { database, witness })),
            generation: Mutex::new(0),
            begun: HighestVote(Mutex::new((0, 0))),
            committed: Mutex::new(None),
        };
        if empty {
            disk.id = id();
            let life = Life {
                format: FORMAT,
                id: disk.id,
            };
            disk.write(|change| change.put_meta("life", &life))
                .map_err(|error| Refusal::Failed(error.to_string()))?;
        } else {
            (disk.verify()).map_err(|error| Refusal::Damaged(error.to_string()))?;
            // From here on others are told of it, also of a commit that a power cut or a kill
            // separated from its witness.
            (disk.bear_witness()).map_err(|error| Refusal::Failed(error.to_string()))?;
        }
        Ok(disk)
    }

    /// Reads everything once, and learns id, vote and generation on the way.
    fn verify(&mut self) -> Result<(), DiskError> {
        let damage = |key: &str, problem: String| Damage {
            table: "meta",
            key: key.to_owned(),
            problem,
        };
        let life: Life = (self.meta("life")?).ok_or_else(|| {
            damage(
                "life",
                "missing: nothing of what was in the file is left".to_owned(),
            )
        })?;
        if life.format != FORMAT || life.id == 0 {
            let problem = format!("format {} of {}", life.format, life.id);
            return Err(damage("life", problem).into());
        }
        let newest: Generation = self.meta("generation")?.unwrap_or(0);
        let witnessed = self.with(|file| file.witness.read())?;
        if newest < witnessed {
            let problem = format!("{newest}, but {witnessed} was reached: an older state is back");
            return Err(damage("generation", problem).into());
        }
        let vote: Vote = self.meta("vote")?.unwrap_or_default();
        let purged: Option<Position> = self.meta("purged")?.flatten();
        let committed: Option<Position> = self.meta("committed")?.flatten();
        let snapshot = self.snapshot()?;

        let mut next = purged.map_or(0, |at| at.index + 1);
        let mut terms = purged.map_or((0, 0), |at| (at.term, at.node));
        self.each_entry(.., |generation, entry| {
            let damage = |problem: String| Damage {
                table: "log",
                key: entry.at.index.to_string(),
                problem,
            };
            if entry.at.index != next {
                return Err(damage(format!("entry {next} is missing")).into());
            }
            if (entry.at.term, entry.at.node) < terms || generation > newest {
                return Err(damage("newer than what comes after it".to_owned()).into());
            }
            next += 1;
            terms = (entry.at.term, entry.at.node);
            Ok(())
        })?;
        let covered = snapshot
            .and_then(|snapshot| snapshot.state.at)
            .map_or(0, |at| at.index + 1);
        if purged.map_or(0, |at| at.index + 1) > covered {
            let problem = format!("the log begins after the snapshot's end, {covered}");
            return Err(damage("purged", problem).into());
        }
        if committed.map_or(0, |at| at.index + 1) > next.max(covered) {
            return Err(damage("committed", format!("the log ends at {next}")).into());
        }
        self.id = life.id;
        self.begun.raise(&vote);
        *lock(&self.generation) = newest;
        *lock(&self.committed) = committed;
        Ok(())
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn begun(&self) -> &HighestVote {
        &self.begun
    }

    /// Closes the file. Everything after that fails.
    pub(crate) fn close(&self) {
        // What is known to be committed spares the next start from waiting for a leader.
        let _ = self.write(|_| Ok(()));
        *(self.file.write()).unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn vote(&self) -> Result<Option<Vote>, DiskError> {
        self.meta("vote")
    }

    pub(crate) fn save_vote(&self, vote: &Vote) -> Result<(), DiskError> {
        self.write(|change| change.put_meta("vote", vote))
    }

    pub(crate) fn committed(&self) -> Option<Position> {
        *lock(&self.committed)
    }

    pub(crate) fn set_committed(&self, at: Option<Position>) {
        *lock(&self.committed) = at;
    }

    /// The last position that was purged, and the last in the log, if it is not empty.
    pub(crate) fn ends(&self) -> Result<(Option<Position>, Option<Position>), DiskError> {
        let purged: Option<Position> = self.meta("purged")?.flatten();
        let last = self.read(|txn| {
            let Some(table) = optional(txn.open_table(LOG))? else {
                return Ok(None);
            };
            let Some((key, value)) = table.last().map_err(database)? else {
                return Ok(None);
            };
            let (_, entry): (_, Entry) = unseal("log", &key.value().to_string(), value.value())?;
            Ok(Some(entry.at))
        })?;
        Ok((purged, last.or(purged)))
    }

    /// Entries of the range that are there, in order, until they have `bytes_max` bytes; at least
    /// one.
    pub(crate) fn entries(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, DiskError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        self.read(|txn| {
            let Some(table) = optional(txn.open_table(LOG))? else {
                return Ok(());
            };
            for row in table.range(bounds(&range)).map_err(database)? {
                let (key, value) = row.map_err(database)?;
                bytes += value.value().len();
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                let key = key.value().to_string();
                entries.push(unseal("log", &key, value.value())?.1);
            }
            Ok(())
        })?;
        Ok(entries)
    }

    pub(crate) fn append(&self, entries: &[Entry]) -> Result<(), DiskError> {
        self.write(|change| {
            let mut table = change.txn.open_table(LOG).map_err(database)?;
            for entry in entries {
                let key = entry.at.index;
                let record = seal("log", &key.to_string(), change.generation, entry)?;
                table.insert(key, record.as_slice()).map_err(database)?;
            }
            Ok(())
        })
    }

    /// Removes the entries from `index` on.
    pub(crate) fn truncate(&self, index: u64) -> Result<(), DiskError> {
        self.write(|change| {
            let mut table = change.txn.open_table(LOG).map_err(database)?;
            table.retain_in(index.., |_, _| false).map_err(database)
        })
    }

    /// Removes the entries up to `at`, inclusive.
    pub(crate) fn purge(&self, at: Position) -> Result<(), DiskError> {
        self.write(|change| {
            let mut table = change.txn.open_table(LOG).map_err(database)?;
            (table.retain_in(..=at.index, |_, _| false)).map_err(database)?;
            drop(table);
            change.put_meta("purged", &Some(at))
        })
    }

    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>, DiskError> {
        self.read(|txn| {
            let Some(table) = optional(txn.open_table(SNAPSHOT))? else {
                return Ok(None);
            };
            let Some(record) = table.get("current").map_err(database)? else {
                return Ok(None);
            };
            Ok(Some(unseal("snapshot", "current", record.value())?.1))
        })
    }

    pub(crate) fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), DiskError> {
        self.write(|change| {
            let mut table = change.txn.open_table(SNAPSHOT).map_err(database)?;
            let record = seal("snapshot", "current", change.generation, snapshot)?;
            (table.insert("current", record.as_slice())).map_err(database)?;
            Ok(())
        })
    }

    fn each_entry(
        &self,
        range: impl RangeBounds<u64>,
        mut each: impl FnMut(Generation, &Entry) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.read(|txn| {
            let Some(table) = optional(txn.open_table(LOG))? else {
                return Ok(());
            };
            for row in table.range(bounds(&range)).map_err(database)? {
                let (key, value) = row.map_err(database)?;
                let (generation, entry) = unseal("log", &key.value().to_string(), value.value())?;
                each(generation, &entry)?;
            }
            Ok(())
        })
    }

    fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, DiskError> {
        self.read(|txn| {
            let Some(table) = optional(txn.open_table(META))? else {
                return Ok(None);
            };
            let Some(record) = table.get(key).map_err(database)? else {
                return Ok(None);
            };
            Ok(Some(unseal("meta", key, record.value())?.1))
        })
    }

    fn with<T>(&self, work: impl FnOnce(&File) -> Result<T, DiskError>) -> Result<T, DiskError> {
        let file = (self.file.read()).unwrap_or_else(PoisonError::into_inner);
        work(file.as_ref().ok_or(DiskError::Closed)?)
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        self.with(|file| work(&file.database.begin_read().map_err(database)?))
    }

    /// Says in the witness what the database has.
    fn bear_witness(&self) -> Result<(), DiskError> {
        self.with(|file| file.witness.write(*lock(&self.generation)))
    }

    /// One durable transaction, and its witness.
    fn write(
        &self,
        work: impl FnOnce(&mut Change<'_>) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.with(|file| {
            let mut generation = lock(&self.generation);
            let mut txn = file.database.begin_write().map_err(database)?;
            txn.set_durability(Durability::Immediate)
                .map_err(database)?;
            let next = *generation + 1;
            let mut change = Change {
                txn: &txn,
                generation: next,
            };
            work(&mut change)?;
            change.put_meta("generation", &next)?;
            change.put_meta("committed", &*lock(&self.committed))?;
            txn.commit().map_err(database)?;
            *generation = next;
            file.witness.write(next)
        })
    }
}

/// A transaction under way.
struct Change<'a> {
    txn: &'a redb::WriteTransaction,
    generation: Generation,
}

impl Change<'_> {
    fn put_meta<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), DiskError> {
        let record = seal("meta", key, self.generation, value)?;
        let mut table = self.txn.open_table(META).map_err(database)?;
        table.insert(key, record.as_slice()).map_err(database)?;
        Ok(())
    }
}

impl HighestVote {
    pub(crate) fn raise(&self, vote: &Vote) {
        let mut highest = lock(&self.0);
        *highest = (*highest).max((vote.term, vote.node));
    }

    /// Whether it is that of `node` in `term`.
    pub(crate) fn is(&self, term: u64, node: NodeId) -> bool {
        *lock(&self.0) == (term, node)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn database(error: impl Display) -> DiskError {
    DiskError::Database(error.to_string())
}

/// A table comes into being with its first record.
fn optional<T>(table: Result<T, redb::TableError>) -> Result<Option<T>, DiskError> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(database(error)),
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (Bound<u64>, Bound<u64>) {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

#[cfg(test)]
mod tests;
