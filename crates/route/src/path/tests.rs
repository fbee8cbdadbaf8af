use proptest::prelude::*;

use super::*;

#[test]
fn normal_forms() {
    for (raw, normal) in [
        ("/", "/"),
        ("/a/b.css", "/a/b.css"),
        ("/a/", "/a/"),
        ("/a//b", "/a/b"),
        ("//a", "/a"),
        ("///", "/"),
        ("/a//", "/a/"),
        ("/.", "/"),
        ("/./a", "/a"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/../b", "/b"),
        ("/a/./b/../../c", "/c"),
        ("/a//../b", "/b"),
        ("/%2e/a", "/a"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e", "/"),
        ("/...", "/..."),
        ("/..a", "/..a"),
        ("/.well-known/x", "/.well-known/x"),
        ("/%41%62", "/Ab"),
        ("/a%20b", "/a b"),
        ("/gr%C3%BC%c3%9Fe", "/grüße"),
        ("/grüße", "/grüße"),
        ("/a%3Fb%23c", "/a?b#c"),
        ("/100%25", "/100%25"),
        ("/%2525", "/%2525"),
        ("/%252e%252e/a", "/%252e%252e/a"),
        ("/%ff%fe", "/%FF%FE"),
        ("/%C3/%BC", "/%C3/%BC"),
        ("/%c3%28", "/%C3("),
        // Not UTF-8 in any decoder that follows RFC 3629: an overlong slash, an overlong dot.
        ("/%c0%af", "/%C0%AF"),
        ("/%c0%ae%c0%ae/a", "/%C0%AE%C0%AE/a"),
    ] {
        assert_eq!(normalise_path(raw).as_deref(), Ok(normal), "{raw}");
    }
}

#[test]
fn refusals() {
    use PathError::*;
    for (raw, error) in [
        ("", NotAbsolute),
        ("*", NotAbsolute),
        ("a/b", NotAbsolute),
        ("http://a/", NotAbsolute),
        ("/%", InvalidEncoding),
        ("/%4", InvalidEncoding),
        ("/%4g", InvalidEncoding),
        ("/%%41", InvalidEncoding),
        ("/%+1", InvalidEncoding),
        ("/a%u0041", InvalidEncoding),
        ("/%00", ControlByte),
        ("/a%0d%0aSet-Cookie:x", ControlByte),
        ("/%7F", ControlByte),
        ("/a\u{1}", ControlByte),
        ("/a%2fb", EncodedSlash),
        ("/a%2F..", EncodedSlash),
        ("/a\\b", Backslash),
        ("/a%5c..", Backslash),
        ("/..", AboveRoot),
        ("/../a", AboveRoot),
        ("/a/../..", AboveRoot),
        ("/a/../../b", AboveRoot),
        ("/%2e%2e/etc/passwd", AboveRoot),
        ("/./..", AboveRoot),
        ("//..", AboveRoot),
    ] {
        assert_eq!(normalise_path(raw), Err(error), "{raw}");
    }
}

#[test]
fn a_normal_path_is_borrowed() {
    for path in [
        "/",
        "/assets/app.css",
        "/.well-known/a",
        "/a/..b/.c",
        "/100%25",
        "/é",
    ] {
        assert!(
            matches!(normalise_path(path), Ok(Cow::Borrowed(_))),
            "{path}"
        );
    }
}

#[test]
fn file_names() {
    for (normal, bytes) in [
        ("/a b", &b"/a b"[..]),
        ("/100%25", b"/100%"),
        ("/%2541", b"/%41"),
        ("/%FF", b"/\xff"),
    ] {
        assert_eq!(&*decode_path(normal), bytes, "{normal}");
    }
}

#[test]
fn encoded_paths() {
    for (normal, encoded) in [
        ("/a/b.css", "/a/b.css"),
        ("/a b", "/a%20b"),
        ("/a?b#c", "/a%3Fb%23c"),
        ("/100%25", "/100%25"),
        ("/ü", "/%C3%BC"),
        ("/\"<>", "/%22%3C%3E"),
    ] {
        assert_eq!(encode_path(normal), encoded);
    }
}

#[test]
fn what_is_sent_on() {
    for (raw, sent) in [
        ("/a", "/a"),
        ("/a%20b", "/a%20b"),
        ("/a//b", "/a//b"),
        ("/.well-known", "/.well-known"),
        ("/a/../b c", "/b%20c"),
        ("/a/%2e/b", "/a/b"),
        ("/a/b/.%2E/", "/a/"),
    ] {
        let normal = normalise_path(raw).unwrap();
        assert_eq!(forward_path(raw, &normal), sent, "{raw}");
    }
}

#[test]
fn prefixes() {
    for (path, prefix, rest) in [
        ("/api/v1", "/api", Some("/v1")),
        ("/api/v1", "/api/", Some("/v1")),
        ("/api", "/api", Some("/")),
        ("/api/", "/api", Some("/")),
        ("/apis", "/api", None),
        ("/x", "/", Some("/x")),
        ("/x", "", Some("/x")),
        ("/", "/", Some("/")),
    ] {
        assert_eq!(strip_prefix(path, prefix), rest, "{path} {prefix}");
    }
}

/// Paths made of the pieces that matter.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z]{1,3}",
        4 => Just("/".to_owned()),
        2 => Just(".".to_owned()),
        2 => Just("..".to_owned()),
        1 => Just("//".to_owned()),
        2 => Just("%2e".to_owned()),
        1 => Just("%2F".to_owned()),
        1 => Just("%25".to_owned()),
        2 => "%[0-9a-fA-F]{2}",
        1 => "%.{0,2}",
        1 => "\\PC",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn normal_paths_are_safe_and_stable(raw in prop_oneof![paths(), any::<String>()]) {
        if let Ok(normal) = normalise_path(&raw) {
            prop_assert!(normal.starts_with('/'));
            prop_assert!(!normal.contains("//") && !normal.contains('\\'));
            prop_assert!(!normal.bytes().any(|b| b < 0x20 || b == 0x7f));
            prop_assert!(!normal.split('/').any(|s| s == "." || s == ".."));
            let again = normalise_path(&normal);
            prop_assert_eq!(again.as_deref(), Ok(&*normal));
            // The wire form means the same path, and is nothing but ASCII.
            let wire = encode_path(&normal);
            prop_assert!(wire.is_ascii());
            let back = normalise_path(&wire);
            prop_assert_eq!(back.as_deref(), Ok(&*normal));
            // What is sent on is matched the same way by the next server.
            let sent = forward_path(&raw, &normal);
            let matched = normalise_path(&sent);
            prop_assert_eq!(matched.as_deref(), Ok(&*normal));
            prop_assert!(!has_dot_segment(sent.as_bytes()));
            let file = decode_path(&normal);
            prop_assert!(!file.contains(&0) && !file.split(|b| *b == b'/').any(|s| s == b".."));
        }
    }
}
