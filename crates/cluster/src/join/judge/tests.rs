use super::*;

const NOW: u64 = 1_800_000_000;

fn four() -> ServerName {
    ServerName::new("four").unwrap()
}

#[test]
fn each_refusal_has_its_reason() {
    let (secret, other) = (
        TokenSecret::generate().unwrap(),
        TokenSecret::generate().unwrap(),
    );
    let fresh = TokenRecord::new(&four(), &secret, NOW, NOW + 60);
    assert_eq!(fresh.judge(&secret, NOW), Ok(four()));
    assert_eq!(fresh.judge(&secret, NOW + 59), Ok(four()));
    assert_eq!(fresh.judge(&secret, NOW + 60), Err(Refusal::Expired));
    assert_eq!(fresh.judge(&other, NOW), Err(Refusal::Wrong));
    let used = TokenRecord {
        used: Some(NOW + 1),
        ..fresh.clone()
    };
    assert_eq!(used.judge(&secret, NOW + 2), Err(Refusal::Used));
    // Who does not know the secret learns nothing about the token.
    assert_eq!(used.judge(&other, NOW + 2), Err(Refusal::Wrong));
    assert_eq!(fresh.judge(&other, NOW + 90), Err(Refusal::Wrong));
    let states = [
        fresh.state(NOW),
        fresh.state(NOW + 60),
        used.state(NOW + 60),
    ];
    assert_eq!(states, ["valid", "expired", "used"]);
}

#[test]
fn a_clock_set_back_revives_nothing_for_long() {
    let secret = TokenSecret::generate().unwrap();
    let record = TokenRecord::new(&four(), &secret, NOW, NOW + 60);
    assert_eq!(record.judge(&secret, NOW - 600), Ok(four()));
    assert_eq!(
        record.judge(&secret, NOW - 3 * 86_400),
        Err(Refusal::Expired)
    );
}

#[test]
fn a_damaged_record_opens_nothing() {
    let secret = TokenSecret::generate().unwrap();
    let good = TokenRecord::new(&four(), &secret, NOW, NOW + 60);
    for hash in ["", "AAAA", "not base64!"] {
        let bad = TokenRecord {
            secret_sha256: hash.to_owned(),
            ..good.clone()
        };
        assert_eq!(bad.judge(&secret, NOW), Err(Refusal::Wrong));
    }
    let nameless = TokenRecord {
        server: "no name".to_owned(),
        ..good
    };
    assert_eq!(nameless.judge(&secret, NOW), Err(Refusal::Wrong));
    assert_eq!(
        TokenRecord::default().judge(&secret, NOW),
        Err(Refusal::Wrong)
    );
}
