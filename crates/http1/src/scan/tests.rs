use super::*;

#[test]
fn finds_the_empty_line() {
    for (bytes, end) in [
        (&b""[..], None),
        (b"\r", None),
        (b"\r\n", Some(2)),
        (b"GET / HTTP/1.1\r\n", None),
        (b"GET / HTTP/1.1\r\nA: b\r\n", None),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r", None),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", Some(24)),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody\n\0", Some(24)),
    ] {
        assert_eq!(
            HeadScan::default().find_end(bytes, 100),
            Ok(end),
            "{bytes:?}"
        );
    }
}

#[test]
fn refuses_ambiguous_line_ends() {
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\n"[..], "LF without CR"),
        (b"\n", "LF without CR"),
        (b"A\r\nB\n\r\n", "LF without CR"),
        (b"A\r\nB\r\n\n", "LF without CR"),
        (b"A\rB\r\n\r\n", "CR without LF"),
        (b"A\r\r\n\r\n", "CR without LF"),
        (b"A\r\nB\r\n\r\r\n", "CR without LF"),
        (b"A\0", "NUL in a head"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "NUL in a head"),
    ] {
        let error = HeadScan::default().find_end(bytes, 100).unwrap_err();
        assert_eq!(
            (error.status.as_u16(), error.reason),
            (400, reason),
            "{bytes:?}"
        );
    }
}

#[test]
fn the_limit_includes_the_last_byte() {
    let head = b"A: b\r\n\r\n";
    assert_eq!(
        HeadScan::default().find_end(head, head.len()),
        Ok(Some(head.len()))
    );
    for len in 0..=head.len() {
        let outcome = HeadScan::default().find_end(&head[..len], head.len() - 1);
        if len < head.len() - 1 {
            assert_eq!(outcome, Ok(None), "{len}");
        } else {
            assert_eq!(outcome.unwrap_err().status.as_u16(), 431, "{len}");
        }
    }
}

#[test]
fn looks_at_each_byte_once() {
    let head = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
    let mut scan = HeadScan::default();
    for len in 0..head.len() {
        assert_eq!(scan.find_end(&head[..len], 100), Ok(None));
        // A CR is looked at again: whether it is one depends on the next byte.
        assert!(scan.scanned == len || scan.scanned + 1 == len && head[len - 1] == b'\r');
    }
    assert_eq!(scan.find_end(head, 100), Ok(Some(head.len())));
    assert!(!scan.in_first_line());
}
