//! Properties of the codec as functions of any bytes: called by the property tests with generated
//! input, and by the fuzz targets in `fuzz/`. Each panics where its property does not hold.

mod bodies;
mod encoded;
mod heads;
pub mod reference;
mod streams;

use trilith_http1::{HeadLimits, Headers};

pub use bodies::{body, rechunked};
pub use encoded::{Made, encoded_request, encoded_response};
pub use heads::{request_head, response_head};
pub use streams::{split_requests, split_responses};

use reference::Fields;

/// Heads that were accepted within the default limits can grow when they are written again.
const WIDE: HeadLimits = HeadLimits {
    head_bytes_max: 1 << 20,
    fields_max: 200,
    target_bytes_max: 1 << 20,
};

/// Byte by byte, and in two larger steps that depend on the input.
fn steps(bytes: &[u8]) -> [usize; 3] {
    let sum: usize = bytes.iter().map(|b| usize::from(*b)).sum();
    [1, 2 + sum % 15, 17 + sum % 1000]
}

fn to_fields(headers: &Headers) -> Fields {
    headers
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

fn to_headers(fields: &[(Vec<u8>, Vec<u8>)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name, value);
    }
    headers
}

fn is_bytes(name: &[u8], word: &str) -> bool {
    name.eq_ignore_ascii_case(word.as_bytes())
}
