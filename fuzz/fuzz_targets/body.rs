//! Input: `c` and a chunked body, `u` and a body ended by the connection, or any other byte, a body
//! of as many bytes, and what follows it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::http1;
use trilith_http1::BodyLength;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let length = match kind {
        b'c' => BodyLength::Chunked,
        b'u' => BodyLength::UntilClose,
        length => BodyLength::Length(u64::from(*length)),
    };
    http1::body(length, body);
});
