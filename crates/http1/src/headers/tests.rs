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
    for (value, kept) in [
        ("a\r\nSet-Cookie: b\0", "a  Set-Cookie: b"),
        ("a\nb", "a b"),
        ("a\rb", "a b"),
        ("a\x0bb\x0cc\x7fd\x01e\x1f", "a b c d e"),
        ("tabs\tstay", "tabs\tstay"),
        ("  \t spaces around \t", "spaces around"),
        (" \t\r\n ", ""),
        ("", ""),
        ("caf\u{e9}", "caf\u{e9}"),
    ] {
        let mut headers = Headers::new();
        headers.append("X", value);
        assert_eq!(headers.get_str("x"), Some(kept), "{value:?}");
    }
}

#[test]
fn a_name_cannot_be_another_field() {
    for name in [
        "",
        " ",
        " X",
        "X ",
        "X:",
        "Transfer-Encoding ",
        "Transfer-Encoding: chunked\r\nX",
        "X\r\nY",
        "X\0",
        "X\tY",
        "X(Y)",
        "caf\u{e9}",
    ] {
        let mut headers = sample();
        headers.append(name, "chunked");
        assert_eq!(headers, sample(), "{name:?}");
    }
    let mut headers = Headers::new();
    headers.append("!#$%&'*+-.^_`|~09azAZ", "every token byte");
    assert_eq!(headers.len(), 1);
}

#[test]
fn fields_of_a_parsed_head_stand_beside_added_ones() {
    let head = b"GET / HTTP/1.1\r\nA: one\r\nB:\r\n\r\n";
    let mut headers = Headers::of_head(head, 2);
    headers.append_parsed(head, &head[16..17], &head[19..22]);
    headers.append_parsed(head, &head[24..25], &head[26..26]);
    headers.append_parsed(head, b"C", b"not part of the head\r\n");
    headers.append("D", "four");
    assert_eq!(
        headers.iter().collect::<Vec<_>>(),
        [
            (&b"A"[..], &b"one"[..]),
            (b"B", b""),
            (b"C", b"not part of the head"),
            (b"D", b"four")
        ]
    );
    headers.set("A", "five");
    assert_eq!(headers.get_str("a"), Some("five"));
    assert!(headers.remove("b") && !headers.contains("b"));
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
