//! Requests that no server may guess the meaning of: two readers could see different ones.
//!
//! RFC 9112 section 11.2 (request smuggling), RFC 9110 section 5.5 (field values).

/// What is wrong with it, and its bytes.
pub type Malformed = (&'static str, &'static [u8]);

/// Heads: each gets 400 and a closed connection.
pub const HEADS: &[Malformed] = &[
    (
        "Content-Length and Transfer-Encoding",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding and Content-Length",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths that differ",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    ),
    (
        "a list of lengths that differ",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4, 5\r\n\r\nabcd",
    ),
    ("a length with a sign", b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: +4\r\n\r\nabcd"),
    ("a negative length", b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: -4\r\n\r\nabcd"),
    ("a length in hexadecimal", b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0x4\r\n\r\nabcd"),
    ("a length with a space in it", b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4 4\r\n\r\nabcd"),
    ("an empty length", b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: \r\n\r\nabcd"),
    (
        "a length beyond 64 bits",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 18446744073709551617\r\n\r\nabcd",
    ),
    ("a fraction as length", b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4.0\r\n\r\nabcd"),
    (
        "an unknown transfer coding",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked that is not last",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding before chunked",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "identity as transfer coding",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: identity\r\n\r\n",
    ),
    (
        "an empty transfer coding",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    ),
    (
        "a transfer coding with a vertical tab",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in HTTP/1.0",
        b"POST / HTTP/1.0\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a bare LF after the request line", b"GET / HTTP/1.1\nHost: site.test\r\n\r\n"),
    ("a bare LF after a field", b"GET / HTTP/1.1\r\nHost: site.test\nAccept: x\r\n\r\n"),
    ("a bare LF as empty line", b"GET / HTTP/1.1\r\nHost: site.test\r\n\n"),
    ("a bare CR in a field value", b"GET / HTTP/1.1\r\nHost: site.test\r\nA: b\rc\r\n\r\n"),
    ("a bare CR before a field", b"GET / HTTP/1.1\r\n\rHost: site.test\r\n\r\n"),
    ("a folded field", b"GET / HTTP/1.1\r\nHost: site.test\r\nA: b\r\n c\r\n\r\n"),
    ("a first field that is folded", b"GET / HTTP/1.1\r\n Host: site.test\r\n\r\n"),
    ("a space before the colon", b"GET / HTTP/1.1\r\nHost : site.test\r\n\r\n"),
    (
        "a space before the colon of Content-Length",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length : 4\r\n\r\nabcd",
    ),
    ("a tab before the colon", b"GET / HTTP/1.1\r\nHost: site.test\r\nA\t: b\r\n\r\n"),
    ("a field without a name", b"GET / HTTP/1.1\r\nHost: site.test\r\n: b\r\n\r\n"),
    ("a field without a colon", b"GET / HTTP/1.1\r\nHost: site.test\r\nA\r\n\r\n"),
    ("a NUL in a field value", b"GET / HTTP/1.1\r\nHost: site.test\r\nA: b\0c\r\n\r\n"),
    ("a NUL in a field name", b"GET / HTTP/1.1\r\nHost: site.test\r\nA\0: b\r\n\r\n"),
    ("a control byte in a field value", b"GET / HTTP/1.1\r\nHost: site.test\r\nA: b\x01c\r\n\r\n"),
    ("a DEL in a field value", b"GET / HTTP/1.1\r\nHost: site.test\r\nA: b\x7fc\r\n\r\n"),
    ("a separator in a field name", b"GET / HTTP/1.1\r\nHost: site.test\r\nA(b): c\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: site.test\r\nHost: other.test\r\n\r\n"),
    ("the same host twice", b"GET / HTTP/1.1\r\nHost: site.test\r\nHost: site.test\r\n\r\n"),
    ("no host", b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n"),
    ("a list of hosts", b"GET / HTTP/1.1\r\nHost: site.test, other.test\r\n\r\n"),
    ("a host with a path", b"GET / HTTP/1.1\r\nHost: site.test/x\r\n\r\n"),
    ("a host with a user", b"GET / HTTP/1.1\r\nHost: me@site.test\r\n\r\n"),
    ("a host that differs from the target's", b"GET http://other.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("HTTP/0.9", b"GET /\r\n\r\n"),
    ("a request line of three words too many", b"GET / HTTP/1.1 and more\r\nHost: site.test\r\n\r\n"),
    ("two spaces in the request line", b"GET  / HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("a tab in the request line", b"GET\t/ HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("a space before the request line", b" GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("a fragment in the target", b"GET /a#b HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("a control byte in the target", b"GET /a\x01b HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("a target without a slash", b"GET a HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("a method with a separator", b"G{T / HTTP/1.1\r\nHost: site.test\r\n\r\n"),
    ("a protocol in lower case", b"GET / http/1.1\r\nHost: site.test\r\n\r\n"),
    ("a version with two digits", b"GET / HTTP/1.10\r\nHost: site.test\r\n\r\n"),
    ("something else than HTTP", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("a TLS hello", b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03\r\n\r\n"),
];

/// Bodies that break their framing after a good head: the same.
pub const BODIES: &[Malformed] = &[
    (
        "a chunk size that is no number",
        b"xyz\r\nabcd\r\n0\r\n\r\n",
    ),
    ("a chunk size with 0x", b"0x4\r\nabcd\r\n0\r\n\r\n"),
    ("a chunk size with a sign", b"+4\r\nabcd\r\n0\r\n\r\n"),
    ("an empty chunk size", b"\r\nabcd\r\n0\r\n\r\n"),
    (
        "a chunk size beyond 64 bits",
        b"10000000000000000\r\nabcd\r\n0\r\n\r\n",
    ),
    ("a bare LF after a chunk size", b"4\nabcd\r\n0\r\n\r\n"),
    ("a chunk longer than its size", b"4\r\nabcde\r\n0\r\n\r\n"),
    ("a chunk that ends in LF", b"4\r\nabcd\n0\r\n\r\n"),
    (
        "a control byte in a chunk extension",
        b"4;a=\x01\r\nabcd\r\n0\r\n\r\n",
    ),
    (
        "a bare LF in a chunk extension",
        b"4;a\nb\r\nabcd\r\n0\r\n\r\n",
    ),
    ("a space before a chunk size", b" 4\r\nabcd\r\n0\r\n\r\n"),
    ("a trailer without a colon", b"4\r\nabcd\r\n0\r\nA\r\n\r\n"),
    (
        "a trailer with a space before the colon",
        b"4\r\nabcd\r\n0\r\nA : b\r\n\r\n",
    ),
];

/// A whole request with such a body.
pub fn with_body(chunks: &[u8]) -> Vec<u8> {
    let mut bytes =
        b"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    bytes.extend(chunks);
    bytes
}
