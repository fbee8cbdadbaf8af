use std::net::IpAddr;

use trilith_telemetry::{Event, Labels};

/// Somebody on the cluster port did not prove to be a server of this cluster.
pub(crate) struct PeerRefused<'a> {
    pub from: IpAddr,
    /// Few values: for the metric.
    pub reason: &'static str,
    pub detail: &'a str,
    /// The same was said a moment ago: only count.
    pub quiet: bool,
}

impl Event for PeerRefused<'_> {
    const NAME: &'static str = "peer_refusals";
    const HELP: &'static str = "Connections on the cluster port that were refused";
    fn labels(&self) -> Labels {
        vec![("reason", self.reason.to_owned())]
    }
    fn log(&self) {
        if self.quiet {
            return;
        }
        tracing::warn!(
            from = %self.from, reason = self.reason, detail = self.detail,
            "refused a connection on the cluster port"
        );
    }
}
