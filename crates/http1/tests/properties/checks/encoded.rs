//! What is written, whatever was put in.

use bytes::BytesMut;
use trilith_http1::encode::{self, Connection, Framing};
use trilith_http1::{BodyLength, Headers, Method, RequestParser, ResponseParser, StatusCode};

use super::bodies::{decode, write_chunked};
use super::reference::{self, Fields};
use super::{WIDE, is_bytes, to_fields, to_headers};

/// A message as a handler makes it up: any bytes anywhere.
#[derive(Debug)]
pub struct Made<'a> {
    pub fields: &'a [(Vec<u8>, Vec<u8>)],
    pub framing: Framing,
    pub connection: Connection<'a>,
    /// Written as `framing` says; for `Framing::Length` that is its length.
    pub body: &'a [u8],
}

/// Whatever a handler puts into a request, one request is written: every line is what it is meant
/// to be, and our own parser finds what was put in and nothing behind it.
pub fn encoded_request(method: &Method, target: &str, made: &Made<'_>) {
    let framing = with_length(made.framing, made.body);
    let headers = to_headers(made.fields);
    let mut out = BytesMut::new();
    encode::request_head(&mut out, method, target, &headers, framing, made.connection);

    let (start, written) = plain_lines(&out);
    let words: Vec<_> = start.split(' ').collect();
    assert_eq!(
        (words.len(), words[0], words[2]),
        (3, method.as_str(), "HTTP/1.1")
    );
    let expected_framing = match framing {
        Framing::None | Framing::UntilClose => match *method {
            Method::POST | Method::PUT | Method::PATCH => vec!["content-length: 0".to_owned()],
            _ => vec![],
        },
        framing => framing_lines(framing),
    };
    check_lines(&written, made, &expected_framing);
    let hosts = written.iter().filter(|(name, _)| is(name, "host"));
    assert_eq!(hosts.count(), 1);
    if *method == Method::CONNECT {
        return;
    }

    let sent = match framing {
        Framing::None | Framing::UntilClose => &[][..],
        _ => made.body,
    };
    write_body(&mut out, framing, sent);
    out.extend_from_slice(b"next");
    let head = match RequestParser::default().parse(&out, &WIDE) {
        Ok(Some((head, len))) => {
            let _ = out.split_to(len);
            head
        }
        Ok(None) => panic!("incomplete: {}", out.escape_ascii()),
        // Names and values that are harmless to framing, but that our parser does not take.
        Err(error) => {
            let known = [
                "invalid host",
                "underscore in a field name",
                "too many fields",
            ];
            assert!(
                known.contains(&error.reason),
                "{error}: {}",
                out.escape_ascii()
            );
            return;
        }
    };
    assert_eq!(head.method, *method);
    if target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        assert_eq!(head.target, target);
    }
    assert_eq!(head.target, words[1]);
    assert_eq!(head.keep_alive, made.connection != Connection::Close);
    let mut expected = end_to_end(&headers);
    let mut has_host = false;
    expected.retain(|(name, _)| !is_bytes(name, "host") || !std::mem::replace(&mut has_host, true));
    if !has_host {
        expected.push((b"Host".to_vec(), vec![]));
    }
    assert_eq!(to_fields(&head.headers), expected);
    check_rest(head.body, &out, sent);
}

/// The same for a response.
pub fn encoded_response(status: StatusCode, made: &Made<'_>, date: &str) {
    let framing = with_length(made.framing, made.body);
    let headers = to_headers(made.fields);
    let mut out = BytesMut::new();
    encode::response_head(&mut out, status, &headers, framing, made.connection, date);

    let never_a_body = status.is_informational() || status == StatusCode::NO_CONTENT;
    let (start, written) = plain_lines(&out);
    assert!(start.starts_with(&format!("HTTP/1.1 {} ", status.as_str())));
    let described = written
        .iter()
        .filter(|(name, _)| is(name, "content-length"));
    let described: Vec<_> = described.map(|(_, value)| value.clone()).collect();
    let expected_framing = match framing {
        _ if never_a_body => vec![],
        // Of a description only the form is known.
        Framing::None if described.len() == 1 => {
            assert!(described[0].parse::<u64>().is_ok());
            vec![format!("content-length: {}", described[0])]
        }
        framing => framing_lines(framing),
    };
    check_lines(&written, made, &expected_framing);
    assert!(written.iter().any(|(name, _)| is(name, "date")));

    // Without a body this is the answer to HEAD.
    let method = match framing {
        Framing::None => Method::HEAD,
        _ => Method::GET,
    };
    let is_bodiless =
        never_a_body || status == StatusCode::NOT_MODIFIED || framing == Framing::None;
    let sent = if is_bodiless { &[][..] } else { made.body };
    if !is_bodiless {
        write_body(&mut out, framing, sent);
    }
    if framing != Framing::UntilClose || is_bodiless {
        out.extend_from_slice(b"next");
    }
    let head = match ResponseParser::default().parse(&out, &method, &WIDE) {
        Ok(Some((head, len))) => {
            let _ = out.split_to(len);
            head
        }
        Ok(None) => panic!("incomplete: {}", out.escape_ascii()),
        Err(error) => {
            let is_known = error.reason == "too many fields"
                || (error.reason == "101 without Upgrade" && status.as_u16() == 101);
            assert!(is_known, "{error}: {}", out.escape_ascii());
            return;
        }
    };
    assert_eq!(head.status, status);
    let mut found = end_to_end(&head.headers);
    let expected = end_to_end(&headers);
    if !headers.contains("date") {
        found.retain(|(name, _)| !is_bytes(name, "date"));
    }
    assert_eq!(found, expected);
    if head.body == BodyLength::UntilClose {
        assert_eq!((framing, &out[..]), (Framing::UntilClose, sent));
    } else {
        check_rest(head.body, &out, sent);
    }
}

/// Splits a head into its start line and its fields, and asserts that any parser would: no byte
/// that could end a line or hide one but the line ends themselves.
pub(super) fn plain_lines(head: &[u8]) -> (String, Vec<(String, String)>) {
    let shown = head.escape_ascii();
    let lines = head
        .strip_suffix(b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no end: {shown}"));
    // Values may hold bytes beyond ASCII; one character each is enough here.
    let text: String = lines.iter().map(|b| char::from(*b)).collect();
    let mut lines = text.split("\r\n").map(str::to_owned);
    let start = lines.next().unwrap_or_default();
    assert!(
        start.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
        "{shown}"
    );
    let fields = lines.map(|line| {
        assert!(
            !line.chars().any(|c| c.is_ascii_control() && c != '\t'),
            "{shown}"
        );
        let (name, value) = line
            .split_once(':')
            .unwrap_or_else(|| panic!("no colon: {shown}"));
        assert!(reference::is_token(name.as_bytes()), "{shown}");
        (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
    });
    (start, fields.collect())
}

/// Every line is about framing or the connection as asked, or was put in; nothing else is there.
fn check_lines(written: &[(String, String)], made: &Made<'_>, framing: &[String]) {
    let mut found_framing = Vec::new();
    let mut found_connection = Vec::new();
    for (name, value) in written {
        let name = name.to_ascii_lowercase();
        match &name[..] {
            "content-length" | "transfer-encoding" => {
                found_framing.push(format!("{name}: {value}"))
            }
            "connection" => found_connection.push(value.as_str()),
            "upgrade" => assert!(matches!(made.connection, Connection::Upgrade(_))),
            "te" | "trailer" | "keep-alive" | "proxy-connection" | "expect" | "proxy" => {
                panic!("{name} is no end-to-end field")
            }
            "host" | "date" if !made.fields.iter().any(|(n, _)| is_bytes(n, &name)) => {}
            _ => assert!(
                made.fields.iter().any(|(n, _)| is_bytes(n, &name)),
                "{name}"
            ),
        }
    }
    assert_eq!(found_framing, framing);
    let connection = match made.connection {
        Connection::Persistent => &[][..],
        Connection::KeepAlive => &["keep-alive"],
        Connection::Close => &["close"],
        Connection::Upgrade(_) => &["upgrade"],
    };
    assert_eq!(found_connection, connection);
}

fn framing_lines(framing: Framing) -> Vec<String> {
    match framing {
        Framing::None | Framing::UntilClose => vec![],
        Framing::Length(length) => vec![format!("content-length: {length}")],
        Framing::Chunked => vec!["transfer-encoding: chunked".to_owned()],
    }
}

fn check_rest(length: BodyLength, bytes: &[u8], sent: &[u8]) {
    let outcome = decode(length, bytes, bytes.len().max(1));
    assert_eq!(
        (&outcome.data[..], outcome.end),
        (sent, Some(Ok(b"next".len())))
    );
}

fn with_length(framing: Framing, body: &[u8]) -> Framing {
    match framing {
        Framing::Length(_) => Framing::Length(body.len() as u64),
        framing => framing,
    }
}

fn write_body(out: &mut BytesMut, framing: Framing, body: &[u8]) {
    match framing {
        Framing::Chunked => write_chunked(out, body, &[3, 1, 100], &Headers::new()),
        _ => out.extend_from_slice(body),
    }
}

/// The fields that are neither the framing's nor the connection's.
fn end_to_end(headers: &Headers) -> Fields {
    let mut fields = to_fields(headers);
    fields.retain(|(name, _)| !reference::is_of_this_hop(name));
    fields
}

fn is(name: &str, word: &str) -> bool {
    name.eq_ignore_ascii_case(word)
}
