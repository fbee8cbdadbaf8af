//! Follows what happens in etcd: the watch behind [`Store::view`](trilith_consensus::Store::view), and
//! whether anybody answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use trilith_base::ServerName;
use trilith_consensus::{Member, Membership, Revision};

use super::Shared;
use super::client::{CallError, Lines};
use super::limits::{
    ATTEMPT_TIMEOUT, LOOK_EVERY, MEMBERS_EVERY, RETRY_EVERY, SILENT_BEFORE_WARNING,
};
use super::wire::{self, Pair};

/// Never ends.
pub(super) async fn follow(shared: Arc<Shared>) {
    tokio::join!(watch(&shared), look_after(&shared));
}

/// One watch after the other, each from where the last one ended.
async fn watch(shared: &Arc<Shared>) {
    let mut behind = Behind::default();
    loop {
        // The first state, and again after a watch that could not go on.
        if shared.read().await.is_ok() {
            let from = shared.view.borrow().revision.0 + 1;
            let request = wire::watch(&shared.place.prefix, from);
            if let Ok(lines) = shared.client.stream("/v3/watch", &request).await {
                listen(shared, lines, &mut behind).await;
            }
        }
        sleep(RETRY_EVERY).await;
    }
}

/// Returns when this watch is of no more use.
async fn listen(shared: &Arc<Shared>, mut lines: Lines, behind: &mut Behind) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            line = lines.next() => {
                let Some(line) = line else { return };
                // Also cancelled: compacted away, no leader, or closed by etcd.
                let result = &line["result"];
                if !result.is_object() || result["canceled"].as_bool().unwrap_or_default() {
                    return;
                }
                take(shared, result);
            }
            _ = look.tick() => {
                let keys = shared.keys(ATTEMPT_TIMEOUT).await;
                if let Ok((header, keys)) = keys
                    && behind.is_stuck(shared, header.revision, &keys)
                {
                    tracing::debug!("the watch on etcd tells nothing any more: starting another");
                    return;
                }
            }
        }
    }
}

fn take(shared: &Shared, result: &Value) {
    let changes = wire::changes(result);
    if changes.is_empty() {
        return;
    }
    let put = changes.iter().filter_map(|change| match change {
        wire::Change::Put(pair) => Some(pair),
        wire::Change::Delete { .. } => None,
    });
    shared.remember(put);
    shared.view.send_if_modified(|known| {
        let mut view = (**known).clone();
        let newer = shared.place.apply(&mut view, &changes);
        if newer {
            *known = Arc::new(view);
        }
        newer
    });
}

/// Notices a watch that has fallen silent, as after a cut that no packet reports: etcd says that there is
/// more than we know, and a look later we still do not know it.
#[derive(Default)]
struct Behind {
    at: Option<u64>,
}

impl Behind {
    fn is_stuck(&mut self, shared: &Shared, revision: u64, keys: &[Pair]) -> bool {
        let known = shared.view.borrow().clone();
        if shared.place.same(&known, keys) {
            // Nothing of ours has changed since: then this is the state at that revision, too.
            advance(shared, known.revision, revision);
            self.at = None;
            return false;
        }
        if known.revision.0 >= revision {
            self.at = None;
            return false;
        }
        match self.at {
            Some(at) if known.revision.0 < at => {
                self.at = None;
                true
            }
            _ => {
                self.at = Some(revision);
                false
            }
        }
    }
}

fn advance(shared: &Shared, from: Revision, to: u64) {
    shared.view.send_if_modified(|known| {
        let grows = known.revision == from && from.0 < to;
        if grows {
            let mut view = (**known).clone();
            view.revision = Revision(to);
            *known = Arc::new(view);
        }
        grows
    });
}

/// Keeps `membership` up to date: etcd's members take the place of ours.
async fn look_after(shared: &Shared) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut members = Members::default();
    let mut silent = Silence::default();
    loop {
        look.tick().await;
        let state = state(shared, &mut members).await;
        silent.note(state.as_ref().err());
        let membership = state.unwrap_or_else(|_| Membership {
            leader: None,
            has_quorum: false,
            ..(**shared.membership.borrow()).clone()
        });
        shared.membership.send_if_modified(|known| {
            let changed = **known != membership;
            if changed {
                *known = Arc::new(membership);
            }
            changed
        });
    }
}

#[derive(Default)]
struct Members {
    list: Vec<Member>,
    asked: Option<Instant>,
}

async fn state(shared: &Shared, members: &mut Members) -> Result<Membership, CallError> {
    // Linearizable: an answer takes a majority.
    let probe = wire::get(&shared.place.prefix);
    let answer = shared.client.ask("/v3/kv/range", &probe, ATTEMPT_TIMEOUT);
    let term = wire::header(&answer.await?).term;
    let nothing = json!({});
    if members
        .asked
        .is_none_or(|asked| asked.elapsed() >= MEMBERS_EVERY)
    {
        let ask = shared
            .client
            .ask("/v3/cluster/member/list", &nothing, ATTEMPT_TIMEOUT);
        members.list = wire::list(&ask.await?["members"])
            .iter()
            .map(member)
            .collect();
        members.asked = Some(Instant::now());
    }
    let ask = shared
        .client
        .ask("/v3/maintenance/status", &nothing, ATTEMPT_TIMEOUT);
    let leader = wire::unsigned(&ask.await?, "leader");
    let leader = members.list.iter().find(|member| member.id == leader);
    Ok(Membership {
        leader: leader.map(|member| member.name.clone()),
        members: members.list.clone(),
        term,
        has_quorum: true,
    })
}

/// etcd's names and addresses are free text; ours are not.
fn member(value: &Value) -> Member {
    let id = wire::unsigned(value, "ID");
    let name = value["name"]
        .as_str()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let fallback = || ServerName::new(&format!("etcd-{id:x}"));
    let url = wire::list(&value["clientURLs"])
        .first()
        .and_then(Value::as_str);
    let address = url.and_then(|url| url.split_once("://")?.1.trim_end_matches('/').parse().ok());
    Member {
        name: ServerName::new(&name)
            .or_else(|_| fallback())
            .expect("letters and digits"),
        address: address.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        id,
        voter: !value["isLearner"].as_bool().unwrap_or_default(),
    }
}

/// Tells the operator once, and when it is over.
#[derive(Default)]
struct Silence {
    since: Option<Instant>,
    told: bool,
}

impl Silence {
    fn note(&mut self, error: Option<&CallError>) {
        let Some(error) = error else {
            if std::mem::take(self).told {
                tracing::info!("etcd answers again");
            }
            return;
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        if !self.told && since.elapsed() >= SILENT_BEFORE_WARNING {
            self.told = true;
            tracing::warn!(%error, "etcd does not answer: leases cannot be granted or renewed");
        }
    }
}
