use super::*;

fn read(bytes: &str) -> Result<(Response, bool)> {
    read_response(&mut bytes.as_bytes(), "GET")
}

#[test]
fn responses_of_every_framing_are_read() {
    let (response, reusable) = read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    assert_eq!(
        (response.status, response.text(), reusable),
        (200, "hello".to_owned(), true)
    );

    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n";
    let (response, reusable) = read(chunked).unwrap();
    assert_eq!((response.text(), reusable), ("hello".to_owned(), true));

    let (response, reusable) = read("HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
    assert_eq!((response.text(), reusable), ("hello".to_owned(), false));

    let interim =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    let (response, reusable) = read(interim).unwrap();
    assert_eq!((response.status, reusable), (204, false));
}

#[test]
fn a_response_cut_short_is_an_error() {
    for bytes in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "SSH-2.0-OpenSSH\r\n",
    ] {
        assert!(read(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn forms_are_escaped() {
    assert_eq!(escape("a b&c=d/ü"), "a%20b%26c%3Dd%2F%C3%BC");
}
