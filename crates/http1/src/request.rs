//! Request heads.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};

use crate::connection::{ConnectionOptions, Known, parse_content_length, upgrade_protocol};
use crate::grammar::is_target;
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
    /// The client waits for `100 Continue` before it sends the body. Never without a body.
    pub expects_continue: bool,
    /// The protocol the client asks to change to, the first where it names several. `h2c` is not
    /// offered and ignored.
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
    /// The head at the start of `bytes` and how many bytes it took; `None` while it is not whole.
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
        // RFC 9112 section 2.2: an empty line before the request line is ignored. One, not a stream
        // of them.
        if self.skipped == 0 && bytes.starts_with(b"\r\n") {
            self.skipped = 2;
        } else if bytes == b"\r" {
            return Ok(None);
        }
        let rest = &bytes[self.skipped..];
        let found = self.scan.find_end(rest, limits.head_bytes_max);
        let Some(head_len) = found.map_err(|error| self.name_too_long(error))? else {
            return Ok(None);
        };
        let head = parse_head(&rest[..head_len], limits)?;
        Ok(Some((head, self.skipped + head_len)))
    }

    /// RFC 9112 section 3: 414, not 431, where it is the request line that does not end.
    fn name_too_long(&self, error: ParseError) -> ParseError {
        if error.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE && self.scan.in_first_line()
        {
            return TARGET_TOO_LONG;
        }
        error
    }
}

const TARGET_TOO_LONG: ParseError = ParseError::with_status(
    StatusCode::URI_TOO_LONG,
    "the request target is longer than allowed",
);

fn parse_head(bytes: &[u8], limits: &HeadLimits) -> Result<RequestHead, ParseError> {
    let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
    let fields_max = limits.fields_max.min(FIELDS_MAX);
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed
        .parse_with_uninit_headers(bytes, &mut fields[..fields_max])
        .map_err(|error| name_error(error, bytes))?;
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
        return Err(TARGET_TOO_LONG);
    }

    let mut fields = Fields::new(bytes, parsed.headers.len());
    for header in parsed.headers.iter() {
        fields.read(bytes, header.name.as_bytes(), header.value)?;
    }
    let target = parse_target(&method, target)?;
    let host = fields.host(target.authority, version)?;
    let body = fields.body(version)?;
    let has_body = body != BodyLength::Length(0);
    let keep_alive = match version {
        Version::HTTP_10 => fields.connection.keep_alive && !fields.connection.close,
        _ => !fields.connection.close,
    };
    let upgrade = fields.upgrade(version);
    let mut headers = fields.headers;
    fields.connection.strip(&mut headers);
    Ok(RequestHead {
        method,
        target: target.origin,
        version,
        host,
        headers,
        body,
        keep_alive,
        expects_continue: fields.expects_continue && has_body && version == Version::HTTP_11,
        upgrade,
    })
}

/// `httparse` calls whatever stands in the version's place an unknown version: often it is the rest
/// of a target with a space in it.
fn name_error(error: httparse::Error, head: &[u8]) -> ParseError {
    if error == httparse::Error::Version {
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let mut words = line.split(|b| *b == b' ');
        let version = words.nth(2).unwrap_or_default();
        let named = matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit());
        if !named || words.next().is_some() {
            return ParseError::bad("invalid start line");
        }
    }
    error.into()
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
    fn new(head: &[u8], fields: usize) -> Self {
        Self {
            headers: Headers::of_head(head, fields),
            connection: ConnectionOptions::default(),
            host: None,
            content_length: None,
            chunked: false,
            expects_continue: false,
            upgrade: None,
        }
    }

    fn read(&mut self, head: &[u8], name: &[u8], value: &[u8]) -> Result<(), ParseError> {
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
                self.host = Some(parse_host(value)?.to_owned());
                self.headers.append_parsed(head, name, value);
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
                let protocol = upgrade_protocol(value).map(str::to_owned);
                self.upgrade = self.upgrade.take().or(protocol);
            }
            Known::Dropped => {}
            Known::Other => self.headers.append_parsed(head, name, value),
        }
        Ok(())
    }

    /// RFC 9112 section 3.2.2: an absolute-form target replaces `Host`. They must agree all the
    /// same: whoever sends two names wants two readers to see different ones.
    fn host(
        &mut self,
        authority: Option<Authority<'_>>,
        version: Version,
    ) -> Result<String, ParseError> {
        let host = self.host.take();
        if host.is_none() && version == Version::HTTP_11 {
            return Err(ParseError::bad("no Host field"));
        }
        match (authority, host) {
            (None, host) => Ok(host.unwrap_or_default()),
            (Some(authority), None) => {
                self.headers.append("Host", authority.text);
                Ok(authority.text.to_owned())
            }
            (Some(authority), Some(host)) if authority.is(&host) => Ok(host),
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
        // RFC 9110 section 7.8: ignored in HTTP/1.0, and without the `upgrade` connection option.
        let offered = self.connection.upgrade && version == Version::HTTP_11;
        self.upgrade.take().filter(|_| offered)
    }
}

/// A request target taken apart (RFC 9112 section 3.2).
struct Target<'a> {
    /// Path and query, `*`, or for CONNECT the authority.
    origin: String,
    authority: Option<Authority<'a>>,
}

struct Authority<'a> {
    text: &'a str,
    /// Such as `:80`: the port that need not be written (RFC 9110 section 4.2.3).
    default_port: &'static str,
}

impl Authority<'_> {
    fn is(&self, host: &str) -> bool {
        let short = |text| str::strip_suffix(text, self.default_port).unwrap_or(text);
        short(self.text).eq_ignore_ascii_case(short(host))
    }
}

fn parse_target<'a>(method: &Method, target: &'a str) -> Result<Target<'a>, ParseError> {
    let bad = ParseError::bad("invalid request target");
    if !is_target(target.as_bytes()) {
        return Err(bad);
    }
    let plain = |target: &str| Target {
        origin: target.to_owned(),
        authority: None,
    };
    if *method == Method::CONNECT {
        let (text, port) = parse_authority(target.as_bytes()).ok_or(bad)?;
        // RFC 9112 section 3.2.3: there is no default port to connect to.
        if port.is_empty() {
            return Err(bad);
        }
        let authority = Authority {
            text,
            default_port: "",
        };
        return Ok(Target {
            authority: Some(authority),
            ..plain(target)
        });
    }
    if target.starts_with('/') || (target == "*" && *method == Method::OPTIONS) {
        return Ok(plain(target));
    }

    let (scheme, rest) = target.split_once("://").ok_or(bad)?;
    let default_port = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => ":80",
        _ if scheme.eq_ignore_ascii_case("https") => ":443",
        _ => return Err(bad),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (text, _) = parse_authority(&rest.as_bytes()[..end]).ok_or(bad)?;
    let origin = match &rest[end..] {
        // RFC 9112 section 3.2.4: how OPTIONS asks about a whole server through a proxy.
        "" if *method == Method::OPTIONS => "*".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        query => format!("/{query}"),
    };
    Ok(Target {
        origin,
        authority: Some(Authority { text, default_port }),
    })
}

/// The value of `Host`. Empty is valid: the target URI has no authority (RFC 9112 section 3.2).
fn parse_host(value: &[u8]) -> Result<&str, ParseError> {
    if value.is_empty() {
        return Ok("");
    }
    let (text, _) = parse_authority(value).ok_or(ParseError::bad("invalid host"))?;
    Ok(text)
}

/// A host with an optional port (RFC 9110 section 7.2), and the port with its colon. No user
/// information (RFC 9110 section 4.2.4), only the characters that DNS names, IPv4 and bracketed
/// IPv6 addresses are made of, and never without a host (RFC 9110 section 4.2.1).
fn parse_authority(value: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(value).ok()?;
    let port = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        port
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if end == 0 || !text[..end].bytes().all(name_byte) {
            return None;
        }
        &text[end..]
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((text, port)),
        // `parse` alone takes a sign too.
        Some(digits)
            if digits.len() <= 5
                && digits.bytes().all(|b| b.is_ascii_digit())
                && digits.parse::<u16>().is_ok() =>
        {
            Some((text, port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
