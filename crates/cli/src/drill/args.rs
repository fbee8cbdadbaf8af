//! `trilith drill`, as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use crate::args::DEFAULT_DEMO_DIR;
use crate::lab::Direction;

/// Break something under load, mend it, and tell what users noticed.
///
/// Requests go to the floating address at a steady rate, each on a new connection. Exit code 1 when
/// new connections failed for longer than 2.5 s, when two servers held the address at once, or when
/// not everything was ready again afterwards. SERVER is a name, or `holder` for the one that holds
/// the floating address. Works on demos alone.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("fault").required(true))]
pub struct Arguments {
    /// kill -9 of the server's process, which is started again afterwards.
    #[arg(long, value_name = "SERVER", group = "fault")]
    pub kill: Option<String>,
    /// SIGSTOP of the server's process: it hangs, and does not know.
    #[arg(long, value_name = "SERVER", group = "fault")]
    pub hang: Option<String>,
    /// Its network cable pulled out. Needs `trilith demo --lab`.
    #[arg(long, value_name = "SERVER", group = "fault")]
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
        group = "fault"
    )]
    pub isolate_minority: Vec<String>,
    /// Requests per second.
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rate: u32,
    /// How long the fault lasts, up to 60s.
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

fn fault_time(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(60);
    let time = trilith_base::parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_millis(100)..=LONGEST).contains(&time) {
        true => Ok(time),
        false => Err("between 100ms and 60s".to_owned()),
    }
}
