//! Input: the first letter of the request's method (H, C; any other is GET), then a response head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::http1;
use trilith_http1::Method;

fuzz_target!(|bytes: &[u8]| {
    let Some((method, head)) = bytes.split_first() else {
        return;
    };
    let method = match method {
        b'H' => Method::HEAD,
        b'C' => Method::CONNECT,
        _ => Method::GET,
    };
    http1::response_head(&method, head);
});
