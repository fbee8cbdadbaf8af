//! Request heads.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};

use crate::connection::{ConnectionOptions, Known, parse_content_length};
use crate::headers::Headers;
use crate::limits::FIELDS_MAX;
use crate::scan::HeadScan;
use crate::{BodyLength, HeadLimits, ParseError};

/// A parsed request head.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHead {
    pub method: Method,
    /// Origin form, `*`, or for CONNECT the authority. An absolute-form target has been taken apart
    /// into this and `host`.
    pub target: String,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The authority as sent; empty where HTTP/1.0 names none.
    pub host: String,
    /// The end-to-end fields, without `Content-Length`.
    pub headers: Headers,
    pub body: BodyLength,
    /// Whether the client would send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The protocol the client asks to change to. `h2c` is not offered and ignored.
    pub upgrade: Option<String>,
}

/// Parses request heads that arrive in pieces.
#[derive(Clone, Debug, Default)]
pub struct RequestParser {
    scan: HeadScan,
    /// Empty lines skipped before the start line.
    skipped: usize,
}

impl RequestParser {
    /// The head at the start of `bytes` and how many bytes it took, or `None` while it is not whole.
    ///
    /// Call again with the same bytes and more; after a head or an error start a new parser.
    ///
    /// # Errors
    /// [`ParseError`] with the status to answer. Which error a bad head gives does not depend on
    /// how its bytes were split.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(RequestHead, usize)>, ParseError> {
        // RFC 9112 section 2.2: an empty line before the request line is ignored. One, not a stream of them.
        if self.skipped == 0 && bytes.starts_with(b"\r\n") {
            self.skipped = 2;
        } else if bytes == b"\r" {
            return Ok(None);
        }
        let rest = &bytes[self.skipped..];
        let Some(head_len) = self.scan.find_end(rest, limits.head_bytes_max)? else {
            return Ok(None);
        };
        let head = parse_head(&rest[..head_len], limits)?;
        Ok(Some((head, self.skipped + head_len)))
    }
}

fn parse_head(bytes: &[u8], limits: &HeadLimits) -> Result<RequestHead, ParseError> {
    let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
    let fields_max = limits.fields_max.min(FIELDS_MAX);
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(bytes, &mut fields[..fields_max])?;
    let (httparse::Status::Complete(_), Some(method), Some(target), Some(minor)) =
        (status, parsed.method, parsed.path, parsed.version)
    else {
        return Err(ParseError::bad("incomplete start line"));
    };
    let version = if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| ParseError::bad("invalid method"))?;
    if target.len() > limits.target_bytes_max {
        let reason = "the request target is longer than allowed";
        return Err(ParseError::with_status(StatusCode::URI_TOO_LONG, reason));
    }

    let mut fields = Fields::new(bytes.len(), parsed.headers.len());
    for header in parsed.headers.iter() {
        fields.read(header.name.as_bytes(), header.value)?;
    }
    let (target, authority) = parse_target(&method, target)?;
    let host = fields.host(authority, version)?;
    let body = fields.body(version)?;
    let keep_alive = match version {
        Version::HTTP_10 => fields.connection.keep_alive && !fields.connection.close,
        _ => !fields.connection.close,
    };
    let upgrade = fields.upgrade(version);
    let mut headers = fields.headers;
    fields.connection.strip(&mut headers);
    Ok(RequestHead {
        method,
        target,
        version,
        host,
        headers,
        body,
        keep_alive,
        expects_continue: fields.expects_continue && version == Version::HTTP_11,
        upgrade,
    })
}

/// The fields of a request, sorted into those that travel on and those that frame this message.
struct Fields {
    headers: Headers,
    connection: ConnectionOptions,
    host: Option<String>,
    content_length: Option<u64>,
    chunked: bool,
    expects_continue: bool,
    upgrade: Option<String>,
}

impl Fields {
    fn new(bytes: usize, fields: usize) -> Self {
        Self {
            // Room for what a proxy adds, so that adding does not reallocate.
            headers: Headers::with_capacity(fields + 8, bytes + 256),
            connection: ConnectionOptions::default(),
            host: None,
            content_length: None,
            chunked: false,
            expects_continue: false,
            upgrade: None,
        }
    }

    fn read(&mut self, name: &[u8], value: &[u8]) -> Result<(), ParseError> {
        if name.contains(&b'_') {
            // Applications that read CGI-style names cannot tell `a_b` from `a-b`, so `a_b` could
            // pass for a field that the proxy sets.
            return Err(ParseError::bad("underscore in a field name"));
        }
        match Known::of(name) {
            Known::Host => {
                if self.host.is_some() {
                    return Err(ParseError::bad("several Host fields"));
                }
                self.host = Some(parse_authority(value)?.to_owned());
                self.headers.append(name, value);
            }
            Known::ContentLength => {
                if self.content_length.is_some() {
                    return Err(ParseError::bad("several Content-Length fields"));
                }
                let length = parse_content_length(value);
                self.content_length =
                    Some(length.ok_or(ParseError::bad("malformed Content-Length"))?);
            }
            Known::TransferEncoding => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ParseError::bad(
                        "Transfer-Encoding other than one final chunked",
                    ));
                }
                self.chunked = true;
            }
            Known::Connection => self.connection.read(value),
            Known::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    let reason = "unknown expectation";
                    return Err(ParseError::with_status(
                        StatusCode::EXPECTATION_FAILED,
                        reason,
                    ));
                }
                self.expects_continue = true;
            }
            Known::Upgrade => {
                // A list offers several protocols; the first is what the client prefers.
                let first = crate::headers::tokens(value).next().unwrap_or_default();
                self.upgrade = Some(String::from_utf8_lossy(first).into_owned());
            }
            Known::Dropped => {}
            Known::Other => self.headers.append(name, value),
        }
        Ok(())
    }

    /// RFC 9112 section 3.2.2: an absolute-form target replaces `Host`. They must agree all the
    /// same: whoever sends two names wants two readers to see different ones.
    fn host(&mut self, authority: Option<&str>, version: Version) -> Result<String, ParseError> {
        let host = self.host.take();
        if host.is_none() && version == Version::HTTP_11 {
            return Err(ParseError::bad("no Host field"));
        }
        match (authority, host) {
            (None, host) => Ok(host.unwrap_or_default()),
            (Some(authority), None) => {
                self.headers.append("Host", authority);
                Ok(authority.to_owned())
            }
            (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(&host) => Ok(host),
            (Some(_), Some(_)) => Err(ParseError::bad("Host differs from the request target")),
        }
    }

    fn body(&self, version: Version) -> Result<BodyLength, ParseError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(ParseError::bad("Content-Length and Transfer-Encoding")),
            (true, None) if version == Version::HTTP_10 => {
                Err(ParseError::bad("Transfer-Encoding in HTTP/1.0"))
            }
            (true, None) => Ok(BodyLength::Chunked),
            (false, length) => Ok(BodyLength::Length(length.unwrap_or(0))),
        }
    }

    fn upgrade(&mut self, version: Version) -> Option<String> {
        let upgrade = self.upgrade.take()?;
        let offered = self.connection.upgrade && version == Version::HTTP_11;
        let tunnels = !upgrade.is_empty() && !upgrade.eq_ignore_ascii_case("h2c");
        (offered && tunnels).then_some(upgrade)
    }
}

/// Takes a target apart into its origin form and, where it names one, its authority
/// (RFC 9112 section 3.2).
fn parse_target<'a>(
    method: &Method,
    target: &'a str,
) -> Result<(String, Option<&'a str>), ParseError> {
    let bad = ParseError::bad("invalid request target");
    if !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(bad);
    }
    if *method == Method::CONNECT {
        let authority = parse_authority(target.as_bytes())?;
        return Ok((authority.to_owned(), Some(authority)));
    }
    if target.starts_with('/') {
        return Ok((target.to_owned(), None));
    }
    if target == "*" && *method == Method::OPTIONS {
        return Ok((target.to_owned(), None));
    }
    let (scheme, rest) = target.split_once("://").ok_or(bad)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(bad);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = parse_authority(&rest.as_bytes()[..end])?;
    if authority.is_empty() {
        return Err(bad);
    }
    let slash = if rest[end..].starts_with('/') {
        ""
    } else {
        "/"
    };
    Ok((format!("{slash}{}", &rest[end..]), Some(authority)))
}

/// A host with an optional port (RFC 9110 section 7.2), without user information. Only the
/// characters that DNS names, IPv4 and bracketed IPv6 addresses are made of.
fn parse_authority(value: &[u8]) -> Result<&str, ParseError> {
    let bad = ParseError::bad("invalid host");
    let text = std::str::from_utf8(value).map_err(|_| bad)?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(bad)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(bad);
            }
            (None, port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (Some(&text[..end]), &text[end..])
        }
    };
    let name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_some_and(|host| !host.bytes().all(name_byte)) {
        return Err(bad);
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(text),
        Some(digits) if digits.parse::<u16>().is_ok() && !digits.starts_with('+') => Ok(text),
        _ => Err(bad),
    }
}
