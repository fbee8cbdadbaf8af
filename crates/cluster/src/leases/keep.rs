//! Keeps the table: follows leadership and the applied state, proposes expiries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use trilith_consensus::{Epoch, Key};

use super::Term;
use crate::environment::Environment;
use crate::event;
use crate::inner::Inner;
use crate::limits::RETRY_EVERY;
use crate::msg;

/// The longest it sleeps: a bound on what a missed wake-up could cost.
const NAP_MAX: Duration = Duration::from_millis(100);

/// Runs until the store stops.
pub(crate) async fn keep<E: Environment>(inner: Arc<Inner<E>>) {
    let mut metrics = inner.raft.metrics();
    let mut applied = inner.applied.subscribe();
    let mut known = BTreeSet::new();
    loop {
        let now = E::boot_time();
        let (term, due, next) = {
            let mut table = inner.lead_table();
            (table.term(), table.due(now), table.next())
        };
        report_grants(&inner, term, &mut known);
        if let Some(term) = term {
            for (lease, epoch) in due {
                drop(E::spawn(expire(inner.clone(), term, lease, epoch)));
            }
        }
        let nap = next.map_or(NAP_MAX, |at| at.since(now).min(NAP_MAX));
        tokio::select! {
            biased;
            changed = metrics.changed() => if changed.is_err() { return },
            changed = applied.changed() => if changed.is_err() { return },
            // A little more than nothing: at the deadline itself the clock may not have moved on.
            () = E::pause(nap.max(Duration::from_millis(1))) => {}
        }
    }
}

/// Tells operators of grants, once each, on the leader.
fn report_grants<E: Environment>(
    inner: &Inner<E>,
    term: Option<Term>,
    known: &mut BTreeSet<(Key, Epoch)>,
) {
    let view = inner.views.borrow().clone();
    let held = || (view.leases.iter()).map(|(key, lease)| (key.clone(), lease.epoch));
    for (lease, epoch) in held().filter(|_| term.is_some()) {
        if let Some(held) = view.leases.get(&lease)
            && known.insert((lease.clone(), epoch))
        {
            inner.telemetry.emit(&event::LeaseGranted {
                lease: lease.as_str(),
                holder: &held.holder,
                epoch: epoch.0,
            });
        }
    }
    // A server that becomes the leader does not tell again what another one told.
    *known = held().collect();
}

async fn expire<E: Environment>(inner: Arc<Inner<E>>, term: Term, lease: Key, epoch: Epoch) {
    let command = msg::Command::Expire {
        lease: lease.to_string(),
        epoch: epoch.0,
        term: term.0,
        node: inner.id(),
    };
    let proposal = E::timeout(inner.timing.request, inner.raft.client_write(command));
    match proposal.await {
        Ok(Ok(written)) => {
            // Otherwise it came into the log in a later leadership, and is void.
            if matches!(written.data, Some(msg::Committed::Done { .. })) {
                inner.telemetry.emit(&event::LeaseExpired {
                    lease: lease.as_str(),
                    epoch: epoch.0,
                });
            }
        }
        Ok(Err(_)) | Err(_) => {
            E::pause(RETRY_EVERY).await;
            inner.leases().proposal_failed(term, &lease, epoch);
        }
    }
}
