use super::*;

fn message(kind: u8, body: usize) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend((body as u32 + 4).to_be_bytes());
    message.extend(vec![0xff; body]);
    message
}

#[test]
fn however_the_bytes_are_cut_the_boundaries_are_the_same() {
    // Z has the usual body of five bytes, n none at all.
    let messages = [
        message(b'T', 33),
        message(b'n', 0),
        message(b'D', 70_000),
        message(b'D', 1),
        message(b'Z', 5),
    ];
    let all = messages.concat();
    let mut ends: Vec<usize> = vec![0];
    for message in &messages {
        ends.push(ends.last().unwrap() + message.len());
    }
    for size in [1, 2, 3, 4, 5, 6, 7, 38, 43, 44, 1000, 65_536, all.len()] {
        let mut boundary = Boundary::default();
        let mut at = 0;
        assert!(boundary.is_between_messages());
        for piece in all.chunks(size) {
            boundary.advance(piece);
            at += piece.len();
            assert_eq!(
                boundary.is_between_messages(),
                ends.contains(&at),
                "{at} in pieces of {size}"
            );
        }
    }
}

#[test]
fn what_is_no_message_has_no_boundary() {
    for bytes in [
        &b"E\0\0\0\x03abc"[..],
        b"HTTP/1.1\x80",
        b"E\xff\xff\xff\xff",
    ] {
        let mut boundary = Boundary::default();
        boundary.advance(bytes);
        boundary.advance(&message(b'Z', 5));
        // An HTTP answer would be a very long message.
        assert!(!boundary.is_between_messages());
    }
}
