//! Bodies and whole streams: the same data, trailers and end whatever the split of the bytes over
//! reads, never more than the length says, and chunks as the reference reads them.

use proptest::collection::vec;
use proptest::prelude::*;
use trilith_http1::BodyLength;

use crate::config;
use crate::{checks, generate};

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn any_bytes_as_chunks(bytes in generate::any_bytes()) {
        checks::body(BodyLength::Chunked, &bytes);
    }

    #[test]
    fn valid_chunks(bytes in generate::valid_chunked()) {
        checks::body(BodyLength::Chunked, &bytes);
    }

    #[test]
    fn odd_chunks(bytes in generate::odd_chunked()) {
        checks::body(BodyLength::Chunked, &bytes);
    }

    #[test]
    fn damaged_chunks(bytes in generate::damaged(generate::valid_chunked())) {
        checks::body(BodyLength::Chunked, &bytes);
    }

    #[test]
    fn lengths(
        bytes in generate::any_bytes(),
        length in prop_oneof![0u64..300, any::<u64>()],
    ) {
        checks::body(BodyLength::Length(length), &bytes);
    }

    #[test]
    fn until_close(bytes in generate::any_bytes()) {
        checks::body(BodyLength::UntilClose, &bytes);
    }

    #[test]
    fn any_chunking_is_read_back(
        data in vec(any::<u8>(), 0..2000),
        sizes in vec(1usize..700, 1..8),
        sum in proptest::option::of("[!-~]{1,20}"),
    ) {
        let trailers = sum.map(|sum| (b"X-Sum".to_vec(), sum.into_bytes()));
        checks::rechunked(&data, &sizes, &trailers.into_iter().collect());
    }

    #[test]
    fn streams_of_requests(
        bytes in generate::cut_stream(generate::valid_request(), generate::valid_chunked()),
    ) {
        checks::split_requests(&bytes);
    }

    #[test]
    fn damaged_streams_of_requests(
        bytes in generate::damaged(
            generate::cut_stream(generate::valid_request(), generate::valid_chunked()),
        ),
    ) {
        checks::split_requests(&bytes);
    }

    #[test]
    fn streams_of_responses(
        bytes in generate::cut_stream(generate::valid_response(), generate::valid_chunked()),
    ) {
        checks::split_responses(&bytes);
    }

    #[test]
    fn damaged_streams_of_responses(
        bytes in generate::damaged(
            generate::cut_stream(generate::valid_response(), generate::valid_chunked()),
        ),
    ) {
        checks::split_responses(&bytes);
    }
}
