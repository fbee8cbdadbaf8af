use super::*;

fn parse_as(method: &Method, bytes: impl AsRef<[u8]>) -> Result<ResponseHead, ParseError> {
    let bytes = bytes.as_ref();
    let outcome = ResponseParser::default().parse(bytes, method, &HeadLimits::default())?;
    let (head, len) = outcome.unwrap_or_else(|| panic!("incomplete: {}", bytes.escape_ascii()));
    assert_eq!(len, bytes.len(), "a rest: {}", bytes.escape_ascii());
    Ok(head)
}

fn parse(bytes: impl AsRef<[u8]>) -> Result<ResponseHead, ParseError> {
    parse_as(&Method::GET, bytes)
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, reason: &str) {
    let bytes = bytes.as_ref();
    let shown = bytes.escape_ascii();
    match ResponseParser::default().parse(bytes, &Method::GET, &HeadLimits::default()) {
        Err(error) => assert_eq!(error.reason, reason, "{shown}"),
        other => panic!("{other:?} for {shown}"),
    }
}

const CLOSE: BodyLength = BodyLength::UntilClose;
const CHUNKED: BodyLength = BodyLength::Chunked;
const fn length(length: u64) -> BodyLength {
    BodyLength::Length(length)
}

/// RFC 9112 section 6.3, and whether the connection can be used again.
#[test]
fn framing_and_reuse() {
    // (method, head without its last line end, body, keep_alive)
    #[rustfmt::skip]
    let rows = [
        // Framed.
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", length(5), true),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", length(0), true),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n", length(5), true),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05\r\n", length(5), true),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", CHUNKED, true),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding:  CHUNKED \r\n", CHUNKED, true),
        ("GET", "HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n", length(5), true),
        ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n", length(5), false),
        ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n", CHUNKED, false),
        // Ended by the connection.
        ("GET", "HTTP/1.1 200 OK\r\n", CLOSE, false),
        ("GET", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", CLOSE, false),
        ("GET", "HTTP/1.0 200 OK\r\n", CLOSE, false),
        ("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", CLOSE, false),
        // HTTP/1.0 keeps the connection only where it says so.
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", length(5), false),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n", length(5), true),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, close\r\n", length(5), false),
        // Never a body, whatever the fields say; what says so is not trusted with another request.
        ("HEAD", "HTTP/1.1 200 OK\r\n", length(0), true),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", length(0), true),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", length(0), true),
        ("HEAD", "HTTP/1.0 200 OK\r\n", length(0), false),
        ("GET", "HTTP/1.1 304 Not Modified\r\n", length(0), true),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", length(0), true),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", length(0), true),
        ("GET", "HTTP/1.1 204 No Content\r\n", length(0), true),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", length(0), true),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n", length(0), false),
        ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", length(0), false),
        ("GET", "HTTP/1.1 100 Continue\r\n", length(0), true),
        ("GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n", length(0), true),
        ("GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n", length(0), false),
        // Tunnels.
        ("GET", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", length(0), false),
        ("CONNECT", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", length(0), false),
        ("CONNECT", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", length(0), false),
        ("CONNECT", "HTTP/1.1 407 Who?\r\nContent-Length: 5\r\n", length(5), true),
        // 205 has none either, but may say so in any way (RFC 9110 section 15.3.6).
        ("GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n", length(0), true),
        ("GET", "HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n", CHUNKED, true),
    ];
    for (method, head, body, keep_alive) in rows {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let parsed = parse_as(&method, format!("{head}\r\n"));
        let parsed = parsed.unwrap_or_else(|e| panic!("{e}: {method} {head:?}"));
        assert_eq!(
            (parsed.body, parsed.keep_alive),
            (body, keep_alive),
            "{method} {head:?}"
        );
    }
}

#[test]
fn status_lines() {
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.0 404 Not Found, sorry; (really)", 404),
        ("HTTP/1.1 404 Pas trouv\u{e9}", 404),
        ("HTTP/1.1 999 Request denied", 999),
        ("HTTP/1.1 100 Continue", 100),
    ] {
        let head = parse(format!("{line}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(
            head.map(|head| head.status.as_u16()),
            Ok(status),
            "{line:?}"
        );
    }
    #[rustfmt::skip]
    let rows = [
        ("HTTP/1.1  200 OK", "invalid status line"),
        ("HTTP/1.1 20 OK", "invalid status line"),
        ("HTTP/1.1 2000 OK", "invalid status line"),
        ("HTTP/1.1 200OK", "invalid status line"),
        ("HTTP/1.1 +20 OK", "invalid status line"),
        ("HTTP/1.1 2x0 OK", "invalid status line"),
        ("HTTP/1.1 099 Low", "invalid status"),
        ("HTTP/1.1 000 Low", "invalid status"),
        ("HTTP/1.1 200 O\x01K", "invalid status line"),
        ("HTTP/1.1 200\tOK", "invalid status line"),
        ("HTTP/1.1", "not HTTP/1.0 or HTTP/1.1"),
        ("HTTP/2.0 200 OK", "not HTTP/1.0 or HTTP/1.1"),
        ("HTTP/2 200", "not HTTP/1.0 or HTTP/1.1"),
        ("http/1.1 200 OK", "not HTTP/1.0 or HTTP/1.1"),
        (" HTTP/1.1 200 OK", "not HTTP/1.0 or HTTP/1.1"),
        ("ICY 200 OK", "not HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/1.1", "not HTTP/1.0 or HTTP/1.1"),
        ("<html>", "not HTTP/1.0 or HTTP/1.1"),
        ("", "incomplete status line"),
    ];
    for (line, reason) in rows {
        refused(format!("{line}\r\nContent-Length: 0\r\n\r\n"), reason);
    }
}

#[test]
fn fields_refused() {
    let te = "Transfer-Encoding other than one final chunked";
    let both = "Content-Length and Transfer-Encoding";
    #[rustfmt::skip]
    let rows = [
        ("Content-Length: 5\r\nContent-Length: 6", "differing Content-Length fields"),
        ("Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 50", "differing Content-Length fields"),
        ("Content-Length: 5, 5", "malformed Content-Length"),
        ("Content-Length: +5", "malformed Content-Length"),
        ("Content-Length: -1", "malformed Content-Length"),
        ("Content-Length:", "malformed Content-Length"),
        ("Content-Length: 5\r\nContent-Length:", "malformed Content-Length"),
        ("Content-Length: 99999999999999999999", "malformed Content-Length"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", both),
        ("Transfer-Encoding: gzip, chunked", te),
        ("Transfer-Encoding: identity", te),
        ("Transfer-Encoding: chunked, chunked", te),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", te),
        ("Transfer-Encoding: xchunked", te),
        ("Transfer-Encoding:", te),
        ("X : a", "invalid field name"),
        ("X Y: a", "invalid field name"),
        (": a", "invalid field name"),
        ("X", "invalid field name"),
        (" X: a", "invalid field name"),
        ("X: a\r\n folded", "invalid field name"),
        ("X: a\x01", "invalid field value"),
        ("X: a\x7f", "invalid field value"),
        ("X: a\0", "NUL in a head"),
        ("X: a\rY: b", "CR without LF"),
        ("X: a\nY: b", "LF without CR"),
    ];
    for (fields, reason) in rows {
        refused(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"), reason);
    }
    refused("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "LF without CR");
    refused("\r\nHTTP/1.1 200 OK\r\n\r\n", "incomplete status line");
    refused(
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding in HTTP/1.0",
    );
    let names_none = [
        "",
        "Connection: upgrade\r\n",
        "Upgrade: h2c\r\n",
        "Upgrade: a b\r\n",
    ];
    for fields in names_none {
        refused(
            format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n"),
            "101 without Upgrade",
        );
    }
}

#[test]
fn only_end_to_end_fields_remain() {
    let head = parse(
        "HTTP/1.1 200 OK\r\nServer: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Content-Length: 3\r\nSet-Cookie: a\r\nset-cookie: b\r\nUpgrade: h2,h2c\r\nTrailer: X\r\n\
         X_Under: kept\r\nX-Latin: caf\u{e9}\r\n\r\n",
    )
    .unwrap();
    let names: Vec<_> = head.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            &b"Server"[..],
            b"Set-Cookie",
            b"set-cookie",
            b"X_Under",
            b"X-Latin"
        ]
    );
    assert_eq!(head.upgrade, None, "an offer, not a change");
}

#[test]
fn a_length_that_describes_stays() {
    for (method, line, kept) in [
        (Method::HEAD, "200 OK", Some("5")),
        (Method::GET, "304 Not Modified", Some("5")),
        (Method::GET, "204 No Content", None),
        (Method::HEAD, "204 No Content", None),
        (Method::GET, "200 OK", None),
    ] {
        let head = format!("HTTP/1.1 {line}\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n");
        let head = parse_as(&method, head).unwrap();
        assert_eq!(head.headers.get_str("content-length"), kept, "{line}");
        assert_eq!(head.headers.len(), usize::from(kept.is_some()));
    }
}

#[test]
fn a_101_names_its_protocol() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let head = parse(head).unwrap();
    assert_eq!(head.upgrade.as_deref(), Some("websocket"));
    assert_eq!(head.headers.len(), 1);
}

#[test]
fn byte_by_byte_gives_the_same() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n";
    let limits = HeadLimits::default();
    let mut parser = ResponseParser::default();
    for len in 0..head.len() {
        assert_eq!(
            parser.parse(&head[..len], &Method::GET, &limits),
            Ok(None),
            "{len}"
        );
    }
    let whole = ResponseParser::default().parse(head, &Method::GET, &limits);
    assert_eq!(parser.parse(head, &Method::GET, &limits), whole);
}
