//! openraft's state machine: `View::apply` in memory, snapshots on the disk.

use std::io::Cursor;
use std::marker::PhantomData;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageIOError,
};
use tokio::sync::watch;
use trilith_consensus::{Command, Revision, StoreError, View};

use super::{Disk, DiskError};
use crate::environment::Environment;
use crate::msg::{self, Committed, NodeId, Position, Snapshot, State};
use crate::raft::{self, StorageError, StoredMembers, Types};

/// The state after some entry of the log, and what openraft wants to know of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    pub at: Option<Position>,
    pub members: StoredMembers,
    pub view: Arc<View>,
}

pub(crate) struct StateMachine<E> {
    disk: Arc<Disk>,
    state: Applied,
    /// Where everybody else reads it. Never goes back.
    published: watch::Sender<Applied>,
    views: watch::Sender<Arc<View>>,
    environment: PhantomData<E>,
}

/// Builds a snapshot of the state as it was when the builder was made.
pub(crate) struct Builder<E> {
    disk: Arc<Disk>,
    state: Applied,
    environment: PhantomData<E>,
}

impl<E: Environment> StateMachine<E> {
    /// Begins with the snapshot on the disk. Blocks.
    pub(crate) fn load(
        disk: Arc<Disk>,
        published: watch::Sender<Applied>,
        views: watch::Sender<Arc<View>>,
    ) -> Result<Self, DiskError> {
        let state = match disk.snapshot()? {
            Some(snapshot) => Applied::of_snapshot(&snapshot.state).map_err(super::database)?,
            None => Applied::default(),
        };
        let machine = Self {
            disk,
            state,
            published,
            views,
            environment: PhantomData,
        };
        machine.publish();
        Ok(machine)
    }

    fn publish(&self) {
        self.published.send_replace(self.state.clone());
        self.views.send_replace(self.state.view.clone());
    }
}

impl Applied {
    fn of_snapshot(state: &State) -> Result<Self, msg::Malformed> {
        let members = raft::members_in(&state.members);
        Ok(Self {
            at: state.at,
            members: StoredMembers::new(state.members_at.map(raft::position_in), members),
            view: Arc::new(state.view()?),
        })
    }

    fn to_snapshot(&self) -> State {
        State {
            at: self.at,
            members: raft::members_out(self.members.membership()),
            members_at: self.members.log_id().as_ref().map(raft::position_out),
            ..State::of_view(&self.view)
        }
    }
}

impl<E: Environment> RaftStateMachine<Types<E>> for StateMachine<E> {
    type SnapshotBuilder = Builder<E>;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<NodeId>>, StoredMembers), StorageError> {
        let at = self.state.at.map(raft::position_in);
        Ok((at, self.state.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Option<Committed>>, StorageError>
    where
        I: IntoIterator<Item = openraft::Entry<Types<E>>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut view = View::clone(&self.state.view);
        let mut replies = Vec::new();
        for entry in entries {
            let at = raft::position_out(&entry.log_id);
            let reply = match &entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(command) => {
                    Some(apply(&mut view, at, command).map_err(|e| {
                        StorageIOError::apply(entry.log_id, openraft::AnyError::new(&e))
                    })?)
                }
                EntryPayload::Membership(members) => {
                    self.state.members = StoredMembers::new(Some(entry.log_id), members.clone());
                    None
                }
            };
            view.revision = Revision(at.index);
            self.state.at = Some(at);
            replies.push(reply);
        }
        self.state.view = Arc::new(view);
        self.publish();
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<E> {
        Builder {
            disk: self.disk.clone(),
            state: self.state.clone(),
            environment: PhantomData,
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<NodeId, msg::Node>,
        data: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            let error = openraft::AnyError::error(error);
            StorageIOError::write_snapshot(Some(meta.signature()), error)
        };
        let mut state: State =
            serde_json::from_slice(data.get_ref()).map_err(|error| failed(&error))?;
        state.at = meta.last_log_id.as_ref().map(raft::position_out);
        state.members = raft::members_out(meta.last_membership.membership());
        state.members_at = (meta.last_membership.log_id().as_ref()).map(raft::position_out);
        let applied = Applied::of_snapshot(&state).map_err(|error| failed(&error))?;
        let snapshot = Snapshot {
            name: meta.snapshot_id.clone(),
            state,
        };
        let disk = self.disk.clone();
        (E::blocking(move || disk.save_snapshot(&snapshot)).await)
            .map_err(|error| failed(&error))?;
        self.state = applied;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::Snapshot<Types<E>>>, StorageError> {
        let disk = self.disk.clone();
        let snapshot = E::blocking(move || disk.snapshot())
            .await
            .map_err(|error| {
                StorageIOError::read_snapshot(None, openraft::AnyError::new(&error))
            })?;
        match snapshot {
            Some(snapshot) => loaded(&snapshot).map(Some),
            None => Ok(None),
        }
    }
}

impl<E: Environment> RaftSnapshotBuilder<Types<E>> for Builder<E> {
    async fn build_snapshot(&mut self) -> Result<openraft::Snapshot<Types<E>>, StorageError> {
        let state = self.state.to_snapshot();
        let name = match state.at {
            Some(at) => format!("{}-{:x}-{}", at.term, at.node, at.index),
            None => "empty".to_owned(),
        };
        let snapshot = Snapshot { name, state };
        let disk = self.disk.clone();
        let built = E::blocking(move || {
            // One that was received meanwhile is newer: it must not be replaced.
            match disk.snapshot()? {
                Some(there) if there.state.at > snapshot.state.at => Ok(there),
                _ => disk.save_snapshot(&snapshot).map(|()| snapshot),
            }
        })
        .await
        .map_err(|error: DiskError| {
            StorageIOError::write_snapshot(None, openraft::AnyError::new(&error))
        })?;
        loaded(&built)
    }
}

/// As openraft wants to have it.
#[allow(clippy::result_large_err)] // openraft's own type.
fn loaded<E: Environment>(
    snapshot: &Snapshot,
) -> Result<openraft::Snapshot<Types<E>>, StorageError> {
    let data = serde_json::to_vec(&snapshot.state)
        .map_err(|error| StorageIOError::read_snapshot(None, openraft::AnyError::new(&error)))?;
    Ok(openraft::Snapshot {
        meta: meta(&snapshot.name, &snapshot.state),
        snapshot: Box::new(Cursor::new(data)),
    })
}

/// What openraft keeps beside a snapshot.
pub(crate) fn meta(name: &str, state: &State) -> SnapshotMeta<NodeId, msg::Node> {
    SnapshotMeta {
        last_log_id: state.at.map(raft::position_in),
        last_membership: StoredMembers::new(
            state.members_at.map(raft::position_in),
            raft::members_in(&state.members),
        ),
        snapshot_id: name.to_owned(),
    }
}

/// What a command comes to is the same on every server, or the process ends: a server that
/// understood a command differently must not go on.
fn apply(
    view: &mut View,
    at: Position,
    command: &msg::Command,
) -> Result<Committed, msg::Malformed> {
    if let msg::Command::Expire { term, node, .. } = command {
        // The leader that kept the time proposed it, but it went into the log in a later term, in
        // which the lease may have been renewed. See `leases.rs`.
        if *term != 0 && (*term, *node) != (at.term, at.node) {
            return Ok(Committed::Refused { index: 0 });
        }
    }
    match view.apply(Revision(at.index), &Command::try_from(command)?) {
        Ok(outcome) => Ok(outcome.into()),
        Err(error @ (StoreError::TooLarge { .. } | StoreError::Invalid { .. })) => {
            Ok(Committed::TooLarge {
                reason: error.to_string(),
            })
        }
        Err(error) => Err(msg::Malformed::new(error)),
    }
}
