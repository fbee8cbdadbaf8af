use super::*;

struct Promoted {
    server: &'static str,
}

impl Event for Promoted {
    const NAME: &'static str = "primary_promotions";
    const HELP: &'static str = "Promotions";
    fn labels(&self) -> Labels {
        vec![("server", self.server.to_owned())]
    }
    fn log(&self) {
        tracing::info!(server = self.server, "promoted");
    }
}

#[test]
fn an_event_is_a_counter() {
    let telemetry = Telemetry::new("one");
    telemetry.emit(&Promoted { server: "two" });
    telemetry.emit(&Promoted { server: "two" });
    telemetry.emit(&Promoted { server: "three" });
    let text = telemetry.metrics_text().encode();
    assert!(
        text.contains("# TYPE trilith_primary_promotions counter\n"),
        "{text}"
    );
    assert!(
        text.contains("trilith_primary_promotions_total{server=\"two\"} 2\n"),
        "{text}"
    );
    assert!(
        text.contains("trilith_primary_promotions_total{server=\"three\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("trilith_build_info{server=\"one\",version="),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn the_same_gauge_comes_back() {
    let telemetry = Telemetry::new("one");
    telemetry
        .gauge("lag_bytes", "Lag", vec![("server", "two".into())])
        .set(7);
    let again = telemetry.gauge("lag_bytes", "Lag", vec![("server", "two".into())]);
    assert_eq!(again.get(), 7);
    let text = telemetry.metrics_text().encode();
    assert_eq!(
        text.matches("# TYPE trilith_lag_bytes gauge").count(),
        1,
        "{text}"
    );
}
