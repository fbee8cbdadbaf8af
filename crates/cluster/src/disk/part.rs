//! The part of the file that is redb's: all of it behind the witness.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use redb::{BackendError, StorageBackend};

use super::witness;

/// The file as redb sees it. Without it, redb finds no database in the store's file.
pub struct DatabasePart(Arc<dyn StorageBackend>);

impl DatabasePart {
    /// Of the file as a [`Medium`](crate::Medium) opens it.
    #[must_use]
    pub fn of(file: Arc<dyn StorageBackend>) -> Self {
        Self(file)
    }
}

impl fmt::Debug for DatabasePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where `offset` of the database is in the file. Too far is out of the file in any case, and
/// refused as that.
fn place(offset: u64) -> u64 {
    offset.saturating_add(witness::SPACE)
}

impl StorageBackend for DatabasePart {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len()?.saturating_sub(witness::SPACE))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(place(offset), out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(place(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(place(offset), data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    // Locks are told apart by their range, not by what is there: the ranges stay as they are.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
