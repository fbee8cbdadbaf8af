use proptest::prelude::*;

use super::*;

fn routes<'a>(patterns: &[&'a str]) -> Vec<(PathPattern, &'a str)> {
    patterns.iter().map(|p| (p.parse().unwrap(), *p)).collect()
}

#[test]
fn exact_beats_longest_prefix_beats_everything() {
    let table = PathTable::new(routes(&["/*", "/a/*", "/a/b/*", "/a/b", "/a/b/c", "/d/"])).unwrap();
    for (path, route) in [
        ("/", "/*"),
        ("/x", "/*"),
        ("/a", "/a/*"),
        ("/a/", "/a/*"),
        ("/ab", "/*"),
        ("/a/c", "/a/*"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/*"),
        ("/a/b/d", "/a/b/*"),
        ("/a/b/c", "/a/b/c"),
        ("/a/b/c/d", "/a/b/*"),
        ("/d", "/*"),
        ("/d/", "/d/"),
    ] {
        assert_eq!(table.get(path).map(|(_, _, v)| *v), Some(route), "{path}");
    }
    assert_eq!(table.get("/a/b").map(|(position, _, _)| position), Some(3));
    assert!(
        PathTable::new(routes(&["/a/*"]))
            .unwrap()
            .get("/b")
            .is_none()
    );
}

#[test]
fn hosts() {
    let mut builder = Router::builder();
    let one = builder.site(routes(&["/*"]));
    let two = builder.site(routes(&["/x"]));
    builder
        .host("www.Foobar.com", one)
        .host("foobar.com", one)
        .host("[::1]", two)
        .host("b.org", two);
    let router = builder.clone_for_test().build().unwrap();
    for (host, site) in [
        ("www.foobar.com", Some(one)),
        ("WWW.FOOBAR.COM:8080", Some(one)),
        ("foobar.com.", Some(one)),
        ("foobar.com.:80", Some(one)),
        ("[::1]:8443", Some(two)),
        ("[::1]", Some(two)),
        ("b.org", Some(two)),
        ("a.b.org", None),
        ("", None),
        ("[::2]", None),
        ("foobar.com..", None),
    ] {
        assert_eq!(router.site(host), site, "{host}");
    }
    assert!(router.find("b.org", "/y").is_none());
    let found = router.find("b.org", "/x").unwrap();
    assert_eq!((found.site, found.route, *found.value), (two, 0, "/x"));

    builder.default_site(two);
    let router = builder.build().unwrap();
    assert_eq!(router.site("unknown"), Some(two));
    assert_eq!(router.site("foobar.com"), Some(one));
}

#[test]
fn what_is_named_twice() {
    let mut builder = Router::builder();
    let site = builder.site(routes(&["/*"]));
    builder.host("a.org", site).host("A.org", site);
    assert_eq!(
        builder.build().unwrap_err(),
        RouterError::DuplicateHost("a.org".into())
    );

    let error = PathTable::new(routes(&["/a", "/a/*", "/a/*"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the path `/a/*` is routed twice in one site; remove one of the routes"
    );
}

impl<T: Clone> RouterBuilder<T> {
    fn clone_for_test(&self) -> Self {
        Self {
            hosts: self.hosts.clone(),
            default_site: self.default_site,
            sites: self.sites.clone(),
        }
    }
}

proptest! {
    /// The table agrees with the definition, applied naively.
    #[test]
    fn the_best_pattern_wins(
        patterns in prop::collection::btree_set("(/[ab]){0,3}/(\\*|[ab])", 1..8),
        path in "(/[ab]){1,4}/?",
    ) {
        let patterns: Vec<PathPattern> = patterns.iter().map(|p| p.parse().unwrap()).collect();
        let table = PathTable::new(patterns.iter().map(|p| (p.clone(), ()))).unwrap();
        let best = patterns.iter().filter(|p| p.matches(&path)).max_by_key(|p| match p {
            PathPattern::Exact(_) => usize::MAX,
            PathPattern::Prefix(prefix) => prefix.len(),
        });
        prop_assert_eq!(table.get(&path).map(|(_, pattern, _)| pattern), best);
    }
}
