//! What servers say to each other, as the first release with a cluster store says it
//! (`fixtures/wire-v1`): one file per kind of message. The next release must read these files, and
//! must go on saying what is in them.
//!
//! A file that is missing is written: so a new kind of message gets its own. Existing ones are never
//! changed; a form that changes incompatibly gets a folder `wire-v2`, and both are read for a release.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use trilith_cluster::http::decode;
use trilith_cluster::join::msg::{JoinReply, JoinRequest, TokenRecord};
use trilith_cluster::msg::*;

/// Maps whose keys are data: an unknown key there is not an unknown field.
const MAPS: &[&str] = &["nodes", "leases"];
/// Objects that have one of these alone say which variant follows.
const TAGS: &[&str] = &[
    "hello",
    "append",
    "vote",
    "snapshot",
    "confirm",
    "renew",
    "commit",
    "read_index",
    "admit",
    "renewed",
    "committed",
    "admitted",
    "not_leader",
    "failed",
    "command",
    "members",
    "txn",
    "expire",
    "absent",
    "unchanged",
    "free",
    "held",
    "put",
    "delete",
    "grant",
    "revoke",
    "text",
    "hex",
    "done",
    "refused",
    "too_large",
    "stored_up_to",
    "higher_vote",
];

fn vote() -> Vote {
    Vote {
        term: 7,
        node: 11,
        committed: true,
    }
}

fn at(index: u64) -> Position {
    Position {
        term: 7,
        node: 11,
        index,
    }
}

fn members() -> Members {
    let node = |name: &str, address: &str| Node {
        name: name.to_owned(),
        address: address.to_owned(),
    };
    Members {
        voters: vec![[11, 12].into(), [11, 13].into()],
        nodes: BTreeMap::from([
            (11, node("one", "10.0.0.1:7400")),
            (12, node("two", "10.0.0.2:7400")),
            (13, node("three", "[fd00::3]:7400")),
        ]),
    }
}

fn leader() -> Leader {
    Leader {
        id: 11,
        name: "one".to_owned(),
        address: "10.0.0.1:7400".to_owned(),
    }
}

fn txn() -> Txn {
    let key = || "config/current".to_owned();
    let lease = || "vip/10.0.0.100".to_owned();
    Txn {
        conditions: vec![
            Condition::Absent { key: key() },
            Condition::Unchanged {
                key: key(),
                version: 41,
            },
            Condition::Free { lease: lease() },
            Condition::Held {
                lease: lease(),
                epoch: 40,
            },
        ],
        writes: vec![
            Write::Put {
                key: key(),
                value: Value::Text("[cluster]\n".to_owned()),
            },
            Write::Put {
                key: key(),
                value: Value::Hex("00ff".to_owned()),
            },
            Write::Delete { key: key() },
            Write::Grant {
                lease: lease(),
                holder: "one".to_owned(),
                ttl_ms: 1_300,
            },
            Write::Revoke {
                lease: lease(),
                epoch: 40,
            },
        ],
    }
}

fn expire() -> Command {
    // Written as JSON: its fields may grow.
    let json = json!({"expire": {"lease": "vip/10.0.0.100", "epoch": 40, "term": 7, "node": 11}});
    serde_json::from_value(json).unwrap()
}

fn state() -> State {
    let entry = StateEntry {
        value: Value::Text("drain".to_owned()),
        version: 39,
    };
    let lease = StateLease {
        holder: "one".to_owned(),
        epoch: 40,
        ttl_ms: 1_300,
    };
    State {
        at: Some(at(42)),
        members: members(),
        members_at: Some(at(3)),
        revision: 42,
        entries: BTreeMap::from([("drain/two".to_owned(), entry)]),
        leases: BTreeMap::from([("vip/10.0.0.100".to_owned(), lease)]),
    }
}

fn requests() -> Vec<Request> {
    let entry = |index, what| Entry {
        at: at(index),
        what,
    };
    [
        Ask::Hello(Hello { fresh: true }),
        Ask::Append(Append {
            vote: vote(),
            previous: Some(at(41)),
            entries: vec![
                entry(42, Payload::Nothing),
                entry(43, Payload::Command(Command::Txn(txn()))),
                entry(44, Payload::Command(expire())),
                entry(45, Payload::Members(members())),
            ],
            committed: Some(at(40)),
        }),
        Ask::Vote(VoteAsk {
            vote: vote(),
            last: Some(at(42)),
        }),
        Ask::Snapshot(SnapshotAsk {
            vote: vote(),
            id: "42-1".to_owned(),
            state: state(),
        }),
        Ask::Confirm(Confirm { term: 7, node: 11 }),
        Ask::Renew(Renew {
            lease: "vip/10.0.0.100".to_owned(),
            epoch: 40,
        }),
        Ask::Commit(Commit { txn: txn() }),
        Ask::ReadIndex(ReadIndex {}),
        Ask::Admit(Admit {
            id: 14,
            address: "10.0.0.4:7400".to_owned(),
        }),
    ]
    .map(|ask| Request {
        cluster: "foobar".to_owned(),
        from: 12,
        to: 11,
        ask,
    })
    .into()
}

fn replies() -> Vec<(&'static str, Reply)> {
    let text = |text: &str| text.to_owned();
    vec![
        (
            "hello",
            Reply::Hello(HelloReply {
                name: text("two"),
                id: 12,
                fresh: true,
                voters: ["one", "two", "three"].map(str::to_owned).into(),
                term: 7,
                leader: Some(leader()),
            }),
        ),
        ("append.stored", Reply::Append(AppendReply::Stored)),
        (
            "append.stored_up_to",
            Reply::Append(AppendReply::StoredUpTo(Some(at(41)))),
        ),
        ("append.conflict", Reply::Append(AppendReply::Conflict)),
        (
            "append.higher_vote",
            Reply::Append(AppendReply::HigherVote(vote())),
        ),
        (
            "vote",
            Reply::Vote(VoteReply {
                vote: vote(),
                granted: true,
                last: Some(at(42)),
            }),
        ),
        ("snapshot", Reply::Snapshot(SnapshotReply { vote: vote() })),
        ("confirm", Reply::Confirm(ConfirmReply { yes: true })),
        ("renew", Reply::Renewed(Renewed {})),
        (
            "commit.done",
            Reply::Committed(Committed::Done { revision: 42 }),
        ),
        (
            "commit.refused",
            Reply::Committed(Committed::Refused { index: 1 }),
        ),
        (
            "commit.too_large",
            Reply::Committed(Committed::TooLarge {
                reason: text("entries: 10001, but at most 10000"),
            }),
        ),
        (
            "read_index",
            Reply::ReadIndex(ReadIndexReply { revision: 42 }),
        ),
        ("admit", Reply::Admitted(Admitted { member: true })),
        (
            "not_leader",
            Reply::NotLeader(NotLeader {
                leader: Some(leader()),
                term: 7,
            }),
        ),
        (
            "failed",
            Reply::Failed(Failed {
                kind: FailureKind::Retry,
                reason: text("no leader"),
            }),
        ),
    ]
}

/// One message of today against its file.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, today: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/wire-v1")
        .join(format!("{name}.json"));
    let said = serde_json::to_value(today).unwrap();
    if !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, serde_json::to_string_pretty(&said).unwrap() + "\n").unwrap();
    }
    let stored: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // What the release before says is understood.
    let read: T = serde_json::from_value(stored.clone()).expect(name);
    assert_eq!(&read, today, "{name}");
    // It finds all it looks for in what we say.
    assert!(
        covers(&said, &stored),
        "{name}: {said} lacks some of {stored}"
    );
    // A release that says more is understood too.
    let mut more = stored.clone();
    add_unknown(&mut more, "");
    assert_ne!(more, stored, "{name}");
    let read: T = serde_json::from_value(more).expect(name);
    assert_eq!(&read, today, "{name}");
}

/// Whether everything in `old` is in `new` with the same value.
fn covers(new: &Json, old: &Json) -> bool {
    match (new, old) {
        (Json::Object(new), Json::Object(old)) => old
            .iter()
            .all(|(key, old)| new.get(key).is_some_and(|new| covers(new, old))),
        (Json::Array(new), Json::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| covers(new, old))
        }
        _ => new == old,
    }
}

/// Adds a field to every object that is a structure.
fn add_unknown(json: &mut Json, under: &str) {
    match json {
        Json::Object(object) => {
            let is_map = MAPS.contains(&under)
                || (under == "entries" && object.values().all(Json::is_object));
            let is_tag = object.len() == 1 && object.keys().all(|k| TAGS.contains(&k.as_str()));
            for (key, value) in object.iter_mut() {
                add_unknown(value, key);
            }
            if !is_map && !is_tag {
                object.insert("of_tomorrow".to_owned(), json!({"a": [1, null]}));
            }
        }
        Json::Array(array) => array.iter_mut().for_each(|item| add_unknown(item, "")),
        _ => {}
    }
}

#[test]
fn requests_of_a_neighbouring_release_are_understood() {
    for request in requests() {
        let kind = request.kind();
        check(&format!("{kind}.request"), &request);
        // By the function that the port uses.
        let body = serde_json::to_vec(&request).unwrap();
        assert_eq!(decode(kind, &body).unwrap(), request);
        assert!(decode("no_such_kind", &body).is_err());
    }
}

#[test]
fn replies_of_a_neighbouring_release_are_understood() {
    for (name, reply) in replies() {
        // A reply without fields has nothing to add to.
        if let Json::Object(said) = serde_json::to_value(&reply).unwrap()
            && said.values().all(Json::is_string)
        {
            let read: Reply = serde_json::from_value(Json::Object(said)).unwrap();
            assert_eq!(read, reply);
            continue;
        }
        check(&format!("{name}.reply"), &reply);
    }
}

#[test]
fn what_an_older_release_does_not_say_has_a_default() {
    for request in requests() {
        let kind = request.kind();
        if kind == "commit" {
            // Nothing to commit is no commit.
            continue;
        }
        let said = serde_json::to_value(&request).unwrap();
        let fields: Vec<String> = said["ask"][kind]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        for field in fields {
            let mut less = said.clone();
            less["ask"][kind].as_object_mut().unwrap().remove(&field);
            let read = serde_json::from_value::<Request>(less);
            assert_eq!(read.unwrap().kind(), kind, "without {field}");
        }
        for field in ["cluster", "from", "to"] {
            let mut less = said.clone();
            less.as_object_mut().unwrap().remove(field);
            serde_json::from_value::<Request>(less).unwrap();
        }
    }
}

#[test]
fn what_must_not_be_guessed_is_an_error() {
    for bad in [
        json!({"ask": {"obey": {}}}),
        json!({"ask": {"append": {"entries": [{"at": {}, "what": {"dance": {}}}]}}}),
        json!({"ask": {"commit": {"txn": {"then": [{"burn": {"key": "a"}}]}}}}),
        json!({"ask": {"commit": {"txn": {"if": [{"perhaps": {"key": "a"}}]}}}}),
    ] {
        assert!(
            serde_json::from_value::<Request>(bad.clone()).is_err(),
            "{bad}"
        );
    }
    let failed = json!({"failed": {"kind": "of_tomorrow", "reason": "x"}});
    let Reply::Failed(failed) = serde_json::from_value(failed).unwrap() else {
        panic!()
    };
    assert_eq!(failed.kind, FailureKind::Other);
}

#[test]
fn joining_works_across_releases() {
    let text = |text: &str| text.to_owned();
    check(
        "join.request",
        &JoinRequest {
            id: text("00000000000000ab"),
            secret: text("c2VjcmV0"),
        },
    );
    check(
        "join.reply",
        &JoinReply {
            cluster: text("foobar"),
            server: text("four"),
            config: text("[cluster]\n"),
            ca_certificate: text("a certificate in PEM\n"),
            ca_key: text("a key in PEM\n"),
            database_passwords: Some(text("passwords\n")),
        },
    );
    check(
        "token.record",
        &TokenRecord {
            server: text("four"),
            secret_sha256: text("aGFzaA"),
            created: 1_800_000_000,
            expires: 1_800_003_600,
            used: Some(1_800_000_060),
        },
    );
}
