use trilith_base::ServerName;
use trilith_telemetry::{Event, Labels};

/// A server of the cluster sent something that is no message, or too long.
pub(crate) struct PeerMessageRefused<'a> {
    pub peer: &'a ServerName,
    pub kind: &'a str,
    pub reason: &'a str,
    /// The same was said a moment ago: only count.
    pub quiet: bool,
}

impl Event for PeerMessageRefused<'_> {
    const NAME: &'static str = "cluster_messages_refused";
    const HELP: &'static str = "Messages of other servers that made no sense";
    fn labels(&self) -> Labels {
        vec![("peer", self.peer.to_string())]
    }
    fn log(&self) {
        if self.quiet {
            return;
        }
        tracing::warn!(
            peer = %self.peer, kind = self.kind, reason = self.reason,
            "refused a message: are the versions of trilith neighbours?"
        );
    }
}
