use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::task::LocalSet;

use super::*;
use crate::Telemetry;

fn record() -> AccessRecord<'static> {
    AccessRecord {
        request_id: "01J",
        client: Some(IpAddr::from([192, 0, 2, 7])),
        scheme: "https",
        tls: Some("TLSv1.3"),
        method: "GET",
        host: "www.foobar.com",
        path: "/a?b=\"c\"\\",
        status: 200,
        bytes_in: 0,
        bytes_out: 128,
        pool: Some("web"),
        upstream: Some("two"),
        tries: 1,
        t_queue: None,
        t_connect: Some(Duration::from_micros(7)),
        t_first_byte: Some(Duration::from_micros(1_234)),
        t_total: Duration::from_micros(2_000_050),
        end: "complete",
        user_agent: Some(b"curl\x07 \xff\n"),
        referer: None,
    }
}

#[test]
fn one_line_of_the_fixed_schema() {
    let mut out = Vec::new();
    Formatter::new("one").write(
        &mut out,
        Duration::from_millis(1_795_000_000_042),
        &record(),
    );
    let expected = concat!(
        r#"{"time":"2026-11-18T11:06:40.042Z","server":"one","request_id":"01J","#,
        r#""client":"192.0.2.7","scheme":"https","tls":"TLSv1.3","method":"GET","#,
        r#""host":"www.foobar.com","path":"/a?b=\"c\"\\","#,
        r#""status":200,"bytes_in":0,"bytes_out":128,"pool":"web","upstream":"two","tries":1,"#,
        r#""t_queue_ms":null,"t_connect_ms":0.007,"t_first_byte_ms":1.234,"t_total_ms":2000.050,"#,
        r#""end":"complete","user_agent":"curl\u0007 "#,
        "\u{fffd}",
        r#"\n","referer":null}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn any_bytes_make_valid_json() {
    let all: Vec<u8> = (0..=255).collect();
    let text: String = all.iter().map(|b| *b as char).collect();
    let mut out = Vec::new();
    let record = AccessRecord {
        host: &text,
        user_agent: Some(&all),
        ..record()
    };
    Formatter::new("one").write(&mut out, Duration::ZERO, &record);
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["host"], text);
    assert_eq!(value["time"], "1970-01-01T00:00:00.000Z");
}

#[test]
fn long_fields_are_cut() {
    let long = "ü".repeat(10_000);
    let mut out = Vec::new();
    let record = AccessRecord {
        path: &long,
        ..record()
    };
    Formatter::new("one").write(&mut out, Duration::ZERO, &record);
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["path"].as_str().unwrap().chars().count(), 4_096);
}

fn options(dir: &tempfile::TempDir) -> AccessLogOptions {
    AccessLogOptions::new(dir.path().join("access.log"))
}

async fn on_worker<T>(body: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(body).await
}

#[tokio::test]
async fn lines_reach_the_file_when_the_worker_ends() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::new("one");
    let file = AccessLogFile::open(options(&dir), &telemetry).unwrap();
    on_worker(async {
        let log = file.handle();
        (0..1_000).for_each(|_| log.write(&record()));
    })
    .await;
    file.close();
    let text = std::fs::read_to_string(dir.path().join("access.log")).unwrap();
    assert_eq!(text.lines().count(), 1_000);
    assert!(
        text.lines()
            .all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok())
    );
    assert!(
        telemetry
            .metrics_text()
            .encode()
            .contains("trilith_access_log_lines_dropped_total{} 0\n")
    );
}

#[tokio::test(start_paused = true)]
async fn lines_reach_the_file_after_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let file = AccessLogFile::open(options(&dir), &Telemetry::new("one")).unwrap();
    on_worker(async {
        let log = file.handle();
        log.write(&record());
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        file.close();
        let text = std::fs::read_to_string(dir.path().join("access.log")).unwrap();
        assert_eq!(text.lines().count(), 1);
        drop(log);
    })
    .await;
}

#[tokio::test]
async fn the_file_is_rotated_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let options = AccessLogOptions {
        rotate_bytes: 100_000,
        keep: 2,
        ..options(&dir)
    };
    let file = AccessLogFile::open(options, &Telemetry::new("one")).unwrap();
    on_worker(async {
        let log = file.handle();
        (0..2_000).for_each(|_| log.write(&record()));
    })
    .await;
    file.close();
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| {
            (
                e.file_name().into_string().unwrap(),
                e.metadata().unwrap().len(),
            )
        })
        .collect();
    names.sort();
    for (name, _) in &names {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().mode();
        // Less what the umask takes.
        assert_eq!(mode & 0o777 & !0o640, 0, "{name}: {mode:o}");
    }
    let expected = ["access.log", "access.log.1", "access.log.2"];
    assert_eq!(
        names.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
        expected
    );
    assert!(
        names
            .iter()
            .all(|(_, bytes)| *bytes > 0 && *bytes <= 100_000),
        "{names:?}"
    );
}

#[tokio::test]
async fn what_comes_after_the_end_is_counted_as_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::new("one");
    let file = AccessLogFile::open(options(&dir), &telemetry).unwrap();
    on_worker(async {
        let log = file.handle();
        file.close();
        log.write(&record());
        log.flush();
    })
    .await;
    assert!(
        telemetry
            .metrics_text()
            .encode()
            .contains("trilith_access_log_lines_dropped_total{} 1\n")
    );
}
