//! Response heads.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};

use crate::connection::{ConnectionOptions, Known, parse_content_length, upgrade_protocol};
use crate::headers::Headers;
use crate::limits::FIELDS_MAX;
use crate::scan::HeadScan;
use crate::{BodyLength, HeadLimits, ParseError};

/// A parsed response head.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub version: Version,
    /// The end-to-end fields. `Content-Length` stays only where no body follows although one is
    /// described: in the answer to HEAD, and in 304.
    pub headers: Headers,
    pub body: BodyLength,
    /// Whether the connection can carry another request after this response (and its body).
    pub keep_alive: bool,
    /// The protocol of a 101 response; every 101 has one.
    pub upgrade: Option<String>,
}

/// Parses response heads that arrive in pieces.
#[derive(Clone, Debug, Default)]
pub struct ResponseParser {
    scan: HeadScan,
}

impl ResponseParser {
    /// The head at the start of `bytes` and how many bytes it took; `None` while it is not whole.
    /// `method` is that of the request: it decides whether a body follows (RFC 9112 section 6.3).
    ///
    /// Call again with the same bytes and more; after a head or an error start a new parser.
    ///
    /// # Errors
    /// [`ParseError`]: the upstream does not speak HTTP/1, or can be understood in two ways.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        method: &Method,
        limits: &HeadLimits,
    ) -> Result<Option<(ResponseHead, usize)>, ParseError> {
        let Some(head_len) = self.scan.find_end(bytes, limits.head_bytes_max)? else {
            return Ok(None);
        };
        let head = parse_head(&bytes[..head_len], method, limits)?;
        Ok(Some((head, head_len)))
    }
}

fn parse_head(
    bytes: &[u8],
    method: &Method,
    limits: &HeadLimits,
) -> Result<ResponseHead, ParseError> {
    let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
    let fields_max = limits.fields_max.min(FIELDS_MAX);
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let outcome =
        config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields[..fields_max])?;
    let (httparse::Status::Complete(_), Some(code), Some(minor)) =
        (outcome, parsed.code, parsed.version)
    else {
        return Err(ParseError::bad("incomplete status line"));
    };
    let version = if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    let status = StatusCode::from_u16(code).map_err(|_| ParseError::bad("invalid status"))?;

    // RFC 9112 section 6.3, rule 1: no body whatever the fields say, but HEAD and 304 describe one.
    let never_a_body = status.is_informational() || status == StatusCode::NO_CONTENT;
    let describes =
        !never_a_body && (*method == Method::HEAD || status == StatusCode::NOT_MODIFIED);
    let mut headers = Headers::of_head(bytes, parsed.headers.len());
    let mut connection = ConnectionOptions::default();
    let mut content_length = None;
    let mut chunked = false;
    let mut upgrade = None;
    for header in parsed.headers.iter() {
        let (name, value) = (header.name.as_bytes(), header.value);
        match Known::of(name) {
            Known::ContentLength => {
                let length = parse_content_length(value)
                    .ok_or(ParseError::bad("malformed Content-Length"))?;
                // The same value twice has one meaning (RFC 9110 section 8.6), two values none.
                if content_length.is_some_and(|other| other != length) {
                    return Err(ParseError::bad("differing Content-Length fields"));
                }
                if describes && content_length.is_none() {
                    headers.append_parsed(bytes, name, value);
                }
                content_length = Some(length);
            }
            Known::TransferEncoding => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ParseError::bad(
                        "Transfer-Encoding other than one final chunked",
                    ));
                }
                chunked = true;
            }
            Known::Connection => connection.read(value),
            Known::Upgrade => upgrade = upgrade.or(upgrade_protocol(value)),
            Known::Dropped | Known::Expect => {}
            Known::Host | Known::Other => {
                headers.append_parsed(bytes, name, value);
            }
        }
    }
    connection.strip(&mut headers);
    if chunked && content_length.is_some() {
        return Err(ParseError::bad("Content-Length and Transfer-Encoding"));
    }
    if chunked && version == Version::HTTP_10 {
        return Err(ParseError::bad("Transfer-Encoding in HTTP/1.0"));
    }

    let switching = status == StatusCode::SWITCHING_PROTOCOLS;
    if switching && upgrade.is_none() {
        // RFC 9110 section 15.2.2. Without it nobody knows what the bytes that follow are.
        return Err(ParseError::bad("101 without Upgrade"));
    }

    // Rule 2.
    let tunnel = switching || (*method == Method::CONNECT && status.is_success());
    let body = match (describes || never_a_body || tunnel, chunked, content_length) {
        (true, _, _) => BodyLength::Length(0),
        (false, true, _) => BodyLength::Chunked,
        (false, false, Some(length)) => BodyLength::Length(length),
        (false, false, None) => BodyLength::UntilClose,
    };
    let persistent = match version {
        Version::HTTP_10 => connection.keep_alive && !connection.close,
        _ => !connection.close,
    };
    // A server that announces a body where there is none may send one all the same (RFC 9112
    // section 6.1 forbids both): it would be read as the next response.
    let suspicious = never_a_body && (chunked || content_length.is_some_and(|length| length > 0));
    Ok(ResponseHead {
        status,
        version,
        headers,
        body,
        keep_alive: persistent && !suspicious && !tunnel && body != BodyLength::UntilClose,
        upgrade: upgrade.filter(|_| switching).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests;
