//! Input: a byte for the method or status, one for the connection and one for the framing, then parts
//! that 0xff ends: target, upgrade protocol or date, body, and names and values in turn.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::http1::{self, Made};
use trilith_http1::encode::{Connection, Framing};
use trilith_http1::{Method, StatusCode};

fuzz_target!(|bytes: &[u8]| {
    let [kind, connection, framing, rest @ ..] = bytes else {
        return;
    };
    let mut parts = rest.split(|b| *b == 0xff);
    let target = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let body = parts.next().unwrap_or_default();
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        fields.push((name.to_vec(), value.to_vec()));
    }
    let made = Made {
        fields: &fields,
        framing: match framing % 4 {
            0 => Framing::None,
            1 => Framing::Length(0),
            2 => Framing::Chunked,
            _ => Framing::UntilClose,
        },
        connection: match connection % 4 {
            0 => Connection::Persistent,
            1 => Connection::KeepAlive,
            2 => Connection::Close,
            _ => Connection::Upgrade(&text),
        },
        body,
    };
    let methods = [Method::GET, Method::POST, Method::OPTIONS, Method::CONNECT];
    http1::encoded_request(&methods[usize::from(kind % 4)], &target, &made);

    let statuses = [
        StatusCode::OK,
        StatusCode::NO_CONTENT,
        StatusCode::NOT_MODIFIED,
        StatusCode::SWITCHING_PROTOCOLS,
        StatusCode::NOT_FOUND,
    ];
    http1::encoded_response(statuses[usize::from(kind % 5)], &made, &text);
});
