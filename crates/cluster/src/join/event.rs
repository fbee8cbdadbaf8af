//! What operators are told about joining.

use std::net::IpAddr;
use std::time::Duration;

use trilith_base::{ServerName, format_duration};
use trilith_telemetry::{Event, Labels};

use super::judge::Refusal;
use crate::token::TokenId;

/// Somebody who came to join was turned away.
pub(crate) struct JoinRefused<'a> {
    pub from: IpAddr,
    pub token: Option<TokenId>,
    pub reason: &'a Refusal,
    /// The same was said a moment ago: only count.
    pub quiet: bool,
}

impl Event for JoinRefused<'_> {
    const NAME: &'static str = "join_refusals";
    const HELP: &'static str = "Attempts to join the cluster that were refused";
    fn labels(&self) -> Labels {
        vec![("reason", self.reason.label().to_owned())]
    }
    fn log(&self) {
        if self.quiet {
            return;
        }
        let token = self.token.map(|id| id.to_string());
        tracing::warn!(
            from = %self.from, token, why = %self.reason,
            "refused to let a server join"
        );
    }
}

/// A server was given the cluster's secrets.
pub(crate) struct ServerJoined<'a> {
    pub server: &'a ServerName,
    pub from: IpAddr,
    pub token: TokenId,
}

impl Event for ServerJoined<'_> {
    const NAME: &'static str = "server_joins";
    const HELP: &'static str = "Servers that joined with a token";
    fn log(&self) {
        tracing::info!(
            server = %self.server, from = %self.from, token = %self.token,
            "a server joins: it was given the config and the cluster's secrets"
        );
    }
}

/// A token was made.
pub(crate) struct TokenCreated<'a> {
    pub server: &'a ServerName,
    pub token: TokenId,
    pub ttl: Duration,
}

impl Event for TokenCreated<'_> {
    const NAME: &'static str = "tokens_created";
    const HELP: &'static str = "Join tokens made on this server";
    fn log(&self) {
        tracing::info!(
            server = %self.server, token = %self.token, ttl = format_duration(self.ttl),
            "made a token for a server to join with"
        );
    }
}

/// A token was revoked.
pub(crate) struct TokenRevoked {
    pub token: TokenId,
}

impl Event for TokenRevoked {
    const NAME: &'static str = "tokens_revoked";
    const HELP: &'static str = "Join tokens revoked on this server";
    fn log(&self) {
        tracing::info!(token = %self.token, "revoked a token");
    }
}
