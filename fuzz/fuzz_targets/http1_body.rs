//! Bodies. The first byte chooses how they are framed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith_fuzz::checks;
use trilith_http1::BodyLength;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let length = match first % 4 {
        0 | 1 => BodyLength::Chunked,
        2 => BodyLength::UntilClose,
        _ => BodyLength::Length(u64::from(*first)),
    };
    checks::body(length, rest);
});
