//! The part that acts: brings an address up and down in one of the modes.

use std::net::IpAddr;
use std::sync::Arc;

use trilith_base::BootTime;
use trilith_consensus::Epoch;

use crate::fsm::Answer;
use crate::hook::Hook;
use crate::l2::L2;
use crate::loopback::{self, Listeners};

#[derive(Clone)]
pub(crate) struct Executor {
    pub listeners: Arc<dyn Listeners>,
    pub kind: Kind,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Loopback,
    L2(Arc<L2>),
    Hook(Arc<Hook>),
}

impl Executor {
    pub async fn take(
        &self,
        ip: IpAddr,
        epoch: Option<Epoch>,
        until: BootTime,
        seconds: Option<u32>,
    ) -> Result<(), String> {
        match &self.kind {
            Kind::Loopback => {}
            Kind::L2(l2) => l2.add(ip, until, seconds.unwrap_or(1)).await?,
            Kind::Hook(hook) => hook.take(ip, epoch).await?,
        }
        loopback::open(&self.listeners, ip, until).await
    }

    pub async fn refresh(&self, ip: IpAddr, until: BootTime, seconds: u32) -> Result<(), String> {
        match &self.kind {
            Kind::L2(l2) => l2.refresh(ip, until, seconds).await,
            Kind::Loopback | Kind::Hook(_) => Ok(()),
        }
    }

    /// The address first: what must be gone at the deadline.
    pub async fn release(&self, ip: IpAddr, epoch: Option<Epoch>) -> Result<(), String> {
        match &self.kind {
            Kind::Loopback => loopback::close(&self.listeners, ip).await,
            Kind::L2(l2) => {
                let gone = l2.remove(ip).await;
                let closed = loopback::close(&self.listeners, ip).await;
                if let Err(problem) = closed {
                    tracing::debug!(%ip, problem, "listeners of a released address");
                }
                gone
            }
            Kind::Hook(hook) => {
                let closed = loopback::close(&self.listeners, ip).await;
                hook.release(ip, epoch).await?;
                closed
            }
        }
    }

    pub async fn probe(&self, ip: IpAddr, marked: bool) -> (Answer, Option<String>) {
        match &self.kind {
            Kind::L2(l2) => l2.probe(ip, marked).await,
            Kind::Loopback | Kind::Hook(_) => (Answer::Free, None),
        }
    }

    pub fn announce(&self, ip: IpAddr) {
        if let Kind::L2(l2) = &self.kind {
            l2.announce(ip);
        }
    }
}
