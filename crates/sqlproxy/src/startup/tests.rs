use tokio::net::TcpListener;

use super::*;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = (body.len() as u32 + 8).to_be_bytes().to_vec();
    packet.extend(code.to_be_bytes());
    packet.extend(body);
    packet
}

/// Sends `bytes`, and gives back what was read, what the client was answered, and what is left.
async fn read(bytes: &[u8]) -> (Result<Startup, SessionError>, Vec<u8>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let startup = read_startup(&mut server).await;
    let mut left = Vec::new();
    server.read_to_end(&mut left).await.unwrap();
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    (startup, answer, left)
}

#[tokio::test]
async fn reads_one_packet_and_no_more() {
    let start = packet(196_608, b"user\0app\0\0");
    let (startup, answer, left) = read(&[&start[..], b"more"].concat()).await;
    assert_eq!(startup.unwrap(), Startup::Session(start));
    assert_eq!(
        (answer.as_slice(), left.as_slice()),
        (&b""[..], &b"more"[..])
    );
}

#[tokio::test]
async fn says_no_to_encryption() {
    let start = packet(196_608, b"user\0app\0\0");
    let all = [
        packet(GSSENC_REQUEST, b""),
        packet(SSL_REQUEST, b""),
        start.clone(),
    ]
    .concat();
    let (startup, answer, _) = read(&all).await;
    assert_eq!(startup.unwrap(), Startup::Session(start));
    assert_eq!(answer, b"NN");
}

#[tokio::test]
async fn knows_cancel_requests() {
    let cancel = packet(CANCEL_REQUEST, &[0, 0, 0, 1, 0, 0, 0, 2]);
    let (startup, ..) = read(&cancel).await;
    assert_eq!(startup.unwrap(), Startup::Cancel(cancel));
}

#[tokio::test]
async fn refuses_what_is_no_startup_packet() {
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        // A TLS ClientHello without asking first.
        vec![0x16, 3, 1, 2, 0, 1, 0, 1],
        vec![0, 0, 0, 7, 0, 0, 0, 0],
        packet(SSL_REQUEST, b"").repeat(4),
    ] {
        let (startup, ..) = read(&bytes).await;
        assert!(
            matches!(startup, Err(SessionError::Malformed)),
            "{startup:?}"
        );
    }
    let (startup, ..) = read(&packet(196_608, b"user\0app\0\0")[..12]).await;
    assert!(matches!(startup, Err(SessionError::ClientGone)));
}

#[test]
fn errors_can_be_read_back() {
    let fatal = Fatal {
        code: "57P03",
        message: "no\0body",
        detail: "",
        hint: "wait",
    };
    let bytes = fatal.encode();
    assert_eq!(
        bytes,
        b"E\x00\x00\x00\x28SFATAL\0VFATAL\0C57P03\0Mnobody\0Hwait\0\0"[..].to_vec()
    );
    assert_eq!(field(&bytes[5..], b'C'), Some(&b"57P03"[..]));
    assert_eq!(field(&bytes[5..], b'M'), Some(&b"nobody"[..]));
    assert_eq!(field(b"SFATAL\0\0", b'C'), None);
    assert_eq!(field(b"", b'C'), None);
}
