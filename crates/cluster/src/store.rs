//! The store as everybody else on this server sees it: finds the leader, asks it, waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use trilith_base::BootTime;
use trilith_consensus::{
    BoxFuture, Epoch, Key, Membership, Outcome, Revision, Store, StoreError, Txn, View,
};

use crate::environment::Environment;
use crate::inner::Inner;
use crate::limits::RETRY_EVERY;
use crate::msg::{self, Ask, Committed, Failed, FailureKind, NodeId, Reply};
use crate::run::Cluster;
use crate::transport::{CallError, Peer};

/// What became of one attempt.
enum Attempt<T> {
    Done(T),
    /// Certainly not done: try again, perhaps elsewhere.
    Again(String),
}

/// Whether an attempt may be repeated when its answer was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Harmless,
    Harmful,
}

/// Who is to be asked.
enum Leader {
    Me,
    Other { id: NodeId, peer: Peer },
}

impl<E: Environment> Store for Cluster<E> {
    fn read(&self) -> BoxFuture<'_, Result<Arc<View>, StoreError>> {
        Box::pin(async {
            let inner = &*self.inner;
            let limit = inner.timing.request;
            let end = E::boot_time() + limit;
            let ask = Ask::ReadIndex(msg::ReadIndex {});
            let position = inner
                .until(limit, Repeat::Harmless, &ask, |reply| match reply {
                    Reply::ReadIndex(reply) => Some(reply.revision),
                    _ => None,
                })
                .await?;
            inner.wait_applied(position, end).await
        })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move {
            txn.check()?;
            let inner = &*self.inner;
            let ask = Ask::Commit(msg::Commit { txn: (&txn).into() });
            let limit = inner.timing.request;
            let committed = inner
                .until(limit, Repeat::Harmful, &ask, |reply| match reply {
                    Reply::Committed(committed) => Some(committed),
                    _ => None,
                })
                .await?;
            match committed {
                Committed::Done { revision } => Ok(Outcome::Done {
                    revision: Revision(revision),
                }),
                Committed::Refused { index } => Ok(Outcome::Refused { index }),
                Committed::TooLarge { reason } => Err(StoreError::Invalid { reason }),
            }
        })
    }

    fn renew(&self, lease: &Key, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = Ask::Renew(msg::Renew {
            lease: lease.to_string(),
            epoch: epoch.0,
        });
        Box::pin(async move {
            let limit = self.inner.timing.renew;
            (self.inner)
                .until(limit, Repeat::Harmless, &ask, |reply| match reply {
                    Reply::Renewed(_) => Some(()),
                    _ => None,
                })
                .await
        })
    }

    fn view(&self) -> watch::Receiver<Arc<View>> {
        self.inner.views.subscribe()
    }

    fn membership(&self) -> watch::Receiver<Arc<Membership>> {
        self.inner.membership.subscribe()
    }
}

impl<E: Environment> Inner<E> {
    /// Asks the leader, whoever that is, until it answers or the time is over.
    async fn until<T>(
        &self,
        limit: Duration,
        repeat: Repeat,
        ask: &Ask,
        expected: impl Fn(Reply) -> Option<T>,
    ) -> Result<T, StoreError> {
        let _one_of_many = self
            .requests
            .try_acquire()
            .map_err(|_| StoreError::NoLeader {
                reason: "too many requests at once".to_owned(),
            })?;
        let end = E::boot_time() + limit;
        let mut hint = None;
        loop {
            let left = end.since(E::boot_time());
            let attempt = match E::timeout(left, self.attempt(&mut hint, left, repeat, ask)).await {
                Ok(attempt) => attempt?,
                // Time is up while something was under way.
                Err(_) if repeat == Repeat::Harmful => return Err(StoreError::Unknown),
                Err(_) => Attempt::Again("no answer in time".to_owned()),
            };
            let problem = match attempt {
                Attempt::Done(reply) => match expected(reply) {
                    Some(done) => return Ok(done),
                    None => "another kind of answer".to_owned(),
                },
                Attempt::Again(problem) => problem,
            };
            if self.stopped() {
                return Err(StoreError::Stopped);
            }
            if end.since(E::boot_time()) <= RETRY_EVERY {
                return Err(StoreError::NoLeader { reason: problem });
            }
            E::pause(RETRY_EVERY).await;
        }
    }

    /// One attempt. `hint` is what a server said that does not lead, about who does.
    async fn attempt(
        &self,
        hint: &mut Option<msg::Leader>,
        left: Duration,
        repeat: Repeat,
        ask: &Ask,
    ) -> Result<Attempt<Reply>, StoreError> {
        if self.stopped() {
            return Err(StoreError::Stopped);
        }
        let reply = match self.find_leader(hint.take()) {
            None => return Ok(Attempt::Again("nobody is known to lead".to_owned())),
            Some(Leader::Me) => Ok(self.lead(ask).await),
            Some(Leader::Other { id, peer }) => {
                // The answer to a change is waited for: to leave would be not to know.
                let limit = match repeat {
                    Repeat::Harmless => self.timing.call,
                    Repeat::Harmful => left,
                };
                let call = self.call_within(limit, &peer, id, ask.clone());
                if repeat == Repeat::Harmful {
                    call.await
                } else {
                    tokio::select! {
                        biased;
                        reply = call => reply,
                        // It would be of no use: a leader that hangs is replaced in less time than
                        // it takes to give it up.
                        () = self.other_leader(id) => {
                            return Ok(Attempt::Again("another leader was elected".to_owned()));
                        }
                    }
                }
            }
        };
        match reply {
            Ok(Reply::NotLeader(not)) => {
                *hint = not.leader;
                Ok(Attempt::Again("it does not lead any more".to_owned()))
            }
            Ok(Reply::Failed(failed)) => refused(failed),
            Ok(reply) => Ok(Attempt::Done(reply)),
            Err(CallError::NotSent(problem)) => Ok(Attempt::Again(problem)),
            Err(CallError::Lost(_)) if repeat == Repeat::Harmful => Err(StoreError::Unknown),
            Err(CallError::Lost(problem)) => Ok(Attempt::Again(problem)),
        }
    }

    /// The same answers that another server would get.
    async fn lead(&self, ask: &Ask) -> Reply {
        let reply = match ask {
            Ask::Renew(renew) => (self.lead_renewal(&renew.lease, renew.epoch).await)
                .map(|()| Reply::Renewed(msg::Renewed {})),
            Ask::Commit(commit) => self.lead_commit(&commit.txn).await.map(Reply::Committed),
            Ask::ReadIndex(_) => (self.lead_read_index().await)
                .map(|revision| Reply::ReadIndex(msg::ReadIndexReply { revision })),
            _ => Ok(Reply::failed(FailureKind::Invalid, "not for a leader")),
        };
        reply.unwrap_or_else(|refusal| refusal)
    }

    /// What a peer says is believed as far as it names a member.
    fn find_leader(&self, hint: Option<msg::Leader>) -> Option<Leader> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let members = metrics.membership_config.membership();
        let hinted = hint.map(|leader| leader.id);
        let hinted = hinted.filter(|id| members.get_node(id).is_some());
        let id = hinted.or(metrics.current_leader)?;
        if id == self.id() {
            return Some(Leader::Me);
        }
        let peer = members.get_node(&id)?.peer().ok()?;
        Some(Leader::Other { id, peer })
    }

    /// Returns when this server knows another leader than `id`.
    async fn other_leader(&self, id: NodeId) {
        let mut metrics = self.raft.metrics();
        let other = |leader: Option<NodeId>| leader.is_some_and(|leader| leader != id);
        if (metrics.wait_for(|m| other(m.current_leader)).await).is_err() {
            std::future::pending().await
        }
    }

    async fn wait_applied(&self, position: u64, end: BootTime) -> Result<Arc<View>, StoreError> {
        let mut applied = self.applied.subscribe();
        let left = end.since(E::boot_time());
        let wait = async {
            applied
                .wait_for(|applied| applied.at.map_or(0, |at| at.index) >= position)
                .await
                .map(|applied| applied.view.clone())
        };
        match E::timeout(left, wait).await {
            Ok(Ok(view)) => Ok(view),
            Ok(Err(_)) => Err(StoreError::Stopped),
            Err(_) => Err(StoreError::NoLeader {
                reason: "this server lags behind".to_owned(),
            }),
        }
    }
}

fn refused(failed: Failed) -> Result<Attempt<Reply>, StoreError> {
    match failed.kind {
        FailureKind::Unknown | FailureKind::Other => Err(StoreError::Unknown),
        FailureKind::LeaseLost => Err(StoreError::LeaseLost),
        FailureKind::Invalid => Err(StoreError::Invalid {
            reason: failed.reason,
        }),
        // Nothing was done there. Soon somebody else leads, or it is back.
        FailureKind::Retry | FailureKind::Stopped | FailureKind::Forbidden => {
            Ok(Attempt::Again(failed.reason))
        }
    }
}
