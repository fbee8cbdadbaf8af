//! What RFC 9110, RFC 9112 and our strictness say of a message, written as plainly as possible:
//! several passes, no care for speed, nothing in common with the codec. The codec must agree.

use trilith_http1::BodyLength;
use trilith_http1::limits::{
    CHUNK_LINE_BYTES_MAX, HeadLimits, TRAILER_BYTES_MAX, TRAILER_FIELDS_MAX,
};

/// Names and values, trimmed, in order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug, PartialEq)]
pub enum Verdict<T> {
    Incomplete,
    Refused,
    /// With the number of bytes it took.
    Complete(T, usize),
}

#[derive(Debug, PartialEq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: String,
    pub is_http11: bool,
    pub host: String,
    pub fields: Fields,
    pub body: BodyLength,
    pub keep_alive: bool,
    pub expects_continue: bool,
    pub upgrade: Option<String>,
}

#[derive(Debug, PartialEq)]
pub struct Response {
    pub status: u16,
    pub is_http11: bool,
    pub fields: Fields,
    pub body: BodyLength,
    pub keep_alive: bool,
    pub upgrade: Option<String>,
}

pub fn request(bytes: &[u8], limits: &HeadLimits) -> Verdict<Request> {
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    complete(
        lines(&bytes[skipped..], limits.head_bytes_max),
        skipped,
        |lines| request_of(lines, limits),
    )
}

pub fn response(bytes: &[u8], method: &str, limits: &HeadLimits) -> Verdict<Response> {
    complete(lines(bytes, limits.head_bytes_max), 0, |lines| {
        response_of(lines, method, limits)
    })
}

/// The data of a chunked body as far as it goes, and its trailers.
pub fn chunked(bytes: &[u8]) -> (Vec<u8>, Verdict<Fields>) {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let (size, line_len) = match chunk_line(&bytes[at..]) {
            Verdict::Complete(size, len) => (size, len),
            Verdict::Incomplete => return (data, Verdict::Incomplete),
            Verdict::Refused => return (data, Verdict::Refused),
        };
        at += line_len;
        if size == 0 {
            let trailers = complete(lines(&bytes[at..], TRAILER_BYTES_MAX), at, |lines| {
                let mut fields = fields(lines, TRAILER_FIELDS_MAX)?;
                fields.retain(|(name, _)| {
                    !is_of_this_hop(name) && !is(name, "host") && !name.contains(&b'_')
                });
                Some(fields)
            });
            return (data, trailers);
        }
        let present = (bytes.len() - at).min(usize::try_from(size).unwrap_or(usize::MAX));
        data.extend_from_slice(&bytes[at..at + present]);
        at += present;
        match &bytes[at..] {
            _ if (present as u64) < size => return (data, Verdict::Incomplete),
            [] | [b'\r'] => return (data, Verdict::Incomplete),
            [b'\r', b'\n', ..] => at += 2,
            _ => return (data, Verdict::Refused),
        }
    }
}

fn complete<T>(
    lines: Verdict<Vec<&[u8]>>,
    skipped: usize,
    read: impl FnOnce(&[&[u8]]) -> Option<T>,
) -> Verdict<T> {
    match lines {
        Verdict::Incomplete => Verdict::Incomplete,
        Verdict::Refused => Verdict::Refused,
        Verdict::Complete(lines, len) => match read(&lines) {
            Some(value) => Verdict::Complete(value, skipped + len),
            None => Verdict::Refused,
        },
    }
}

/// The lines up to the first empty one, without it. Every line ends in CR LF; neither comes alone.
fn lines(bytes: &[u8], bytes_max: usize) -> Verdict<Vec<&[u8]>> {
    let mut lines = Vec::new();
    let (mut at, mut start) = (0, 0);
    loop {
        if at >= bytes_max {
            return Verdict::Refused;
        }
        match bytes.get(at) {
            None => return Verdict::Incomplete,
            Some(0 | b'\n') => return Verdict::Refused,
            Some(b'\r') if at + 1 == bytes_max => return Verdict::Refused,
            Some(b'\r') => match bytes.get(at + 1) {
                None => return Verdict::Incomplete,
                Some(b'\n') if at == start => return Verdict::Complete(lines, at + 2),
                Some(b'\n') => {
                    lines.push(&bytes[start..at]);
                    at += 2;
                    start = at;
                }
                Some(_) => return Verdict::Refused,
            },
            Some(_) => at += 1,
        }
    }
}

fn request_of(lines: &[&[u8]], limits: &HeadLimits) -> Option<Request> {
    let (start, rest) = lines.split_first()?;
    let words: Vec<_> = start.split(|b| *b == b' ').collect();
    let [method, target, version] = words[..] else {
        return None;
    };
    let is_http11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return None,
    };
    let visible = |b: &u8| (0x21..=0x7e).contains(b) && *b != b'#';
    if !is_token(method)
        || target.is_empty()
        || !target.iter().all(visible)
        || target.len() > limits.target_bytes_max
    {
        return None;
    }
    let target = text(target);
    let mut fields = fields(rest, limits.fields_max)?;
    if fields.iter().any(|(name, _)| name.contains(&b'_')) {
        return None;
    }

    let host = match values(&fields, "host")[..] {
        [] if is_http11 => return None,
        [] => None,
        [b""] => Some(String::new()),
        [host] => authority(&text(host)).map(|_| Some(text(host)))?,
        _ => return None,
    };
    let (origin, named) = target_of(&target, method)?;
    if let (Some((named, default_port)), Some(host)) = (&named, &host) {
        let short = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.strip_suffix(default_port)
                .map(str::to_owned)
                .unwrap_or(text)
        };
        if short(named) != short(host) {
            return None;
        }
    }

    let length = match values(&fields, "content-length")[..] {
        [] => None,
        [one] => Some(decimal(one)?),
        _ => return None,
    };
    let body = match values(&fields, "transfer-encoding")[..] {
        [] => BodyLength::Length(length.unwrap_or(0)),
        [one] if is(one, "chunked") && length.is_none() && is_http11 => BodyLength::Chunked,
        _ => return None,
    };
    let expectations = values(&fields, "expect");
    if !expectations.iter().all(|value| is(value, "100-continue")) {
        return None;
    }
    let expects_continue = !expectations.is_empty() && is_http11 && body != BodyLength::Length(0);

    let options = list(&fields, "connection");
    let has = |option: &str| options.iter().any(|o| is(o, option));
    let upgrade = protocol(&fields).filter(|_| has("upgrade") && is_http11);
    let keep_alive = !has("close") && (is_http11 || has("keep-alive"));
    strip(&mut fields, &options);
    let host = match (host, named) {
        (Some(host), _) => host,
        (None, Some((named, _))) => {
            fields.push((b"Host".to_vec(), named.clone().into_bytes()));
            named
        }
        (None, None) => String::new(),
    };
    Some(Request {
        method: method.to_vec(),
        target: origin,
        is_http11,
        host,
        fields,
        body,
        keep_alive,
        expects_continue,
        upgrade,
    })
}

/// The origin form, and the authority of the other forms with the port it need not write.
type Target = (String, Option<(String, &'static str)>);

fn target_of(target: &str, method: &[u8]) -> Option<Target> {
    if method == b"CONNECT" {
        let has_port = authority(target)?;
        return has_port.then(|| (target.to_owned(), Some((target.to_owned(), "/"))));
    }
    if target.starts_with('/') || (method == b"OPTIONS" && target == "*") {
        return Some((target.to_owned(), None));
    }
    let lower = target.to_ascii_lowercase();
    let (start, port) = match () {
        () if lower.starts_with("http://") => (7, ":80"),
        () if lower.starts_with("https://") => (8, ":443"),
        () => return None,
    };
    let host: String = target[start..]
        .chars()
        .take_while(|c| !"/?".contains(*c))
        .collect();
    authority(&host)?;
    let rest = &target[start + host.len()..];
    let origin = match rest.chars().next() {
        None if method == b"OPTIONS" => "*".to_owned(),
        Some('/') => rest.to_owned(),
        _ => format!("/{rest}"),
    };
    Some((origin, Some((host, port))))
}

/// Whether there is a port, where it is an authority at all.
fn authority(text: &str) -> Option<bool> {
    let host_len = match text.strip_prefix('[') {
        Some(_) => text.find(']')? + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_len);
    let is_host = match host.strip_prefix('[') {
        Some(address) => address
            .trim_end_matches(']')
            .parse::<std::net::Ipv6Addr>()
            .is_ok(),
        None => {
            let name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            !host.is_empty() && host.chars().all(name)
        }
    };
    let is_port = |port: &str| {
        let digits = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
        digits && port.len() <= 5 && port.parse::<u32>().is_ok_and(|port| port < 65536)
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => is_host.then_some(false),
        Some(port) => (is_host && is_port(port)).then_some(true),
        None => None,
    }
}

fn response_of(lines: &[&[u8]], method: &str, limits: &HeadLimits) -> Option<Response> {
    let (start, rest) = lines.split_first()?;
    let is_http11 = match start.get(..9)? {
        b"HTTP/1.1 " => true,
        b"HTTP/1.0 " => false,
        _ => return None,
    };
    let code = start.get(9..12)?;
    let status: u16 = text(code).parse().ok()?;
    let is_reason = match &start[12..] {
        [] => true,
        [b' ', reason @ ..] => !reason.iter().any(is_control),
        _ => false,
    };
    if !code.iter().all(u8::is_ascii_digit) || status < 100 || !is_reason {
        return None;
    }

    let mut fields = fields(rest, limits.fields_max)?;
    let mut lengths = Vec::new();
    for value in values(&fields, "content-length") {
        lengths.push(decimal(value)?);
    }
    if lengths.iter().any(|length| *length != lengths[0]) {
        return None;
    }
    let is_chunked = match values(&fields, "transfer-encoding")[..] {
        [] => false,
        [one] if is(one, "chunked") && lengths.is_empty() && is_http11 => true,
        _ => return None,
    };

    let interim_or_empty = status < 200 || status == 204;
    let describes = !interim_or_empty && (method == "HEAD" || status == 304);
    let is_tunnel = status == 101 || (method == "CONNECT" && (200..300).contains(&status));
    let body = match lengths.first() {
        _ if interim_or_empty || describes || is_tunnel => BodyLength::Length(0),
        _ if is_chunked => BodyLength::Chunked,
        Some(length) => BodyLength::Length(*length),
        None => BodyLength::UntilClose,
    };
    let options = list(&fields, "connection");
    let has = |option: &str| options.iter().any(|o| is(o, option));
    let lies = interim_or_empty && (is_chunked || lengths.iter().any(|length| *length > 0));
    let keep_alive = !has("close")
        && (is_http11 || has("keep-alive"))
        && body != BodyLength::UntilClose
        && !is_tunnel
        && !lies;
    let upgrade = if status == 101 {
        Some(protocol(&fields)?)
    } else {
        None
    };
    let description = fields
        .iter()
        .find(|(name, _)| is(name, "content-length"))
        .cloned();
    // The order of fields of different names has no meaning; here it is kept all the same.
    let at = fields
        .iter()
        .position(|(name, _)| is(name, "content-length"))
        .unwrap_or(0);
    let before = fields[..at]
        .iter()
        .filter(|(name, _)| travels(name, &options))
        .count();
    strip(&mut fields, &options);
    if let Some(field) = description.filter(|(name, _)| describes && !nominated(name, &options)) {
        fields.insert(before, field);
    }
    Some(Response {
        status,
        is_http11,
        fields,
        body,
        keep_alive,
        upgrade,
    })
}

fn fields(lines: &[&[u8]], fields_max: usize) -> Option<Fields> {
    if lines.len() > fields_max {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = &line[..colon];
        let mut value = &line[colon + 1..];
        while let [b' ' | b'\t', rest @ ..] = value {
            value = rest;
        }
        while let [rest @ .., b' ' | b'\t'] = value {
            value = rest;
        }
        if !is_token(name) || value.iter().any(is_control) {
            return None;
        }
        fields.push((name.to_vec(), value.to_vec()));
    }
    Some(fields)
}

fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    let named = fields.iter().filter(|(n, _)| is(n, name));
    named.map(|(_, value)| &value[..]).collect()
}

fn list(fields: &Fields, name: &str) -> Vec<Vec<u8>> {
    let joined = values(fields, name).join(&b',');
    let elements = joined.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    elements
        .filter(|e| !e.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

fn protocol(fields: &Fields) -> Option<String> {
    let mut offered = list(fields, "upgrade")
        .into_iter()
        .filter(|p| !is(p, "h2c"));
    let is_protocol = |p: &Vec<u8>| match p.iter().position(|b| *b == b'/') {
        None => is_token(p),
        Some(slash) => is_token(&p[..slash]) && is_token(&p[slash + 1..]),
    };
    offered.find(is_protocol).map(|p| text(&p))
}

fn nominated(name: &[u8], options: &[Vec<u8>]) -> bool {
    let is_option = ["close", "keep-alive", "upgrade", "host"]
        .iter()
        .any(|o| is(name, o));
    !is_option && options.iter().any(|o| o.eq_ignore_ascii_case(name))
}

fn travels(name: &[u8], options: &[Vec<u8>]) -> bool {
    !is_of_this_hop(name) && !nominated(name, options)
}

fn strip(fields: &mut Fields, options: &[Vec<u8>]) {
    fields.retain(|(name, _)| travels(name, options));
}

/// What no message passes on as it came.
pub fn is_of_this_hop(name: &[u8]) -> bool {
    let names = [
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    names.iter().any(|n| is(name, n))
}

/// One chunk's size, and the length of its line.
fn chunk_line(bytes: &[u8]) -> Verdict<u64> {
    let Some(end) = bytes.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
        if bytes.len() >= CHUNK_LINE_BYTES_MAX {
            return Verdict::Refused;
        }
        return Verdict::Incomplete;
    };
    if end >= CHUNK_LINE_BYTES_MAX {
        return Verdict::Refused;
    }
    match &bytes[end..] {
        [b'\r'] => Verdict::Incomplete,
        [b'\r', b'\n', ..] => match chunk_size(&bytes[..end]) {
            Some(size) => Verdict::Complete(size, end + 2),
            None => Verdict::Refused,
        },
        _ => Verdict::Refused,
    }
}

/// The grammar of RFC 9112 section 7.1.1 without white space, as an automaton.
fn chunk_size(line: &[u8]) -> Option<u64> {
    #[derive(Clone, Copy)]
    enum At {
        Size(u32),
        NameStart,
        Name,
        ValueStart,
        Value,
        Quoted,
        Escaped,
        Unquoted,
    }
    let (mut at, mut size) = (At::Size(0), 0);
    for byte in line {
        let digit = char::from(*byte).to_digit(16);
        let is_token = is_token(&[*byte]);
        at = match (at, byte) {
            (At::Size(1..), b';') => At::NameStart,
            (At::Size(count @ ..15), _) => {
                size = size * 16 + u64::from(digit?);
                At::Size(count + 1)
            }
            (At::NameStart | At::Name, _) if is_token => At::Name,
            (At::Name | At::Value | At::Unquoted, b';') => At::NameStart,
            (At::Name, b'=') => At::ValueStart,
            (At::ValueStart | At::Value, _) if is_token => At::Value,
            (At::ValueStart, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Unquoted,
            (At::Quoted, b'\\') => At::Escaped,
            (At::Quoted | At::Escaped, _) if !is_control(byte) => At::Quoted,
            _ => return None,
        };
    }
    matches!(at, At::Size(1..) | At::Name | At::Value | At::Unquoted).then_some(size)
}

fn decimal(value: &[u8]) -> Option<u64> {
    let is_number = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| text(value).parse().expect("19 digits fit"))
}

fn is(bytes: &[u8], word: &str) -> bool {
    bytes.eq_ignore_ascii_case(word.as_bytes())
}

pub fn is_token(bytes: &[u8]) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || special.contains(b))
}

pub fn is_control(byte: &u8) -> bool {
    byte.is_ascii_control() && *byte != b'\t'
}

/// One character per byte: nothing here is compared with text beyond ASCII.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}
