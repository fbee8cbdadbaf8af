//! What happens to the local PostgreSQL on the planner's behalf.

use std::time::Duration;

use trilith_base::ServerName;
use trilith_telemetry::{Event, Labels};

/// It ended recovery, and is a primary.
pub(super) struct PostgresPromoted {
    pub timeline: u32,
    pub took: Duration,
}

impl Event for PostgresPromoted {
    const NAME: &'static str = "postgres_promotions";
    const HELP: &'static str = "Times the local PostgreSQL was promoted";
    fn log(&self) {
        let took_ms = self.took.as_millis() as u64;
        tracing::info!(timeline = self.timeline, took_ms, "postgres promoted");
    }
}

/// How data were brought in line with the primary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Copied,
    Rewound,
}

/// The data here were replaced by a copy, or taken back to where they and the primary's part.
pub(super) struct DataFetched<'a> {
    pub way: Way,
    pub from: &'a ServerName,
    pub took: Duration,
}

impl Event for DataFetched<'_> {
    const NAME: &'static str = "postgres_data_fetches";
    const HELP: &'static str = "Times the local data were copied anew or rewound";
    fn labels(&self) -> Labels {
        let way = match self.way {
            Way::Copied => "copied",
            Way::Rewound => "rewound",
        };
        vec![("way", way.to_owned())]
    }
    fn log(&self) {
        let took_ms = self.took.as_millis() as u64;
        let from = self.from.as_str();
        match self.way {
            Way::Copied => tracing::info!(from, took_ms, "postgres data copied"),
            Way::Rewound => tracing::info!(from, took_ms, "postgres data rewound"),
        }
    }
}

/// The application's sessions of a replica were ended, because it becomes a primary that is still closed.
pub(super) struct ClientsEnded {
    pub count: i64,
}

impl Event for ClientsEnded {
    const NAME: &'static str = "postgres_clients_ended";
    const HELP: &'static str = "Times sessions were ended at a PostgreSQL that is closed";
    fn log(&self) {
        tracing::info!(count = self.count, "sessions at the closed postgres ended");
    }
}
