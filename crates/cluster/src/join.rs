//! A new server joins: it brings a token, and is given what every server of the cluster has.

mod client;
mod event;
mod judge;
pub mod msg;
mod pace;
mod router;
mod tokens;

use std::net::SocketAddr;

use trilith_base::ServerName;

pub use client::{JoinError, join};
pub use judge::Refusal;
pub use router::{Caller, Door};
pub use tokens::{TokenError, Tokens};

/// What the cluster's servers have in common, as this server knows it. `node` implements it.
pub trait House: Send + Sync + 'static {
    /// Whether the current config lists that server.
    fn lists(&self, server: &ServerName) -> bool;

    /// Where servers of the current config can be reached: their cluster ports.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// What a server needs to take part. May read a few small files.
    ///
    /// # Errors
    /// Why it cannot be given now, in words.
    fn welcome(&self) -> Result<Welcome, String>;
}

/// What a new server is given. `Debug` does not show the secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Welcome {
    pub cluster: String,
    /// The text of the config file.
    pub config: String,
    /// PEM.
    pub ca_certificate: String,
    /// PEM. See ADR 0022 for why every server has it.
    pub ca_key: String,
    /// The file of passwords, with a database.
    pub database_passwords: Option<String>,
}

/// The same, and which server it is for: the result of [`join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub server: ServerName,
    pub welcome: Welcome,
}

impl std::fmt::Debug for Welcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Welcome(to {})", self.cluster)
    }
}
