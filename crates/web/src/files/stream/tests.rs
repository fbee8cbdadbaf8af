use std::fs::File;
use std::io::Write;

use trilith_http::Body;
use trilith_telemetry::Telemetry;

use super::*;

fn counter() -> HotCounter {
    Telemetry::new("test")
        .worker()
        .counter("test", "Test", vec![])
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn stream(file: &File, segments: Vec<Segment>, nowait: bool) -> Body {
    let mut stream = FileStream::new(file.try_clone().unwrap().into(), segments, counter());
    stream.nowait = nowait;
    Body::stream(stream)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn segments_come_in_order_by_either_way() {
    let bytes = pattern(3 * FILE_CHUNK_BYTES + 17);
    let file = file(&bytes);
    let len = bytes.len() as u64;
    for nowait in [true, false] {
        let body = stream(&file, vec![Segment::File(0..len)], nowait);
        assert_eq!(body.size(), Some(len));
        assert!(body.collect(usize::MAX).await.unwrap() == bytes);

        let segments = vec![
            Segment::Bytes("<".into()),
            Segment::File(len - 5..len),
            Segment::Bytes("|".into()),
            Segment::File(1..3),
            Segment::Bytes(">".into()),
        ];
        let body = stream(&file, segments, nowait);
        assert_eq!(body.size(), Some(10));
        let expected = [b"<", &bytes[bytes.len() - 5..], b"|", &bytes[1..3], b">"].concat();
        assert_eq!(body.collect(100).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn pieces_are_bounded_and_pulled() {
    let bytes = pattern(2 * FILE_CHUNK_BYTES);
    let file = file(&bytes);
    let mut body = stream(&file, vec![Segment::File(0..bytes.len() as u64)], true);
    let mut left = bytes.len() as u64;
    while let Some(frame) = body.frame().await {
        let Frame::Data(data) = frame.unwrap() else {
            panic!("no trailers")
        };
        assert!(!data.is_empty() && data.len() <= FILE_CHUNK_BYTES);
        left -= data.len() as u64;
        assert_eq!(body.size(), Some(left));
    }
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_file_cut_short_fails_the_body() {
    for nowait in [true, false] {
        let bytes = pattern(4 * FILE_CHUNK_BYTES);
        let file = file(&bytes);
        let failures = counter();
        let fd = file.try_clone().unwrap().into();
        let mut stream = FileStream::new(
            fd,
            vec![Segment::File(0..bytes.len() as u64)],
            failures.clone(),
        );
        stream.nowait = nowait;
        let mut body = Body::stream(stream);
        assert!(matches!(body.frame().await, Some(Ok(Frame::Data(_)))));
        file.set_len(FILE_CHUNK_BYTES as u64 + 100).unwrap();
        let mut got = FILE_CHUNK_BYTES;
        let error = loop {
            match body.frame().await {
                Some(Ok(Frame::Data(data))) => got += data.len(),
                Some(Err(error)) => break error,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(error, BodyError::Truncated);
        assert_eq!(got, FILE_CHUNK_BYTES + 100, "what is there is sent");
        assert!(body.frame().await.is_none(), "and then nothing");
        assert!(format!("{failures:?}").contains("Cells(1)"));
    }
}

#[tokio::test]
async fn a_growing_file_is_sent_as_promised() {
    let mut file = file(&pattern(10));
    let body = stream(&file, vec![Segment::File(0..10)], true);
    file.write_all(b"more").unwrap();
    assert_eq!(body.collect(100).await.unwrap(), pattern(10));
}

#[tokio::test]
async fn an_unreadable_file_fails_the_body() {
    let write_only = File::options().write(true).open("/dev/null").unwrap();
    for nowait in [true, false] {
        let mut body = stream(&write_only, vec![Segment::File(0..1)], nowait);
        assert!(matches!(body.frame().await, Some(Err(BodyError::Io))));
    }
}
