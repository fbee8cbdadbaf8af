use super::*;

#[test]
fn patterns_and_what_they_match() {
    for (pattern, matching, other) in [
        ("/", &["/"][..], &["/a"][..]),
        (
            "/about",
            &["/about"],
            &["/", "/about/", "/about/us", "/aboutx"],
        ),
        ("/a/", &["/a/"], &["/a", "/a/b"]),
        (
            "/assets/*",
            &["/assets", "/assets/", "/assets/a/b"],
            &["/assets2", "/asset", "/"],
        ),
        ("/*", &["/", "/a", "/a/b"], &[]),
    ] {
        let parsed: PathPattern = pattern.parse().unwrap();
        assert_eq!(parsed.to_string(), pattern);
        for path in matching {
            assert!(parsed.matches(path), "{pattern} {path}");
        }
        for path in other {
            assert!(!parsed.matches(path), "{pattern} {path}");
        }
    }
}

#[test]
fn what_is_not_a_pattern() {
    for pattern in [
        "", "*", "a", "assets/*", "/a*", "/*/b", "/a/*/", "/a/**", "//", "//*", "/a//*", "/a/../b",
        "/%41", "/a?b", "/a#b", "/a%2fb", "/a\\b",
    ] {
        assert!(pattern.parse::<PathPattern>().is_err(), "{pattern}");
    }
    assert_eq!(
        "/%41".parse::<PathPattern>().unwrap_err().to_string(),
        "`/%41` is not a path pattern: its normal form is `/A`; write `/exact`, `/prefix/*` or `/*`"
    );
}
