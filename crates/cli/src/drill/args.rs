//! `trilith drill`, as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use crate::args::DEFAULT_DEMO_DIR;
use crate::lab::Direction;

/// A flag that names a server was given without one: whoever matters to the load is meant.
pub const UNNAMED: &str = "";

/// Break something under load, mend it, and tell what users noticed.
///
/// Requests go to the floating address at a steady rate, each on a new connection. Exit code 1 when
/// new connections failed for longer than 2.5 s, when two servers held the address at once, or when
/// not everything was ready again afterwards. SERVER is a name, `holder` for the one that holds the
/// floating address, or `primary` for the database primary's. Works on demos alone.
///
/// With --primary the load is on the database: rows are inserted through the sql entries, and every
/// acknowledged one must be there in the end. With --url the same load goes to any PostgreSQL,
/// without a fault.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("fault"))]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub struct Arguments {
    /// kill -9 of the server's process, which is started again afterwards. Without a name, as in the
    /// following: the holder of the floating address, with --primary the database primary.
    #[arg(long, value_name = "SERVER", groups = ["fault", "what"],
        num_args = 0..=1, default_missing_value = UNNAMED)]
    pub kill: Option<String>,
    /// Power failure: kill -9 of every process of the server, in a lab also its cable pulled out.
    #[arg(long, value_name = "SERVER", groups = ["fault", "what"],
        num_args = 0..=1, default_missing_value = UNNAMED)]
    pub kill_server: Option<String>,
    /// kill -9 of the server's PostgreSQL.
    #[arg(long, value_name = "SERVER", groups = ["fault", "what"],
        num_args = 0..=1, default_missing_value = UNNAMED)]
    pub kill_postgres: Option<String>,
    /// SIGSTOP of the server's process: it hangs, and does not know.
    #[arg(long, value_name = "SERVER", groups = ["fault", "what"],
        num_args = 0..=1, default_missing_value = UNNAMED)]
    pub hang: Option<String>,
    /// SIGSTOP of all processes of the server's PostgreSQL.
    #[arg(long, value_name = "SERVER", groups = ["fault", "what"],
        num_args = 0..=1, default_missing_value = UNNAMED)]
    pub hang_postgres: Option<String>,
    /// Its network cable pulled out. Needs `trilith demo --lab`.
    #[arg(long, value_name = "SERVER", groups = ["fault", "what"],
        num_args = 0..=1, default_missing_value = UNNAMED)]
    pub partition: Option<String>,
    /// With --partition: silently and one way only. `in`: it hears nothing; `out`: nobody hears it.
    #[arg(
        long,
        value_name = "WAY",
        requires = "partition",
        num_args = 0..=1,
        default_missing_value = "out",
        require_equals = true
    )]
    pub one_way: Option<Direction>,
    /// These servers, fewer than half, do not reach the others any more; users reach all of them.
    /// Needs `trilith demo --lab`.
    #[arg(
        long,
        value_name = "SERVER,...",
        value_delimiter = ',',
        groups = ["fault", "what"]
    )]
    pub isolate_minority: Vec<String>,
    /// Load on the database. The fault is --kill-server, unless another one is given. Exit code 1 when
    /// an acknowledged row was lost, when two servers took writes at once, or when nothing could be
    /// written for longer than the goal.
    #[arg(long, group = "what")]
    pub primary: bool,
    /// The same load on this PostgreSQL (`host=... port=... user=... password=... dbname=...`), without
    /// a fault; Ctrl-C ends it early. Several share the connections. `netns=NAME` in front: from that
    /// network namespace.
    #[arg(long, value_name = "CONNINFO", group = "what",
        conflicts_with_all = ["fault", "primary", "dir"])]
    pub url: Vec<String>,
    /// With --url: also write here all the time, past whatever is in between, so that two servers that
    /// take writes at once are seen. Rows are compared here too, in the end.
    #[arg(long, value_name = "CONNINFO", requires = "url")]
    pub direct: Vec<String>,
    /// Requests, or rows, per second.
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rate: u32,
    /// Connections to the database, with --primary or --url.
    #[arg(long, value_name = "N", default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// How long the fault lasts, up to 60s; with --url the load, up to 10m.
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = fault_time)]
    pub lasts: Duration,
    /// The path that is asked for, on the first site.
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// The demo's folder.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DEMO_DIR)]
    pub dir: PathBuf,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    /// The longest fault on a demo.
    pub const FAULT_MAX: Duration = Duration::from_secs(60);

    pub fn has_fault(&self) -> bool {
        let named = [
            &self.kill,
            &self.kill_server,
            &self.kill_postgres,
            &self.hang,
            &self.hang_postgres,
            &self.partition,
        ];
        named.iter().any(|server| server.is_some()) || !self.isolate_minority.is_empty()
    }
}

fn fault_time(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(600);
    let time = trilith_base::parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_millis(100)..=LONGEST).contains(&time) {
        true => Ok(time),
        false => Err("between 100ms and 60s, with --url up to 10m".to_owned()),
    }
}
