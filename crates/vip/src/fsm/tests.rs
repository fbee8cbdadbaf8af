//! Scenario files: what happens to one state machine, and after each line what it asks for. With
//! `UPDATE_SCENARIOS=1` the files are written anew from what it does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trilith_base::{BootTime, ServerName};
use trilith_consensus::{Entry, Epoch, Key, Lease, Revision, View};

use super::*;

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fsm/scenarios");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut files = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = play(&expected).unwrap_or_else(|bad| panic!("{}: {bad}", path.display()));
        files += 1;
        if update {
            std::fs::write(&path, actual).unwrap();
        } else if actual != expected {
            wrong.push(format!(
                "{}:\n{}",
                path.display(),
                difference(&expected, &actual)
            ));
        }
    }
    assert!(files >= 20, "{files} scenarios");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn difference(expected: &str, actual: &str) -> String {
    let mut lines = expected.lines().zip(actual.lines());
    match lines.position(|(e, a)| e != a) {
        Some(at) => format!(
            "line {}\n  expected: {}\n  actual:   {}\n--- actual\n{actual}",
            at + 1,
            expected.lines().nth(at).unwrap(),
            actual.lines().nth(at).unwrap()
        ),
        None => format!("one is longer\n--- actual\n{actual}"),
    }
}

struct Player {
    fsm: Fsm,
    view: View,
    /// Renewals and refreshes succeed by themselves after 2 ms, and are not shown.
    auto: bool,
    now: BootTime,
    out: String,
}

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

fn play(script: &str) -> Result<String, String> {
    let edges: Vec<_> = ["one", "two", "three"].map(name).into();
    let mut player = Player {
        fsm: Fsm::new(Policy::new(
            "10.0.0.100".parse().unwrap(),
            0,
            name("one"),
            edges.clone(),
        )),
        view: View::default(),
        auto: false,
        now: BootTime::default(),
        out: String::new(),
    };
    for line in script.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["->", ..] => continue,
            [time, "->", ..] if time.parse::<f64>().is_ok() => continue,
            _ => {}
        }
        // What is due before comes before.
        if let [time, ..] = words[..]
            && let Ok(time) = at(time)
        {
            player.run_until(time);
        }
        player.out.push_str(line);
        player.out.push('\n');
        match words[..] {
            [] => {}
            [comment, ..] if comment.starts_with('#') => {}
            ["me", me, ref rest @ ..] => {
                let ip = player.fsm.policy().ip;
                let mut policy = Policy::new(ip, 0, name(me), edges.clone());
                if rest.contains(&"l2") {
                    policy = policy.with_network(rest.contains(&"orphan"));
                }
                player.fsm = Fsm::new(policy);
            }
            ["auto"] => player.auto = true,
            ["manual"] => player.auto = false,
            ["until", time] => player.run_until(at(time)?),
            // Suspended: time passes, and nothing is looked at.
            ["sleep", time] => player.now = at(time)?,
            [_, ref command @ ..] => {
                let input = player
                    .input(command)
                    .ok_or_else(|| format!("line {line:?}"))?;
                player.step(input, false);
            }
        }
    }
    Ok(player.out)
}

fn at(text: &str) -> Result<BootTime, String> {
    let millis: u64 = text.parse().map_err(|_| format!("no time: {text}"))?;
    Ok(BootTime(Duration::from_millis(millis)))
}

impl Player {
    /// Ticks whenever the machine wants one.
    fn run_until(&mut self, end: BootTime) {
        for _ in 0..10_000 {
            match self.fsm.next_wakeup() {
                Some(wakeup) if wakeup <= end && wakeup > self.now => {
                    self.now = wakeup;
                    self.step(Input::Tick, true);
                }
                _ => {
                    self.now = self.now.max(end);
                    return;
                }
            }
        }
        panic!("it ticks without end");
    }

    fn step(&mut self, input: Input, with_time: bool) {
        let mut queue = vec![(self.now, input)];
        while let Some((now, input)) = queue.pop() {
            self.now = now;
            for effect in self.fsm.step(now, input) {
                let soon = now + Duration::from_millis(2);
                match effect {
                    Effect::Renew { epoch } if self.auto => queue.push((
                        soon,
                        Input::RenewDone {
                            epoch,
                            asked_at: now,
                            result: Renewal::Yes,
                        },
                    )),
                    Effect::Refresh { .. } if self.auto => {
                        queue.push((soon, Input::RefreshDone(true)));
                    }
                    effect => {
                        let time = match with_time {
                            true => format!("{:>7}", now.0.as_micros() as f64 / 1_000.0),
                            false => " ".repeat(7),
                        };
                        let _ = writeln!(self.out, "{time} -> {effect}");
                    }
                }
            }
        }
    }

    fn input(&mut self, command: &[&str]) -> Option<Input> {
        let epoch = |text: &str| text.parse().ok().map(Epoch);
        let renewed = |number: &str, asked: &str, result| {
            Some(Input::RenewDone {
                epoch: epoch(number)?,
                asked_at: at(asked).ok()?,
                result,
            })
        };
        let granted = |asked: &str, result| {
            let asked_at = at(asked).ok()?;
            Some(Input::GrantDone { asked_at, result })
        };
        Some(match command {
            ["tick"] => Input::Tick,
            ["view", words @ ..] => self.view(words)?,
            ["healthy"] => Input::Health(true),
            ["unhealthy"] => Input::Health(false),
            ["link", state] => Input::Link(*state == "up"),
            ["drain"] => Input::Drain(true),
            ["undrain"] => Input::Drain(false),
            ["quorum"] => Input::Quorum(true),
            ["no-quorum"] => Input::Quorum(false),
            ["granted", number, "asked", asked] => granted(asked, Granted::Yes(epoch(number)?))?,
            ["refused", asked] => granted(asked, Granted::Refused)?,
            ["grant-failed", asked] => granted(asked, Granted::Failed)?,
            ["grant-unknown", asked] => granted(asked, Granted::Unknown)?,
            ["renewed", number, "asked", asked] => renewed(number, asked, Renewal::Yes)?,
            ["renew-failed", number, "asked", asked] => renewed(number, asked, Renewal::Failed)?,
            ["renew-lost", number, "asked", asked] => renewed(number, asked, Renewal::Lost)?,
            ["revoked", number] => Input::RevokeDone {
                epoch: epoch(number)?,
                done: true,
            },
            ["revoke-failed", number] => Input::RevokeDone {
                epoch: epoch(number)?,
                done: false,
            },
            ["nobody-answers"] => Input::ProbeDone(Answer::Free),
            ["somebody-answers"] => Input::ProbeDone(Answer::Taken),
            ["nothing-heard"] => Input::ProbeDone(Answer::Deaf),
            ["probe-failed"] => Input::ProbeDone(Answer::Failed),
            ["taken"] => Input::TakeDone(true),
            ["take-failed"] => Input::TakeDone(false),
            ["refreshed"] => Input::RefreshDone(true),
            ["released"] => Input::ReleaseDone(true),
            ["release-failed"] => Input::ReleaseDone(false),
            ["conflict"] => Input::Conflict,
            ["challenged"] => Input::Challenged,
            _ => return None,
        })
    }

    /// `free` or `SERVER@EPOCH`, then `wanted=SERVER`, `drain=SERVER`, `others=N`, `rev=N`.
    fn view(&mut self, words: &[&str]) -> Option<Input> {
        let key = |text: &str| Key::new(text).unwrap();
        let mut view = View {
            revision: Revision(self.view.revision.0 + 1),
            entries: BTreeMap::new(),
            leases: BTreeMap::new(),
        };
        let (me, lease) = (self.fsm.policy.me.clone(), self.fsm.policy.lease.clone());
        let ttl = self.fsm.policy.ttl;
        for word in words {
            if let Some((holder, epoch)) = word.split_once('@') {
                let epoch = Epoch(epoch.parse().ok()?);
                let holder = name(holder);
                view.revision = view.revision.max(Revision(epoch.0));
                view.leases
                    .insert(lease.clone(), Lease { holder, epoch, ttl });
                continue;
            }
            let version = view.revision;
            let entry = |value: &str| Entry {
                value: value.as_bytes().into(),
                version,
            };
            match word.split_once('=') {
                None if *word == "free" => {}
                Some(("wanted", server)) => {
                    let wanted = self.fsm.policy.wanted.clone();
                    // A wish keeps its version while it stands.
                    let entry = match self.view.get(wanted.as_str()) {
                        Some(old) if *old.value == *server.as_bytes() => old.clone(),
                        _ => entry(server),
                    };
                    view.entries.insert(wanted, entry);
                }
                Some(("rev", revision)) => view.revision = Revision(revision.parse().ok()?),
                Some(("drain", server)) => {
                    view.entries
                        .insert(key(&format!("drain/{server}")), entry(""));
                }
                Some(("others", count)) => {
                    for n in 0..count.parse().ok()? {
                        let (holder, epoch) = (me.clone(), Epoch(n + 1));
                        let other = key(&format!("vip/10.0.1.{n}"));
                        view.leases.insert(other, Lease { holder, epoch, ttl });
                    }
                }
                _ => return None,
            }
        }
        self.view = view.clone();
        Some(Input::View(Arc::new(view)))
    }
}

#[test]
fn deadlines_leave_room_to_stop_and_for_clocks_that_differ() {
    let policy = Policy::new(
        "10.0.0.100".parse().unwrap(),
        0,
        name("one"),
        vec![name("one")],
    );
    let asked = BootTime(Duration::from_secs(10));
    let lasts = policy.deadline(asked).since(asked);
    assert_eq!(lasts, Duration::from_micros(1_300_000 - 50_000 - 1_300));
    // A lifetime of a second fits a fresh renewal, and none fits an old one.
    assert_eq!(policy.seconds(asked, asked + lasts), 1);
    let late = asked + Duration::from_millis(160);
    assert_eq!(policy.seconds(late, asked + lasts), 0);
    assert_eq!(
        policy.seconds(asked, asked + Duration::from_millis(2_200)),
        2
    );
    assert_eq!(
        policy.seconds(asked, asked + Duration::from_millis(2_199)),
        1
    );
}

#[test]
fn addresses_are_spread_over_the_edges() {
    let edges: Vec<_> = ["one", "two"].map(name).into();
    let preferred = |index| {
        let policy = Policy::new(
            "10.0.0.100".parse().unwrap(),
            index,
            name("one"),
            edges.clone(),
        );
        policy.preferred.unwrap().to_string()
    };
    assert_eq!([0, 1, 2].map(preferred), ["one", "two", "one"]);
}
