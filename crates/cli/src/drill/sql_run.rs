//! The course of a drill with load on the database.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use trilith_config::{Config, Role, Server};
use trilith_node::secrets::DATABASE_FILE;
use trilith_postgres::Secrets;

use super::QUIET;
use super::args::Arguments;
use super::fault::{Fault, Standing};
use super::run::{Again, demo_of, primary_of, ready_before, sleep, wait_until_ready};
use super::sql_load::{Load, Shared};
use super::sql_report::{Disturbance, Facts, Report};
use super::sql_session::Place;
use super::sql_verify::{drop_table, make_table, verify};
use super::sql_watch::Watch;
use crate::commands::ask_cluster;
use crate::demo::Signals;
use crate::failure::{FAILED, Failure, Outcome};
use crate::reach::Reach;
use crate::terminal;

/// Longest time without a write: PostgreSQL alone died, and its server's agent is there to act.
const POSTGRES_DIED_GOAL: Duration = Duration::from_secs(2);
/// The server died, was cut off, or its agent did.
const SERVER_DIED_GOAL: Duration = Duration::from_secs(8);
/// PostgreSQL hangs: 10 s until that is believed, and then as if it had died with its server.
const POSTGRES_HANGS_GOAL: Duration = Duration::from_secs(18);

/// Holds a drill on a demo and prints its report.
pub fn with_fault(args: &Arguments) -> Outcome {
    let signals = Signals::listen().map_err(Failure::failed)?;
    let (state, config) = demo_of(&args.dir)?;
    let reach = Reach::of_folder(&state);
    ready_before(&config, &args.dir)?;
    let standing = standing(&config)?;
    let primary_before = standing.primary.clone().ok_or_else(|| {
        Failure::failed("there is no database primary")
            .next(format!("trilith status --dir {}", args.dir.display()))
    })?;
    let fault = Fault::new(args, &config, &reach, &standing)?;
    let Doors {
        entries,
        direct,
        names,
    } = doors(&config, &reach)?;

    let pause = |time: Duration| sleep(&signals, time);
    let run = Run::start(args, &entries, &direct, names)?;
    pause(QUIET)?;
    if run.load.acknowledged() == 0 {
        return Err(
            Failure::failed("nothing was written before anything was broken")
                .next(format!("trilith status --dir {}", args.dir.display())),
        );
    }
    let what = fault.describe(&standing);
    let injected = run.begin.elapsed();
    let injury = fault.inject(&state)?;
    terminal::say(&format!("now: {what}"));
    let waited = pause(args.lasts);
    // Whatever happened: first of all it is undone.
    let undone = injury.undo();
    let healed = run.begin.elapsed();
    let mut again = Again::new(&state, &config, &reach);
    again.start_the_dead()?;
    undone?;
    waited?;
    terminal::say("repaired; waiting until every server is ready again");
    let recovered = wait_until_ready(&mut again, &signals, run.begin)?;
    pause(QUIET)?;
    let disturbance = Disturbance {
        what,
        injected,
        healed,
        recovered,
        gap_goal: gap_goal(&fault),
        primary_before,
        primary_after: primary_of(&config),
    };
    run.finish(args, Some(disturbance))
}

/// Load on whatever PostgreSQL that is, until its time is up or Ctrl-C.
pub fn without_fault(args: &Arguments) -> Outcome {
    let signals = Signals::listen().map_err(Failure::failed)?;
    let places = |texts: &[String]| -> Outcome<Vec<Place>> {
        let place = |text: &String| {
            Place::parse(text).map_err(|why| {
                Failure::usage(format!("a connection string is wrong: {why}"))
                    .next("--url 'host=127.0.0.1 port=5432 user=app password=... dbname=app'")
            })
        };
        texts.iter().map(place).collect()
    };
    let (entries, direct) = (places(&args.url)?, places(&args.direct)?);
    let run = Run::start(args, &entries, &direct, BTreeMap::new())?;
    // An early end is as good as any.
    let _ = sleep(&signals, args.lasts);
    run.finish(args, None)
}

/// Load and watch under way.
struct Run<'a> {
    entries: &'a [Place],
    direct: &'a [Place],
    begin: Instant,
    began_unix_ms: u64,
    shared: Shared,
    watch: Watch,
    load: Load,
}

impl<'a> Run<'a> {
    fn start(
        args: &Arguments,
        entries: &'a [Place],
        direct: &'a [Place],
        names: BTreeMap<String, String>,
    ) -> Outcome<Self> {
        make_table(entries)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(Failure::failed)?;
        let run = format!("{}-{}", now.as_millis(), std::process::id());
        let begin = Instant::now();
        let shared = Shared::new(&run, begin, names);
        let watch = Watch::start(&shared, direct)?;
        let load = Load::start(shared.clone(), entries, args.connections, args.rate)?;
        terminal::say(&format!(
            "{} rows a second on {} connections",
            args.rate, args.connections
        ));
        Ok(Self {
            entries,
            direct,
            begin,
            began_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            shared,
            watch,
            load,
        })
    }

    /// Ends the load, looks what there is, prints the report.
    fn finish(self, args: &Arguments, disturbance: Option<Disturbance>) -> Outcome {
        let ended = self.begin.elapsed();
        let load = self.load.stop()?;
        let (direct, running) = self.watch.stop()?;
        let report = Report::new(Facts {
            disturbance,
            connections: args.connections,
            rate: args.rate,
            began_unix_ms: self.began_unix_ms,
            ended,
            load,
            direct,
            running,
            verified: verify(self.entries, self.direct, &self.shared.run)?,
        });
        match args.json {
            true => terminal::data(&format!("{:#}\n", report.json())),
            false => terminal::data(&report.text()),
        }
        if !report.broken.is_empty() {
            // The rows stay, for whoever wants to know which ones.
            return Err(Failure::silent(FAILED));
        }
        drop_table(self.entries)
    }
}

fn standing(config: &Config) -> Outcome<Standing> {
    let status = ask_cluster(config).map_err(Failure::failed)?;
    let holders = status.servers.iter().filter(|server| {
        let mut addresses = server.addresses.iter();
        addresses.any(|address| address.is_up())
    });
    Ok(Standing {
        holder: holders.map(|server| server.name.clone()).next(),
        primary: status.database.and_then(|database| database.primary),
    })
}

/// Ways into a demo's database.
struct Doors {
    /// The sql entry of every server, as its apps use it.
    entries: Vec<Place>,
    /// Every PostgreSQL itself, from its own server.
    direct: Vec<Place>,
    /// Names of servers by `address:port` of their PostgreSQL.
    names: BTreeMap<String, String>,
}

fn doors(config: &Config, reach: &Reach) -> Outcome<Doors> {
    let Some(database) = &config.database else {
        return Err(Failure::failed("this demo has no database"));
    };
    let path = config.cluster.secrets.join(DATABASE_FILE);
    let secrets = load_secrets(&path)?;
    let place = |server: &Server, host: IpAddr, port: u16| {
        let mut pg = tokio_postgres::Config::new();
        pg.host(host.to_string())
            .port(port)
            .user(&database.user)
            .password(secrets.app.expose())
            .dbname(&database.name)
            .application_name("trilith-drill");
        Place {
            name: server.name.to_string(),
            namespace: reach.namespace(Some(server.name.as_str())),
            config: pg,
        }
    };
    let ports = &config.ports;
    let entries = config.servers.iter();
    let of_database: Vec<&Server> = config.with_role(Role::Db).collect();
    let names = of_database.iter().map(|server| {
        let address = SocketAddr::new(server.address, ports.postgres);
        (address.to_string(), server.name.to_string())
    });
    Ok(Doors {
        entries: entries
            .map(|server| place(server, server.loopback(), ports.sql))
            .collect(),
        names: names.collect(),
        direct: of_database
            .iter()
            .map(|server| place(server, server.address, ports.postgres))
            .collect(),
    })
}

fn load_secrets(path: &Path) -> Outcome<Secrets> {
    Secrets::load(path)
        .map_err(Failure::failed)?
        .ok_or_else(|| Failure::failed(format!("{} is missing", path.display())))
}

fn gap_goal(fault: &Fault) -> Duration {
    match fault {
        Fault::KillPostgres { .. } => POSTGRES_DIED_GOAL,
        Fault::HangPostgres { .. } => POSTGRES_HANGS_GOAL,
        _ => SERVER_DIED_GOAL,
    }
}
