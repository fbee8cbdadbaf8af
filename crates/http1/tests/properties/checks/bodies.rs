//! Bodies: against the reference, in pieces, and in other chunks.

use bytes::BytesMut;
use trilith_http1::{BodyDecoder, BodyLength, Decoded, Headers, ParseError, encode};

use super::encoded::plain_lines;
use super::reference::{self, Fields, Verdict};
use super::{is_bytes, steps, to_fields, to_headers};

/// A body: never more than its length, the same however the bytes are split; chunks as the
/// reference reads them, and the same data when written in other chunks.
pub fn body(length: BodyLength, bytes: &[u8]) {
    let outcome = decode(length, bytes, bytes.len().max(1));
    for step in steps(bytes) {
        let split = decode(length, bytes, step);
        assert_eq!(
            split,
            outcome,
            "in steps of {step}: {}",
            bytes.escape_ascii()
        );
    }
    match length {
        BodyLength::Length(length) => {
            let len = bytes
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            assert_eq!(outcome.data, bytes[..len]);
            let is_whole = len as u64 == length;
            assert_eq!(outcome.end, is_whole.then(|| Ok(bytes.len() - len)));
        }
        BodyLength::UntilClose => {
            assert_eq!((&outcome.data[..], outcome.end), (bytes, None));
        }
        BodyLength::Chunked => {
            let (data, end) = reference::chunked(bytes);
            let shown = bytes.escape_ascii();
            assert_eq!(outcome.data, data, "{shown}");
            let trailers = outcome.trailers.clone().unwrap_or_default();
            match (&outcome.end, end) {
                (None, Verdict::Incomplete) | (Some(Err(_)), Verdict::Refused) => {}
                (Some(Ok(rest)), Verdict::Complete(expected, len)) => {
                    assert_eq!(
                        (*rest, &trailers),
                        (bytes.len() - len, &expected),
                        "{shown}"
                    );
                    let sizes = [1, 2, bytes.len() % 97 + 1];
                    rechunked(&data, &sizes, &trailers);
                }
                (end, expected) => panic!("{end:?} is not {expected:?} for {shown}"),
            }
        }
    }
}

/// Data written in chunks of these sizes (cyclically) is read as the same data. Trailers may hold
/// anything; those that frame or route are not written.
pub fn rechunked(data: &[u8], sizes: &[usize], trailers: &Fields) {
    let mut written = BytesMut::new();
    let trailers = to_headers(trailers);
    write_chunked(&mut written, data, sizes, &trailers);
    let (_, section) = plain_lines(&written[written.len() - last_chunk_len(&trailers)..]);
    let may_trail = |name: &[u8]| !reference::is_of_this_hop(name) && !is_bytes(name, "host");
    assert!(section.iter().all(|(name, _)| may_trail(name.as_bytes())));

    written.extend_from_slice(b"rest");
    let outcome = decode(BodyLength::Chunked, &written, written.len());
    assert_eq!(outcome.data, data);
    assert_eq!(outcome.end, Some(Ok(4)));
    let mut expected = to_fields(&trailers);
    expected.retain(|(name, _)| may_trail(name) && !name.contains(&b'_'));
    assert_eq!(outcome.trailers.unwrap_or_default(), expected);
}

fn last_chunk_len(trailers: &Headers) -> usize {
    let mut alone = BytesMut::new();
    encode::last_chunk(&mut alone, Some(trailers));
    alone.len()
}

#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) data: Vec<u8>,
    pub(super) trailers: Option<Fields>,
    /// How many bytes are left behind the body, or why it is none.
    pub(super) end: Option<Result<usize, ParseError>>,
}

pub(super) fn decode(length: BodyLength, bytes: &[u8], step: usize) -> Outcome {
    let mut decoder = BodyDecoder::new(length);
    let mut input = BytesMut::new();
    let mut outcome = Outcome {
        data: Vec::new(),
        trailers: None,
        end: None,
    };
    let mut given = 0;
    loop {
        let remaining = decoder.remaining();
        match decoder.decode(&mut input) {
            Ok(Decoded::Data(data)) => {
                assert!(!data.is_empty() && outcome.trailers.is_none());
                if let Some(remaining) = remaining {
                    assert_eq!(decoder.remaining(), Some(remaining - data.len() as u64));
                }
                outcome.data.extend_from_slice(&data);
            }
            Ok(Decoded::Trailers(trailers)) => {
                assert!(outcome.trailers.is_none() && !trailers.is_empty());
                assert!(decoder.is_done());
                outcome.trailers = Some(to_fields(&trailers));
            }
            Ok(Decoded::NeedMore) if given == bytes.len() => break,
            Ok(Decoded::NeedMore) => {
                let next = bytes.len().min(given + step);
                input.extend_from_slice(&bytes[given..next]);
                given = next;
            }
            Ok(Decoded::End) => {
                assert!(decoder.is_done());
                outcome.end = Some(Ok(input.len() + bytes.len() - given));
                break;
            }
            Err(error) => {
                outcome.end = Some(Err(error));
                break;
            }
        }
    }
    assert_eq!(decoder.is_done(), matches!(outcome.end, Some(Ok(_))));
    outcome
}

pub(super) fn write_chunked(
    out: &mut BytesMut,
    mut data: &[u8],
    sizes: &[usize],
    trailers: &Headers,
) {
    for size in sizes.iter().cycle() {
        if data.is_empty() {
            break;
        }
        let (chunk, rest) = data.split_at(data.len().min((*size).max(1)));
        encode::chunk_size(out, chunk.len());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        data = rest;
    }
    encode::last_chunk(out, Some(trailers));
}
