//! Medians over the rounds, as a table for the terminal and as `bench/RESULTS.md`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::machine;
use crate::plan::{Case, Results, Settings, Turn};
use crate::servers::{Kind, Ports, config};

/// One line of the table: the medians over all rounds.
struct Row {
    case: Case,
    kind: Kind,
    requests_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
    cpu_us_min: f64,
    cpu_us_max: f64,
    server_use: f64,
    /// CPU per request, Trilith's to this peer's: the median of the rounds' ratios.
    ratio: Option<f64>,
}

fn rows(results: &Results) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for case in Case::ALL {
        for kind in Kind::ALL {
            let turns: Vec<&Turn> = results
                .turns
                .iter()
                .filter(|turn| turn.case == case && turn.kind == kind)
                .collect();
            if turns.is_empty() {
                continue;
            }
            let of = |value: &dyn Fn(&Turn) -> f64| {
                let mut values: Vec<f64> = turns.iter().map(|turn| value(turn)).collect();
                values.sort_by(f64::total_cmp);
                values
            };
            let cpu = of(&|turn| turn.measured.cpu_us_per_request());
            let cpu_us = median(&cpu);
            rows.push(Row {
                case,
                kind,
                requests_per_second: median(&of(&|turn| turn.measured.requests_per_second())),
                p50_us: median(&of(&|turn| turn.measured.latency_us(0.50))),
                p99_us: median(&of(&|turn| turn.measured.latency_us(0.99))),
                cpu_us,
                cpu_us_min: cpu[0],
                cpu_us_max: cpu[cpu.len() - 1],
                server_use: median(&of(&|turn| turn.measured.server_use())),
                ratio: ratio(results, case, kind),
            });
        }
    }
    rows
}

/// Within a round both ran within seconds of each other, so what slowed the machine slowed both.
fn ratio(results: &Results, case: Case, peer: Kind) -> Option<f64> {
    let cpu = |round: usize, kind: Kind| {
        let mut turns = results.turns.iter();
        let turn = turns.find(|t| t.round == round && t.case == case && t.kind == kind)?;
        Some(turn.measured.cpu_us_per_request())
    };
    if peer == Kind::Trilith {
        return None;
    }
    let rounds = results.turns.iter().map(|turn| turn.round + 1).max()?;
    let mut ratios: Vec<f64> = (0..rounds)
        .filter_map(|round| Some(cpu(round, Kind::Trilith)? / cpu(round, peer)?))
        .collect();
    ratios.sort_by(f64::total_cmp);
    (!ratios.is_empty()).then(|| median(&ratios))
}

/// The middle of sorted values; the mean of the two middle ones when their number is even.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Per case: Trilith's CPU per request over the best peer's.
fn verdicts(rows: &[Row]) -> Vec<(Case, Kind, f64)> {
    Case::ALL
        .into_iter()
        .filter_map(|case| {
            rows.iter()
                .filter(|row| row.case == case)
                .filter_map(|row| Some((case, row.kind, row.ratio?)))
                .max_by(|a, b| a.2.total_cmp(&b.2))
        })
        .collect()
}

/// The table, aligned, as Markdown; readable as it is.
pub fn table(results: &Results) -> String {
    let rows = rows(results);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "| {:<14} | {:<7} | {:>10} | {:>8} | {:>8} | {:>14} | {:>13} | {:>8} | {:>14} |",
        "work",
        "server",
        "requests/s",
        "p50 us",
        "p99 us",
        "CPU us/request",
        "min..max",
        "core use",
        "Trilith / peer"
    );
    let _ = writeln!(
        text,
        "|{:-<16}|{:-<9}|{:->11}:|{:->9}:|{:->9}:|{:->15}:|{:->14}:|{:->9}:|{:->15}:|",
        "", "", "", "", "", "", "", "", ""
    );
    for row in &rows {
        let ratio = row
            .ratio
            .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            text,
            "| {:<14} | {:<7} | {:>10.0} | {:>8.0} | {:>8.0} | {:>14.2} | {:>13} | {:>7.0}% | {:>14} |",
            row.case.name(),
            row.kind.name(),
            row.requests_per_second,
            row.p50_us,
            row.p99_us,
            row.cpu_us,
            format!("{:.2}..{:.2}", row.cpu_us_min, row.cpu_us_max),
            row.server_use * 100.0,
            ratio,
        );
    }
    for (case, peer, ratio) in verdicts(&rows) {
        let _ = writeln!(
            text,
            "\n{}: Trilith needs {ratio:.2} of the CPU time per request of {}, the best peer.",
            case.name(),
            peer.name()
        );
    }
    text
}

/// What a reader of the numbers should know.
pub fn warnings(results: &Results) -> Vec<String> {
    let named = |which: &dyn Fn(&Turn) -> bool| -> Option<String> {
        let turns: Vec<&Turn> = results.turns.iter().filter(|turn| which(turn)).collect();
        let names: BTreeSet<String> = turns
            .iter()
            .map(|turn| format!("{} ({})", turn.kind.name(), turn.case.name()))
            .collect();
        let names: Vec<String> = names.into_iter().collect();
        (!turns.is_empty()).then(|| {
            format!(
                "in {} of {} turns, of {}",
                turns.len(),
                results.turns.len(),
                names.join(", ")
            )
        })
    };
    let mut warnings = Vec::new();
    if let Some(turns) =
        named(&|turn| turn.measured.load_use() >= 0.95 && turn.measured.server_use() < 0.9)
    {
        warnings.push(format!(
            "{turns}, the generator's core was full and the server's was not: requests/s is the \
             generator's limit there"
        ));
    }
    if let Some(turns) = named(&|turn| turn.measured.disturbed()) {
        warnings.push(format!(
            "{turns}, other programs took time on these cores: measure again on a quiet machine"
        ));
    }
    warnings
}

/// The file: result, versions, machine, method, configurations.
pub fn markdown(settings: &Settings, results: &Results) -> Result<String> {
    let mut text = String::from("# Side by side\n\nWritten by `make bench`; do not edit.\n\n");
    text.push_str(&table(results));
    for warning in warnings(results) {
        let _ = writeln!(text, "\nNote: {warning}.");
    }
    let now = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC);
    let _ = write!(
        text,
        "
## Measured

- Date: {date}
- Machine: {machine}
",
        date = now.strftime("%Y-%m-%d %H:%M UTC"),
        machine = machine::describe(),
    );
    for program in &results.programs {
        let _ = writeln!(text, "- {}: {}", program.kind.name(), program.version);
    }
    let _ = write!(
        text,
        "
## How

- {rounds} rounds. In each round every server has one turn per kind of work, in rotated order: it is
  started, warmed up for {warmup} s, measured for {measure} s, and stopped. Only one server runs at a
  time. The table shows the median of the rounds; min..max is their range.
- The server is pinned to core {server_core}; generator and backend share core {load_core}, in one
  single-threaded epoll loop. {connections} keep-alive connections with one request in flight on each,
  over 127.0.0.1, so the server is always saturated and latency is latency at saturation.
- A turn in which other programs took time on these cores is made again, twice at most.
- Every response must have status 200 and the right length; the first body on each connection is
  compared byte for byte. A wrong response, or a closed connection, fails the run.
- CPU us/request: CPU time of all the server's processes (clock_getcpuclockid, nanoseconds) over the
  requests answered in the same time. {softirq}
- The ratio compares CPU time per request within each round; the table shows the median of the rounds.
  Below 1.00, Trilith needs less.

## Configurations
",
        rounds = settings.rounds,
        warmup = settings.warmup.as_secs_f64(),
        measure = settings.measure.as_secs_f64(),
        server_core = settings.server_core,
        load_core = settings.load_core,
        connections = settings.connections,
        softirq = machine::softirq_note(),
    );
    let ports = Ports {
        http: 8080,
        https: 8443,
        cluster: 7400,
        admin: 7480,
    };
    let stub = SocketAddr::from(([127, 0, 0, 1], 9000));
    for kind in Kind::ALL {
        let _ = write!(
            text,
            "\n### {}\n\n```{}\n{}```\n",
            kind.name(),
            if kind == Kind::Trilith { "toml" } else { "" },
            config(
                kind,
                Path::new("/tmp/bench"),
                Path::new("/tmp/bench/www"),
                ports,
                stub
            )?,
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
