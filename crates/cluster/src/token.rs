//! The text with which a new server joins: one line, made on a server of the cluster, typed on the new one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use trilith_tls::Fingerprint;

use crate::limits::{TOKEN_ADDRESSES_MAX, TOKEN_TEXT_BYTES_MAX};

/// Kind and version of the text. What it stands before is base64 (RFC 4648 section 5), so that the
/// whole is one word for a terminal and a shell.
const PREFIX: &str = "trilith1_";
/// Bytes of SHA-256 at the end, against slips of the hand. Not a proof of anything.
const CHECK_BYTES: usize = 4;

/// All that a new server needs to know to join: whom to ask, how to recognise them, and the secret
/// that opens the door once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Of the cluster's CA: nobody else can play the cluster.
    pub ca: Fingerprint,
    /// Cluster ports of servers that may be asked, 1 to 16.
    pub addresses: Vec<SocketAddr>,
    pub id: TokenId,
    pub secret: TokenSecret,
}

/// The public part of a token: what `trilith token list` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u64);

/// 256 random bits. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret([u8; 32]);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("this is no token: one begins with `{PREFIX}`")]
    Prefix,
    #[error("this token is of another version of trilith: use the same version everywhere")]
    Version,
    #[error("the token is incomplete or mistyped: copy the whole line")]
    Damaged,
}

impl Token {
    /// # Errors
    /// Everything that [`Token`]'s `Display` does not print.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let Some(body) = text.strip_prefix(PREFIX) else {
            let other = text.strip_prefix("trilith").and_then(|t| t.split_once('_'));
            return Err(match other {
                Some((version, _)) if version.parse::<u32>().is_ok() => InvalidToken::Version,
                _ => InvalidToken::Prefix,
            });
        };
        if text.len() > TOKEN_TEXT_BYTES_MAX {
            return Err(InvalidToken::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_| InvalidToken::Damaged)?;
        let (content, check) = bytes
            .split_last_chunk::<CHECK_BYTES>()
            .ok_or(InvalidToken::Damaged)?;
        if check_of(content) != *check {
            return Err(InvalidToken::Damaged);
        }
        Self::read(content).ok_or(InvalidToken::Damaged)
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        let ca = Fingerprint(*take(&mut bytes)?);
        let id = TokenId(u64::from_be_bytes(*take(&mut bytes)?));
        let secret = TokenSecret(*take(&mut bytes)?);
        let [count] = *take::<1>(&mut bytes)?;
        let count = usize::from(count);
        if !(1..=TOKEN_ADDRESSES_MAX).contains(&count) {
            return None;
        }
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let ip = match *take::<1>(&mut bytes)? {
                [4] => IpAddr::V4(Ipv4Addr::from(*take::<4>(&mut bytes)?)),
                [6] => IpAddr::V6(Ipv6Addr::from(*take::<16>(&mut bytes)?)),
                _ => return None,
            };
            addresses.push(SocketAddr::new(ip, u16::from_be_bytes(*take(&mut bytes)?)));
        }
        bytes.is_empty().then_some(Self {
            ca,
            addresses,
            id,
            secret,
        })
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        Self::parse(text)
    }
}

/// The text itself: whoever reads it can join.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = &self.addresses[..self.addresses.len().min(TOKEN_ADDRESSES_MAX)];
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(self.ca.0);
        bytes.extend(self.id.0.to_be_bytes());
        bytes.extend(self.secret.0);
        bytes.push(u8::try_from(addresses.len()).unwrap_or_default());
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend(ip.octets());
                }
            }
            bytes.extend(address.port().to_be_bytes());
        }
        bytes.extend(check_of(&bytes));
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(head)
}

fn check_of(content: &[u8]) -> [u8; CHECK_BYTES] {
    let digest: [u8; 32] = Sha256::digest(content).into();
    std::array::from_fn(|i| digest[i])
}

impl TokenId {
    pub fn generate() -> Result<Self, rand::rngs::SysError> {
        Ok(Self(SysRng.try_next_u64()?))
    }

    /// 16 digits, as `Display` prints them.
    pub fn parse(text: &str) -> Option<Self> {
        let digits =
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TokenSecret {
    pub fn generate() -> Result<Self, rand::rngs::SysError> {
        let mut bytes = [0; 32];
        SysRng.try_fill_bytes(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// What the cluster keeps of it. No salt and no slow hash: 256 random bits cannot be guessed.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// As it is sent. Never log it.
    pub fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(hidden)")
    }
}

#[cfg(test)]
mod tests;
