use proptest::prelude::*;
use trilith_consensus::Command;

use super::*;

/// What etcd does with a transaction (etcdserver/apply.go of 3.4), in a few lines.
#[derive(Default)]
struct Etcd {
    revision: u64,
    pairs: BTreeMap<String, Pair>,
    created: BTreeMap<String, u64>,
}

impl Etcd {
    fn txn(&mut self, request: &Value) -> Value {
        let holds = wire::list(&request["compare"]).iter().all(|compare| {
            let key = text(&compare["key"]);
            let (is, should) = match compare["target"].as_str() {
                Some("CREATE") => (self.created.get(&key).copied(), "create_revision"),
                Some("MOD") => (self.pairs.get(&key).map(|p| p.modified), "mod_revision"),
                other => panic!("{other:?}"),
            };
            is.unwrap_or(0).to_string() == compare[should].as_str().unwrap()
        });
        let branch = if holds { "success" } else { "failure" };
        let at = self.revision + 1;
        let mut changed = false;
        let mut written = BTreeSet::new();
        let mut responses = Vec::new();
        for request in wire::list(&request[branch]) {
            if let Some(put) = request.get("request_put") {
                let pair = Pair {
                    key: text(&put["key"]),
                    modified: at,
                    lease: wire::signed(put, "lease"),
                    ..wire::pair(put).unwrap()
                };
                assert!(
                    written.insert(pair.key.clone()),
                    "duplicate key given in txn request"
                );
                self.created.entry(pair.key.clone()).or_insert(at);
                self.pairs.insert(pair.key.clone(), pair);
                changed = true;
                responses.push(json!({ "response_put": {} }));
            } else if let Some(delete) = request.get("request_delete_range") {
                let key = text(&delete["key"]);
                assert!(
                    written.insert(key.clone()),
                    "duplicate key given in txn request"
                );
                self.created.remove(&key);
                changed |= self.pairs.remove(&key).is_some();
                responses.push(json!({ "response_delete_range": {} }));
            } else {
                let key = text(&request["request_range"]["key"]);
                let found = self.pairs.get(&key).map(|pair| {
                    json!({ "key": wire::encode(key.as_bytes()), "mod_revision": pair.modified.to_string() })
                });
                let found: Vec<_> = found.into_iter().collect();
                responses.push(json!({ "response_range": { "kvs": found } }));
            }
        }
        if changed {
            self.revision = at;
        }
        // What is false is left out.
        let mut answer = json!({
            "header": { "revision": self.revision.to_string() },
            "responses": responses,
        });
        if holds {
            answer["succeeded"] = json!(true);
        }
        answer
    }
}

fn text(value: &Value) -> String {
    let pair = wire::pair(&json!({ "key": value }));
    pair.unwrap().key
}

fn names() -> impl Strategy<Value = Key> {
    prop::sample::select(vec!["a", "b", "vip/10.0.0.1"]).prop_map(|name| Key::new(name).unwrap())
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..12_u64, 1 => Just(u64::MAX)]
}

fn conditions() -> impl Strategy<Value = Condition> {
    prop_oneof![
        names().prop_map(|key| Condition::Absent { key }),
        (names(), numbers()).prop_map(|(key, n)| Condition::Unchanged {
            key,
            version: Revision(n)
        }),
        names().prop_map(|lease| Condition::Free { lease }),
        (names(), numbers()).prop_map(|(lease, n)| Condition::Held {
            lease,
            epoch: Epoch(n)
        }),
    ]
}

fn writes() -> impl Strategy<Value = Write> {
    prop_oneof![
        (names(), any::<[u8; 2]>()).prop_map(|(key, value)| Write::Put {
            key,
            value: value.as_slice().into()
        }),
        names().prop_map(|key| Write::Delete { key }),
        names().prop_map(|lease| Write::Grant {
            lease,
            holder: ServerName::new("one").unwrap(),
            ttl: Duration::from_millis(1300),
        }),
        (names(), numbers()).prop_map(|(lease, n)| Write::Revoke {
            lease,
            epoch: Epoch(n)
        }),
    ]
}

fn txns() -> impl Strategy<Value = Txn> {
    let conditions = prop::collection::vec(conditions(), 0..3);
    let writes = prop::collection::vec(writes(), 0..5);
    (conditions, writes).prop_map(|(conditions, writes)| Txn { conditions, writes })
}

proptest! {
    /// Through etcd's eyes and by our own state machine: the same outcomes, the same state.
    #[test]
    fn etcd_comes_to_the_same(history in prop::collection::vec(txns(), 1..16)) {
        let place = Place::new("foobar");
        let mut etcd = Etcd::default();
        let mut reference = View::default();
        let mut followed = View::default();
        let mut backing = 0;
        for txn in &history {
            // To guess the epoch of one's own grant is pointless; etcd's outcome is another there.
            let guess = Epoch(reference.revision.0 + 1);
            if txn.writes.iter().any(|w| matches!(w, Write::Revoke { epoch, .. } if *epoch == guess)) {
                continue;
            }
            let plan = Plan::new(&place, txn);
            let backings: Vec<_> = plan.grants.iter().map(|_| {
                backing += 1;
                Backing { id: backing, ttl: Duration::from_millis(1300) }
            }).collect();
            let before = etcd.pairs.clone();
            let answer = etcd.txn(&plan.request(&place, &backings));
            let outcome = plan.outcome(&answer).expect("an outcome");

            let known = reference.clone();
            let at = Revision(known.revision.0 + 1);
            let expected = reference.apply(at, &Command::Txn(txn.clone())).unwrap();
            match (outcome, expected) {
                (Outcome::Done { revision }, Outcome::Done { .. }) => {
                    prop_assert_eq!(revision.0, etcd.revision);
                    if etcd.revision < at.0 {
                        // Nothing was there to delete: etcd does not count that.
                        prop_assert_eq!(&reference.entries, &known.entries);
                        prop_assert_eq!(&reference.leases, &known.leases);
                        reference.revision = known.revision;
                    }
                }
                (outcome, expected) => {
                    prop_assert_eq!(outcome, expected);
                    prop_assert_eq!(&etcd.pairs, &before);
                    reference.revision = known.revision;
                }
            }

            // What a read shows.
            let mut read = View { revision: Revision(etcd.revision), ..View::default() };
            for pair in etcd.pairs.values() {
                place.insert(&mut read, pair);
            }
            prop_assert_eq!(&read, &reference);
            let pairs: Vec<_> = etcd.pairs.values().cloned().collect();
            prop_assert!(place.same(&reference, &pairs));

            // What a watch shows, also when it repeats itself.
            let mut changes = Vec::new();
            for (key, pair) in &etcd.pairs {
                if before.get(key) != Some(pair) {
                    changes.push(Change::Put(pair.clone()));
                }
            }
            for key in before.keys().filter(|key| !etcd.pairs.contains_key(*key)) {
                changes.push(Change::Delete { key: key.clone(), at: etcd.revision });
            }
            let news = place.apply(&mut followed, &changes);
            prop_assert_eq!(news, !changes.is_empty());
            prop_assert!(!place.apply(&mut followed, &changes));
            prop_assert_eq!(&followed, &reference);
        }
    }
}

#[test]
fn what_is_not_ours_is_left_out() {
    let place = Place::new("foobar");
    let mut view = View::default();
    let pair = |key: &str, value: &str| Pair {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
        modified: 3,
        lease: 7,
    };
    for foreign in [
        "/trilith/other/kv/a",
        "/trilith/foobar/kv",
        "/trilith/foobar/kv/",
        "/trilith/foobar/kv/a b",
        "/trilith/foobar/other/a",
        "",
    ] {
        place.insert(&mut view, &pair(foreign, "x"));
    }
    let lease = "/trilith/foobar/lease/vip";
    for nonsense in [
        "",
        "{}",
        "[]",
        r#"{"holder":"A B","ttl_ms":1}"#,
        r#"{"holder":"one"}"#,
    ] {
        place.insert(&mut view, &pair(lease, nonsense));
    }
    assert_eq!(view, View::default());
    let good = r#"{"holder":"one","ttl_ms":2000,"later":true}"#;
    place.insert(&mut view, &pair(lease, good));
    let found = view.lease("vip").unwrap();
    assert_eq!((found.epoch, found.ttl), (Epoch(3), Duration::from_secs(2)));
    assert_eq!(place.lease_name(lease), Some(Key::new("vip").unwrap()));
}
