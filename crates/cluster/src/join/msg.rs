//! What is said and kept when a server joins. The same rules as for all messages: unknown fields are
//! ignored, missing ones have defaults, so that versions can differ.

use serde::{Deserialize, Serialize};

/// What a new server says: `POST /v1/join`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinRequest {
    /// Of the token.
    pub id: String,
    /// Of the token, base64.
    pub secret: String,
}

/// What it is given: what every server of the cluster has.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinReply {
    /// The cluster's name.
    pub cluster: String,
    /// Which server it is.
    pub server: String,
    /// The config file.
    pub config: String,
    /// PEM.
    pub ca_certificate: String,
    /// PEM.
    pub ca_key: String,
    /// The file of passwords; a cluster without a database has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_passwords: Option<String>,
}

/// Any answer that is not what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub error: String,
}

/// A token as the store keeps it, under `token/<id>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenRecord {
    /// The server that may join with it.
    pub server: String,
    /// SHA-256 of the secret, base64.
    pub secret_sha256: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub created: u64,
    /// The same.
    pub expires: u64,
    /// When a server joined with it; the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
}

/// `POST /v1/tokens` on the admin socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateToken {
    pub server: String,
    /// How long it can be used. 1 s to 24 h.
    pub ttl_seconds: u64,
}

/// Its answer.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreatedToken {
    pub schema: u32,
    pub id: String,
    pub server: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub expires: u64,
    /// The text for `trilith join`. It is shown this once.
    pub token: String,
}

/// `GET /v1/tokens` on the admin socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenList {
    pub schema: u32,
    pub tokens: Vec<TokenInfo>,
}

/// One token, without anything secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenInfo {
    pub id: String,
    pub server: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub created: u64,
    pub expires: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// `valid`, `used` or `expired`.
    pub state: String,
}

/// Of [`CreatedToken`] and [`TokenList`].
pub const TOKENS_SCHEMA: u32 = 1;

impl std::fmt::Debug for JoinReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the secrets.
        write!(f, "JoinReply({} of {})", self.server, self.cluster)
    }
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreatedToken({} for {})", self.id, self.server)
    }
}
