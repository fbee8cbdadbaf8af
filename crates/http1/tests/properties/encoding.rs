//! Whatever a handler puts into a message, one message is written, and the one that was meant:
//! no field, value or target can split it or change its framing.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use trilith_http1::encode::{Connection, Framing};
use trilith_http1::{Method, StatusCode};

use crate::checks::{self, Made};
use crate::config;
use crate::generate;

fn framings() -> impl Strategy<Value = Framing> {
    select(
        &[
            Framing::None,
            Framing::Length(0),
            Framing::Chunked,
            Framing::UntilClose,
        ][..],
    )
}

fn methods() -> impl Strategy<Value = Method> {
    select(vec![
        Method::GET,
        Method::POST,
        Method::OPTIONS,
        Method::CONNECT,
        Method::DELETE,
    ])
}

fn statuses() -> impl Strategy<Value = StatusCode> {
    prop_oneof![select(&[200u16, 101, 204, 304][..]), 100u16..1000]
        .prop_map(|code| StatusCode::from_u16(code).expect("three digits"))
}

fn connection(kind: u8, protocol: &str) -> Connection<'_> {
    match kind {
        0 => Connection::Persistent,
        1 => Connection::KeepAlive,
        2 => Connection::Close,
        _ => Connection::Upgrade(protocol),
    }
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn requests(
        method in methods(),
        target in generate::made_target(),
        fields in generate::made_fields(),
        framing in framings(),
        kind in 0u8..4,
        protocol in generate::made_text(),
        body in vec(any::<u8>(), 0..300),
    ) {
        let connection = connection(kind, &protocol);
        let made = Made { fields: &fields, framing, connection, body: &body };
        checks::encoded_request(&method, &target, &made);
    }

    #[test]
    fn responses(
        status in statuses(),
        fields in generate::made_fields(),
        framing in framings(),
        kind in 0u8..4,
        protocol in generate::made_text(),
        body in vec(any::<u8>(), 0..300),
        date in generate::made_text(),
    ) {
        let connection = connection(kind, &protocol);
        let made = Made { fields: &fields, framing, connection, body: &body };
        checks::encoded_response(status, &made, &date);
    }

    #[test]
    fn trailers(data in vec(any::<u8>(), 0..20), fields in generate::made_fields()) {
        checks::rechunked(&data, &[7], &fields);
    }
}
