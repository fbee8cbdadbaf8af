//! Every command and flag.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Where the config file is when nothing else is said.
pub const DEFAULT_CONFIG: &str = "/etc/trilith/trilith.toml";
/// Where the demo keeps everything when nothing else is said.
pub const DEFAULT_DEMO_DIR: &str = "trilith-demo";

/// A website on several servers, so that any one of them can die and nobody notices.
///
/// One binary and one config file are load balancer, web server, application server and a
/// PostgreSQL primary with replicas.
#[derive(Debug, Parser)]
#[command(
    name = "trilith",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 unhealthy.")]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(Demo),
    Init(Init),
    Check(Check),
    Explain(Explain),
    Run(Run),
    Status(Status),
    Reload(crate::commands::reload::Arguments),
    Config(crate::commands::config::Arguments),
    Db(crate::commands::db::Arguments),
    Vip(Vip),
    Drill(crate::drill::Arguments),
    Drain(DrainArgs),
    Undrain(DrainArgs),
    Token(Token),
    Join(Join),
    #[command(hide = true)]
    Guard(Guard),
    Version(Version),
}

/// The whole thing on this machine: servers, floating address, PostgreSQL, the example site.
///
/// Runs real server processes on 127.0.1.1, 127.0.1.2, ... and the floating address on 127.0.0.1.
/// Ctrl-C stops everything it started. The data stays in the folder, for the next time.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Demo {
    #[command(subcommand)]
    pub command: Option<DemoCommand>,
    #[command(flatten)]
    pub start: DemoStart,
}

#[derive(Debug, ClapArgs)]
pub struct DemoStart {
    /// Folder for everything the demo keeps: config file, certificates, databases, logs.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DEMO_DIR)]
    pub dir: PathBuf,
    /// How many servers, one or at least three; the first three run PostgreSQL.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = servers())]
    pub servers: u8,
    /// Each server in a network namespace of its own, with real addresses (needs root): lets
    /// `trilith drill` cut their lines too.
    #[arg(long)]
    pub lab: bool,
    /// The code base to serve [default: examples/foobar, here or in a folder above].
    #[arg(long, value_name = "DIR")]
    pub code: Option<PathBuf>,
    /// A TOML file with the sites, apps and upstreams to serve, in place of the demo's own site.
    #[arg(long, value_name = "FILE")]
    pub sites: Option<PathBuf>,
    /// HTTP port [default: 8080, in a lab 80].
    #[arg(long, value_name = "PORT", value_parser = port())]
    pub http: Option<u16>,
    /// HTTPS port [default: 8443, in a lab 443].
    #[arg(long, value_name = "PORT", value_parser = port())]
    pub https: Option<u16>,
    /// Return as soon as the site answers; `trilith demo stop` ends it.
    #[arg(long)]
    pub detach: bool,
    /// First part of the servers' addresses: server N gets the Nth of this network. A loopback
    /// network, in a lab a private one. Lets several demos run side by side [default: 127.0.1.0, in
    /// a lab 10.77.0.0].
    #[arg(long, value_name = "A.B.C.0")]
    pub network: Option<Ipv4Addr>,
    /// The floating address [default: 127.0.0.1, in a lab the network's 100th].
    #[arg(long, value_name = "ADDRESS")]
    pub vip: Option<Ipv4Addr>,
}

#[derive(Debug, Subcommand)]
pub enum DemoCommand {
    /// Stop a demo, and what a killed server left running.
    Stop {
        /// The demo's folder.
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DEMO_DIR)]
        dir: PathBuf,
    },
}

/// Write a commented config file, or make the secrets that its servers share.
#[derive(Debug, ClapArgs)]
pub struct Init {
    /// The file to write (it must not exist), or with --secrets the file to read.
    #[arg(long, value_name = "FILE", default_value = "trilith.toml")]
    pub config: PathBuf,
    /// Make the cluster's CA and the database passwords, in the secrets folder of the config file.
    /// Do it once, then copy the folder to every server.
    #[arg(long)]
    pub secrets: bool,
}

/// Say everything that is wrong with a config file.
#[derive(Debug, ClapArgs)]
pub struct Check {
    /// The config file.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// The config file [default: /etc/trilith/trilith.toml].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Describe a key of the config file: type, default, meaning.
#[derive(Debug, ClapArgs)]
pub struct Explain {
    /// Such as `server.roles`, `site.route` or `edge`; all tables without it.
    pub key: Option<String>,
}

/// Run this server, in the foreground.
#[derive(Debug, ClapArgs)]
pub struct Run {
    /// The config file, the same on every server.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Which of the file's servers this is.
    #[arg(long, value_name = "NAME")]
    pub server: String,
    /// Start with this file even if the cluster's config is another one by now, and make it the
    /// cluster's next version.
    #[arg(long)]
    pub use_file: bool,
    /// error, warn, info, debug or trace; per crate: info,trilith_edge=debug.
    #[arg(
        long,
        value_name = "LEVEL",
        env = "TRILITH_LOG",
        hide_env_values = true,
        default_value = "info"
    )]
    pub log: String,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Leave the terminal's session, so that its Ctrl-C does not arrive here.
    #[arg(long, hide = true)]
    pub new_session: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// What is: servers, sites, instances, pools, database roles and lag.
///
/// Exit code 3 when something of it is not healthy.
#[derive(Debug, ClapArgs)]
pub struct Status {
    /// The folder of a demo.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub dir: Option<PathBuf>,
    /// The config file [default: /etc/trilith/trilith.toml, or the demo in ./trilith-demo].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Again every second, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
}

/// Which cluster is meant.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Where {
    /// The folder of a demo.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub dir: Option<PathBuf>,
    /// The config file [default: /etc/trilith/trilith.toml, or the demo in ./trilith-demo].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The floating addresses: who holds them, and moving them.
#[derive(Debug, ClapArgs)]
pub struct Vip {
    #[command(subcommand)]
    pub command: VipCommand,
}

#[derive(Debug, Subcommand)]
pub enum VipCommand {
    /// Which server holds which address, and each server's part in it.
    Status {
        #[command(flatten)]
        place: Where,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Give an address to another server. It stays there: nothing moves back by itself.
    Move {
        /// The server that is to hold it.
        #[arg(value_name = "SERVER")]
        server: String,
        /// Which address, when there are several.
        #[arg(long, value_name = "ADDRESS")]
        address: Option<String>,
        #[command(flatten)]
        place: Where,
        /// JSON instead of a sentence.
        #[arg(long)]
        json: bool,
    },
}

/// Take a server out of use: its floating addresses move first, then the others stop sending it
/// requests. `undrain` takes it into use again.
#[derive(Debug, ClapArgs)]
pub struct DrainArgs {
    #[arg(value_name = "SERVER")]
    pub server: String,
    #[command(flatten)]
    pub place: Where,
    /// JSON instead of a sentence.
    #[arg(long)]
    pub json: bool,
}

/// Let a new server join the cluster.
#[derive(Debug, ClapArgs)]
pub struct Token {
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    Create(TokenCreate),
    List(TokenList),
    Revoke(TokenRevoke),
}

/// Make a token with which one server of the config can join, once.
///
/// Add the server to the config and reload it first. The token is printed this once; whoever has
/// it can join until it expires.
#[derive(Debug, ClapArgs)]
pub struct TokenCreate {
    /// The server that may join with it.
    #[arg(long, value_name = "NAME")]
    pub server: String,
    /// How long it can be used, at most 24h.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = token_ttl)]
    pub ttl: Duration,
    #[command(flatten)]
    pub place: Where,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// The tokens there are: valid, used, and expired.
#[derive(Debug, ClapArgs)]
pub struct TokenList {
    #[command(flatten)]
    pub place: Where,
    /// JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Take a token back, so that nobody joins with it any more.
#[derive(Debug, ClapArgs)]
pub struct TokenRevoke {
    /// As `trilith token list` shows it.
    pub id: String,
    #[command(flatten)]
    pub place: Where,
}

/// Make this machine a server of a cluster, with a token of `trilith token create`.
///
/// Fetches the cluster's config file and secrets from one of its servers, and writes them here.
/// Nothing that is here already is changed. The server is then started with `trilith run`.
#[derive(Debug, ClapArgs)]
pub struct Join {
    /// The token; `-` reads it from stdin.
    pub token: String,
    /// Where to write the config file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// A process beside a server that acts for it at a deadline; `trilith run` starts it.
#[derive(Debug, ClapArgs)]
pub struct Guard {
    /// Take these floating addresses from the server; none: end the server.
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<IpAddr>,
    /// End the PostgreSQL of this data directory instead.
    #[arg(
        long,
        value_name = "DATA_DIR",
        requires = "fifo",
        conflicts_with = "addresses"
    )]
    pub postgres: Option<PathBuf>,
    /// Where it is told the deadlines.
    #[arg(long, value_name = "PIPE", requires = "postgres")]
    pub fifo: Option<PathBuf>,
}

/// The version of this program.
#[derive(Debug, ClapArgs)]
pub struct Version {
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

fn token_ttl(text: &str) -> Result<Duration, String> {
    let ttl = trilith_base::parse_duration(text).map_err(|error| error.to_string())?;
    let day = Duration::from_secs(24 * 60 * 60);
    match (Duration::from_secs(1)..=day).contains(&ttl) {
        true => Ok(ttl),
        false => Err("use 1s to 24h".to_owned()),
    }
}

fn servers() -> RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..=9)
}

fn port() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn demo_stop_takes_its_folder() {
        let args = Args::parse_from(["trilith", "demo", "stop", "--dir", "/x"]);
        let Command::Demo(demo) = args.command else {
            panic!()
        };
        let Some(DemoCommand::Stop { dir }) = demo.command else {
            panic!()
        };
        assert_eq!(dir.to_str(), Some("/x"));
    }
}
