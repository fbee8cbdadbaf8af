//! Checks of what servers send each other and find on their disks.

use serde::Serialize;
use serde::de::DeserializeOwned;
use trilith_cluster::http::decode;
use trilith_cluster::join::msg::{JoinReply, JoinRequest, TokenRecord};
use trilith_cluster::msg::{Ask, Entry, Reply, State, Vote};
use trilith_cluster::{Token, TokenId, TokenSecret};

/// The decoder of the disk, from its own file: it is nobody's business outside the crate.
#[path = "../../crates/cluster/src/disk/record.rs"]
#[allow(dead_code, reason = "what is written is not what is fuzzed")]
mod record_file;

const KINDS: [&str; 9] = [
    "hello", "append", "vote", "snapshot", "confirm", "renew", "commit", "read_index", "admit",
];

/// A request of the kind that `kind` picks, and the same bytes as a reply.
pub fn message(kind: u8, body: &[u8]) {
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    if let Ok(request) = decode(kind, body) {
        assert_eq!(request.kind(), kind);
        let again = serde_json::to_vec(&request).expect("it is JSON");
        assert_eq!(decode(kind, &again).expect("it was understood"), request);
        if let Ask::Commit(commit) = &request.ask
            && let Ok(txn) = trilith_consensus::Txn::try_from(&commit.txn)
        {
            // Bounded, or refused as too large: never more than that.
            let _ = txn.check();
        }
    }
    same_again::<Reply>(body);
}

/// A record as it lies on the disk. Whole ones are rare finds; half of the inputs are sealed here, so
/// that what is inside is reached as well.
pub fn record(table: u8, bytes: &[u8]) {
    let believed = record_file::unseal::<Entry>("log", "7", bytes).is_ok()
        || record_file::unseal::<State>("snapshot", "state", bytes).is_ok()
        || record_file::unseal::<Vote>("meta", "vote", bytes).is_ok();
    // Two checksums that agree by chance: 2^-64.
    assert!(!believed || bytes.len() > 16);
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return;
    };
    let sealed = record_file::seal("log", "7", u64::from(table), &value).expect("it is JSON");
    if let Ok((generation, entry)) = record_file::unseal::<Entry>("log", "7", &sealed) {
        assert_eq!(generation, u64::from(table));
        same_again::<Entry>(&serde_json::to_vec(&entry).expect("it is JSON"));
    }
    let _ = record_file::unseal::<State>("log", "7", &sealed);
    // Elsewhere it is damage, and so is a changed byte.
    assert!(record_file::unseal::<serde_json::Value>("log", "8", &sealed).is_err());
    let mut changed = sealed;
    let at = usize::from(table) % changed.len();
    changed[at] ^= 1;
    assert!(record_file::unseal::<serde_json::Value>("log", "7", &changed).is_err());
}

/// A text is a token, and prints as it came, or it is none.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(token) = Token::parse(text) {
        assert_eq!(token.to_string(), text.trim());
        assert!(!token.addresses.is_empty());
    }
}

/// What is posted to `/v1/join`, and what is kept of tokens.
pub fn join_request(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<JoinRequest>(bytes) {
        if let Some(id) = TokenId::parse(&request.id) {
            assert_eq!(id.to_string(), request.id);
        }
        if let Some(secret) = TokenSecret::parse(&request.secret) {
            assert_eq!(secret.expose(), request.secret);
        }
    }
    same_again::<JoinReply>(bytes);
    same_again::<TokenRecord>(bytes);
}

/// What is read is written so that it reads the same.
fn same_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let again = serde_json::to_vec(&value).expect("it is JSON");
        assert_eq!(serde_json::from_slice::<T>(&again).expect("it was read"), value);
    }
}
