//! What only the leader can do, for itself and for those that ask it.

use openraft::error::{ClientWriteError, RaftError};
use trilith_consensus::{Epoch, Key, Txn};

use crate::environment::Environment;
use crate::inner::Inner;
use crate::leases::NotRenewed;
use crate::msg::{self, Committed, FailureKind, Reply};

impl<E: Environment> Inner<E> {
    /// See `leases.rs` for the steps and why they suffice.
    pub(crate) async fn lead_renewal(&self, lease: &str, epoch: u64) -> Result<(), Reply> {
        let arrived = E::boot_time();
        let lease = Key::new(lease).map_err(|e| Reply::failed(FailureKind::Invalid, e))?;
        let epoch = Epoch(epoch);
        let refuse = |refusal| match refusal {
            NotRenewed::NotLeading => self.not_leader(),
            NotRenewed::Lost => Reply::failed(FailureKind::LeaseLost, "the lease is lost"),
            NotRenewed::Ending => Reply::failed(FailureKind::Retry, "the lease is about to end"),
        };
        let term = {
            let table = self.lead_table();
            let term = (table.term()).ok_or_else(|| self.not_leader())?;
            match table.check(term, &lease, epoch) {
                // Whether it is lost, only a leader that has not been replaced can say.
                Ok(()) | Err(NotRenewed::Lost) => term,
                Err(refusal) => return Err(refuse(refusal)),
            }
        };
        if !self.rounds.confirm(term).await {
            let reason = "the leader does not reach a majority";
            return Err(Reply::failed(FailureKind::Retry, reason));
        }
        let mut table = self.lead_table();
        table.renew(term, &lease, epoch, arrived).map_err(refuse)
    }

    /// A revision that has everything that was acknowledged before the call.
    pub(crate) async fn lead_read_index(&self) -> Result<u64, Reply> {
        // An acknowledged change was applied by the leader that acknowledged it: by this one, then
        // it is in its state; by an earlier one, then it is in the log before this leader's first
        // entry, which is applied. A later one there was none before the round. And what another
        // server's clients have read must not be taken back: a follower applies what it was told
        // to be committed, while this server's own apply may still wait for its disk.
        let term = self.lead_table().term();
        let term = term.ok_or_else(|| self.not_leader())?;
        let applied = self.applied.borrow().at.map_or(0, |at| at.index);
        let revision = applied.max(self.pulse.told());
        if !self.rounds.confirm(term).await {
            let reason = "the leader does not reach a majority";
            return Err(Reply::failed(FailureKind::Retry, reason));
        }
        Ok(revision)
    }

    pub(crate) async fn lead_commit(&self, txn: &msg::Txn) -> Result<Committed, Reply> {
        let invalid =
            |e: &dyn std::fmt::Display| Reply::failed(FailureKind::Invalid, e.to_string());
        // What every server could not apply must not come into the log.
        let checked = Txn::try_from(txn).map_err(|error| invalid(&error))?;
        checked.check().map_err(|error| invalid(&error))?;
        if !self.seems_to_lead() {
            return Err(self.not_leader());
        }
        let write = self.raft.client_write(msg::Command::Txn(txn.clone()));
        match E::timeout(self.timing.request, write).await {
            Ok(Ok(written)) => written.data.ok_or_else(unknown),
            // Not accepted, or accepted and cut from this server's log again: with five voters
            // another one may still have it, be elected after two more elections, and commit it.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(unknown()),
            Ok(Err(RaftError::APIError(error))) => Err(invalid(&error)),
            Ok(Err(RaftError::Fatal(_))) | Err(_) => Err(unknown()),
        }
    }
}

fn unknown() -> Reply {
    Reply::failed(FailureKind::Unknown, "it may have been done or not")
}
