//! Whether a token opens the door. Pure: the time is an argument.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq;
use trilith_base::ServerName;

use super::msg::TokenRecord;
use crate::limits::{TOKEN_CLOCK_SKEW, TOKEN_TTL_MAX};
use crate::token::TokenSecret;

/// Why a server may not join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this is not the request of a joining server")]
    Malformed,
    /// No such token, or another secret. A guesser does not learn which.
    #[error("the token is wrong, or was revoked")]
    Wrong,
    #[error("the token has been used: one token lets one server join once")]
    Used,
    #[error("the token has expired")]
    Expired,
    #[error("the server `{0}` is not in the cluster's config any more")]
    UnknownServer(ServerName),
    #[error("too many attempts to join: wait a minute")]
    TooOften,
    /// Nobody's fault; another server may know more.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    /// For metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Wrong => "wrong",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::UnknownServer(_) => "unknown_server",
            Self::TooOften => "too_often",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl TokenRecord {
    /// A new one. Times are seconds since 1970-01-01T00:00:00Z.
    pub(crate) fn new(
        server: &ServerName,
        secret: &TokenSecret,
        created: u64,
        expires: u64,
    ) -> Self {
        Self {
            server: server.to_string(),
            secret_sha256: STANDARD_NO_PAD.encode(secret.hash()),
            created,
            expires,
            used: None,
        }
    }

    /// Which server may join with that secret at that time.
    pub(crate) fn judge(&self, secret: &TokenSecret, now: u64) -> Result<ServerName, Refusal> {
        let kept = STANDARD_NO_PAD
            .decode(&self.secret_sha256)
            .map_err(|_| Refusal::Wrong)?;
        // Slices of different lengths are unequal.
        if !bool::from(kept.as_slice().ct_eq(&secret.hash())) {
            return Err(Refusal::Wrong);
        }
        if self.used.is_some() {
            return Err(Refusal::Used);
        }
        if self.is_expired(now) {
            return Err(Refusal::Expired);
        }
        ServerName::new(&self.server).map_err(|_| Refusal::Wrong)
    }

    /// Whether its time is over. A clock that was set back revives nothing for long: no token can
    /// have more time left than any is given.
    pub(crate) fn is_expired(&self, now: u64) -> bool {
        let left = self.expires.saturating_sub(now);
        left == 0 || left > (TOKEN_TTL_MAX + TOKEN_CLOCK_SKEW).as_secs()
    }

    /// `valid`, `used` or `expired`.
    pub(crate) fn state(&self, now: u64) -> &'static str {
        match self.used {
            Some(_) => "used",
            None if self.is_expired(now) => "expired",
            None => "valid",
        }
    }
}

#[cfg(test)]
mod tests;
