//! The words of a scenario file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus::{Epoch, Revision};
use trilith_ha::{
    Changes, ClusterRecord, Data, History, Kind, LeaseSeen, Local, Lsn, Observed, Policy, Position,
    PrimarySeen, Process, Ready, Record, Report, ReportedData, Request, Restart, SlotSeen, Standby,
    StoreView, SyncInForce, SyncSet,
};

/// Of the lease, whoever holds it.
const EPOCH: Epoch = Epoch(50);
/// Of the view.
const NOW: Revision = Revision(99);
const DATABASE: u64 = 7;

/// What has been said so far.
pub struct Scene {
    me: ServerName,
    servers: Vec<ServerName>,
    synchronous: bool,
    lease: LeaseSeen,
    data: Option<Data>,
    process: Process,
    standbys: BTreeMap<ServerName, Standby>,
    seen: Option<PrimarySeen>,
    store: StoreView,
    failures: u32,
    asides: usize,
    quorum: bool,
    changes: Changes,
    yielding: bool,
    failures_before: u32,
    leaving: bool,
    request_for: Duration,
    restart_for: BTreeMap<ServerName, Duration>,
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

impl Default for Scene {
    fn default() -> Self {
        let servers = ["one", "two", "three"];
        let servers = servers.map(|server| ServerName::new(server).unwrap());
        Self {
            me: servers[0].clone(),
            servers: servers.to_vec(),
            synchronous: true,
            lease: LeaseSeen::Free {
                since: Duration::ZERO,
            },
            data: None,
            process: Process::Stopped,
            standbys: BTreeMap::new(),
            seen: None,
            store: StoreView {
                revision: NOW,
                cluster: Some(ClusterRecord {
                    system_id: DATABASE,
                }),
                ..StoreView::default()
            },
            failures: 0,
            asides: 0,
            quorum: true,
            changes: Changes::Seen,
            yielding: false,
            failures_before: 0,
            leaving: false,
            request_for: Duration::ZERO,
            restart_for: BTreeMap::new(),
        }
    }
}

impl Scene {
    pub fn observed(&self) -> (Observed, Policy) {
        let mut process = self.process.clone();
        let mut kind = Kind::Replica;
        let mut history = None;
        if let Process::Ready(ready) = &mut process {
            if !ready.in_recovery {
                kind = Kind::Primary;
            }
            ready.standbys = self.standbys.values().cloned().collect();
            history = Some(ready.history.clone());
        }
        // Whoever runs has data.
        let running = history.map(|history| Data::Ready {
            system_id: DATABASE,
            kind,
            clean: false,
            history,
            unfounded: false,
        });
        let data = self.data.clone().or(running).unwrap_or(Data::Missing);
        let observed = Observed {
            store: self.store.clone(),
            quorum: self.quorum,
            lease: self.lease,
            local: Local {
                data,
                process,
                asides: self.asides,
                failures: self.failures,
            },
            primary: self.seen.clone(),
            changes: self.changes,
            yielding: self.yielding,
            failures_before: self.failures_before,
            request_for: self.request_for,
            restart_for: self.restart_for.clone(),
            leaving: self.leaving,
        };
        let policy = Policy::new(self.me.clone(), self.servers.clone(), self.synchronous);
        (observed, policy)
    }

    /// Takes one line.
    pub fn say(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace().peekable();
        let Some(first) = words.next() else {
            return Ok(());
        };
        match first {
            "me" => self.me = name(&mut words)?,
            "servers" => self.servers = names(&mut words)?.into_iter().collect(),
            "synchronous" => self.synchronous = word(&mut words)? == "quorum",
            "cluster" => {
                self.store.cluster = match word(&mut words)? {
                    "none" => None,
                    id => Some(ClusterRecord {
                        system_id: number(id)?,
                    }),
                };
            }
            "lease" => self.lease(&mut words)?,
            "record" => self.store.record = Some((record(&mut words)?, Revision(60))),
            "report" => {
                let server = name(&mut words)?;
                match report(&mut words)? {
                    Some(report) => {
                        self.store.reports.insert(server, (report, Revision(70)));
                    }
                    None => {
                        self.store.reports.remove(&server);
                    }
                }
            }
            "request" => self.request(&mut words)?,
            "paused" => self.store.paused = true,
            "resumed" => self.store.paused = false,
            "unreadable" => self.store.unreadable = Some(rest(&mut words)),
            "reinit" => {
                self.store.reinit.insert(name(&mut words)?);
            }
            "restart" => self.restart(&mut words)?,
            "data" => self.data = data(&mut words)?,
            "process" => self.process = process(&mut words)?,
            "standby" => {
                let name = name(&mut words)?;
                match word(&mut words)? {
                    "none" => {
                        self.standbys.remove(&name);
                    }
                    state => {
                        let standby = standby(name.clone(), state, word(&mut words)?)?;
                        self.standbys.insert(name, standby);
                    }
                }
            }
            "seen" => self.seen = Some(seen(&mut words)?),
            "failures" => self.failures = number(word(&mut words)?)?,
            "failures-before" => self.failures_before = number(word(&mut words)?)?,
            "asides" => self.asides = number(word(&mut words)?)?,
            "no-quorum" => self.quorum = false,
            "quorum" => self.quorum = true,
            "change" => {
                self.changes = match word(&mut words)? {
                    "seen" => Changes::Seen,
                    "unseen" => Changes::Unseen,
                    "unknown" => Changes::Unknown,
                    other => return Err(format!("`{other}` is nothing that becomes of a change")),
                }
            }
            "yielding" => self.yielding = true,
            "leaving" => self.leaving = true,
            _ => return Err("no such word".to_owned()),
        }
        match words.next() {
            Some(more) => Err(format!("`{more}` is too much")),
            None => Ok(()),
        }
    }

    fn lease(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let ours = Some((self.me.clone(), EPOCH));
        (self.lease, self.store.lease) = match word(words)? {
            "mine" => (LeaseSeen::Mine { epoch: EPOCH }, ours),
            // The grant has been answered, and the view does not show it yet.
            "mine-ahead" => {
                let epoch = Epoch(NOW.0 + 1);
                (LeaseSeen::Mine { epoch }, None)
            }
            // The agent has not noticed that it ended.
            "mine-ended" => (LeaseSeen::Mine { epoch: EPOCH }, None),
            state @ ("unproven" | "expired") => {
                let expired = state == "expired";
                let epoch = EPOCH;
                (LeaseSeen::Unproven { epoch, expired }, ours)
            }
            "other" => (LeaseSeen::Other, Some((name(words)?, EPOCH))),
            "free" => {
                let since = duration(word(words)?)?;
                (LeaseSeen::Free { since }, None)
            }
            other => return Err(format!("`{other}` is no state of a lease")),
        };
        Ok(())
    }

    fn restart(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let server = name(words)?;
        let restart = match word(words)? {
            "none" => {
                self.store.restart.remove(&server);
                return Ok(());
            }
            "asked" => Restart::Asked,
            "turn" => Restart::Turn {
                term: number(word(words)?)?,
            },
            "begun" => Restart::Begun,
            other => return Err(format!("`{other}` is no state of a restart")),
        };
        let time = match words.next_if_eq(&"for") {
            Some(_) => duration(word(words)?)?,
            None => Duration::ZERO,
        };
        self.restart_for.insert(server.clone(), time);
        let version = Revision(85);
        self.store.restart.insert(server, (restart, version));
        Ok(())
    }

    fn request(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let kind = word(words)?;
        let (mut to, mut accept_loss) = (None, false);
        let mut term = self.store.term();
        self.request_for = Duration::ZERO;
        while let Some(word_) = words.next() {
            match word_ {
                "accept-loss" => accept_loss = true,
                "term" => term = number(word(words)?)?,
                "for" => self.request_for = duration(word(words)?)?,
                server => to = Some(ServerName::new(server).map_err(|bad| bad.to_string())?),
            }
        }
        let request = match (kind, to) {
            ("none", _) => {
                self.store.request = None;
                return Ok(());
            }
            ("switchover", to) => Request::Switchover { to, term },
            ("failover", Some(to)) => Request::Failover {
                to,
                accept_loss,
                term,
            },
            _ => return Err("no such request".to_owned()),
        };
        self.store.request = Some((request, Revision(80)));
        Ok(())
    }
}

fn record(words: &mut Words<'_>) -> Result<Record, String> {
    let mut record = Record {
        term: 1,
        primary: ServerName::new("one").unwrap(),
        sync: SyncSet::alone(),
        open: false,
        base: None,
        expected: BTreeSet::new(),
        next: None,
        asynchronous: false,
        forced: false,
        timeline: 0,
        retaken: 0,
    };
    while let Some(first) = words.next() {
        match first {
            "term" => record.term = number(word(words)?)?,
            "primary" => record.primary = name(words)?,
            "open" => record.open = true,
            "closed" => record.open = false,
            "sync" => record.sync = sync(words)?,
            "base" => record.base = Some(history(word(words)?)?.end),
            "expects" => record.expected = names(words)?.into_iter().collect(),
            "next" => record.next = Some(name(words)?),
            "asynchronous" => record.asynchronous = true,
            "timeline" => record.timeline = number(word(words)?)?,
            "retaken" => record.retaken = number(word(words)?)?,
            other => return Err(format!("`{other}` is nothing of a record")),
        }
    }
    Ok(record)
}

fn report(words: &mut Words<'_>) -> Result<Option<Report>, String> {
    let term = match word(words)? {
        "none" => return Ok(None),
        term => number(term)?,
    };
    let data = match word(words)? {
        "nothing" => ReportedData::Nothing,
        "unusable" => ReportedData::Unusable { what: rest(words) },
        kind => {
            let history = history(word(words)?)?;
            let system_id = match words.next_if_eq(&"system") {
                Some(_) => number(word(words)?)?,
                None => DATABASE,
            };
            ReportedData::Database {
                system_id,
                history,
                primary: kind == "primary",
            }
        }
    };
    Ok(Some(Report { term, data }))
}

fn data(words: &mut Words<'_>) -> Result<Option<Data>, String> {
    let kind = match word(words)? {
        "none" => return Ok(None),
        "missing" => return Ok(Some(Data::Missing)),
        "half" => return Ok(Some(Data::HalfMade { what: rest(words) })),
        "unusable" => {
            let text = rest(words);
            let (what, hint) = text.split_once("; ").ok_or("WHAT; HINT")?;
            return Ok(Some(Data::Unusable {
                what: what.to_owned(),
                hint: hint.to_owned(),
            }));
        }
        "primary" => Kind::Primary,
        "replica" => Kind::Replica,
        other => return Err(format!("`{other}` is no state of data")),
    };
    let history = history(word(words)?)?;
    let (mut clean, mut unfounded, mut system) = (false, false, DATABASE);
    while let Some(first) = words.next() {
        match first {
            "clean" => clean = true,
            "crashed" => clean = false,
            "unfounded" => unfounded = true,
            "system" => system = number(word(words)?)?,
            other => return Err(format!("`{other}` is nothing of data")),
        }
    }
    Ok(Some(Data::Ready {
        system_id: system,
        kind,
        clean,
        history,
        unfounded,
    }))
}

fn process(words: &mut Words<'_>) -> Result<Process, String> {
    let in_recovery = match word(words)? {
        "stopped" => return Ok(Process::Stopped),
        state @ ("starting" | "silent") => {
            let since = duration(word(words)?)?;
            return Ok(match state {
                "starting" => Process::Starting { since },
                _ => Process::Silent { since },
            });
        }
        "primary" => false,
        "replica" => true,
        other => return Err(format!("`{other}` is no state of a process")),
    };
    let history = history(word(words)?)?;
    let mut ready = Ready {
        in_recovery,
        system_id: DATABASE,
        since: Duration::from_secs(3600),
        follows: None,
        receiving: false,
        not_streaming: Duration::ZERO,
        settled: true,
        open: false,
        sync: SyncInForce {
            set: SyncSet::alone(),
            since: Lsn(0),
        },
        standbys: Vec::new(),
        set_up: true,
        checkpointed: true,
        lowers: false,
        history,
    };
    while let Some(first) = words.next() {
        match first {
            "for" => ready.since = duration(word(words)?)?,
            "follows" => {
                ready.follows = Some(name(words)?);
                ready.receiving = true;
            }
            "stalled" => {
                ready.not_streaming = duration(word(words)?)?;
                ready.receiving = false;
            }
            "receiving" => ready.receiving = true,
            "unsettled" => ready.settled = false,
            "open" => ready.open = true,
            "sync" => ready.sync.set = sync(words)?,
            "since" => ready.sync.since = lsn(word(words)?)?,
            "not-set-up" => ready.set_up = false,
            "lowers" => ready.lowers = true,
            "not-checkpointed" => ready.checkpointed = false,
            "system" => ready.system_id = number(word(words)?)?,
            other => return Err(format!("`{other}` is nothing of a process")),
        }
    }
    Ok(Process::Ready(Box::new(ready)))
}

fn standby(name: ServerName, state: &str, how: &str) -> Result<Standby, String> {
    let streaming = state == "streaming";
    let (mut flushed, mut gone_for) = (Lsn(0), Duration::ZERO);
    match streaming {
        true => flushed = lsn(how)?,
        false => gone_for = duration(how)?,
    }
    Ok(Standby {
        name,
        streaming,
        flushed,
        gone_for,
    })
}

fn seen(words: &mut Words<'_>) -> Result<PrimarySeen, String> {
    let server = name(words)?;
    let is_primary = word(words)? == "primary";
    let history = history(word(words)?)?;
    let mut seen = PrimarySeen {
        server,
        is_primary,
        system_id: DATABASE,
        checkpoint_timeline: history.end.timeline,
        history,
        oldest: Lsn(0),
        slot: SlotSeen::Ready,
    };
    while let Some(first) = words.next() {
        match first {
            "oldest" => seen.oldest = lsn(word(words)?)?,
            "checkpoint" => seen.checkpoint_timeline = number(word(words)?)?,
            "system" => seen.system_id = number(word(words)?)?,
            "slot" => {
                seen.slot = match word(words)? {
                    "missing" => SlotSeen::Missing,
                    "active" => SlotSeen::Active,
                    "lost" => SlotSeen::Lost,
                    _ => SlotSeen::Ready,
                };
            }
            other => return Err(format!("`{other}` is nothing of a primary")),
        }
    }
    Ok(seen)
}

/// `none`, or `1 of two three`.
fn sync(words: &mut Words<'_>) -> Result<SyncSet, String> {
    if words.next_if_eq(&"none").is_some() {
        return Ok(SyncSet::alone());
    }
    let acks = number(word(words)?)?;
    if word(words)? != "of" {
        return Err("N of SERVERS".to_owned());
    }
    let members = names(words)?.into_iter().collect();
    Ok(SyncSet { members, acks })
}

/// `1:0/100>2:0/200`: timeline 1 ended at 0/100, and 2 is at 0/200.
fn history(text: &str) -> Result<History, String> {
    let position = |text: &str| {
        let (timeline, at) = text.split_once(':').ok_or("TIMELINE:LSN")?;
        Ok::<_, String>(Position {
            timeline: number(timeline)?,
            lsn: lsn(at)?,
        })
    };
    let mut ended = text
        .split('>')
        .map(position)
        .collect::<Result<Vec<_>, _>>()?;
    let end = ended.pop().ok_or("a history is empty")?;
    Ok(History::new(ended, end))
}

fn names(words: &mut Words<'_>) -> Result<Vec<ServerName>, String> {
    let known = ["one", "two", "three", "four", "five"];
    let mut names = Vec::new();
    while let Some(word) = words.next_if(|word| known.contains(word)) {
        names.push(ServerName::new(word).map_err(|bad| bad.to_string())?);
    }
    Ok(names)
}

fn name(words: &mut Words<'_>) -> Result<ServerName, String> {
    ServerName::new(word(words)?).map_err(|bad| bad.to_string())
}

fn word<'a>(words: &mut Words<'a>) -> Result<&'a str, String> {
    words.next().ok_or_else(|| "a word is missing".to_owned())
}

fn rest(words: &mut Words<'_>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

fn lsn(word: &str) -> Result<Lsn, String> {
    word.parse::<Lsn>().map_err(|bad| bad.to_string())
}

fn duration(word: &str) -> Result<Duration, String> {
    trilith_base::parse_duration(word).map_err(|bad| bad.to_string())
}
