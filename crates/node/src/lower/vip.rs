//! Options of the floating addresses.

use std::time::Duration;

use trilith_config::{Config, OnQuorumLoss, Role, Server, VipMode};
use trilith_vip as vip;

/// A program that brings an address up has to be done by then.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn options(config: &Config, server: &Server) -> vip::Options {
    let mode = match &config.vip.mode {
        VipMode::Loopback => vip::Mode::Loopback,
        VipMode::L2 { interface } => vip::Mode::L2 {
            interface: interface.clone(),
        },
        VipMode::Hook { take, release } => vip::Mode::Hook {
            take: take.clone(),
            release: release.clone(),
            timeout: HOOK_TIMEOUT,
        },
        VipMode::None => vip::Mode::None,
    };
    let edges = config.with_role(Role::Edge).map(|edge| edge.name.clone());
    let mut options = vip::Options::new(server.name.clone(), edges.collect(), mode);
    let address = |address: &trilith_config::FloatingAddress| vip::AddressOptions {
        ip: address.ip,
        prefix: address.prefix,
        preferred: None,
    };
    options.addresses = config.addresses().iter().map(address).collect();
    options.on_quorum_loss = match config.vip.on_quorum_loss {
        OnQuorumLoss::Orphan => vip::OnQuorumLoss::Orphan,
        OnQuorumLoss::Release => vip::OnQuorumLoss::Release,
    };
    options
}

/// The mode as the config file writes it.
pub(crate) fn mode_word(mode: &VipMode) -> &'static str {
    match mode {
        VipMode::Loopback => "loopback",
        VipMode::L2 { .. } => "l2",
        VipMode::Hook { .. } => "hook",
        VipMode::None => "none",
    }
}
