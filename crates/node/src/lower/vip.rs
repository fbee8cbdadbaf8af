//! Options of the floating addresses.

use trilith_config::VipMode;

/// The mode as the config file writes it.
pub(crate) fn mode_word(mode: &VipMode) -> &'static str {
    match mode {
        VipMode::Loopback => "loopback",
        VipMode::L2 { .. } => "l2",
        VipMode::Hook { .. } => "hook",
        VipMode::None => "none",
    }
}
