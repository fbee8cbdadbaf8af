//! Responses for files: fields, preconditions, ranges, parts.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use trilith_http::{Body, Headers, Request, Response, StatusCode};
use trilith_route::encode_path;

use super::Refusal;
use super::conditional::{self, Validators, Verdict};
use super::range::{self, Selection};
use super::root::Identity;
use super::stream::Segment;

/// What is known of a file besides its bytes.
#[derive(Debug)]
pub struct Meta {
    pub identity: Identity,
    pub content_type: &'static str,
    etag: String,
    modified_s: u64,
    /// Those of a 200, so that serving from memory copies instead of formatting.
    headers: Headers,
}

impl Meta {
    pub fn new(
        identity: Identity,
        content_type: &'static str,
        cache_control: Option<&str>,
    ) -> Self {
        // Without the inode number: servers with the same release agree on the tag.
        let etag = format!("\"{:x}-{:x}\"", identity.size, identity.modified_ns);
        let modified_s = identity.modified_ns / 1_000_000_000;
        let mut meta = Self {
            identity,
            content_type,
            etag,
            modified_s,
            headers: Headers::new(),
        };
        let mut headers = Headers::with_capacity(6, 256);
        headers.append("Content-Type", content_type);
        meta.append_validators(&mut headers);
        headers.append("Accept-Ranges", "bytes");
        headers.append("X-Content-Type-Options", "nosniff");
        if let Some(value) = cache_control {
            headers.append("Cache-Control", value);
        }
        meta.headers = headers;
        meta
    }

    fn append_validators(&self, headers: &mut Headers) {
        headers.append("ETag", &self.etag);
        headers.append("Last-Modified", conditional::http_date(self.modified_s));
    }

    /// 304: what the client's stored response must be updated with (RFC 9110 section 15.4.5).
    fn not_modified(&self) -> Response {
        let mut response = Response::new(StatusCode::NOT_MODIFIED);
        for name in ["ETag", "Last-Modified", "Cache-Control"] {
            if let Some(value) = self.headers.get(name) {
                response.headers.append(name, value);
            }
        }
        response
    }
}

/// Applies preconditions and ranges. `body` makes the body of all or of the given segments.
pub fn respond(
    meta: &Meta,
    request: &Request,
    body: impl FnOnce(Option<Vec<Segment>>) -> Body,
) -> Result<Response, Refusal> {
    let validators = Validators {
        etag: &meta.etag,
        modified_s: meta.modified_s,
    };
    let verdict = conditional::evaluate(&request.method, &request.headers, validators);
    let selection = match verdict {
        Verdict::NotModified => return Ok(meta.not_modified()),
        Verdict::Failed => return Err(Refusal::Status(StatusCode::PRECONDITION_FAILED)),
        Verdict::Serve { range: false } => Selection::Whole,
        Verdict::Serve { range: true } => select(&request.headers, meta.identity.size),
    };
    let parts = match selection {
        Selection::Unsatisfiable => return Err(Refusal::Range(meta.identity.size)),
        Selection::Parts(parts) => parts,
        Selection::Whole => {
            let mut response = Response::new(StatusCode::OK);
            response.headers = meta.headers.clone();
            response.body = body(None);
            return Ok(response);
        }
    };
    let mut response = Response::new(StatusCode::PARTIAL_CONTENT);
    response.headers = meta.headers.clone();
    let segments = match parts.as_slice() {
        [part] => {
            response
                .headers
                .append("Content-Range", content_range(part, meta.identity.size));
            vec![Segment::File(part.clone())]
        }
        parts => {
            let boundary = boundary();
            let content_type = format!("multipart/byteranges; boundary={boundary}");
            response.headers.set("Content-Type", content_type);
            multipart(parts, &boundary, meta)
        }
    };
    response.body = body(Some(segments));
    Ok(response)
}

/// RFC 9110 section 14.2: one `Range` field; several are not valid.
fn select(headers: &Headers, size: u64) -> Selection {
    let mut fields = headers.get_all("range");
    match (fields.next(), fields.next()) {
        (Some(field), None) => range::select(field, size),
        _ => Selection::Whole,
    }
}

fn content_range(part: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start, part.end - 1)
}

/// RFC 9110 section 14.6.
fn multipart(parts: &[Range<u64>], boundary: &str, meta: &Meta) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(parts.len() * 2 + 1);
    for (i, part) in parts.iter().enumerate() {
        let head = format!(
            "{before}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n",
            before = if i == 0 { "" } else { "\r\n" },
            content_type = meta.content_type,
            range = content_range(part, meta.identity.size),
        );
        segments.push(Segment::Bytes(head.into()));
        segments.push(Segment::File(part.clone()));
    }
    segments.push(Segment::Bytes(format!("\r\n--{boundary}--\r\n").into()));
    segments
}

/// Something that no file can contain on purpose: drawn anew for each response.
fn boundary() -> String {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let number = DRAWN.fetch_add(1, Relaxed);
    let random = RandomState::new();
    format!(
        "{:016x}{:016x}",
        random.hash_one(number),
        random.hash_one(!number)
    )
}

pub fn memory_body(file: &Bytes, selected: Option<Vec<Segment>>) -> Body {
    let Some(segments) = selected else {
        return Body::full(file.clone());
    };
    let piece = |range: &Range<u64>| range.start as usize..range.end as usize;
    if let [Segment::File(range)] = segments.as_slice() {
        return Body::full(file.slice(piece(range)));
    }
    let mut body = BytesMut::new();
    for segment in &segments {
        match segment {
            Segment::Bytes(bytes) => body.extend_from_slice(bytes),
            Segment::File(range) => body.extend_from_slice(&file[piece(range)]),
        }
    }
    Body::full(body.freeze())
}

/// A folder's URL ends with a slash, else relative links in its index lead astray. From the normal
/// path: the one sent may begin with `//`, which would name another host.
pub fn redirect_to_folder(public_path: &str, request: &Request) -> Response {
    let mut location = encode_path(public_path).into_owned();
    location.push('/');
    if let Some(query) = request.target.query() {
        location.push('?');
        location.push_str(query);
    }
    Response::text(
        StatusCode::MOVED_PERMANENTLY,
        "The folder's address ends with a slash.\n",
    )
    .header("Location", location)
}
