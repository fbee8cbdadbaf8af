use std::net::TcpListener;

use super::*;

fn client() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let peer = listener.accept().unwrap().0;
    let client = Client {
        stream,
        sent: Instant::now(),
        state: State::Head(Vec::new()),
        compared: false,
    };
    (client, peer)
}

/// Feeds `parts` one by one and tells whether the response was complete after the last.
fn feed(parts: &[&[u8]], body: &[u8]) -> Result<bool> {
    let (mut client, _peer) = client();
    let mut complete = false;
    for part in parts {
        if let Some(have) = client.accept(part, body)? {
            client.state = State::Body(have);
            complete = have == body.len();
        }
    }
    Ok(complete)
}

#[test]
fn a_right_response_is_taken_whatever_the_split() {
    let response = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length:  5\r\n\r\nhello";
    for cut in 1..response.len() {
        let (a, b) = response.split_at(cut);
        assert!(feed(&[a, b], b"hello").unwrap(), "cut at {cut}");
    }
    assert!(!feed(&[&response[..response.len() - 1]], b"hello").unwrap());
}

#[test]
fn a_wrong_response_fails() {
    for (response, why) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello",
            "status",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!",
            "length",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
            "framing",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\njello",
            "content",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!",
            "too much",
        ),
    ] {
        assert!(feed(&[response.as_bytes()], b"hello").is_err(), "{why}");
    }
}

#[test]
fn the_rest_of_a_known_body_is_counted_and_discarded() {
    let (mut client, mut peer) = client();
    client.compared = true;
    let body = vec![b'x'; 1000];
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        .unwrap();
    let mut buffer = vec![0; 64 * 1024];
    // The bytes need a moment on their way: ask again until they are here.
    while !matches!(client.state, State::Body(0)) {
        assert!(client.ready(&mut buffer, &body).unwrap().is_none());
    }
    peer.write_all(&body).unwrap();
    while client.ready(&mut buffer, &body).unwrap().is_none() {}
    assert!(matches!(client.state, State::Head(_)));
    assert!(
        buffer[..1000].iter().all(|&byte| byte != b'x'),
        "the body was copied"
    );
}
