//! Pipelined messages: the same whatever the split.

use bytes::BytesMut;
use trilith_http1::{
    BodyDecoder, Decoded, HeadLimits, Method, ParseError, RequestHead, RequestParser, ResponseHead,
    ResponseParser,
};

use super::reference::Fields;
use super::to_fields;

/// A stream of pipelined requests gives the same messages however it arrives. The first byte of
/// `bytes` says into how many pieces the rest is cut, the bytes after it where.
pub fn split_requests(bytes: &[u8]) {
    let (cuts, stream) = take_cuts(bytes);
    let whole = read_stream(stream, &[], Side::Requests);
    assert_eq!(read_stream(stream, &cuts, Side::Requests), whole);
}

/// The same for a stream of responses to GET.
pub fn split_responses(bytes: &[u8]) {
    let (cuts, stream) = take_cuts(bytes);
    let whole = read_stream(stream, &[], Side::Responses);
    assert_eq!(read_stream(stream, &cuts, Side::Responses), whole);
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Requests,
    Responses,
}

/// What a connection saw.
#[derive(Debug, Default, PartialEq)]
struct Stream {
    requests: Vec<RequestHead>,
    responses: Vec<ResponseHead>,
    bodies: Vec<(Vec<u8>, Option<Fields>)>,
    error: Option<ParseError>,
    /// What was left unread behind a message that ends the connection.
    rest: Vec<u8>,
}

fn read_stream(bytes: &[u8], cuts: &[usize], side: Side) -> Stream {
    let limits = HeadLimits::default();
    let mut stream = Stream::default();
    let mut input = BytesMut::new();
    let mut requests = RequestParser::default();
    let mut responses = ResponseParser::default();
    let mut decoder: Option<BodyDecoder> = None;
    let mut pieces = pieces(bytes, cuts).into_iter();
    loop {
        let step = match &mut decoder {
            None => {
                let head = match side {
                    Side::Requests => requests.parse(&input, &limits).map(|head| {
                        head.map(|(head, len)| {
                            let body = head.body;
                            stream.requests.push(head);
                            (body, len)
                        })
                    }),
                    Side::Responses => responses.parse(&input, &Method::GET, &limits).map(|head| {
                        head.map(|(head, len)| {
                            let body = head.body;
                            stream.responses.push(head);
                            (body, len)
                        })
                    }),
                };
                head.map(|head| match head {
                    Some((body, len)) => {
                        let _ = input.split_to(len);
                        stream.bodies.push(Default::default());
                        decoder = Some(BodyDecoder::new(body));
                        true
                    }
                    None => false,
                })
            }
            Some(body) => body.decode(&mut input).map(|decoded| {
                let last = stream.bodies.last_mut().expect("one per head");
                match decoded {
                    Decoded::Data(data) => last.0.extend_from_slice(&data),
                    Decoded::Trailers(trailers) => last.1 = Some(to_fields(&trailers)),
                    Decoded::NeedMore => return false,
                    Decoded::End => {
                        decoder = None;
                        requests = RequestParser::default();
                        responses = ResponseParser::default();
                    }
                }
                true
            }),
        };
        match step {
            Err(error) => {
                stream.error = Some(error);
                return stream;
            }
            Ok(true) => {}
            Ok(false) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => {
                    stream.rest = input.to_vec();
                    return stream;
                }
            },
        }
    }
}

fn take_cuts(bytes: &[u8]) -> (Vec<usize>, &[u8]) {
    let Some((count, rest)) = bytes.split_first() else {
        return (vec![], bytes);
    };
    let count = usize::from(count % 8).min(rest.len());
    let (cuts, stream) = rest.split_at(count);
    // Of small distances there are many, of large ones some.
    let mut at = 0;
    let cuts = cuts.iter().map(|cut| {
        at += usize::from(*cut);
        at
    });
    (cuts.collect(), stream)
}

/// Cut at `cuts` (ascending), or not at all where there are none. Behind the last cut byte by byte.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for cut in cuts.iter().map(|cut| bytes.len().min(*cut)) {
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    if cuts.is_empty() {
        pieces.push(bytes);
    } else {
        pieces.extend(bytes[start..].chunks(1));
    }
    pieces
}
