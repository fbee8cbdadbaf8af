//! etcd's JSON: keys and values in base64, 64-bit numbers as text, what is zero or empty left out.
//! Source: etcd 3.4, Documentation/dev-guide/api_grpc_gateway.md and rpc.proto.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Who answered, and in which state it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub cluster: u64,
    pub member: u64,
    pub term: u64,
    pub revision: u64,
}

/// One entry of etcd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub key: String,
    pub value: Vec<u8>,
    pub modified: u64,
    /// etcd's lease that it hangs on; 0 for none.
    pub lease: i64,
}

/// One change that a watch reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put(Pair),
    Delete { key: String, at: u64 },
}

impl Change {
    pub fn at(&self) -> u64 {
        match self {
            Self::Put(pair) => pair.modified,
            Self::Delete { at, .. } => *at,
        }
    }
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn decode(value: &Value) -> Option<Vec<u8>> {
    match value.as_str() {
        Some(text) => STANDARD.decode(text).ok(),
        None => value.is_null().then(Vec::new),
    }
}

/// A number that may be written as text, or left out when it is 0.
pub(super) fn unsigned(value: &Value, name: &str) -> u64 {
    match &value[name] {
        Value::String(text) => text.parse().unwrap_or_default(),
        other => other.as_u64().unwrap_or_default(),
    }
}

pub(super) fn signed(value: &Value, name: &str) -> i64 {
    match &value[name] {
        Value::String(text) => text.parse().unwrap_or_default(),
        other => other.as_i64().unwrap_or_default(),
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn header(answer: &Value) -> Header {
    let header = &answer["header"];
    Header {
        cluster: unsigned(header, "cluster_id"),
        member: unsigned(header, "member_id"),
        term: unsigned(header, "raft_term"),
        revision: unsigned(header, "revision"),
    }
}

/// `None` for what etcd would not send.
pub(super) fn pair(value: &Value) -> Option<Pair> {
    Some(Pair {
        key: String::from_utf8(decode(&value["key"])?).ok()?,
        value: decode(&value["value"])?,
        modified: unsigned(value, "mod_revision"),
        lease: signed(value, "lease"),
    })
}

pub(super) fn pairs(range: &Value) -> Vec<Pair> {
    list(&range["kvs"]).iter().filter_map(pair).collect()
}

/// The changes of one line of a watch.
pub(super) fn changes(result: &Value) -> Vec<Change> {
    let change = |event: &Value| {
        let pair = pair(&event["kv"])?;
        Some(match event["type"].as_str() {
            Some("DELETE") => Change::Delete {
                key: pair.key,
                at: pair.modified,
            },
            _ => Change::Put(pair),
        })
    };
    list(&result["events"]).iter().filter_map(change).collect()
}

/// Asks for one key.
pub(super) fn get(key: &str) -> Value {
    json!({ "key": encode(key.as_bytes()) })
}

/// Asks for all keys from `from` on, up to the end of the prefix.
pub(super) fn range(from: &str, prefix: &str, limit: usize, revision: u64) -> Value {
    json!({
        "key": encode(from.as_bytes()),
        "range_end": encode(&end_of(prefix)),
        "limit": limit.to_string(),
        "revision": revision.to_string(),
    })
}

/// Asks only which keys there are, and when they were written.
pub(super) fn range_of_keys(prefix: &str) -> Value {
    json!({
        "key": encode(prefix.as_bytes()),
        "range_end": encode(&end_of(prefix)),
        "keys_only": true,
    })
}

pub(super) fn watch(prefix: &str, from: u64) -> Value {
    json!({ "create_request": {
        "key": encode(prefix.as_bytes()),
        "range_end": encode(&end_of(prefix)),
        "start_revision": from.to_string(),
    } })
}

/// The first text after all that begin with the prefix. It ends with `/`, so there is one.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}
