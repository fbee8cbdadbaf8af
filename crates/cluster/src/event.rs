//! What this crate tells operators.

use trilith_base::ServerName;
use trilith_telemetry::{Event, Labels};

/// Another server leads, as far as this one knows.
pub(crate) struct LeaderChanged<'a> {
    pub leader: &'a ServerName,
    pub term: u64,
}

impl Event for LeaderChanged<'_> {
    const NAME: &'static str = "cluster_leader_changes";
    const HELP: &'static str = "Times the cluster store got another leader, as seen by this server";
    fn log(&self) {
        tracing::info!(
            leader = self.leader.as_str(),
            term = self.term,
            "cluster store: leader"
        );
    }
}

/// A lease was granted while this server led.
pub(crate) struct LeaseGranted<'a> {
    pub lease: &'a str,
    pub holder: &'a ServerName,
    pub epoch: u64,
}

impl Event for LeaseGranted<'_> {
    const NAME: &'static str = "cluster_leases_granted";
    const HELP: &'static str = "Leases granted while this server led the cluster store";
    fn log(&self) {
        tracing::info!(
            lease = self.lease,
            holder = self.holder.as_str(),
            epoch = self.epoch,
            "cluster store: lease granted"
        );
    }
}

/// A lease ran out while this server led.
pub(crate) struct LeaseExpired<'a> {
    pub lease: &'a str,
    pub epoch: u64,
}

impl Event for LeaseExpired<'_> {
    const NAME: &'static str = "cluster_leases_expired";
    const HELP: &'static str = "Leases that ran out while this server led the cluster store";
    fn log(&self) {
        tracing::info!(
            lease = self.lease,
            epoch = self.epoch,
            "cluster store: lease ran out"
        );
    }
}

/// This server founded the cluster.
pub(crate) struct Founded {
    pub voters: usize,
}

impl Event for Founded {
    const NAME: &'static str = "cluster_foundings";
    const HELP: &'static str = "Times this server founded the cluster";
    fn log(&self) {
        tracing::info!(voters = self.voters, "cluster store: cluster founded");
    }
}

/// The leader changes who takes part.
pub(crate) struct MembersChange<'a> {
    pub change: &'static str,
    pub detail: &'a str,
}

impl Event for MembersChange<'_> {
    const NAME: &'static str = "cluster_member_changes";
    const HELP: &'static str = "Changes of the cluster store's members begun by this server";
    fn labels(&self) -> Labels {
        vec![("change", self.change.to_owned())]
    }
    fn log(&self) {
        tracing::info!(
            change = self.change,
            detail = self.detail,
            "cluster store: members change"
        );
    }
}

/// The file was damaged. What was in it comes back from the others.
pub(crate) struct FileSetAside<'a> {
    pub to: &'a str,
    pub problem: &'a str,
}

impl Event for FileSetAside<'_> {
    const NAME: &'static str = "cluster_files_set_aside";
    const HELP: &'static str = "Damaged files of the cluster store that were set aside";
    fn log(&self) {
        tracing::error!(
            now_at = self.to,
            problem = self.problem,
            "cluster store: the file was damaged and is set aside; the others will fill a new one"
        );
    }
}

/// Somebody asked who has no business here.
pub(crate) struct PeerRefused<'a> {
    pub peer: &'a ServerName,
    pub kind: &'static str,
    pub reason: &'a str,
    /// Logged lately: only counted.
    pub quiet: bool,
}

impl Event for PeerRefused<'_> {
    const NAME: &'static str = "cluster_peers_refused";
    const HELP: &'static str = "Requests of other servers that the cluster store refused";
    fn labels(&self) -> Labels {
        vec![("request", self.kind.to_owned())]
    }
    fn log(&self) {
        if self.quiet {
            return;
        }
        tracing::warn!(
            peer = self.peer.as_str(),
            request = self.kind,
            reason = self.reason,
            "cluster store: request refused"
        );
    }
}

/// This server's part of the store cannot go on.
pub(crate) struct StoreFailed<'a> {
    pub reason: &'a str,
}

impl Event for StoreFailed<'_> {
    const NAME: &'static str = "cluster_failures";
    const HELP: &'static str = "Times this server's part of the cluster store could not go on";
    fn log(&self) {
        tracing::error!(reason = self.reason, "cluster store: cannot go on");
    }
}
