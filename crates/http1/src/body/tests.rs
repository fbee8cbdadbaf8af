use super::*;

/// The outcome of a whole body: its data, its trailers, and the error or what is left of the input.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    data: Vec<u8>,
    trailers: Option<Headers>,
    end: Option<Result<Vec<u8>, &'static str>>,
}

fn decode_split(length: BodyLength, bytes: &[u8], step: usize) -> Outcome {
    let mut decoder = BodyDecoder::new(length);
    let mut input = BytesMut::new();
    let mut outcome = Outcome::default();
    let mut pieces = bytes.chunks(step);
    while outcome.end.is_none() {
        match decoder.decode(&mut input) {
            Ok(Decoded::Data(data)) => {
                assert!(!data.is_empty() && outcome.trailers.is_none());
                outcome.data.extend_from_slice(&data);
            }
            Ok(Decoded::Trailers(trailers)) => {
                assert!(outcome.trailers.is_none() && !trailers.is_empty());
                outcome.trailers = Some(trailers);
            }
            Ok(Decoded::NeedMore) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => break,
            },
            Ok(Decoded::End) => {
                assert!(decoder.is_done() && decoder.remaining() == Some(0));
                assert_eq!(decoder.decode(&mut input), Ok(Decoded::End));
                let mut rest = input.to_vec();
                rest.extend(pieces.by_ref().flatten());
                outcome.end = Some(Ok(rest));
            }
            Err(error) => outcome.end = Some(Err(error.reason)),
        }
    }
    assert_eq!(matches!(outcome.end, Some(Ok(_))), decoder.is_done());
    outcome
}

/// The same whole, byte by byte, and in between.
fn decode(length: BodyLength, bytes: impl AsRef<[u8]>) -> Outcome {
    let bytes = bytes.as_ref();
    let whole = decode_split(length, bytes, bytes.len().max(1));
    for step in [1, 2, 3, 7] {
        assert_eq!(
            decode_split(length, bytes, step),
            whole,
            "{step}: {}",
            bytes.escape_ascii()
        );
    }
    whole
}

fn complete(data: &str, rest: &str) -> Outcome {
    Outcome {
        data: data.into(),
        trailers: None,
        end: Some(Ok(rest.into())),
    }
}

#[test]
fn lengths() {
    let length = BodyLength::Length;
    assert_eq!(decode(length(0), "GET /"), complete("", "GET /"));
    assert_eq!(decode(length(5), "helloGET /"), complete("hello", "GET /"));
    assert_eq!(decode(length(5), "hello"), complete("hello", ""));
    let short = decode(length(6), "hello");
    assert_eq!((short.data, short.end), (b"hello".to_vec(), None));
    let endless = decode(length(u64::MAX), "hello");
    assert_eq!((endless.data, endless.end), (b"hello".to_vec(), None));
}

#[test]
fn remaining_counts_down() {
    let mut decoder = BodyDecoder::new(BodyLength::Length(5));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(5), false));
    let mut input = BytesMut::from("hel");
    assert!(matches!(decoder.decode(&mut input), Ok(Decoded::Data(_))));
    assert_eq!(
        (decoder.remaining(), decoder.end_of_stream()),
        (Some(2), false)
    );
    input.extend_from_slice(b"lo, and more");
    assert_eq!(
        decoder.decode(&mut input),
        Ok(Decoded::Data(Bytes::from_static(b"lo")))
    );
    assert_eq!(
        (decoder.remaining(), decoder.end_of_stream()),
        (Some(0), true)
    );
    assert_eq!(BodyDecoder::new(BodyLength::Chunked).remaining(), None);
    assert_eq!(BodyDecoder::new(BodyLength::UntilClose).remaining(), None);
}

#[test]
fn until_close_ends_with_the_stream_and_only_that() {
    let outcome = decode(BodyLength::UntilClose, "hello\r\n\0");
    assert_eq!((outcome.data, outcome.end), (b"hello\r\n\0".to_vec(), None));
    let mut decoder = BodyDecoder::new(BodyLength::UntilClose);
    assert!(decoder.end_of_stream() && decoder.is_done());
    let mut chunked = BodyDecoder::new(BodyLength::Chunked);
    assert!(!chunked.end_of_stream() && !chunked.is_done());
}

#[test]
fn chunks_accepted() {
    #[rustfmt::skip]
    let rows = [
        ("0\r\n\r\n", "", ""),
        ("0\r\n\r\nGET /", "", "GET /"),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", ""),
        ("1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", "\r\n", ""),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("000000000000005\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5\r\nhello\r\n000\r\n\r\n", "hello", ""),
        ("5;a\r\nhello\r\n0;b\r\n\r\n", "hello", ""),
        ("5;a=b\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=b;c;d=e\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=\"b; \\\" c\\\\\t\";d\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=\"caf\u{e9}\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
    ];
    for (bytes, data, rest) in rows {
        assert_eq!(
            decode(BodyLength::Chunked, bytes),
            complete(data, rest),
            "{bytes:?}"
        );
    }
    let longest = format!(
        "5;{}\r\nhello\r\n0\r\n\r\n",
        "x".repeat(CHUNK_LINE_BYTES_MAX - 3)
    );
    assert_eq!(decode(BodyLength::Chunked, longest), complete("hello", ""));
}

#[test]
fn chunks_refused() {
    let size = "invalid chunk size";
    let extension = "invalid chunk extension";
    let end = "no CR LF after a chunk";
    #[rustfmt::skip]
    let rows = [
        ("\r\n", size),
        ("-1\r\n", size),
        ("+1\r\n", size),
        ("-0\r\n", size),
        (" 5\r\n", size),
        ("\t5\r\n", size),
        ("g\r\n", size),
        (";a\r\n", size),
        ("\u{665}\r\n", size),
        ("\0\r\n", size),
        ("0000000000000005\r\n", size),
        ("10000000000000000\r\n", size),
        ("ffffffffffffffff\r\n", size),
        ("FFFFFFFFFFFFFFFFF\r\n", size),
        ("00000000000000000\r\n\r\n", size),
        ("0x5\r\n", extension),
        ("5h\r\n", extension),
        ("5 \r\n", extension),
        ("5\t\r\n", extension),
        ("5 5\r\n", extension),
        ("5,5\r\n", extension),
        ("5.0\r\n", extension),
        ("5\0\r\n", extension),
        ("5;\r\n", extension),
        ("5;;\r\n", extension),
        ("5;a;\r\n", extension),
        ("5;=x\r\n", extension),
        ("5;a=\r\n", extension),
        ("5;a==b\r\n", extension),
        ("5;a=b=c\r\n", extension),
        ("5 ;a=b\r\n", extension),
        ("5; a=b\r\n", extension),
        ("5;a =b\r\n", extension),
        ("5;a= b\r\n", extension),
        ("5;a=b \r\n", extension),
        ("5;a=\"b\r\n", extension),
        ("5;a=\"b\\\"\r\n", extension),
        ("5;a=\"b\"c\r\n", extension),
        ("5;a=\"\x01\"\r\n", extension),
        ("5;a=\"\\\x01\"\r\n", extension),
        ("5;a=\"\\\x7f\"\r\n", extension),
        ("5;\x01\r\n", extension),
        ("5;caf\u{e9}\r\n", extension),
        ("5\nhello", "LF without CR in a chunk size"),
        ("\n", "LF without CR in a chunk size"),
        ("5;a\nb\r\nhello", "LF without CR in a chunk size"),
        ("5;a=\"\n\"\r\nhello", "LF without CR in a chunk size"),
        ("5\rhello", "CR without LF in a chunk size"),
        ("5\r\r\nhello", "CR without LF in a chunk size"),
        ("5;a\rb\r\nhello", "CR without LF in a chunk size"),
    ];
    for (bytes, reason) in rows {
        let outcome = decode(BodyLength::Chunked, bytes);
        assert_eq!(
            (&outcome.data[..], outcome.end),
            (&b""[..], Some(Err(reason))),
            "{bytes:?}"
        );
    }
    let long = "x".repeat(CHUNK_LINE_BYTES_MAX);
    for line in [
        format!("5;{long}\r\n"),
        format!("5;{long}"),
        "0".repeat(1000),
    ] {
        let outcome = decode(BodyLength::Chunked, line);
        assert_eq!(
            outcome.end,
            Some(Err("the chunk size line is longer than allowed"))
        );
    }
    for bytes in [
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n",
        "5\r\nhello!",
    ] {
        let outcome = decode(BodyLength::Chunked, bytes);
        assert_eq!(
            (&outcome.data[..], outcome.end),
            (&b"hello"[..], Some(Err(end))),
            "{bytes:?}"
        );
    }
}

#[test]
fn chunks_cut_short_are_not_complete() {
    let body = "5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for len in 0..body.len() {
        assert_eq!(decode(BodyLength::Chunked, &body[..len]).end, None, "{len}");
    }
}

#[test]
fn trailers() {
    // (section, fields that are kept)
    #[rustfmt::skip]
    let rows: [(&str, &[(&str, &str)]); 7] = [
        ("X-Sum: 5\r\n", &[("X-Sum", "5")]),
        ("A: b\r\nC:\r\nA:  d \r\n", &[("A", "b"), ("C", ""), ("A", "d")]),
        // Nothing that frames, routes or ends a message (RFC 9110 section 6.5.1).
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &[]),
        ("Host: evil\r\nConnection: close\r\nX: y\r\n", &[("X", "y")]),
        ("Upgrade: a\r\nTE: b\r\nTrailer: c\r\nExpect: d\r\nKeep-Alive: e\r\n", &[]),
        ("Proxy: a\r\nProxy-Connection: b\r\n", &[]),
        ("X_Y: a\r\nContent_Length: 5\r\n", &[]),
    ];
    for (section, kept) in rows {
        let outcome = decode(
            BodyLength::Chunked,
            format!("1\r\nx\r\n0\r\n{section}\r\nrest"),
        );
        assert_eq!(
            (&outcome.data[..], outcome.end),
            (&b"x"[..], Some(Ok(b"rest".to_vec())))
        );
        let mut expected = Headers::new();
        for (name, value) in kept {
            expected.append(name, value);
        }
        assert_eq!(
            outcome.trailers.unwrap_or_default(),
            expected,
            "{section:?}"
        );
    }
}

#[test]
fn trailers_refused() {
    #[rustfmt::skip]
    let rows = [
        ("X : y\r\n", "invalid field name"),
        ("X\r\n", "invalid field name"),
        (": y\r\n", "invalid field name"),
        (" X: y\r\n", "invalid field name"),
        ("X: y\r\n folded\r\n", "invalid field name"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "invalid field name"),
        ("X: \x01\r\n", "invalid field value"),
        ("X: y\0\r\n", "NUL in a head"),
        ("X: y\n", "LF without CR"),
        ("X: y\r\n\n", "LF without CR"),
        ("X: y\rZ: a\r\n", "CR without LF"),
    ];
    for (section, reason) in rows {
        let outcome = decode(BodyLength::Chunked, format!("0\r\n{section}\r\n"));
        assert_eq!(outcome.end, Some(Err(reason)), "{section:?}");
        assert_eq!(outcome.trailers, None);
    }
    let many = "X: y\r\n".repeat(TRAILER_FIELDS_MAX + 1);
    let outcome = decode(BodyLength::Chunked, format!("0\r\n{many}\r\n"));
    assert_eq!(outcome.end, Some(Err("too many fields")));
    let long = "X: y".repeat(TRAILER_BYTES_MAX);
    let outcome = decode(BodyLength::Chunked, format!("0\r\n{long}"));
    assert_eq!(outcome.end, Some(Err("the head is longer than allowed")));
}
