//! Renewing a lease, so that "renewed" is true whatever happens to etcd's leader meanwhile.
//!
//! etcd 3.4 lets a member that believes to lead extend a lease in its own memory, without asking the others
//! (mended in 3.4.25 and 3.5.8: "ensureLeadership"). If another one leads by then, it counts that lease from
//! its own election on, and may end it before the holder expects. So a renewal here is three answers of one
//! member in one term: an earlier one, the keep-alive, and a linearizable read after it. A member's term
//! only grows, so the keep-alive went to that term's leader; the read proves that this leader still had a
//! majority afterwards; so any later leader was elected after the renewal, and counts from then on.

use serde_json::json;
use tokio::time::{Instant, sleep};
use trilith_consensus::{Epoch, Key, StoreError};

use super::client::CallError;
use super::limits::{RENEW_ATTEMPT_TIMEOUT, RENEW_TIMEOUT, RETRY_EVERY};
use super::{Shared, lock, read_error, wire};

/// What one attempt came to.
enum Attempt {
    Renewed,
    Lost,
    /// The member's term changed: that proves nothing.
    Elected,
    Failed(CallError),
}

impl From<CallError> for Attempt {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

impl Shared {
    pub(super) async fn renew(&self, lease: Key, epoch: Epoch) -> Result<(), StoreError> {
        let end = Instant::now() + RENEW_TIMEOUT;
        let mut tried = 0_usize;
        loop {
            let endpoint = self.client.preferred();
            let error = match self.renew_at(endpoint, &lease, epoch).await {
                Attempt::Renewed => return Ok(()),
                Attempt::Lost => return Err(StoreError::LeaseLost),
                Attempt::Elected | Attempt::Failed(CallError::Lost(_)) => StoreError::Unknown,
                Attempt::Failed(error) if !error.is_passing() => return Err(read_error(error)),
                Attempt::Failed(error) => read_error(error),
            };
            self.client.avoid(endpoint);
            tried += 1;
            if Instant::now() + RETRY_EVERY >= end {
                return Err(error);
            }
            if tried.is_multiple_of(self.client.endpoints()) {
                sleep(RETRY_EVERY).await;
            }
        }
    }

    async fn renew_at(&self, endpoint: usize, lease: &Key, epoch: Epoch) -> Attempt {
        match self.try_renew(endpoint, lease, epoch).await {
            Ok(attempt) | Err(attempt) => attempt,
        }
    }

    async fn try_renew(
        &self,
        endpoint: usize,
        lease: &Key,
        epoch: Epoch,
    ) -> Result<Attempt, Attempt> {
        let known = lock(&self.backings).get(lease).copied();
        let id = known.filter(|(known, _)| *known == epoch).map(|(_, id)| id);
        let before = lock(&self.met).get(&endpoint).copied();
        let (id, before) = match (id, before) {
            (Some(id), Some(before)) => (id, before),
            _ => match self.look(endpoint, lease, epoch).await? {
                Some(found) => found,
                None => return Ok(Attempt::Lost),
            },
        };
        let request = json!({ "ID": id.to_string() });
        let time = RENEW_ATTEMPT_TIMEOUT;
        let call = self
            .client
            .call(endpoint, "/v3/lease/keepalive", &request, time);
        let kept = call.await?;
        let by = wire::header(&kept);
        let lives = wire::signed(&kept, "TTL") > 0;
        match self.look(endpoint, lease, epoch).await? {
            None => Ok(Attempt::Lost),
            Some((_, after)) if after != before || (by.member, by.term) != before => {
                Ok(Attempt::Elected)
            }
            Some(_) if lives => Ok(Attempt::Renewed),
            // It ends at this moment.
            Some(_) => Ok(Attempt::Elected),
        }
    }

    /// Reads the lease's key at that endpoint, linearizable: the lease of etcd's it hangs on, the member
    /// that answered and its term. `None` when the lease is not held under that epoch.
    async fn look(
        &self,
        endpoint: usize,
        lease: &Key,
        epoch: Epoch,
    ) -> Result<Option<(i64, (u64, u64))>, Attempt> {
        let request = wire::get(&self.place.lease(lease));
        let time = RENEW_ATTEMPT_TIMEOUT;
        let call = self.client.call(endpoint, "/v3/kv/range", &request, time);
        let answer = call.await?;
        let header = wire::header(&answer);
        let met = (header.member, header.term);
        lock(&self.met).insert(endpoint, met);
        let pairs = wire::pairs(&answer);
        self.remember(&pairs);
        let held = pairs.first().filter(|pair| pair.modified == epoch.0);
        Ok(held.map(|pair| (pair.lease, met)))
    }
}
