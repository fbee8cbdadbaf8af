//! Response heads. The first byte chooses the method of the request they answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::checks;
use trilith_http1::Method;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let method = [Method::GET, Method::HEAD, Method::CONNECT][usize::from(*first) % 3].clone();
    checks::response_head(&method, rest);
});
