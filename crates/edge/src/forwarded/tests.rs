use std::rc::Rc;

use trilith_http::{ConnInfo, TlsInfo};

use super::*;

fn request(peer: &str, tls: bool, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::get("www.foobar.com", "/");
    let mut conn = ConnInfo::unknown();
    conn.remote = (peer.parse::<IpAddr>().unwrap(), 1).into();
    conn.tls = tls.then(TlsInfo::default);
    request.conn = Rc::new(conn);
    for (name, value) in headers {
        request.headers.append(name, value);
    }
    request
}

fn settled(request: &mut Request, trusted: &[&str]) -> Origin {
    let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
    settle(request, &trusted, || [0x0123_4567_89ab_cdef, u64::MAX])
}

fn fields(request: &Request) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    request
        .headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case(b"host"))
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

const ID: &str = "0123456789abcdefffffffffffffffff";

#[track_caller]
fn check(request: &Request, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    assert_eq!(fields(request), expected);
}

#[test]
fn a_stranger_is_told_about_not_believed() {
    let mut request = request(
        "192.0.2.7",
        false,
        &[
            ("x-forwarded-for", "10.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-FORWARDED-HOST", "evil.example"),
            ("X-Forwarded-Port", "1"),
            ("x-real-ip", "10.0.0.1"),
            ("Forwarded", "for=10.0.0.1"),
            ("X-Request-Id", "mine"),
            ("X-Forward", "kept"),
            ("Accept", "*/*"),
        ],
    );
    let origin = settled(&mut request, &[]);
    assert_eq!(origin.client.to_string(), "192.0.2.7");
    assert!(!origin.is_https);
    check(
        &request,
        &[
            ("X-Forward", "kept"),
            ("Accept", "*/*"),
            ("X-Forwarded-For", "192.0.2.7"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "www.foobar.com"),
            ("X-Request-Id", ID),
        ],
    );
    assert_eq!(request_id(&request.headers), ID);
}

#[test]
fn our_own_tls_is_https() {
    let mut request = request("2001:db8::1", true, &[]);
    assert!(settled(&mut request, &[]).is_https);
    assert_eq!(request.headers.get_str("X-Forwarded-Proto"), Some("https"));
    assert_eq!(
        request.headers.get_str("X-Forwarded-For"),
        Some("2001:db8::1")
    );
}

#[test]
fn a_mapped_address_is_an_ipv4_address() {
    let mut request = request("::ffff:192.0.2.7", false, &[]);
    assert_eq!(settled(&mut request, &[]).client.to_string(), "192.0.2.7");
}

#[test]
fn a_trusted_proxy_is_believed_and_added() {
    let mut request = request(
        "10.0.0.9",
        false,
        &[
            ("X-Forwarded-For", "203.0.113.5, 198.51.100.1"),
            ("X-Forwarded-For", "10.0.0.8"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "shop.example"),
            ("X-Request-Id", "abc-123"),
        ],
    );
    let origin = settled(&mut request, &["10.0.0.0/8"]);
    assert_eq!(
        origin.client.to_string(),
        "198.51.100.1",
        "right-most of the untrusted"
    );
    assert!(origin.is_https);
    check(
        &request,
        &[
            ("X-Forwarded-Host", "shop.example"),
            ("X-Request-Id", "abc-123"),
            (
                "X-Forwarded-For",
                "203.0.113.5, 198.51.100.1, 10.0.0.8, 10.0.0.9",
            ),
            ("X-Forwarded-Proto", "https"),
        ],
    );
}

#[test]
fn the_client_of_a_chain() {
    for (chain, client) in [
        ("", "10.0.0.9"),
        ("203.0.113.5", "203.0.113.5"),
        ("203.0.113.5:4711", "203.0.113.5"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("203.0.113.5, unknown", "10.0.0.9"),
        ("203.0.113.5, unknown, 10.2.2.2", "10.2.2.2"),
        ("1.2.3.4, 203.0.113.5, 10.2.2.2", "203.0.113.5"),
        (" 203.0.113.5 ,10.2.2.2", "203.0.113.5"),
    ] {
        let mut request = request("10.0.0.9", false, &[("X-Forwarded-For", chain)]);
        let origin = settled(&mut request, &["10.0.0.0/8"]);
        assert_eq!(origin.client.to_string(), client, "{chain:?}");
    }
}

#[test]
fn a_trusted_proxy_without_words_gets_ours() {
    for bad_id in ["", "with space", &"x".repeat(200)] {
        let mut request = request("10.0.0.9", false, &[("X-Request-Id", bad_id)]);
        settled(&mut request, &["10.0.0.9/32"]);
        check(
            &request,
            &[
                ("X-Forwarded-For", "10.0.0.9"),
                ("X-Forwarded-Proto", "http"),
                ("X-Forwarded-Host", "www.foobar.com"),
                ("X-Request-Id", ID),
            ],
        );
    }
}

#[test]
fn a_long_chain_is_read_from_the_right_only() {
    let chain = format!("203.0.113.5{}", ", 10.0.0.1".repeat(1_000));
    let mut request = request("10.0.0.9", false, &[("X-Forwarded-For", &chain)]);
    let origin = settled(&mut request, &["10.0.0.0/8"]);
    assert_eq!(origin.client.to_string(), "10.0.0.1");
}

#[test]
fn addresses_as_text() {
    for octet in 0..=255 {
        let ip = IpAddr::from([octet, 255 - octet, 0, octet / 3]);
        assert_eq!(IpText::new(ip).as_bytes(), ip.to_string().as_bytes());
    }
    for ip in [
        "::",
        "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
        "2001:db8::7",
    ] {
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!(IpText::new(ip).as_bytes(), ip.to_string().as_bytes());
    }
}
