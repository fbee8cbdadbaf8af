use super::*;

fn sample() -> Headers {
    let mut headers = Headers::new();
    headers.append("Host", "www.foobar.com");
    headers.append("X-Thing", "one");
    headers.append("x-thing", "two");
    headers
}

#[test]
fn finds_without_regard_to_case_and_keeps_order() {
    let headers = sample();
    assert_eq!(headers.get_str("hOST"), Some("www.foobar.com"));
    assert_eq!(
        headers.get_all("X-THING").collect::<Vec<_>>(),
        [b"one", b"two"]
    );
    assert!(!headers.contains("missing"));
}

#[test]
fn set_replaces_all_and_remove_tells() {
    let mut headers = sample();
    headers.set("X-Thing", "three");
    assert_eq!(headers.get_all("x-thing").collect::<Vec<_>>(), [b"three"]);
    assert!(headers.remove("X-THING"));
    assert!(!headers.remove("X-THING"));
    assert_eq!(headers.len(), 1);
}

#[test]
fn a_value_cannot_end_its_line() {
    let mut headers = Headers::new();
    headers.append("X", "a\r\nSet-Cookie: b\0");
    assert_eq!(headers.get("x"), Some(&b"a  Set-Cookie: b "[..]));
}

#[test]
fn lists_are_read_by_token() {
    let mut headers = Headers::new();
    headers.append("Connection", "keep-alive ,, Upgrade");
    headers.append("Connection", "X-Other");
    assert!(headers.has_token("connection", "upgrade"));
    assert!(headers.has_token("connection", "x-other"));
    assert!(!headers.has_token("connection", "other"));
}

#[test]
fn retain_sees_names_and_values() {
    let mut headers = sample();
    headers.retain(|name, value| name != b"Host" && value != b"two");
    assert_eq!(
        headers.iter().collect::<Vec<_>>(),
        [(&b"X-Thing"[..], &b"one"[..])]
    );
}
