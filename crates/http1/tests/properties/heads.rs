//! Request and response heads: the codec agrees with the reference on every input, whatever the
//! split of the bytes over reads, and what it writes anew it reads as the same.

use proptest::prelude::*;
use trilith_http1::Method;

use crate::config;
use crate::{checks, generate};

fn methods() -> impl Strategy<Value = Method> {
    prop_oneof![4 => Just(Method::GET), 2 => Just(Method::HEAD), 1 => Just(Method::CONNECT)]
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn any_bytes_as_a_request(bytes in generate::any_bytes()) {
        checks::request_head(&bytes);
    }

    #[test]
    fn valid_requests(bytes in generate::valid_request()) {
        checks::request_head(&bytes);
    }

    #[test]
    fn odd_requests(bytes in generate::odd_request()) {
        checks::request_head(&bytes);
    }

    #[test]
    fn damaged_requests(bytes in generate::damaged(generate::valid_request())) {
        checks::request_head(&bytes);
    }

    #[test]
    fn any_bytes_as_a_response(bytes in generate::any_bytes(), method in methods()) {
        checks::response_head(&method, &bytes);
    }

    #[test]
    fn valid_responses(bytes in generate::valid_response(), method in methods()) {
        checks::response_head(&method, &bytes);
    }

    #[test]
    fn odd_responses(bytes in generate::odd_response(), method in methods()) {
        checks::response_head(&method, &bytes);
    }

    #[test]
    fn damaged_responses(
        bytes in generate::damaged(generate::valid_response()),
        method in methods(),
    ) {
        checks::response_head(&method, &bytes);
    }

    #[test]
    fn long_heads(kind in 0..3, len in 32_000usize..33_500) {
        // Around the limits of a head and, in the first line, of a target.
        let pad = |before: &str, after: &str| {
            let filler = "x".repeat(len.saturating_sub(before.len() + after.len()));
            format!("{before}{filler}{after}")
        };
        let end = " HTTP/1.1\r\nHost: a\r\n\r\n";
        let bytes = match kind {
            0 => pad("GET /", end),
            1 => pad("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n"),
            _ => pad(&format!("GET /{}", "y".repeat(len - 25_000)), end),
        };
        checks::request_head(bytes.as_bytes());
    }
}

/// The generators above must not miss their aim.
#[test]
fn valid_means_accepted() {
    use crate::checks::reference::{self, Verdict};
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let limits = Default::default();
    let accepted = (0..500)
        .filter(|_| {
            let bytes = generate::valid_request()
                .new_tree(&mut runner)
                .unwrap()
                .current();
            matches!(reference::request(&bytes, &limits), Verdict::Complete(..))
        })
        .count();
    assert!(accepted > 400, "{accepted} of 500");
    let accepted = (0..500)
        .filter(|_| {
            let bytes = generate::odd_request()
                .new_tree(&mut runner)
                .unwrap()
                .current();
            matches!(reference::request(&bytes, &limits), Verdict::Complete(..))
        })
        .count();
    assert!((20..480).contains(&accepted), "{accepted} of 500");
}
