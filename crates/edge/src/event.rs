//! What operators get to know of the edge: one struct, one line, one metric.

use std::net::SocketAddr;
use std::time::Duration;

use trilith_balance::{Failure, Health};
use trilith_telemetry::{Event, Labels};

/// A server of a pool became usable, or stopped being so, by its checks.
pub(crate) struct ServerHealthChanged<'a> {
    pub pool: &'a str,
    pub server: &'a str,
    pub address: SocketAddr,
    pub from: Health,
    pub to: Health,
    /// What the last check found, where it was bad.
    pub reason: Option<&'a str>,
    /// This server is shutting down: that others do too is no news.
    pub draining: bool,
}

impl Event for ServerHealthChanged<'_> {
    const NAME: &'static str = "edge_server_health_changes";
    const HELP: &'static str = "Servers that came up or went down, by their checks";

    fn labels(&self) -> Labels {
        vec![
            ("pool", self.pool.to_owned()),
            ("server", self.server.to_owned()),
            ("to", self.to.to_string()),
        ]
    }

    fn log(&self) {
        let Self {
            pool,
            server,
            address,
            from,
            to,
            reason,
            ..
        } = self;
        let reason = reason.unwrap_or_default();
        // From "checking" it is a server that has not started yet.
        if *to == Health::Down && *from == Health::Up && !self.draining {
            tracing::warn!(pool, server, %address, reason, "server is down");
        } else {
            tracing::info!(pool, server, %address, reason, "server is {to}");
        }
    }
}

/// A server was taken out for failed requests.
pub(crate) struct ServerEjected<'a> {
    pub pool: &'a str,
    pub server: &'a str,
    pub address: SocketAddr,
    pub failure: Failure,
    pub duration: Duration,
}

impl Event for ServerEjected<'_> {
    const NAME: &'static str = "edge_server_ejections";
    const HELP: &'static str = "Servers taken out for failed requests";

    fn labels(&self) -> Labels {
        vec![
            ("pool", self.pool.to_owned()),
            ("server", self.server.to_owned()),
        ]
    }

    fn log(&self) {
        let Self {
            pool,
            server,
            address,
            failure,
            duration,
        } = self;
        tracing::warn!(
            pool,
            server,
            %address,
            failure = ?failure,
            duration_s = duration.as_secs(),
            "server ejected: several requests in a row failed on it"
        );
    }
}

/// An ejected server answers its checks again, and is used again.
pub(crate) struct ServerReadmitted<'a> {
    pub pool: &'a str,
    pub server: &'a str,
    pub address: SocketAddr,
}

impl Event for ServerReadmitted<'_> {
    const NAME: &'static str = "edge_server_readmissions";
    const HELP: &'static str = "Ejected servers that answered their checks and were used again";

    fn labels(&self) -> Labels {
        vec![
            ("pool", self.pool.to_owned()),
            ("server", self.server.to_owned()),
        ]
    }

    fn log(&self) {
        let Self {
            pool,
            server,
            address,
        } = self;
        tracing::info!(pool, server, %address, "server answers its checks again");
    }
}
