use super::*;

#[test]
fn host_names_are_lower_cased() {
    assert_eq!(
        HostName::new("WWW.Example.com").unwrap().as_str(),
        "www.example.com"
    );
    for good in ["localhost", "127.0.0.1", "xn--bcher-kva.example", "a-b.c"] {
        assert!(HostName::new(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "http://x.y",
        "x/y",
        "*.x",
        "x:80",
        "x.",
        "ü.de",
        "-a.b",
        "a..b",
        "a_b",
        "[::1]",
    ] {
        assert!(HostName::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn patterns_are_exact_or_prefixes() {
    assert_eq!(PathPattern::new("/"), Ok(PathPattern::Exact("/".into())));
    assert_eq!(PathPattern::new("/a"), Ok(PathPattern::Exact("/a".into())));
    assert_eq!(
        PathPattern::new("/*"),
        Ok(PathPattern::Prefix(String::new()))
    );
    assert_eq!(
        PathPattern::new("/a/b/*"),
        Ok(PathPattern::Prefix("/a/b".into()))
    );
    assert_eq!(
        PathPattern::new("/.well-known/*").unwrap().to_string(),
        "/.well-known/*"
    );
    for bad in [
        "", "*", "a", "/a*", "/*/b", "/a/*/b/*", "/a?b", "/a#b", "/%41", "/a//b", "//*", "/a/../b",
        "/./a", "/a\\b", "/a\n",
    ] {
        assert!(PathPattern::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn suggestions_are_what_was_meant() {
    let help = |text: &str| PathPattern::new(text).unwrap_err().help.unwrap();
    assert_eq!(help("assets/*"), "write \"/assets/*\"");
    assert_eq!(help("/assets*"), "write \"/assets/*\"");
    assert_eq!(help("https://example.com/a/*"), "write \"/a/*\"");
}

#[test]
fn code_paths_stay_inside() {
    for good in [".", "public", "public/assets", "a..b", "./x"] {
        assert!(CodePath::new(good).is_ok(), "{good}");
    }
    for bad in ["", "/etc", "..", "a/../../b", "a\0"] {
        assert!(CodePath::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_are_plain() {
    assert!(AppName::new("web").is_ok());
    assert!(AppName::new("Web_2-x").is_ok());
    for bad in ["", "a b", "ü", &"a".repeat(64)] {
        assert!(AppName::new(bad).is_err(), "{bad}");
        assert!(UpstreamName::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn only_redirects_redirect() {
    assert_eq!(
        RedirectStatus::from_code(308),
        Some(RedirectStatus::PermanentRedirect)
    );
    for code in [200, 300, 304, 305, 306, 309, 404] {
        assert_eq!(RedirectStatus::from_code(code), None);
    }
}
