//! Messages to try: valid ones, ones made of the pieces that attacks are made of, and damaged ones.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

pub fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

/// Heads that are accepted nearly always.
pub fn valid_request() -> impl Strategy<Value = Vec<u8>> {
    let methods = select(
        &[
            "GET",
            "HEAD",
            "POST",
            "PUT",
            "OPTIONS",
            "PROPFIND",
            "a!#$%&'*+-.^_`|~",
        ][..],
    );
    let target = "/[!-\"$-~]{0,40}";
    let framing = select(
        &[
            "",
            "Content-Length: 0\r\n",
            "content-length:\t17\r\n",
            "Transfer-Encoding: Chunked\r\n",
        ][..],
    );
    let version = prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0")];
    (
        methods,
        target,
        version,
        vec(any_field(), 0..12),
        framing,
        any::<Index>(),
    )
        .prop_map(|(method, target, version, mut fields, framing, at)| {
            let at = at.index(fields.len() + 1);
            fields.insert(at, b"Host: www.foobar.com:8080\r\n".to_vec());
            fields.insert(at, framing.as_bytes().to_vec());
            let line = format!("{method} {target} {version}\r\n");
            [line.as_bytes(), &fields.concat(), b"\r\n"].concat()
        })
        .boxed()
}

/// Heads put together from pieces, each of which some parser reads in a way of its own.
pub fn odd_request() -> impl Strategy<Value = Vec<u8>> {
    let whole = select(START_LINES).prop_map(str::to_owned);
    let pieces = vec(select(START_PIECES), 1..6).prop_map(|pieces| pieces.concat());
    let start = prop_oneof![4 => whole, 1 => pieces];
    (start, odd_fields())
        .prop_map(|(start, fields)| [start.as_bytes(), b"\r\n", &fields, b"\r\n"].concat())
}

pub fn valid_response() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        select(&[200u16, 204, 304, 100, 101, 103, 205, 404, 500][..]),
        100u16..1000
    ];
    let framing = select(
        &[
            "",
            "Content-Length: 0\r\n",
            "content-length:\t17\r\n",
            "Transfer-Encoding: Chunked\r\n",
        ][..],
    );
    (
        status,
        "[ -~\u{80}-\u{ff}]{0,10}",
        vec(any_field(), 0..12),
        framing,
    )
        .prop_map(|(status, reason, fields, framing)| {
            let line = format!("HTTP/1.1 {status} {reason}\r\n");
            [
                line.as_bytes(),
                &fields.concat(),
                framing.as_bytes(),
                b"\r\n",
            ]
            .concat()
        })
        .boxed()
}

pub fn odd_response() -> impl Strategy<Value = Vec<u8>> {
    let version = select(
        &[
            "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1",
        ][..],
    );
    let status = select(
        &[
            "200", "200", "204", "304", "101", "100", "103", "20", "099", "2000", "+20", " 200",
        ][..],
    );
    let reason = select(&[" OK", "", " ", "\tOK", " O\x01K", " \u{e9}"][..]);
    (version, status, reason, odd_fields()).prop_map(|(version, status, reason, fields)| {
        let line = format!("{version} {status}{reason}\r\n");
        [line.as_bytes(), &fields, b"\r\n"].concat()
    })
}

/// A chunked body and its data.
pub fn valid_chunked() -> impl Strategy<Value = Vec<u8>> {
    let extension = prop_oneof![
        4 => Just(String::new()),
        1 => "(;[a-z!~]{1,5}(=([a-z0-9]{1,5}|\"([ !#-\\[\\]-~\t]|\\\\[ -~]){0,8}\"))?){1,3}",
    ];
    let chunk = (vec(any::<u8>(), 1..40), extension, 0usize..6, any::<bool>()).prop_map(
        |(data, extension, zeros, upper)| {
            let size = match upper {
                true => format!("{:X}", data.len()),
                false => format!("{:x}", data.len()),
            };
            let line = format!("{}{size}{extension}\r\n", "0".repeat(zeros));
            [line.as_bytes(), &data, b"\r\n"].concat()
        },
    );
    let trailers = prop_oneof![3 => Just(vec![]), 1 => vec(any_field(), 0..4)];
    (vec(chunk, 0..6), trailers, vec(any::<u8>(), 0..5)).prop_map(|(chunks, trailers, rest)| {
        [
            &chunks.concat()[..],
            b"0\r\n",
            &trailers.concat(),
            b"\r\n",
            &rest,
        ]
        .concat()
    })
}

pub fn odd_chunked() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec(select(CHUNK_PIECES), 1..12).prop_map(|pieces| pieces.concat());
    let line = vec(select(CHUNK_PIECES), 0..3)
        .prop_map(|extra| ["5", &extra.concat(), "\r\nhello\r\n0\r\n\r\n"].concat());
    let long_line = (250usize..260, "[ x]")
        .prop_map(|(len, end)| format!("5;{}{end}\r\nhello\r\n0\r\n\r\n", "x".repeat(len - 3)));
    let trailers = odd_fields().prop_map(|fields| [b"0\r\n", &fields[..], b"\r\n"].concat());
    let text = prop_oneof![2 => pieces, 2 => line, 1 => long_line].prop_map(String::into_bytes);
    prop_oneof![5 => text, 2 => trailers]
}

/// Text for the places where a caller passes a plain string.
pub fn made_text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => select(&["websocket", "Sun, 06 Nov 1994 08:49:37 GMT"][..]).prop_map(str::to_owned),
        1 => any::<String>(),
        2 => vec(select(DAMAGE), 0..4).prop_map(|pieces| pieces.concat()),
    ]
}

/// A few edits: bytes that matter put in, taken out, doubled, cut off.
pub fn damaged(valid: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<Index>(), 0u8..5, select(DAMAGE), any::<u8>());
    (valid, vec(edit, 1..4)).prop_map(|(mut bytes, edits)| {
        for (at, kind, piece, byte) in edits {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => drop(bytes.splice(at..at, piece.bytes())),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 if at < bytes.len() => bytes[at] = byte,
                3 if at < bytes.len() => bytes.insert(at, bytes[at]),
                4 => bytes.truncate(at),
                _ => {}
            }
        }
        bytes
    })
}

/// A pipelined stream behind a number of cuts, as `checks::split_requests` takes it.
pub fn cut_stream(
    head: impl Strategy<Value = Vec<u8>>,
    body: impl Strategy<Value = Vec<u8>>,
) -> impl Strategy<Value = Vec<u8>> {
    (0u8..8, vec(any::<u8>(), 8), vec((head, body), 1..4)).prop_map(|(count, cuts, messages)| {
        let mut stream = vec![count];
        stream.extend_from_slice(&cuts[..usize::from(count)]);
        for (head, body) in messages {
            let is_chunked = head
                .windows(7)
                .any(|part| part.eq_ignore_ascii_case(b"chunked"));
            stream.extend_from_slice(&head);
            if is_chunked {
                stream.extend_from_slice(&body);
            } else {
                stream.extend_from_slice(&[b'x'; 17]);
            }
        }
        stream
    })
}

/// Names and values as a careless or hostile application gives them to us.
pub fn made_fields() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let name = prop_oneof![
        4 => select(NAMES).prop_map(|name| name.as_bytes().to_vec()),
        2 => "[A-Za-z-]{1,12}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..12),
        1 => (select(NAMES), select(DAMAGE)).prop_map(|(a, b)| format!("{a}{b}").into_bytes()),
        1 => (select(NAMES), select(DAMAGE)).prop_map(|(a, b)| format!("{b}{a}").into_bytes()),
    ];
    let value = prop_oneof![
        3 => select(VALUES).prop_map(|value| value.as_bytes().to_vec()),
        2 => "[ -~]{0,20}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..20),
        1 => vec(select(DAMAGE), 0..6).prop_map(|pieces| pieces.concat().into_bytes()),
    ];
    vec((name, value), 0..10)
}

pub fn made_target() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "/[!-\"$-~]{0,30}",
        1 => any::<String>(),
        1 => vec(select(DAMAGE), 0..8).prop_map(|pieces| pieces.concat()),
        1 => vec(select(START_PIECES), 0..6).prop_map(|pieces| pieces.concat()),
    ]
}

fn any_field() -> impl Strategy<Value = Vec<u8>> {
    let name = "[!#$%&'*+.^`|~0-9A-Za-z-]{1,15}"
        .prop_filter("framing is put in elsewhere", |name| {
            !NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
        })
        .prop_map(String::into_bytes);
    let value = vec(
        prop_oneof![8 => b' '..=b'~', 1 => 0x80u8..=0xff, 1 => Just(b'\t')],
        0..30,
    );
    let harmless =
        (name, "[ \t]{0,2}", value, "[ \t]{0,2}").prop_map(|(name, before, value, after)| {
            [
                &name,
                &b":"[..],
                before.as_bytes(),
                &value,
                after.as_bytes(),
                b"\r\n",
            ]
            .concat()
        });
    let of_this_hop = select(
        &[
            "Connection: close\r\n",
            "Connection: keep-alive, x-a\r\n",
            "Connection: Upgrade\r\n",
            "Upgrade: websocket\r\n",
            "Upgrade: h2c, a/1\r\n",
            "X-A: b\r\n",
            "Expect: 100-continue\r\n",
            "Keep-Alive: timeout=5\r\n",
            "TE: trailers\r\n",
        ][..],
    );
    prop_oneof![4 => harmless, 1 => of_this_hop.prop_map(|f| f.as_bytes().to_vec())]
}

fn odd_fields() -> impl Strategy<Value = Vec<u8>> {
    // Mostly whole lines of names with values that mean something under them: two of them that
    // contradict each other are the point, and each mistake more hides the others.
    let pair = prop_oneof![
        12 => select(FIELDS),
        1 => (select(NAMES), select(VALUES)),
    ];
    let separator = prop_oneof![15 => Just(": "), 1 => select(SEPARATORS)];
    let end = prop_oneof![30 => Just("\r\n"), 1 => select(ENDS)];
    let field = (pair, separator, end)
        .prop_map(|((name, value), separator, end)| [name, separator, value, end].concat());
    (0u8..6, vec(field, 0..4)).prop_map(|(host, fields)| {
        let host = ["", "Host: a\r\n"][usize::from(host.min(1))];
        [host, &fields.concat()].concat().into_bytes()
    })
}

#[rustfmt::skip]
const START_LINES: &[&str] = &[
    "GET / HTTP/1.1", "POST /a?b HTTP/1.1", "GET / HTTP/1.0", "\r\nGET / HTTP/1.1",
    "OPTIONS * HTTP/1.1", "GET * HTTP/1.1", "GET /a#b HTTP/1.1", "GET /\u{e9} HTTP/1.1",
    "GET http://a/b HTTP/1.1", "GET http://a:80?b HTTP/1.1", "GET HTTPS://b HTTP/1.0",
    "GET http://a:443/ HTTP/1.1", "GET http://b/ HTTP/1.1", "GET http://:80/ HTTP/1.1",
    "OPTIONS http://a HTTP/1.1", "CONNECT a:443 HTTP/1.1", "CONNECT a HTTP/1.1",
    "CONNECT a:443 HTTP/1.0", "CONNECT :443 HTTP/1.0", "CONNECT a HTTP/1.0",
];

#[rustfmt::skip]
const START_PIECES: &[&str] = &[
    "GET", "OPTIONS", "CONNECT", " ", " ", " ", "/", "*", "a:1", "http://", "HTTPS://", "a", "@",
    ":80", ":443", "[::1]", "?", "#", "//", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "\t", "\r\n",
    "\u{e9}", "%00", "\x7f",
];

#[rustfmt::skip]
const FIELDS: &[(&str, &str)] = &[
    ("Content-Length", "0"), ("Content-Length", "5"), ("Content-Length", "5"),
    ("CONTENT-LENGTH", "6"), ("content-length", "05"), ("Content-Length", "5, 5"),
    ("Content-Length", "+5"), ("Content-Length", ""), ("Content-Length", "9999999999999999999"),
    ("Content-Length", "18446744073709551616"), ("Content-Length", "0x5"),
    ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked"),
    ("transfer-encoding", "Chunked"), ("Transfer-Encoding", "gzip, chunked"),
    ("Transfer-Encoding", "chunked, chunked"), ("Transfer-Encoding", "identity"),
    ("Transfer-Encoding", "xchunked"), ("Transfer-Encoding", "\x0bchunked"),
    ("Host", "a"), ("host", "b"), ("Host", "A:443"), ("Host", "a:000080"), ("Host", "[::1]:80"),
    ("Host", "a:"), ("Host", ":80"), ("Host", "a@b"), ("Host", "a, b"), ("Host", ""),
    ("Connection", "close"), ("Connection", "keep-alive"), ("Connection", "Upgrade, x-a"),
    ("Connection", "host, content-length, transfer-encoding"), ("Connection", "x-a,, close"),
    ("Upgrade", "websocket"), ("Upgrade", "h2c"), ("Upgrade", "h2c, a/1"), ("Upgrade", "a/b/c"),
    ("Expect", "100-continue"), ("Expect", "100-Continue"), ("Expect", "100-continue, x"),
    ("TE", "trailers"), ("Trailer", "X"), ("Keep-Alive", "timeout=5"), ("Proxy", "x"),
    ("Proxy-Connection", "close"), ("X-A", "b"), ("X-A", "caf\u{e9}"), ("X-A", ""), ("Date", "a"),
    ("Content_Length", "5"), ("Close", "a"), ("X-A", "a\x01"), ("X-A", "a\0"), ("X-A", "a\rb"),
];

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "Host", "host", "Content-Length", "CONTENT-LENGTH", "Transfer-Encoding", "transfer-encoding",
    "Connection", "Upgrade", "Expect", "TE", "Trailer", "Keep-Alive", "Proxy-Connection", "Proxy",
    "Content_Length", "X-A", "X", "Date", "Close", "Content-Length ", " X", "",
];

const SEPARATORS: &[&str] = &[":", ":\t ", " : ", "", "\t:", ":\x0b", "::"];

#[rustfmt::skip]
const VALUES: &[&str] = &[
    "", "0", "5", "+5", "5, 5", "chunked", "chunked ", " \tchunked\t ", "identity", "close",
    "keep-alive", "upgrade, x-a", "websocket", "h2c", "100-continue", "a", "a:80", "a b",
    "caf\u{e9}", "a\x01", "a\x7f", "a\0", "a\rb", "a\nb",
];

const ENDS: &[&str] = &["\n", "\r", "\r\n ", "\r\r\n", ""];

#[rustfmt::skip]
const CHUNK_PIECES: &[&str] = &[
    "0\r\n", "0\r\n\r\n", "\r\n", "\r\n", "\r", "\n", "1", "5", "a", "F", "g", "\r\nx\r\n",
    "5\r\nhello\r\n", "1\r\nx\r\n", ";", ";a", ";a=b", ";a=\"b\\\"\"", "=", "\"", "\\", " ", "\t",
    "+", "-", "0x", "\0", "0000000000000000", "fffffffffffffff", "X: y\r\n", "X_Y: a\r\n", "Host: a\r\n",
    "Content-Length: 5\r\n", " folded\r\n", "x",
];

#[rustfmt::skip]
const DAMAGE: &[&str] = &[
    "\r", "\n", "\r\n", "\r\n\r\n", "\0", " ", "\t", ":", ",", ";", "\x0b", "\x7f", "\u{e9}", "#",
    "_", "0", "5", "chunked", "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n", "Host: b\r\n",
    " HTTP/1.1\r\n", "\r\n ", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
];
