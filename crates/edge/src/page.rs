//! Responses that the edge makes itself.

use trilith_http::{Request, Response, StatusCode};

use crate::limits::RETRY_AFTER_S;

/// An error in words: HTML for browsers, a line of text for everybody else.
pub(crate) fn error(status: StatusCode, request: &Request, request_id: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or("Error");
    let wants_html = request
        .headers
        .get("accept")
        .is_some_and(|accept| contains(accept, b"text/html"));
    let code = status.as_str();
    if wants_html {
        let body = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{code} {reason}</title>\n\
             <style>body{{font:1em/1.5 system-ui,sans-serif;max-width:34em;\
             margin:20vh auto;padding:0 1em}}p{{color:#666}}</style>\n\
             <h1>{code} {reason}</h1>\n<p>{}</p>\n<p><small>{}</small></p>\n",
            advice(status),
            escape(request_id),
        );
        Response::with_body(status, "text/html; charset=utf-8", body)
    } else {
        Response::text(status, format!("{code} {reason}: {}\n", advice(status)))
    }
}

/// Fields and framing that an error needs whatever its page looks like.
pub(crate) fn finish_error(mut response: Response) -> Response {
    match response.status {
        StatusCode::SERVICE_UNAVAILABLE => response.headers.set("Retry-After", RETRY_AFTER_S),
        StatusCode::METHOD_NOT_ALLOWED => response
            .headers
            .set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        // The rest of the body is not wanted, and where it ends is not known.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => response.close = true,
        _ => {}
    }
    response.headers.set("Cache-Control", "no-store");
    response
}

pub(crate) fn redirect(status: StatusCode, location: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or("Redirect");
    let text = format!("{} {reason}: {location}\n", status.as_str());
    Response::text(status, text).header("Location", location)
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "the request is malformed.",
        StatusCode::NOT_FOUND => "there is nothing here.",
        StatusCode::METHOD_NOT_ALLOWED => "this method is not served here.",
        StatusCode::REQUEST_TIMEOUT => "the request did not arrive in time.",
        StatusCode::PAYLOAD_TOO_LARGE => "the request is larger than this site accepts.",
        StatusCode::MISDIRECTED_REQUEST => {
            "this connection was made for another site; please make a new one."
        }
        StatusCode::BAD_GATEWAY => "the server behind this one failed. Please try again.",
        StatusCode::SERVICE_UNAVAILABLE => "no server is free at the moment. Please try again.",
        StatusCode::GATEWAY_TIMEOUT => "the server behind this one took too long.",
        _ => "the request was not served.",
    }
}

/// Request ids of trusted proxies may hold any visible character.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}
