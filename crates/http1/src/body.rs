//! Framing of bodies: reading (RFC 9112 sections 6.3 and 7.1).

use bytes::{Buf, Bytes, BytesMut};

use crate::ParseError;
use crate::connection::Known;
use crate::grammar::{is_control, is_token_byte};
use crate::headers::Headers;
use crate::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX, TRAILER_FIELDS_MAX};
use crate::scan::HeadScan;

/// How long the body of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// That many bytes; 0 where there is no body.
    Length(u64),
    Chunked,
    /// Everything up to the end of the connection (responses only).
    UntilClose,
}

/// Takes the body of one message out of a byte stream.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Debug)]
enum State {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    /// The CR LF after a chunk's data.
    ChunkEnd,
    Trailers(HeadScan),
    UntilClose,
    Done,
}

/// What [`BodyDecoder::decode`] found.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// Never empty.
    Data(Bytes),
    /// At most once, as the last before [`Decoded::End`]; only when there are fields.
    Trailers(Headers),
    /// The input does not hold the next piece yet.
    NeedMore,
    End,
}

impl BodyDecoder {
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Length(0) => State::Done,
            BodyLength::Length(length) => State::Length(length),
            BodyLength::Chunked => State::ChunkSize,
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Whether the whole body has been taken out.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(length) => Some(length),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Takes the next piece out of `input`.
    ///
    /// # Errors
    /// Chunks that are not framed as RFC 9112 section 7.1 says, or lines longer than the limits.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, ParseError> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Decoded::End),
                State::UntilClose => {
                    if input.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    return Ok(Decoded::Data(input.split().freeze()));
                }
                State::Length(left) => {
                    let Some(data) = take_data(input, left) else {
                        return Ok(Decoded::NeedMore);
                    };
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    return Ok(Decoded::Data(data));
                }
                State::ChunkData(left) => {
                    let Some(data) = take_data(input, left) else {
                        return Ok(Decoded::NeedMore);
                    };
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(Decoded::Data(data));
                }
                State::ChunkEnd => {
                    if input.first().is_some_and(|b| *b != b'\r')
                        || input.get(1).is_some_and(|b| *b != b'\n')
                    {
                        return Err(ParseError::bad("no CR LF after a chunk"));
                    }
                    if input.len() < 2 {
                        return Ok(Decoded::NeedMore);
                    }
                    input.advance(2);
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => {
                    let Some(line_len) = find_chunk_line(input)? else {
                        return Ok(Decoded::NeedMore);
                    };
                    let size = parse_chunk_line(&input[..line_len])?;
                    input.advance(line_len + 2);
                    self.state = match size {
                        0 => State::Trailers(HeadScan::default()),
                        size => State::ChunkData(size),
                    };
                }
                State::Trailers(scan) => {
                    let Some(len) = scan.find_end(input, TRAILER_BYTES_MAX)? else {
                        return Ok(Decoded::NeedMore);
                    };
                    let trailers = parse_trailers(&input[..len])?;
                    input.advance(len);
                    self.state = State::Done;
                    if !trailers.is_empty() {
                        return Ok(Decoded::Trailers(trailers));
                    }
                }
            }
        }
    }

    /// Tells the decoder that the stream has ended; whether the body ended with it.
    pub fn end_of_stream(&mut self) -> bool {
        if matches!(self.state, State::UntilClose) {
            self.state = State::Done;
        }
        self.is_done()
    }
}

fn take_data(input: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    if input.is_empty() {
        return None;
    }
    let len = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(input.len());
    *left -= len as u64;
    Some(input.split_to(len).freeze())
}

/// The length of the chunk's size line without its CR LF, once it is whole.
fn find_chunk_line(input: &[u8]) -> Result<Option<usize>, ParseError> {
    let window = &input[..input.len().min(CHUNK_LINE_BYTES_MAX)];
    match memchr::memchr2(b'\r', b'\n', window) {
        Some(at) if window[at] == b'\r' => match input.get(at + 1) {
            Some(b'\n') => Ok(Some(at)),
            Some(_) => Err(ParseError::bad("CR without LF in a chunk size")),
            None => Ok(None),
        },
        Some(_) => Err(ParseError::bad("LF without CR in a chunk size")),
        None if window.len() == CHUNK_LINE_BYTES_MAX => Err(ParseError::bad(
            "the chunk size line is longer than allowed",
        )),
        None => Ok(None),
    }
}

fn parse_chunk_line(line: &[u8]) -> Result<u64, ParseError> {
    let bad = ParseError::bad("invalid chunk size");
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    // 15 digits are 2^60: beyond any body, and far from overflow.
    if digits == 0 || digits > 15 {
        return Err(bad);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| bad)?;
    let size = u64::from_str_radix(text, 16).map_err(|_| bad)?;
    check_extensions(&line[digits..])?;
    Ok(size)
}

/// `*( ";" name [ "=" ( token / quoted-string ) ] )`, without the optional white space around it
/// that RFC 9112 section 7.1.1 calls bad. Understood extensions: none.
fn check_extensions(mut rest: &[u8]) -> Result<(), ParseError> {
    let bad = ParseError::bad("invalid chunk extension");
    while !rest.is_empty() {
        rest = rest.strip_prefix(b";").ok_or(bad)?;
        let name = rest.iter().take_while(|b| is_token_byte(**b)).count();
        if name == 0 {
            return Err(bad);
        }
        rest = &rest[name..];
        if let Some(value) = rest.strip_prefix(b"=") {
            let len = match value.strip_prefix(b"\"") {
                Some(quoted) => 1 + quoted_len(quoted).ok_or(bad)?,
                None => value.iter().take_while(|b| is_token_byte(**b)).count(),
            };
            if len == 0 {
                return Err(bad);
            }
            rest = &value[len..];
        }
    }
    Ok(())
}

/// The length of a quoted string after its opening quote, with the closing one.
fn quoted_len(bytes: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if is_control(*byte) => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn parse_trailers(block: &[u8]) -> Result<Headers, ParseError> {
    if block == b"\r\n" {
        return Ok(Headers::new());
    }
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    let httparse::Status::Complete((_, fields)) = httparse::parse_headers(block, &mut fields)?
    else {
        return Err(ParseError::bad("incomplete trailers"));
    };
    let mut trailers = Headers::new();
    for field in fields.iter() {
        // RFC 9110 section 6.5.1: nothing that frames or routes a message may come as a trailer.
        if Known::of(field.name.as_bytes()) == Known::Other && !field.name.contains('_') {
            trailers.append(field.name, field.value);
        }
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests;
