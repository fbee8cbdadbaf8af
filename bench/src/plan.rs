//! The order of turns: rounds, cases, servers; and one turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cpu::{CpuClocks, check_pinned, on_core, pin_this_thread};
use crate::load::{self, Job, Measured};
use crate::process::Server;
use crate::servers::{Kind, Ports, Program};
use crate::signals::Signals;
use crate::stub::{self, Stub};

pub struct Settings {
    pub binary: PathBuf,
    pub rounds: usize,
    pub measure: Duration,
    pub warmup: Duration,
    pub connections: usize,
    pub cases: Vec<Case>,
    pub servers: Vec<Kind>,
    pub server_core: usize,
    pub load_core: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// A response of 128 bytes from a backend, keep-alive on both sides
    #[value(name = "proxy-128")]
    Proxy128,
    /// A file of 1 KiB
    #[value(name = "static-1k")]
    Static1k,
    /// A file of 100 KiB
    #[value(name = "static-100k")]
    Static100k,
}

impl Case {
    pub const ALL: [Case; 3] = [Case::Proxy128, Case::Static1k, Case::Static100k];

    pub fn name(self) -> &'static str {
        match self {
            Case::Proxy128 => "proxy 128 B",
            Case::Static1k => "static 1 KiB",
            Case::Static100k => "static 100 KiB",
        }
    }

    /// HAProxy does not serve files.
    fn suits(self, kind: Kind) -> bool {
        self == Case::Proxy128 || kind != Kind::Haproxy
    }

    fn path(self) -> &'static str {
        match self {
            Case::Proxy128 => "/hello",
            Case::Static1k => "/static/1k.bin",
            Case::Static100k => "/static/100k.bin",
        }
    }

    fn body(self) -> Vec<u8> {
        match self {
            Case::Proxy128 => stub::body(),
            Case::Static1k => file_content(1024),
            Case::Static100k => file_content(100 * 1024),
        }
    }
}

/// Everything measured, and by what.
pub struct Results {
    pub programs: Vec<Program>,
    /// In the order they happened.
    pub turns: Vec<Turn>,
}

pub struct Turn {
    /// From 0.
    pub round: usize,
    pub case: Case,
    pub kind: Kind,
    pub measured: Measured,
}

pub fn run(settings: &Settings, signals: &Signals) -> Result<Results> {
    if settings.server_core == settings.load_core {
        bail!("the server needs a core of its own; choose different cores");
    }
    let programs = settings
        .servers
        .iter()
        .map(|&kind| Program::find(kind, &settings.binary))
        .collect::<Result<Vec<_>>>()?;
    let folder = tempfile::Builder::new()
        .prefix("trilith-bench-")
        .tempdir()?;
    let www = folder.path().join("www");
    fs::create_dir(&www)?;
    fs::write(www.join("1k.bin"), Case::Static1k.body())?;
    fs::write(www.join("100k.bin"), Case::Static100k.body())?;

    pin_this_thread(settings.load_core)?;
    let mut stub = Stub::listen()?;
    let mut turns = Vec::new();
    for round in 0..settings.rounds {
        for &case in &settings.cases {
            let mut order: Vec<&Program> = programs
                .iter()
                .filter(|program| case.suits(program.kind))
                .collect();
            if order.is_empty() {
                continue;
            }
            // Nobody is always first, or always behind the same neighbour.
            let first = round % order.len();
            order.rotate_left(first);
            for program in order {
                eprint!(
                    "round {}/{}  {:<15} ",
                    round + 1,
                    settings.rounds,
                    case.name()
                );
                let measured = undisturbed(|attempt| {
                    let dir = folder.path().join(format!(
                        "{}-{}-{attempt}",
                        program.kind.name(),
                        turns.len()
                    ));
                    fs::create_dir(&dir)?;
                    turn(settings, program, case, &dir, &www, &mut stub, signals)
                })
                .with_context(|| format!("{}, {}", program.kind.name(), case.name()))?;
                eprintln!(
                    "{:<8} {:>8.0} requests/s  {:>6.2} us CPU/request{}",
                    program.kind.name(),
                    measured.requests_per_second(),
                    measured.cpu_us_per_request(),
                    if measured.disturbed() {
                        "  (disturbed)"
                    } else {
                        ""
                    }
                );
                turns.push(Turn {
                    round,
                    case,
                    kind: program.kind,
                    measured,
                });
            }
        }
    }
    Ok(Results { programs, turns })
}

/// A turn that other programs on this machine disturbed is made again, twice at most.
fn undisturbed(mut turn: impl FnMut(usize) -> Result<Measured>) -> Result<Measured> {
    let mut measured = turn(0)?;
    for attempt in 1..3 {
        if !measured.disturbed() {
            break;
        }
        let again = turn(attempt)?;
        if again.server_use() > measured.server_use() {
            measured = again;
        }
    }
    Ok(measured)
}

/// Starts the server, loads it, stops it.
fn turn(
    settings: &Settings,
    program: &Program,
    case: Case,
    dir: &Path,
    www: &Path,
    stub: &mut Stub,
    signals: &Signals,
) -> Result<Measured> {
    let ports = Ports::free()?;
    let mut command = program.command(dir, www, ports, stub.address()?)?;
    let mut server = on_core(settings.server_core, || {
        Server::spawn(&mut command, &dir.join("output"))
    })?;
    let job = Job {
        target: ports.listen(),
        path: case.path(),
        body: case.body(),
        connections: settings.connections,
        warmup: settings.warmup,
        measure: settings.measure,
    };
    let result = measure(settings, &job, &mut server, stub, signals);
    result.with_context(|| format!("the server's own output: {}", quote(&server.output())))
}

fn measure(
    settings: &Settings,
    job: &Job,
    server: &mut Server,
    stub: &mut Stub,
    signals: &Signals,
) -> Result<Measured> {
    load::await_ready(job, stub, signals, || {
        if server.has_ended() {
            bail!("it ended while starting")
        } else {
            Ok(())
        }
    })?;
    check_pinned(server.pid(), settings.server_core)?;
    let clocks = CpuClocks::of_tree(server.pid())?;
    load::run(job, stub, &clocks, signals)
}

impl Measured {
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.wall.as_secs_f64()
    }

    pub fn cpu_us_per_request(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    /// How busy the server's core was, by the server alone. 1.0 is all of it.
    pub fn server_use(&self) -> f64 {
        self.server_cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// Whether neither server nor generator had its core to itself: something else ran there, and
    /// emptied the caches.
    pub fn disturbed(&self) -> bool {
        self.server_use() < 0.9 && self.load_use() < 0.95
    }

    pub fn load_use(&self) -> f64 {
        self.load_cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// The latency that `share` (0 to 1) of the requests did not exceed, in microseconds.
    pub fn latency_us(&self, share: f64) -> f64 {
        let last = self.latencies_ns.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.latencies_ns
            .get(index)
            .map_or(f64::NAN, |&ns| f64::from(ns) / 1000.0)
    }
}

fn file_content(bytes: usize) -> Vec<u8> {
    // Not compressible to nothing, and different at every offset of a few pages.
    (0..bytes as u64)
        .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

fn quote(output: &str) -> String {
    let start = output.len().saturating_sub(2000);
    let tail = output.get(start..).unwrap_or(output).trim();
    if tail.is_empty() {
        "(nothing)".to_owned()
    } else {
        tail.to_owned()
    }
}
