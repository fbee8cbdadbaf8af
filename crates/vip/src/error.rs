/// Why the floating addresses cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot talk to the kernel about addresses (netlink): {source}")]
    Netlink { source: std::io::Error },
    #[error("mode \"hook\" needs a program: set `hook_take` and `hook_release` under [vip]")]
    NoHook,
}
