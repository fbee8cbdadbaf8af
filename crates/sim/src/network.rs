//! The network between servers: every message takes its time, arrives late, or not at all.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use trilith_base::ServerName;
use trilith_cluster::msg::{Ask, ConfirmReply, Reply, Request};
use trilith_cluster::{CallError, Cluster, Peer, Transport};
use trilith_consensus::BoxFuture;

use crate::environment::{SimEnvironment, Sleep, spawn_for};
use crate::executor::{WORLD, executor};
use crate::limits::{CALL_MAX, RESENT_FOR};
use crate::plant::Plant;
use crate::trace::Trace;

/// All links of the cluster.
pub struct Network {
    state: Mutex<State>,
    plant: Option<Plant>,
    pub trace: Arc<Trace>,
}

struct State {
    ends: Vec<End>,
    /// `links[from][to]`.
    links: Vec<Vec<Link>>,
    rng: SmallRng,
    sent: u64,
    lost: u64,
}

struct End {
    name: ServerName,
    address: SocketAddr,
    /// Listens there while it runs.
    cluster: Option<Arc<Cluster<SimEnvironment>>>,
}

/// One direction between two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub cut: bool,
    pub shortest: Duration,
    pub longest: Duration,
    /// Of a thousand messages, so many have to be sent again by TCP, or are lost with their connection.
    pub loss_per_mille: u32,
}

impl Link {
    pub const GOOD: Self = Self {
        cut: false,
        shortest: Duration::from_micros(100),
        longest: Duration::from_millis(1),
        loss_per_mille: 0,
    };
}

/// What becomes of one message.
enum Fate {
    Arrives(Duration),
    Lost,
}

impl Network {
    pub fn new(
        seed: u64,
        ends: Vec<(ServerName, SocketAddr)>,
        plant: Option<Plant>,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let count = ends.len();
        let ends = ends.into_iter().map(|(name, address)| End {
            name,
            address,
            cluster: None,
        });
        Arc::new(Self {
            state: Mutex::new(State {
                ends: ends.collect(),
                links: vec![vec![Link::GOOD; count]; count],
                rng: SmallRng::seed_from_u64(seed),
                sent: 0,
                lost: 0,
            }),
            plant,
            trace,
        })
    }

    pub fn listen(&self, server: usize, cluster: Option<Arc<Cluster<SimEnvironment>>>) {
        let before = std::mem::replace(&mut self.lock().ends[server].cluster, cluster);
        drop(before);
    }

    pub fn change(&self, change: impl Fn(usize, usize, &mut Link)) {
        let mut state = self.lock();
        for (from, row) in state.links.iter_mut().enumerate() {
            for (to, link) in row.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                change(from, to, link);
            }
        }
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.lock().links[from][to].cut
    }

    /// Messages sent and lost.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.sent, state.lost)
    }

    pub fn transport(self: &Arc<Self>, server: usize) -> Arc<dyn Transport> {
        Arc::new(Line {
            server,
            network: Arc::downgrade(self),
        })
    }

    fn find(&self, peer: &Peer) -> Option<usize> {
        let state = self.lock();
        let found = state
            .ends
            .iter()
            .position(|end| end.address == peer.address);
        found.filter(|index| state.ends[*index].name == peer.name)
    }

    fn fate(&self, from: usize, to: usize) -> Fate {
        let mut state = self.lock();
        let link = state.links[from][to];
        state.sent += 1;
        let rng = &mut state.rng;
        let mut time = rng.random_range(link.shortest..=link.longest);
        if rng.random_range(0..1000) < link.loss_per_mille {
            if rng.random_bool(0.3) {
                state.lost += 1;
                return Fate::Lost;
            }
            // Sent again, after a time that doubles (RFC 6298, 2.4 and 5.5; Linux begins at 200 ms).
            time += Duration::from_millis(200) * (1 << rng.random_range(0..3_u32));
        }
        Fate::Arrives(time)
    }

    fn chance(&self, probability: f64) -> bool {
        self.lock().rng.random_bool(probability)
    }

    /// Whether a message gets there; returns when it does.
    pub async fn carry(&self, from: usize, to: usize) -> bool {
        match self.fate(from, to) {
            Fate::Lost => return false,
            Fate::Arrives(time) => Sleep::new(time).await,
        }
        if !self.is_cut(from, to) {
            return true;
        }
        // The kernel tries again for a while.
        if self.chance(0.7) {
            self.lock().lost += 1;
            return false;
        }
        let mut waited = Duration::ZERO;
        while waited < RESENT_FOR {
            let step = Duration::from_millis(200);
            Sleep::new(step).await;
            waited += step;
            if !self.is_cut(from, to) {
                return true;
            }
        }
        self.lock().lost += 1;
        false
    }

    /// The whole way of a request and its reply.
    async fn exchange(
        self: Arc<Self>,
        from: usize,
        to: usize,
        request: Vec<u8>,
        gone: oneshot::Receiver<()>,
    ) -> Result<Vec<u8>, CallError> {
        let lost = || CallError::Lost("no answer".to_owned());
        if !self.carry(from, to).await {
            return Err(lost());
        }
        let (name, cluster) = {
            let state = self.lock();
            (
                state.ends[from].name.clone(),
                state.ends[to].cluster.clone(),
            )
        };
        let Some(cluster) = cluster else {
            // Nobody listens: the operating system says so at once, if it can.
            return match self.carry(to, from).await {
                true => Err(CallError::NotSent("connection refused".to_owned())),
                false => Err(CallError::NotSent("no connection".to_owned())),
            };
        };
        let owner = executor().owner(to);
        let answer = spawn_for(owner, async move {
            let request: Request = serde_json::from_slice(&request).ok()?;
            let answer = Box::pin(async move { cluster.handle(&name, request).await });
            // A server that notices that its client has hung up drops the request.
            match select(answer, gone).await {
                Either::Left((reply, _)) => serde_json::to_vec(&reply).ok(),
                Either::Right((Ok(()), _)) => None,
                Either::Right((Err(_), answer)) => serde_json::to_vec(&answer.await).ok(),
            }
        });
        let Ok(Some(reply)) = answer.await else {
            return Err(lost());
        };
        if !self.carry(to, from).await {
            return Err(lost());
        }
        Ok(reply)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The network as one server sees it.
struct Line {
    server: usize,
    network: Weak<Network>,
}

impl Transport for Line {
    fn call<'a>(
        &'a self,
        to: &'a Peer,
        request: Request,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let not_sent = |why: &str| CallError::NotSent(why.to_owned());
            let network = self.network.upgrade().ok_or_else(|| not_sent("over"))?;
            if network.plant == Some(Plant::NoConfirmation)
                && matches!(request.ask, Ask::Confirm(_))
            {
                return Ok(Reply::Confirm(ConfirmReply { yes: true }));
            }
            let Some(there) = network.find(to) else {
                return Err(not_sent("the certificate is not that server's"));
            };
            let bytes = serde_json::to_vec(&request).map_err(|e| not_sent(&e.to_string()))?;
            let kind = request.kind();
            let (hang_up, gone) = oneshot::channel();
            let way = network.clone().exchange(self.server, there, bytes, gone);
            // The message goes its way whether or not the caller waits for the reply.
            let answer = spawn_for(WORLD, way);
            let mut hang_up = HangUp {
                network: &network,
                send: Some(hang_up),
            };
            let answer = select(answer, Sleep::new(CALL_MAX)).await;
            hang_up.send = None;
            let answer = match answer {
                Either::Left((Ok(answer), _)) => answer,
                _ => Err(CallError::Lost("no answer in time".to_owned())),
            };
            let (me, result) = (self.server, answer.as_ref().map(|reply| reply.len()));
            match result {
                Ok(_) if matches!(kind, "append" | "confirm") => {}
                result => network
                    .trace
                    .add(format_args!("call {me}->{there} {kind}: {result:?}")),
            }
            let reply = answer?;
            serde_json::from_slice(&reply).map_err(|e| CallError::Lost(e.to_string()))
        })
    }
}

/// The caller drops the call: in half of the cases the other side notices.
struct HangUp<'a> {
    network: &'a Network,
    send: Option<oneshot::Sender<()>>,
}

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        if let Some(send) = self.send.take()
            && self.network.chance(0.5)
        {
            let _ = send.send(());
        }
    }
}
