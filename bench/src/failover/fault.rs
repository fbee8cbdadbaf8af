//! What is done to the primary's server, whoever runs there.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::lab::Node;
use crate::report::System;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// kill -9 of the postmaster
    KillPostgres,
    /// Every process killed, the cable out
    KillServer,
    /// The cable out
    CutOff,
    /// SIGSTOP of the agent: `trilith run`, or Patroni
    FreezeAgent,
    /// The operator asks for another primary
    Switchover,
}

impl Fault {
    pub const ALL: [Self; 5] = [
        Self::KillPostgres,
        Self::KillServer,
        Self::CutOff,
        Self::FreezeAgent,
        Self::Switchover,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::KillPostgres => "PostgreSQL killed",
            Self::KillServer => "server killed",
            Self::CutOff => "server cut off",
            Self::FreezeAgent => "agent frozen",
            Self::Switchover => "switchover",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == text)
    }

    /// How long it lasts: well beyond the time the system needs to react.
    pub fn lasts(self, system: System) -> Duration {
        let seconds = match (self, system) {
            (Self::KillPostgres | Self::Switchover, _) => 5,
            (_, System::Trilith) => 20,
            (_, System::PatroniDefault) => 70,
            (_, System::PatroniTight | System::PatroniTightSync) => 45,
        };
        Duration::from_secs(seconds)
    }

    pub fn inject(self, cluster: &mut dyn Cluster, node: &Node) -> Result<()> {
        match self {
            Self::KillPostgres => {
                let pid = node.postmaster(&cluster.data_dir(node))?;
                node.signal(pid, Signal::SIGKILL)
            }
            Self::KillServer => cluster.lab().power_off(node),
            Self::CutOff => cluster.lab().link(node, false),
            Self::FreezeAgent => node.signal(cluster.agent(node)?, Signal::SIGSTOP),
            Self::Switchover => cluster.switchover(node),
        }
    }

    pub fn mend(self, cluster: &mut dyn Cluster, node: &Node) -> Result<()> {
        match self {
            Self::KillPostgres | Self::Switchover => Ok(()),
            Self::KillServer => {
                cluster.lab().power_on(node)?;
                cluster.start_again(node)
            }
            Self::CutOff => cluster.lab().link(node, true),
            Self::FreezeAgent => match cluster.agent(node) {
                Ok(pid) => node.signal(pid, Signal::SIGCONT),
                // Its own watchdog ended it.
                Err(_) => cluster.start_again(node),
            },
        }
    }
}
