use super::*;

const MODIFIED: u64 = 1_700_000_000;
const SAME: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
const AFTER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";
const SAME_RFC850: &str = "Tuesday, 14-Nov-23 22:13:20 GMT";
const SAME_ASCTIME: &str = "Tue Nov 14 22:13:20 2023";

const WHOLE: Verdict = Verdict::Serve { range: false };
const RANGE: Verdict = Verdict::Serve { range: true };

/// `fields` is one field per line.
fn check(method: Method, fields: &str, verdict: Verdict) {
    let mut headers = Headers::new();
    headers.append("Host", "www.foobar.com");
    headers.append("Accept", "*/*");
    for line in fields.lines() {
        let (name, value) = line.trim().split_once(": ").unwrap();
        headers.append(name, value);
    }
    let file = Validators {
        etag: "\"a,b\"",
        modified_s: MODIFIED,
    };
    assert_eq!(
        evaluate(&method, &headers, file),
        verdict,
        "{method} {fields}"
    );
}

#[test]
fn the_order_of_rfc_9110_section_13_2_2() {
    use Verdict::{Failed, NotModified};
    for (fields, verdict) in [
        ("", WHOLE),
        ("Range: bytes=0-1", RANGE),
        // If-Match: strong comparison.
        ("If-Match: \"a,b\"", WHOLE),
        ("If-Match: *", WHOLE),
        ("if-match: \"x\", \"a,b\"", WHOLE),
        ("If-Match: \"x\"\nIf-Match: \"a,b\"", WHOLE),
        ("If-Match: W/\"a,b\"", Failed),
        ("If-Match: \"x\"", Failed),
        ("If-Match: \"a\", b\"", Failed),
        ("If-Match: a,b", Failed),
        // It makes If-Unmodified-Since moot.
        (
            &format!("If-Match: \"a,b\"\nIf-Unmodified-Since: {BEFORE}"),
            WHOLE,
        ),
        (
            &format!("If-Match: \"x\"\nIf-Unmodified-Since: {SAME}"),
            Failed,
        ),
        (&format!("If-Unmodified-Since: {SAME}"), WHOLE),
        (&format!("If-Unmodified-Since: {AFTER}"), WHOLE),
        (&format!("If-Unmodified-Since: {BEFORE}"), Failed),
        ("If-Unmodified-Since: yesterday", WHOLE),
        (
            &format!("If-Unmodified-Since: {BEFORE}\nIf-Unmodified-Since: {BEFORE}"),
            WHOLE,
        ),
        // If-None-Match: weak comparison.
        ("If-None-Match: \"a,b\"", NotModified),
        ("If-None-Match: W/\"a,b\"", NotModified),
        ("If-None-Match: \"x\", W/\"a,b\"", NotModified),
        ("If-None-Match: \"x\",,\t\"a,b\"", NotModified),
        ("If-None-Match: \"x\"\nIf-None-Match: \"a,b\"", NotModified),
        ("If-None-Match: *", NotModified),
        ("If-None-Match: \"x\"", WHOLE),
        ("If-None-Match: \"a\", b\"", WHOLE),
        ("If-None-Match: w/\"a,b\"", WHOLE),
        ("If-None-Match: \"a,b", WHOLE),
        ("If-None-Match: \"\"", WHOLE),
        // It makes If-Modified-Since moot.
        (
            &format!("If-None-Match: \"x\"\nIf-Modified-Since: {SAME}"),
            WHOLE,
        ),
        (
            &format!("If-None-Match: \"a,b\"\nIf-Modified-Since: {BEFORE}"),
            NotModified,
        ),
        (&format!("If-Modified-Since: {SAME}"), NotModified),
        (&format!("If-Modified-Since: {SAME_RFC850}"), NotModified),
        (&format!("If-Modified-Since: {SAME_ASCTIME}"), NotModified),
        (&format!("If-Modified-Since: {AFTER}"), NotModified),
        (&format!("If-Modified-Since: {BEFORE}"), WHOLE),
        ("If-Modified-Since: 0", WHOLE),
        // Preconditions come before ranges.
        ("If-None-Match: \"a,b\"\nRange: bytes=0-1", NotModified),
        ("If-Match: \"x\"\nRange: bytes=0-1", Failed),
        ("If-Match: \"a,b\"\nIf-None-Match: \"a,b\"", NotModified),
        (
            &format!("If-Unmodified-Since: {BEFORE}\nIf-None-Match: \"a,b\""),
            Failed,
        ),
        // If-Range: strong comparison, or the very date.
        ("If-Range: \"a,b\"\nRange: bytes=0-1", RANGE),
        ("If-Range: \"x\"\nRange: bytes=0-1", WHOLE),
        ("If-Range: W/\"a,b\"\nRange: bytes=0-1", WHOLE),
        ("If-Range: \"x\", \"a,b\"\nRange: bytes=0-1", WHOLE),
        (
            "If-Range: \"a,b\"\nIf-Range: \"a,b\"\nRange: bytes=0-1",
            WHOLE,
        ),
        (&format!("If-Range: {SAME}\nRange: bytes=0-1"), RANGE),
        (&format!("If-Range: {AFTER}\nRange: bytes=0-1"), WHOLE),
        (&format!("If-Range: {BEFORE}\nRange: bytes=0-1"), WHOLE),
        ("If-Range: garbage\nRange: bytes=0-1", WHOLE),
        ("If-Range: \"a,b\"", WHOLE),
        // Names of the same length are other fields.
        ("Xf-Match: \"x\"\nIf-Munch: \"x\"\nRanga: bytes=0-1", WHOLE),
    ] {
        check(Method::GET, fields, verdict);
        // Ranges are for GET alone (RFC 9110 section 14.2).
        let for_head = if verdict == RANGE { WHOLE } else { verdict };
        check(Method::HEAD, fields, for_head);
    }
}

#[test]
fn dates_never_panic() {
    assert_eq!(http_date(MODIFIED), SAME);
    assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(http_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
}
