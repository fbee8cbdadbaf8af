use super::*;

fn parse_with(
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<(RequestHead, usize)>, ParseError> {
    RequestParser::default().parse(bytes, limits)
}

fn parse(bytes: impl AsRef<[u8]>) -> Result<RequestHead, ParseError> {
    let bytes = bytes.as_ref();
    let outcome = parse_with(bytes, &HeadLimits::default())?;
    let (head, len) = outcome.unwrap_or_else(|| panic!("incomplete: {}", bytes.escape_ascii()));
    assert_eq!(len, bytes.len(), "a rest: {}", bytes.escape_ascii());
    Ok(head)
}

fn fields(head: &RequestHead) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    head.headers
        .iter()
        .map(|(n, v)| (text(n), text(v)))
        .collect()
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, status: u16, reason: &str) {
    let bytes = bytes.as_ref();
    let shown = bytes.escape_ascii();
    match RequestParser::default().parse(bytes, &HeadLimits::default()) {
        Err(error) => assert_eq!(
            (error.status.as_u16(), error.reason),
            (status, reason),
            "{shown}"
        ),
        other => panic!("{other:?} for {shown}"),
    }
}

/// What browsers, curl, wrk, load balancers and old clients send.
#[test]
fn real_clients_are_understood() {
    let chrome = parse(
        "GET /a/b.css?v=1&x=%20%zz HTTP/1.1\r\nHost: www.foobar.com\r\nConnection: keep-alive\r\n\
         sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
         Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
         Accept: text/css,*/*;q=0.1\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
         Cookie: a=b; c=\"d e\"\r\nDNT: 1\r\n\r\n",
    )
    .unwrap();
    assert_eq!(chrome.method, Method::GET);
    assert_eq!(chrome.target, "/a/b.css?v=1&x=%20%zz");
    assert_eq!(
        (chrome.version, chrome.host.as_str()),
        (Version::HTTP_11, "www.foobar.com")
    );
    assert!(chrome.keep_alive && !chrome.expects_continue && chrome.upgrade.is_none());
    assert_eq!(chrome.body, BodyLength::Length(0));
    assert_eq!(chrome.headers.len(), 9, "{:?}", chrome.headers);

    let curl = parse(
        "POST /upload HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
         Content-Length: 1048577\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Expect: 100-continue\r\n\r\n",
    )
    .unwrap();
    assert!(curl.expects_continue && curl.keep_alive);
    assert_eq!(curl.body, BodyLength::Length(1_048_577));
    assert_eq!(curl.host, "localhost:8080");
    assert!(!curl.headers.contains("expect") && !curl.headers.contains("content-length"));

    let wrk = parse("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n").unwrap();
    assert_eq!(fields(&wrk), [("Host".into(), "127.0.0.1:8080".into())]);

    let ab = parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: a\r\n\r\n").unwrap();
    assert!(ab.keep_alive && ab.version == Version::HTTP_10);

    let haproxy_check = parse("OPTIONS / HTTP/1.0\r\n\r\n").unwrap();
    assert!(!haproxy_check.keep_alive && haproxy_check.host.is_empty());

    let nginx = parse("GET / HTTP/1.0\r\nHost: app\r\nConnection: close\r\n\r\n").unwrap();
    assert!(!nginx.keep_alive);

    let go_chunked = parse(
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
         TE: trailers\r\nAccept-Encoding: gzip\r\n\r\n",
    )
    .unwrap();
    assert_eq!(go_chunked.body, BodyLength::Chunked);
    assert_eq!(go_chunked.headers.len(), 2, "{:?}", go_chunked.headers);

    let websocket = parse(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    .unwrap();
    assert_eq!(websocket.upgrade.as_deref(), Some("websocket"));
    assert!(!websocket.headers.contains("upgrade") && !websocket.headers.contains("connection"));

    let curl_http2 = parse(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
    )
    .unwrap();
    assert_eq!(curl_http2.upgrade, None);
    assert_eq!(fields(&curl_http2), [("Host".into(), "a".into())]);

    let dav = parse("PROPFIND /dav HTTP/1.1\r\nHost: a\r\nDepth: 0\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(dav.unwrap().method.as_str(), "PROPFIND");
}

#[test]
fn accepted_spellings() {
    // (head, target, host, body)
    let length = BodyLength::Length;
    #[rustfmt::skip]
    let rows = [
        ("GET / HTTP/1.1\r\nhOsT:a\r\n\r\n", "/", "a", length(0)),
        ("GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n", "/", "a", length(0)),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "a", length(0)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "/", "", length(0)),
        ("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", "/", "[::1]", length(0)),
        ("GET / HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", "/", "[::1]:443", length(0)),
        ("GET / HTTP/1.1\r\nHost: a_b.C-d.:65535\r\n\r\n", "/", "a_b.C-d.:65535", length(0)),
        ("GET //x/../y?a?b HTTP/1.1\r\nHost: a\r\n\r\n", "//x/../y?a?b", "a", length(0)),
        ("GET /\"<>\\^`{|}[] HTTP/1.1\r\nHost: a\r\n\r\n", "/\"<>\\^`{|}[]", "a", length(0)),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", "a", length(0)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "a:443", "a:443", length(0)),
        ("CONNECT [::1]:443 HTTP/1.0\r\n\r\n", "[::1]:443", "[::1]:443", length(0)),
        // Absolute form: must agree with Host up to case and the default port.
        ("GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "/x?y", "a", length(0)),
        ("GET HTTP://a HTTP/1.1\r\nHost: A\r\n\r\n", "/", "A", length(0)),
        ("GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n", "/?y", "a", length(0)),
        ("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", "/", "a", length(0)),
        ("GET https://a/ HTTP/1.1\r\nHost: a:443\r\n\r\n", "/", "a:443", length(0)),
        ("GET http://a/ HTTP/1.0\r\n\r\n", "/", "a", length(0)),
        ("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "*", "a", length(0)),
        ("OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "/", "a", length(0)),
        // Framing.
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "/", "a", length(0)),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n", "/", "a", length(7)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:9\r\n\r\n", "/", "a", length(9)),
        ("PUT / HTTP/1.0\r\nContent-Length: 3\r\n\r\n", "/", "", length(3)),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", "/", "a", length(9_999_999_999_999_999_999)),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: \t Chunked \r\n\r\n", "/", "a", BodyLength::Chunked),
    ];
    for (head, target, host, body) in rows {
        let parsed = parse(head).unwrap_or_else(|e| panic!("{e}: {head:?}"));
        assert_eq!(
            (parsed.target.as_str(), parsed.host.as_str(), parsed.body),
            (target, host, body),
            "{head:?}"
        );
        // The forwarded Host is the one that was routed by.
        assert_eq!(
            parsed.headers.get_str("host").unwrap_or_default(),
            host,
            "{head:?}"
        );
    }
}

#[test]
fn start_lines_refused() {
    let host = "\r\nHost: a\r\n\r\n";
    #[rustfmt::skip]
    let rows = [
        ("GET /", 400, "invalid start line"),
        ("GET / ", 400, "invalid start line"),
        ("GET", 400, "invalid start line"),
        (" GET / HTTP/1.1", 400, "invalid start line"),
        ("GET  / HTTP/1.1", 400, "invalid start line"),
        ("GET /  HTTP/1.1", 400, "invalid start line"),
        ("GET / HTTP/1.1 ", 400, "invalid line end"),
        ("GET / HTTP/1.10", 400, "invalid line end"),
        ("GET\t/ HTTP/1.1", 400, "invalid start line"),
        ("GET /\tHTTP/1.1", 400, "invalid start line"),
        ("GET /a b HTTP/1.1", 400, "invalid start line"),
        ("GET /a HTTP/2.0 HTTP/1.1", 400, "invalid start line"),
        ("GET / http/1.1", 400, "invalid start line"),
        ("GET / HTTP/1,1", 400, "invalid start line"),
        ("GET / HTTP1.1", 400, "invalid start line"),
        ("GET / HTTP/1", 400, "invalid start line"),
        ("GET / HTTP/one", 400, "invalid start line"),
        ("GET / HTTPS/1.1", 400, "invalid start line"),
        ("GET / HTTP/2.0", 505, "not HTTP/1.0 or HTTP/1.1"),
        ("PRI * HTTP/2.0", 505, "not HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/1.2", 505, "not HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/0.9", 505, "not HTTP/1.0 or HTTP/1.1"),
        ("G\"ET / HTTP/1.1", 400, "invalid start line"),
        ("GET: / HTTP/1.1", 400, "invalid start line"),
        ("G\u{e9}T / HTTP/1.1", 400, "invalid start line"),
        ("(GET) / HTTP/1.1", 400, "invalid start line"),
        ("GET a HTTP/1.1", 400, "invalid request target"),
        ("GET ?a HTTP/1.1", 400, "invalid request target"),
        ("GET * HTTP/1.1", 400, "invalid request target"),
        ("OPTIONS ** HTTP/1.1", 400, "invalid request target"),
        ("GET /a#b HTTP/1.1", 400, "invalid request target"),
        ("GET /caf\u{e9} HTTP/1.1", 400, "invalid request target"),
        ("GET /\x7f HTTP/1.1", 400, "invalid start line"),
        ("GET /\x01 HTTP/1.1", 400, "invalid start line"),
        ("GET a:80 HTTP/1.1", 400, "invalid request target"),
        ("GET ftp://a/ HTTP/1.1", 400, "invalid request target"),
        ("GET http:/a/ HTTP/1.1", 400, "invalid request target"),
        ("GET http:///x HTTP/1.1", 400, "invalid request target"),
        ("GET http://:80/ HTTP/1.1", 400, "invalid request target"),
        ("GET http://user@a/ HTTP/1.1", 400, "invalid request target"),
        ("GET http://user:pw@a/ HTTP/1.1", 400, "invalid request target"),
        ("GET http://a:b/ HTTP/1.1", 400, "invalid request target"),
        ("GET http://b\\@a/ HTTP/1.1", 400, "invalid request target"),
        ("CONNECT a HTTP/1.1", 400, "invalid request target"),
        ("CONNECT :443 HTTP/1.1", 400, "invalid request target"),
        ("CONNECT / HTTP/1.1", 400, "invalid request target"),
        ("CONNECT http://a:443 HTTP/1.1", 400, "invalid request target"),
        ("CONNECT a:443/x HTTP/1.1", 400, "invalid request target"),
        ("GET http://b/ HTTP/1.1", 400, "Host differs from the request target"),
        ("GET http://a:8080/ HTTP/1.1", 400, "Host differs from the request target"),
        ("GET http://a:443/ HTTP/1.1", 400, "Host differs from the request target"),
        ("CONNECT b:443 HTTP/1.1", 400, "Host differs from the request target"),
    ];
    for (line, status, reason) in rows {
        refused(format!("{line}{host}"), status, reason);
    }
    refused(
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "incomplete start line",
    );
    refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "LF without CR");
    refused("x\0", 400, "NUL in a head");
    refused(
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "invalid start line",
    );
    // A TLS handshake on a plain port.
    refused(
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        400,
        "NUL in a head",
    );
}

#[test]
fn line_ends_refused() {
    #[rustfmt::skip]
    let rows = [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", "LF without CR"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "LF without CR"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "LF without CR"),
        ("GET / HTTP/1.1\nHost: a\n\n", "LF without CR"),
        ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "LF without CR"),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", "CR without LF"),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "CR without LF"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rX", "CR without LF"),
        ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", "CR without LF"),
        ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "CR without LF"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\0\r\n\r\n", "NUL in a head"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", "NUL in a head"),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", "NUL in a head"),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "invalid field name"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tfolded\r\n\r\n", "invalid field name"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "invalid field name"),
        ("GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", "invalid field name"),
    ];
    for (head, reason) in rows {
        refused(head, 400, reason);
    }
}

#[test]
fn fields_refused() {
    #[rustfmt::skip]
    let rows = [
        // Names.
        ("X : b", 400, "invalid field name"),
        ("X\t: b", 400, "invalid field name"),
        ("X Y: b", 400, "invalid field name"),
        (": b", 400, "invalid field name"),
        ("X", 400, "invalid field name"),
        ("X\x0b: b", 400, "invalid field name"),
        ("X\x7f: b", 400, "invalid field name"),
        ("(X): b", 400, "invalid field name"),
        ("X\u{e9}: b", 400, "invalid field name"),
        ("\u{feff}X: b", 400, "invalid field name"),
        ("Transfer-Encoding : chunked", 400, "invalid field name"),
        ("Content-Length : 5", 400, "invalid field name"),
        ("Content_Length: 5", 400, "underscore in a field name"),
        ("X_Forwarded_For: 10.0.0.1", 400, "underscore in a field name"),
        // Values.
        ("X: a\x01b", 400, "invalid field value"),
        ("X: a\x08", 400, "invalid field value"),
        ("X: \x0b", 400, "invalid field value"),
        ("X: a\x0cb", 400, "invalid field value"),
        ("X: a\x1b[31m", 400, "invalid field value"),
        ("X: a\x7f", 400, "invalid field value"),
        // Host.
        ("Host: a", 400, "several Host fields"),
        ("host:", 400, "several Host fields"),
        // Content-Length.
        ("Content-Length: 5\r\nContent-Length: 5", 400, "several Content-Length fields"),
        ("Content-Length: 5\r\nContent-Length: 6", 400, "several Content-Length fields"),
        ("Content-Length: 0\r\ncontent-length: 5", 400, "several Content-Length fields"),
        ("Content-Length:", 400, "malformed Content-Length"),
        ("Content-Length: +5", 400, "malformed Content-Length"),
        ("Content-Length: -5", 400, "malformed Content-Length"),
        ("Content-Length: -0", 400, "malformed Content-Length"),
        ("Content-Length: 5, 5", 400, "malformed Content-Length"),
        ("Content-Length: 5,6", 400, "malformed Content-Length"),
        ("Content-Length: 5 5", 400, "malformed Content-Length"),
        ("Content-Length: 0x5", 400, "malformed Content-Length"),
        ("Content-Length: 5.0", 400, "malformed Content-Length"),
        ("Content-Length: 5e0", 400, "malformed Content-Length"),
        ("Content-Length: five", 400, "malformed Content-Length"),
        ("Content-Length: \u{665}", 400, "malformed Content-Length"),
        ("Content-Length: \"5\"", 400, "malformed Content-Length"),
        ("Content-Length: 18446744073709551616", 400, "malformed Content-Length"),
        ("Content-Length: 00000000000000000005", 400, "malformed Content-Length"),
        // Transfer-Encoding.
        ("Transfer-Encoding:", 400, TE),
        ("Transfer-Encoding: identity", 400, TE),
        ("Transfer-Encoding: gzip", 400, TE),
        ("Transfer-Encoding: gzip, chunked", 400, TE),
        ("Transfer-Encoding: chunked, gzip", 400, TE),
        ("Transfer-Encoding: chunked, chunked", 400, TE),
        ("Transfer-Encoding: chunked, identity", 400, TE),
        ("Transfer-Encoding: chunked,", 400, TE),
        ("Transfer-Encoding: ,chunked", 400, TE),
        ("Transfer-Encoding: xchunked", 400, TE),
        ("Transfer-Encoding: chunkedx", 400, TE),
        ("Transfer-Encoding: chunked;q=1", 400, TE),
        ("Transfer-Encoding: \"chunked\"", 400, TE),
        ("Transfer-Encoding: chun\u{212a}ed", 400, TE),
        ("Transfer-Encoding: \x0bchunked", 400, "invalid field value"),
        ("Transfer-Encoding: chunked\x0b", 400, "invalid field value"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, TE),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400, TE),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 400, TE),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400, BOTH),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400, BOTH),
        ("Content-Length: 0\r\ntransfer-encoding:chunked", 400, BOTH),
        // Nominating a field does not hide it from framing.
        ("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", 400, BOTH),
        // Expect.
        ("Expect: foo", 417, "unknown expectation"),
        ("Expect:", 417, "unknown expectation"),
        ("Expect: 100-continue, foo", 417, "unknown expectation"),
    ];
    for (field, status, reason) in rows {
        refused(
            format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"),
            status,
            reason,
        );
    }
    refused(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "Transfer-Encoding in HTTP/1.0",
    );
    refused("GET / HTTP/1.1\r\n\r\n", 400, "no Host field");
    refused("GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", 400, "no Host field");
    refused("GET http://a/ HTTP/1.1\r\n\r\n", 400, "no Host field");
}

const TE: &str = "Transfer-Encoding other than one final chunked";
const BOTH: &str = "Content-Length and Transfer-Encoding";

#[test]
fn hosts_refused() {
    #[rustfmt::skip]
    let hosts = [
        "user@a", "user:pw@a", "a b", "a,b", "a, b", "a;b", "a/b", "a?b", "a#b", "a\\b", "a\tb",
        "a:", "a:b", "a:+80", "a:-1", "a:65536", "a:000080", "a:80:80", "a:8 0", ":80", ":",
        "::1", "[::1", "[::1]x", "[::1]:", "[::1]:b", "[a]", "[]", "[::1%25eth0]", "[::1]]",
        "a[::1]", "caf\u{e9}", "a%2eb", "\"a\"", "http://a", "*", "a*",
    ];
    for host in hosts {
        refused(
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            400,
            "invalid host",
        );
    }
}

#[test]
fn limits_refused() {
    let limits = HeadLimits {
        head_bytes_max: 200,
        fields_max: 3,
        target_bytes_max: 20,
    };
    let status = |head: &str| {
        parse_with(head.as_bytes(), &limits)
            .map(|_| ())
            .map_err(|error| error.status.as_u16())
    };
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
    assert_eq!(status(&target(20)), Ok(()));
    assert_eq!(status(&target(21)), Err(414));
    assert_eq!(status(&target(300)), Err(414), "does not even fit the head");
    assert_eq!(
        status(&format!("GET /{}", "x".repeat(300))),
        Err(414),
        "nor has an end"
    );
    assert_eq!(status(&"x".repeat(200)), Err(414));
    assert_eq!(status(&"x".repeat(199)), Ok(()));

    let count = |n| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(n));
    assert_eq!(status(&count(2)), Ok(()));
    assert_eq!(status(&count(3)), Err(431));

    let length = |len: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(len - rest)
        )
    };
    assert_eq!(length(200).len(), 200);
    assert_eq!(status(&length(200)), Ok(()));
    assert_eq!(status(&length(201)), Err(431));
    assert_eq!(status(&length(300)), Err(431));
    assert_eq!(
        status(&length(300)[..250]),
        Err(431),
        "before the end has come"
    );

    let many = HeadLimits {
        fields_max: 1_000_000,
        ..HeadLimits::default()
    };
    let fields = |n| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(n - 1)
        )
    };
    assert!(parse_with(fields(FIELDS_MAX).as_bytes(), &many).is_ok());
    assert_eq!(
        parse_with(fields(FIELDS_MAX + 1).as_bytes(), &many)
            .unwrap_err()
            .status
            .as_u16(),
        431
    );
}

#[test]
fn connection_fields_stay_here() {
    let head = parse(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Secret, close\r\nConnection: x-other\r\n\
         X-Secret: 1\r\nX-OTHER: 2\r\nX-Stays: 3\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
         Proxy-Connection: keep-alive\r\nProxy: http://evil\r\nTrailer: X\r\nUpgrade: websocket\r\n\
         \r\n",
    )
    .unwrap();
    assert_eq!(
        fields(&head),
        [("Host".into(), "a".into()), ("X-Stays".into(), "3".into())]
    );
    assert!(!head.keep_alive);
    assert_eq!(head.upgrade, None, "not without the connection option");

    let host = parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n").unwrap();
    assert_eq!(host.headers.get_str("host"), Some("a"));
}

#[test]
fn keep_alive_by_version() {
    #[rustfmt::skip]
    let rows = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ];
    for (version, connection, kept) in rows {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(parse(&head).unwrap().keep_alive, kept, "{head:?}");
    }
}

#[test]
fn upgrades_offered() {
    #[rustfmt::skip]
    let rows = [
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
        ("Upgrade: WebSocket\r\nConnection: Upgrade\r\n", Some("WebSocket")),
        ("Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", Some("websocket")),
        ("Connection: upgrade\r\nUpgrade: a/1.0, b\r\n", Some("a/1.0")),
        ("Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: b\r\n", Some("b")),
        ("Connection: upgrade\r\nUpgrade: b\r\nUpgrade: c\r\n", Some("b")),
        ("Connection: upgrade\r\nUpgrade: H2C\r\n", None),
        ("Connection: upgrade\r\nUpgrade:\r\n", None),
        ("Connection: upgrade\r\nUpgrade: a b\r\n", None),
        ("Connection: upgrade\r\nUpgrade: a/b/c\r\n", None),
        ("Connection: upgrade\r\nUpgrade: \u{e9}\r\n", None),
        ("Connection: upgrade\r\n", None),
        ("Upgrade: websocket\r\n", None),
        ("Connection: x\r\nUpgrade: websocket\r\n", None),
    ];
    for (fields, offered) in rows {
        let head = parse(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).unwrap();
        assert_eq!(head.upgrade.as_deref(), offered, "{fields:?}");
    }
    let old = parse("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(old.upgrade, None);
}

#[test]
fn continue_is_expected_only_with_a_body() {
    #[rustfmt::skip]
    let rows = [
        ("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n", true),
        ("1.1", "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", true),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", false),
        ("1.1", "Content-Length: 1\r\n", false),
    ];
    for (version, fields, expected) in rows {
        let head = parse(format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n")).unwrap();
        assert_eq!(head.expects_continue, expected, "{fields:?}");
    }
}

#[test]
fn a_head_takes_its_bytes_and_no_more() {
    let one = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let mut bytes = one.to_vec();
    bytes.extend_from_slice(b"abcGET /b HTTP/1.1\r\n\r\n");
    let (head, len) = parse_with(&bytes, &HeadLimits::default()).unwrap().unwrap();
    assert_eq!((head.target.as_str(), len), ("/a", one.len()));
}

#[test]
fn byte_by_byte_gives_the_same() {
    let head = b"\r\nGET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let limits = HeadLimits::default();
    let mut parser = RequestParser::default();
    for len in 0..head.len() {
        assert_eq!(parser.parse(&head[..len], &limits), Ok(None), "{len}");
    }
    assert_eq!(parser.parse(head, &limits), parse_with(head, &limits));
}
