//! Answers that need neither a file nor an app.

use trilith_http::{Response, StatusCode};

use crate::snapshot::Redirect;

/// The page for an error where the site has none of its own. Says what HTTP says, nothing of what
/// is behind.
pub fn plain_error(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or("Error");
    let hint = match status {
        StatusCode::NOT_FOUND => "<p>There is nothing at this address.</p>\n",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            "<p>Please try again in a moment.</p>\n"
        }
        _ => "",
    };
    let code = status.as_u16();
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>{code} {reason}</title>\n<h1>{code} {reason}</h1>\n{hint}</html>\n"
    );
    error_with(status, "text/html; charset=utf-8", page)
}

/// An error with a given page.
pub fn error_with(
    status: StatusCode,
    content_type: &str,
    page: impl Into<bytes::Bytes>,
) -> Response {
    let mut response = Response::with_body(status, content_type, page);
    response.headers.append("X-Content-Type-Options", "nosniff");
    if status.is_server_error() {
        // What is broken now works in a moment.
        response.headers.append("Cache-Control", "no-store");
    }
    response
}

/// `path` in its wire form.
pub fn redirect(redirect: &Redirect, path: &str, query: Option<&str>) -> Response {
    let location = redirect.location(path, query);
    let reason = redirect.status.canonical_reason().unwrap_or("Redirect");
    Response::text(redirect.status, format!("{reason}\n")).header("Location", location)
}
