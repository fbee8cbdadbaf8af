use super::*;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name, value);
    }
    headers
}

fn request(
    method: &Method,
    target: &str,
    fields: &[(&str, &str)],
    framing: Framing,
    connection: Connection<'_>,
) -> String {
    let mut out = BytesMut::new();
    request_head(
        &mut out,
        method,
        target,
        &headers(fields),
        framing,
        connection,
    );
    String::from_utf8(out.to_vec()).unwrap()
}

fn response(
    status: StatusCode,
    fields: &[(&str, &str)],
    framing: Framing,
    connection: Connection<'_>,
) -> String {
    let mut out = BytesMut::new();
    response_head(
        &mut out,
        status,
        &headers(fields),
        framing,
        connection,
        DATE,
    );
    String::from_utf8(out.to_vec()).unwrap()
}

/// What would frame the message, or is about the connection it came on.
const OURS: &[(&str, &str)] = &[
    ("Content-Length", "99"),
    ("transfer-encoding", "chunked"),
    ("Connection", "close, x-a"),
    ("Keep-Alive", "timeout=5"),
    ("Upgrade", "h2c"),
    ("TE", "trailers"),
    ("Trailer", "X-Sum"),
    ("Proxy-Connection", "keep-alive"),
    ("Expect", "100-continue"),
];

#[test]
fn requests() {
    let host = ("Host", "a");
    assert_eq!(
        request(
            &Method::GET,
            "/x?y",
            &[host, ("B", "c")],
            Framing::None,
            Connection::Persistent
        ),
        "GET /x?y HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n"
    );
    assert_eq!(
        request(
            &Method::PUT,
            "/",
            &[host],
            Framing::Length(5),
            Connection::Close
        ),
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(
        request(
            &Method::POST,
            "/",
            &[host],
            Framing::Chunked,
            Connection::KeepAlive
        ),
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(
        request(
            &Method::GET,
            "/",
            &[host],
            Framing::None,
            Connection::Upgrade("websocket")
        ),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
}

#[test]
fn a_request_is_framed_by_its_framing_alone() {
    let mut fields = vec![("Host", "a")];
    fields.extend(OURS);
    for (method, framing, written) in [
        (Method::GET, Framing::None, ""),
        (Method::GET, Framing::UntilClose, ""),
        (Method::DELETE, Framing::None, ""),
        (Method::POST, Framing::None, "Content-Length: 0\r\n"),
        (Method::PUT, Framing::None, "Content-Length: 0\r\n"),
        (Method::PATCH, Framing::UntilClose, "Content-Length: 0\r\n"),
        (Method::POST, Framing::Length(0), "Content-Length: 0\r\n"),
        (Method::GET, Framing::Length(7), "Content-Length: 7\r\n"),
        (
            Method::GET,
            Framing::Chunked,
            "Transfer-Encoding: chunked\r\n",
        ),
    ] {
        assert_eq!(
            request(&method, "/", &fields, framing, Connection::Persistent),
            format!("{method} / HTTP/1.1\r\nHost: a\r\n{written}\r\n"),
            "{framing:?}"
        );
    }
}

#[test]
fn a_request_has_one_host() {
    for (fields, written) in [
        (&[][..], "Host:\r\n"),
        (&[("B", "c")][..], "B: c\r\nHost:\r\n"),
        (&[("Host", "a"), ("host", "b")][..], "Host: a\r\n"),
    ] {
        assert_eq!(
            request(
                &Method::GET,
                "/",
                fields,
                Framing::None,
                Connection::Persistent
            ),
            format!("GET / HTTP/1.1\r\n{written}\r\n")
        );
    }
}

#[test]
fn targets() {
    for (method, target, written) in [
        (Method::GET, "/a/../b?c=%20&d=e?f", "/a/../b?c=%20&d=e?f"),
        (Method::GET, "/{\"a\"}|<^>`\\", "/{\"a\"}|<^>`\\"),
        (Method::GET, "", "/"),
        (Method::GET, "a", "/a"),
        (Method::GET, "?a", "/?a"),
        (Method::GET, "*", "/*"),
        (Method::GET, "http://evil/", "/http://evil/"),
        (Method::GET, "/a b", "/a%20b"),
        (Method::GET, "/#a", "/%23a"),
        (Method::GET, "/caf\u{e9}", "/caf%C3%A9"),
        (
            Method::GET,
            "/ HTTP/1.1\r\nX: y\r\n\r\nGET /evil",
            "/%20HTTP/1.1%0D%0AX:%20y%0D%0A%0D%0AGET%20/evil",
        ),
        (Method::GET, "/\0\t\x7f", "/%00%09%7F"),
        (Method::OPTIONS, "*", "*"),
        (Method::OPTIONS, "a", "/a"),
        (Method::CONNECT, "a:443", "a:443"),
        (
            Method::CONNECT,
            "a:443 HTTP/1.1\r\n",
            "a:443%20HTTP/1.1%0D%0A",
        ),
    ] {
        assert_eq!(
            request(
                &method,
                target,
                &[("Host", "a")],
                Framing::None,
                Connection::Persistent
            ),
            format!("{method} {written} HTTP/1.1\r\nHost: a\r\n\r\n"),
            "{target:?}"
        );
    }
}

#[test]
fn responses() {
    assert_eq!(
        response(
            StatusCode::OK,
            &[("A", "b")],
            Framing::Length(0),
            Connection::Persistent
        ),
        format!("HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 0\r\nDate: {DATE}\r\n\r\n")
    );
    assert_eq!(
        response(
            StatusCode::NOT_FOUND,
            &[],
            Framing::Chunked,
            Connection::Close
        ),
        format!(
            "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nDate: {DATE}\r\n\
             Connection: close\r\n\r\n"
        )
    );
    assert_eq!(
        response(
            StatusCode::OK,
            &[("dAtE", "then")],
            Framing::UntilClose,
            Connection::Close
        ),
        "HTTP/1.1 200 OK\r\ndAtE: then\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(
        response(
            StatusCode::from_u16(599).unwrap(),
            &[],
            Framing::Length(u64::MAX),
            Connection::KeepAlive
        ),
        format!(
            "HTTP/1.1 599 \r\nContent-Length: 18446744073709551615\r\nDate: {DATE}\r\n\
             Connection: keep-alive\r\n\r\n"
        )
    );
    let mut out = BytesMut::new();
    interim_head(&mut out, StatusCode::CONTINUE);
    assert_eq!(out, "HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn a_response_is_framed_by_its_framing_alone() {
    let length = "Content-Length: 99\r\n";
    #[rustfmt::skip]
    let rows = [
        // Answers to HEAD, and 304, describe a body they do not have.
        (StatusCode::OK, Framing::None, length),
        (StatusCode::NOT_MODIFIED, Framing::None, length),
        (StatusCode::OK, Framing::Length(5), "Content-Length: 5\r\n"),
        (StatusCode::OK, Framing::Chunked, "Transfer-Encoding: chunked\r\n"),
        (StatusCode::OK, Framing::UntilClose, ""),
        (StatusCode::NO_CONTENT, Framing::None, ""),
        (StatusCode::NO_CONTENT, Framing::Length(0), ""),
        (StatusCode::NO_CONTENT, Framing::Chunked, ""),
        (StatusCode::SWITCHING_PROTOCOLS, Framing::None, ""),
        (StatusCode::EARLY_HINTS, Framing::Length(0), ""),
    ];
    for (status, framing, written) in rows {
        let line = format!("HTTP/1.1 {status}\r\n");
        assert_eq!(
            response(status, OURS, framing, Connection::Persistent),
            format!("{line}{written}Date: {DATE}\r\n\r\n"),
            "{status} {framing:?}"
        );
    }
    // A description is one number or none.
    for fields in [
        &[("Content-Length", "5, 5")][..],
        &[("Content-Length", "+5")],
    ] {
        let head = response(
            StatusCode::OK,
            fields,
            Framing::None,
            Connection::Persistent,
        );
        assert!(!head.contains("Content-Length"), "{head}");
    }
    let twice = [("Content-Length", "5"), ("Content-Length", "6")];
    let head = response(
        StatusCode::OK,
        &twice,
        Framing::None,
        Connection::Persistent,
    );
    assert_eq!(head.matches("Content-Length").count(), 1, "{head}");
}

#[test]
fn nothing_splits_a_message() {
    let evil = [
        ("X", "a\r\nSet-Cookie: b\r\n\r\n<script>"),
        ("Y: z\r\nTransfer-Encoding", "chunked"),
        ("Content-Length ", "5"),
        ("", "a"),
        (" folded", "b"),
    ];
    let cleaned = "X: a  Set-Cookie: b    <script>\r\n";
    assert_eq!(
        response(
            StatusCode::OK,
            &evil,
            Framing::Length(0),
            Connection::Upgrade("a\r\nB: c\0")
        ),
        format!(
            "HTTP/1.1 200 OK\r\n{cleaned}Content-Length: 0\r\nDate: {DATE}\r\n\
             Connection: upgrade\r\nUpgrade: a  B: c \r\n\r\n"
        )
    );
    assert_eq!(
        request(
            &Method::GET,
            "/",
            &evil,
            Framing::None,
            Connection::Persistent
        ),
        format!("GET / HTTP/1.1\r\n{cleaned}Host:\r\n\r\n")
    );
    let mut out = BytesMut::new();
    let date = "a\r\nb";
    let (framing, connection) = (Framing::Length(0), Connection::Persistent);
    response_head(
        &mut out,
        StatusCode::OK,
        &Headers::new(),
        framing,
        connection,
        date,
    );
    assert_eq!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: a  b\r\n\r\n"
    );
}

#[test]
fn chunk_sizes() {
    for (len, written) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (0x1234, "1234\r\n"),
        (0xabc_def0, "abcdef0\r\n"),
        (1 << 60, "1000000000000000\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        let mut out = BytesMut::new();
        chunk_size(&mut out, len);
        assert_eq!(out, written);
    }
}

#[test]
fn last_chunks() {
    let write = |trailers: Option<&Headers>| {
        let mut out = BytesMut::new();
        last_chunk(&mut out, trailers);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(write(None), "0\r\n\r\n");
    assert_eq!(write(Some(&Headers::new())), "0\r\n\r\n");
    let mut fields = vec![("X-Sum", "5"), ("Host", "a")];
    fields.extend(OURS);
    assert_eq!(write(Some(&headers(&fields))), "0\r\nX-Sum: 5\r\n\r\n");
}
