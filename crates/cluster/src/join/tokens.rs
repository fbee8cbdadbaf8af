//! The tokens in the store: made, listed, revoked, and used once.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trilith_base::{ServerName, format_duration};
use trilith_consensus::{Condition, Entry, Key, Outcome, Store, StoreError, Txn, View, Write};
use trilith_telemetry::Telemetry;
use trilith_tls::Fingerprint;

use super::event::{TokenCreated, TokenRevoked};
use super::judge::Refusal;
use super::msg::{TokenInfo, TokenRecord};
use super::{House, Joined};
use crate::limits::{TOKEN_ADDRESSES_MAX, TOKEN_KEPT, TOKEN_TTL_MAX, TOKENS_MAX};
use crate::token::{Token, TokenId, TokenSecret};

const PREFIX: &str = "token/";

/// The tokens of the cluster. Several servers may use them at once: the store decides.
pub struct Tokens {
    store: Arc<dyn Store>,
    pub(super) house: Arc<dyn House>,
    ca: Fingerprint,
    pub(super) telemetry: Telemetry,
}

/// Why something was not done with a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the config has no server `{0}`: add it there first, on every server")]
    UnknownServer(ServerName),
    #[error("a token lasts from 1 s to {}", format_duration(TOKEN_TTL_MAX))]
    Ttl,
    #[error("there are {TOKENS_MAX} tokens already: revoke some")]
    TooMany,
    #[error("there is no token `{0}`")]
    NoSuchToken(String),
    #[error("the system gave no random numbers: {0}")]
    Random(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else changed the same at the same time.
    #[error("the tokens changed meanwhile: try again")]
    Conflict,
}

impl Tokens {
    /// `ca` is the fingerprint of the cluster's CA.
    pub fn new(
        store: Arc<dyn Store>,
        house: Arc<dyn House>,
        ca: Fingerprint,
        telemetry: Telemetry,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            house,
            ca,
            telemetry,
        })
    }

    /// A new token for a server of the config. Its text is nowhere but in the result. Also returns
    /// when it expires, in seconds since 1970-01-01T00:00:00Z.
    pub async fn create(
        &self,
        server: &ServerName,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(Token, u64), TokenError> {
        if !self.house.lists(server) {
            return Err(TokenError::UnknownServer(server.clone()));
        }
        if !(Duration::from_secs(1)..=TOKEN_TTL_MAX).contains(&ttl) {
            return Err(TokenError::Ttl);
        }
        let random = |error: rand::rngs::SysError| TokenError::Random(error.to_string());
        let id = TokenId::generate().map_err(random)?;
        let secret = TokenSecret::generate().map_err(random)?;
        let created = seconds(now);
        let expires = created + ttl.as_secs();
        let record = TokenRecord::new(server, &secret, created, expires);

        let view = self.store.read().await?;
        let (stale, kept): (Vec<_>, Vec<_>) = view
            .prefixed(PREFIX)
            .partition(|(_, entry)| is_stale(entry, created));
        if kept.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let mut txn = Txn::compare_and_set(key(id), None, to_bytes(&record));
        // What is over for a day goes, a few at a time.
        for (key, _) in stale.into_iter().take(TOKENS_MAX) {
            txn = txn.then(Write::Delete { key: key.clone() });
        }
        match self.store.commit(txn).await? {
            Outcome::Done { .. } => {}
            Outcome::Refused { .. } => return Err(TokenError::Conflict),
        }
        self.telemetry.emit(&TokenCreated {
            server,
            token: id,
            ttl,
        });
        let mut addresses = self.house.addresses();
        addresses.truncate(TOKEN_ADDRESSES_MAX);
        let token = Token {
            ca: self.ca,
            addresses,
            id,
            secret,
        };
        Ok((token, expires))
    }

    /// All tokens, the newest first.
    pub async fn list(&self, now: SystemTime) -> Result<Vec<TokenInfo>, TokenError> {
        let view = self.store.read().await?;
        let now = seconds(now);
        let mut tokens: Vec<TokenInfo> = view
            .prefixed(PREFIX)
            .filter_map(|(key, entry)| {
                let record = record(entry)?;
                Some(TokenInfo {
                    id: key.as_str().strip_prefix(PREFIX)?.to_owned(),
                    state: record.state(now).to_owned(),
                    server: record.server,
                    created: record.created,
                    expires: record.expires,
                    used: record.used,
                })
            })
            .collect();
        tokens.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        Ok(tokens)
    }

    /// From now on nobody joins with it.
    pub async fn revoke(&self, id: &str) -> Result<(), TokenError> {
        let no_such = || TokenError::NoSuchToken(id.chars().take(40).collect());
        let token = TokenId::parse(id).ok_or_else(no_such)?;
        let view = self.store.read().await?;
        let entry = view.get(key(token).as_str()).ok_or_else(no_such)?;
        let txn = Txn::new()
            .when(Condition::Unchanged {
                key: key(token),
                version: entry.version,
            })
            .then(Write::Delete { key: key(token) });
        match self.store.commit(txn).await? {
            Outcome::Done { .. } => {
                self.telemetry.emit(&TokenRevoked { token });
                Ok(())
            }
            Outcome::Refused { .. } => Err(TokenError::Conflict),
        }
    }

    /// Uses a token: from now on nobody else can. Returns what the server that brought it is given.
    /// Of several at once with the same token one succeeds.
    ///
    /// # Errors
    /// Why not. Then nothing has changed, except after [`Refusal::Unavailable`], when the token may
    /// be used up.
    pub async fn redeem(
        &self,
        id: TokenId,
        secret: &TokenSecret,
        now: SystemTime,
    ) -> Result<Joined, Refusal> {
        let view = self.store.read().await.map_err(unavailable)?;
        let (entry, record) = find(&view, id).ok_or(Refusal::Wrong)?;
        let now = seconds(now);
        let server = record.judge(secret, now)?;
        if !self.house.lists(&server) {
            return Err(Refusal::UnknownServer(server));
        }
        // Before the token is used: what cannot be given costs nobody a token.
        let welcome = self.house.welcome().map_err(Refusal::Unavailable)?;
        let used = TokenRecord {
            used: Some(now),
            ..record
        };
        let txn = Txn::compare_and_set(key(id), Some(entry.version), to_bytes(&used));
        match self.store.commit(txn).await.map_err(unavailable)? {
            Outcome::Done { .. } => Ok(Joined { server, welcome }),
            Outcome::Refused { .. } => Err(Refusal::Used),
        }
    }
}

fn unavailable(error: StoreError) -> Refusal {
    Refusal::Unavailable(error.to_string())
}

fn key(id: TokenId) -> Key {
    Key::new(&format!("{PREFIX}{id}")).expect("digits are a key")
}

fn find(view: &View, id: TokenId) -> Option<(Entry, TokenRecord)> {
    let entry = view.get(key(id).as_str())?;
    Some((entry.clone(), record(entry)?))
}

fn record(entry: &Entry) -> Option<TokenRecord> {
    serde_json::from_slice(&entry.value).ok()
}

fn to_bytes(record: &TokenRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("text and numbers are JSON")
}

/// Over for so long that nobody asks any more; or no token at all.
fn is_stale(entry: &Entry, now: u64) -> bool {
    record(entry).is_none_or(|record| {
        let end = record.used.unwrap_or(record.expires);
        end.saturating_add(TOKEN_KEPT.as_secs()) < now
    })
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
