//! openraft's log, on the disk.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{LogId, OptionalSend, RaftLogReader, StorageIOError, Vote};

use super::{Disk, DiskError};
use crate::environment::Environment;
use crate::limits::APPEND_BYTES_MAX;
use crate::msg::{self, NodeId};
use crate::raft::{self, StorageError, Types};
use crate::status::DiskTimes;

/// The log and the vote. Its calls come one after the other from openraft's core; it is cloned for
/// those that only read.
pub(crate) struct LogStore<E> {
    disk: Arc<Disk>,
    times: Arc<DiskTimes>,
    environment: PhantomData<E>,
}

impl<E> Clone for LogStore<E> {
    fn clone(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            times: self.times.clone(),
            environment: PhantomData,
        }
    }
}

impl<E: Environment> LogStore<E> {
    pub(crate) fn new(disk: Arc<Disk>, times: Arc<DiskTimes>) -> Self {
        Self {
            disk,
            times,
            environment: PhantomData,
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let disk = self.disk.clone();
        let done = E::blocking(move || work(&disk)).await;
        done.map_err(|error| StorageIOError::read_logs(openraft::AnyError::new(&error)).into())
    }

    async fn write(
        &self,
        work: impl FnOnce(&Disk) -> Result<(), DiskError> + Send + 'static,
    ) -> Result<(), StorageError> {
        let disk = self.disk.clone();
        let begin = E::boot_time();
        let done = E::blocking(move || work(&disk)).await;
        self.times.wrote(E::boot_time().since(begin));
        done.map_err(|error| StorageIOError::write_logs(openraft::AnyError::new(&error)).into())
    }
}

impl<E: Environment> RaftLogReader<Types<E>> for LogStore<E> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<openraft::Entry<Types<E>>>, StorageError> {
        let range: (Bound<u64>, Bound<u64>) =
            (range.start_bound().cloned(), range.end_bound().cloned());
        let entries = self
            .read(move |disk| disk.entries(range, usize::MAX))
            .await?;
        Ok(entries.into_iter().map(raft::entry_in).collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<openraft::Entry<Types<E>>>, StorageError> {
        let entries = (self.read(move |disk| disk.entries(start..end, APPEND_BYTES_MAX))).await?;
        Ok(entries.into_iter().map(raft::entry_in).collect())
    }
}

impl<E: Environment> RaftLogStorage<Types<E>> for LogStore<E> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<E>>, StorageError> {
        let (purged, last) = self.read(Disk::ends).await?;
        Ok(LogState {
            last_purged_log_id: purged.map(raft::position_in),
            last_log_id: last.map(raft::position_in),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Result<(), StorageError> {
        let vote = raft::vote_out(vote);
        // Before the first byte is written: see `HighestVote`.
        self.disk.begun().raise(&vote);
        self.write(move |disk| disk.save_vote(&vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<NodeId>>, StorageError> {
        let id = self.disk.id();
        let vote = self.read(Disk::vote).await?;
        Ok(vote.map(|vote| {
            // openraft would go on leading in the old term. What the process before knew of leases
            // is gone, so leadership ends with the process, and a new term begins after an
            // election.
            let committed = vote.committed && vote.node != id;
            raft::vote_in(msg::Vote { committed, ..vote })
        }))
    }

    async fn save_committed(
        &mut self,
        committed: Option<LogId<NodeId>>,
    ) -> Result<(), StorageError> {
        self.disk
            .set_committed(committed.as_ref().map(raft::position_out));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<NodeId>>, StorageError> {
        Ok(self.disk.committed().map(raft::position_in))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types<E>>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = openraft::Entry<Types<E>>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().map(|e| raft::entry_out(&e)).collect();
        self.write(move |disk| disk.append(&entries)).await?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<NodeId>) -> Result<(), StorageError> {
        self.write(move |disk| disk.truncate(from.index)).await
    }

    async fn purge(&mut self, upto: LogId<NodeId>) -> Result<(), StorageError> {
        let upto = raft::position_out(&upto);
        self.write(move |disk| disk.purge(upto)).await
    }
}
