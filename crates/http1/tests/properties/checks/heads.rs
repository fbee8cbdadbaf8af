//! Heads: against the reference, in pieces, and written anew.

use bytes::BytesMut;
use trilith_http1::encode::{self, Connection, Framing};
use trilith_http1::{
    BodyLength, HeadLimits, Method, ParseError, RequestHead, RequestParser, ResponseHead,
    ResponseParser, Version,
};

use super::reference::{self, Fields, Verdict};
use super::{WIDE, is_bytes, steps, to_fields};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A request head: what the codec makes of it is what the reference does, however the bytes are
/// split, and what is written anew is read as the same.
pub fn request_head(bytes: &[u8]) {
    let limits = HeadLimits::default();
    let outcome = RequestParser::default().parse(bytes, &limits);
    check_error(&outcome);
    let expected = reference::request(bytes, &limits);
    match (&outcome, expected) {
        (Err(_), Verdict::Refused) | (Ok(None), Verdict::Incomplete) => {}
        (Ok(Some((head, len))), Verdict::Complete(expected, expected_len)) => {
            assert_eq!((as_reference(head), *len), (expected, expected_len));
            rewritten_request(head);
        }
        (_, expected) => panic!(
            "{outcome:?}\nis not {expected:?}\nfor {}",
            bytes.escape_ascii()
        ),
    }
    for step in steps(bytes) {
        let mut parser = RequestParser::default();
        let split = in_steps(bytes, step, |bytes| parser.parse(bytes, &limits));
        assert_eq!(
            split,
            outcome,
            "in steps of {step}: {}",
            bytes.escape_ascii()
        );
    }
}

/// The same for a response head, as the answer to `method`.
pub fn response_head(method: &Method, bytes: &[u8]) {
    let limits = HeadLimits::default();
    let outcome = ResponseParser::default().parse(bytes, method, &limits);
    check_error(&outcome);
    let expected = reference::response(bytes, method.as_str(), &limits);
    match (&outcome, expected) {
        (Err(_), Verdict::Refused) | (Ok(None), Verdict::Incomplete) => {}
        (Ok(Some((head, len))), Verdict::Complete(expected, expected_len)) => {
            let as_expected = reference::Response {
                status: head.status.as_u16(),
                is_http11: head.version == Version::HTTP_11,
                fields: to_fields(&head.headers),
                body: head.body,
                keep_alive: head.keep_alive,
                upgrade: head.upgrade.clone(),
            };
            assert_eq!((as_expected, *len), (expected, expected_len));
            rewritten_response(method, head);
        }
        (_, expected) => panic!(
            "{outcome:?}\nis not {expected:?}\nfor {}",
            bytes.escape_ascii()
        ),
    }
    for step in steps(bytes) {
        let mut parser = ResponseParser::default();
        let split = in_steps(bytes, step, |bytes| parser.parse(bytes, method, &limits));
        assert_eq!(
            split,
            outcome,
            "in steps of {step}: {}",
            bytes.escape_ascii()
        );
    }
}

fn as_reference(head: &RequestHead) -> reference::Request {
    reference::Request {
        method: head.method.as_str().into(),
        target: head.target.clone(),
        is_http11: head.version == Version::HTTP_11,
        host: head.host.clone(),
        fields: to_fields(&head.headers),
        body: head.body,
        keep_alive: head.keep_alive,
        expects_continue: head.expects_continue,
        upgrade: head.upgrade.clone(),
    }
}

fn rewritten_request(head: &RequestHead) {
    let framing = match head.body {
        BodyLength::Length(0) => Framing::None,
        BodyLength::Length(length) => Framing::Length(length),
        BodyLength::Chunked => Framing::Chunked,
        BodyLength::UntilClose => panic!("no request ends so"),
    };
    let connection = match &head.upgrade {
        _ if !head.keep_alive => Connection::Close,
        Some(protocol) => Connection::Upgrade(protocol),
        None => Connection::Persistent,
    };
    let mut out = BytesMut::new();
    let (method, target) = (&head.method, &head.target);
    encode::request_head(&mut out, method, target, &head.headers, framing, connection);
    let again = RequestParser::default().parse(&out, &WIDE);
    let Ok(Some((mut again, len))) = again else {
        panic!("{again:?} for {}", out.escape_ascii());
    };
    assert_eq!(len, out.len());
    if !head.headers.contains("host") {
        assert_eq!(again.headers.get("host"), Some(&b""[..]));
        again.headers.remove("host");
    }
    let expected = RequestHead {
        version: Version::HTTP_11,
        expects_continue: false,
        upgrade: head.upgrade.clone().filter(|_| head.keep_alive),
        ..head.clone()
    };
    assert_eq!(again, expected);
}

fn rewritten_response(method: &Method, head: &ResponseHead) {
    let framing = match head.body {
        BodyLength::Length(0) if head.headers.contains("content-length") => Framing::None,
        BodyLength::Length(0) if *method == Method::HEAD => Framing::None,
        BodyLength::Length(length) => Framing::Length(length),
        BodyLength::Chunked => Framing::Chunked,
        BodyLength::UntilClose => Framing::UntilClose,
    };
    let connection = match &head.upgrade {
        Some(protocol) => Connection::Upgrade(protocol),
        None if head.keep_alive => Connection::Persistent,
        None => Connection::Close,
    };
    let mut out = BytesMut::new();
    encode::response_head(
        &mut out,
        head.status,
        &head.headers,
        framing,
        connection,
        DATE,
    );
    let again = ResponseParser::default().parse(&out, method, &WIDE);
    let Ok(Some((again, len))) = again else {
        panic!("{again:?} for {}", out.escape_ascii());
    };
    assert_eq!(len, out.len());
    assert_eq!(
        (again.status, again.body, &again.upgrade),
        (head.status, head.body, &head.upgrade)
    );
    let end_to_end = |head: &ResponseHead| -> Fields {
        let mut fields = to_fields(&head.headers);
        fields.retain(|(name, _)| !is_bytes(name, "content-length") && !is_bytes(name, "date"));
        fields
    };
    assert_eq!(end_to_end(&again), end_to_end(head));
    let dates = |head: &ResponseHead| head.headers.get_all("date").count();
    assert_eq!(dates(&again), dates(head).max(1));
    if let Some(length) = head.headers.get_str("content-length") {
        let again = again
            .headers
            .get_str("content-length")
            .expect("still described");
        assert_eq!(again.parse::<u64>(), length.parse());
    }
}

/// Feeds a parser growing prefixes until it says something. It must not say it of fewer bytes than
/// it says it of.
fn in_steps<T>(
    bytes: &[u8],
    step: usize,
    mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, ParseError>,
) -> Result<Option<(T, usize)>, ParseError> {
    for end in (0..bytes.len()).step_by(step) {
        match parse(&bytes[..end]) {
            Ok(None) => {}
            Ok(Some((head, len))) => {
                assert!(len <= end);
                return Ok(Some((head, len)));
            }
            Err(error) => return Err(error),
        }
    }
    parse(bytes)
}

fn check_error<T>(outcome: &Result<T, ParseError>) {
    if let Err(error) = outcome {
        let answers = [400, 414, 417, 431, 505];
        assert!(answers.contains(&error.status.as_u16()) && !error.reason.is_empty());
    }
}
