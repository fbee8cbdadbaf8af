//! People write through the floating address, into the example site and into an application that nobody
//! here wrote, while the primary is handed over and while its server dies: the site goes on, and keeps what
//! it said it has.

#![allow(clippy::print_stderr)]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{
    Client, Demo, DemoOptions, Kill, Kinto, PauseGoal, Posted, Posts, Response,
    drills_per_fault_of_database,
};

const PATIENCE: Duration = Duration::from_secs(90);
/// Posts a second.
const RATE: u32 = 40;
/// Python needs more time for each.
const KINTO_RATE: u32 = 20;
/// Of two records of the same millisecond Kinto refuses one, and says "please retry".
const TWINS_MAX: usize = 5;
const RECORDS: &str = "/v1/buckets/book/collections/entries/records";

/// An application under load.
struct App {
    name: &'static str,
    rate: u32,
    send: fn(&mut Client, &str) -> Result<Response>,
    /// The status of a post that was taken.
    good: u16,
    /// A post that was sent during the pause is answered so soon after it, and from then on none fails.
    settled_within: Duration,
    /// The texts of all posts that are there, and none of them the next time.
    take_all: fn(&Demo) -> Result<Vec<String>>,
}

#[test]
fn the_site_goes_on_while_its_primary_changes() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    let app = App {
        name: "the example site",
        rate: RATE,
        send: |client, text| client.post_form("/entries", &[("name", "Ada"), ("message", text)]),
        good: 303,
        // Who waits asks again many times a second.
        settled_within: Duration::from_secs(1),
        take_all: |demo| {
            let rows = demo
                .sql()?
                .ask("DELETE FROM entries WHERE message LIKE 'post number %' RETURNING message")?;
            Ok(rows.into_iter().flatten().collect())
        },
    };
    while_the_primary_changes(&mut demo, &app)?;
    demo.stop()
}

#[test]
fn kinto_goes_on_while_its_primary_changes() -> Result<()> {
    let kinto = Kinto::install()?;
    let mut demo = Demo::start(kinto.options())?;
    let put = |path| -> Result<()> {
        let headers = [Kinto::USER, Kinto::JSON];
        let done = demo.client().send("PUT", path, &headers, b"")?;
        done.expect(201).map(|_| ())
    };
    put("/v1/buckets/book")?;
    put("/v1/buckets/book/collections/entries")?;
    let app = App {
        name: "Kinto",
        rate: KINTO_RATE,
        send: |client, text| {
            let body = serde_json::json!({ "data": { "message": text } }).to_string();
            let headers = [Kinto::USER, Kinto::JSON];
            let mut send = || client.send("POST", RECORDS, &headers, body.as_bytes());
            let mut answer = send()?;
            for _ in 0..TWINS_MAX {
                if answer.status == 409 {
                    answer = send()?;
                }
            }
            Ok(answer)
        },
        good: 201,
        settled_within: Duration::from_secs(1),
        take_all: |demo| {
            let ask = |method| -> Result<serde_json::Value> {
                let done = demo.client().send(method, RECORDS, &[Kinto::USER], b"")?;
                done.expect(200)?.json()
            };
            let records = ask("GET")?;
            ask("DELETE")?;
            let records = records["data"].as_array().context("no data")?;
            let text = |record: &serde_json::Value| record["message"].as_str().map(str::to_owned);
            Ok(records.iter().filter_map(text).collect())
        },
    };
    while_the_primary_changes(&mut demo, &app)?;
    demo.stop()
}

fn while_the_primary_changes(demo: &mut Demo, app: &App) -> Result<()> {
    demo.await_standing(PATIENCE)?;
    let (mut handed_over, mut died) = (Vec::new(), Vec::new());
    for _ in 0..drills_per_fault_of_database() {
        let floating = demo.block().floating_http();
        let posts = Posts::start(move || Client::new(floating), app.send, app.good, app.rate);
        posts.go_on_for(40)?;

        let from = posts.now();
        demo.switchover(None)?;
        posts.go_on_for(40)?;
        let switchover = (from, posts.now());
        demo.await_standing(PATIENCE)?;

        let victim = demo.primary()?;
        let from = posts.now();
        demo.kill(&victim, Kill::Everything)?;
        posts.go_on_for(40)?;
        let death = (from, posts.now());
        demo.run_server(&victim)?;
        demo.await_standing(PATIENCE)?;
        posts.go_on_for(40)?;

        let posted = posts.stop();
        handed_over.push(goes_on(app, "switchover", &posted, switchover)?);
        died.push(goes_on(app, "kill -9 of everything", &posted, death)?);
        nothing_else_failed(&posted, &[switchover, death])?;
        all_there(demo, app, &posted)?;
    }
    let judge = |goal: PauseGoal, what: &str, pauses: &[Duration]| {
        goal.judge(&format!("{}, {what}", app.name), pauses)
    };
    judge(PauseGoal::SWITCHOVER, "switchover", &handed_over)?;
    judge(PauseGoal::SERVER_GONE, "kill -9 of everything", &died)
}

/// How long nothing was acknowledged. No post failed that was sent after it.
fn goes_on(
    app: &App,
    what: &str,
    posted: &Posted,
    (from, to): (Duration, Duration),
) -> Result<Duration> {
    let pause = posted.pause(from, to);
    let failed: Vec<_> = posted
        .failed()
        .filter(|post| post.done >= from && post.sent <= to)
        .collect();
    let slowest = posted
        .acknowledged()
        .map(|post| post.done - post.sent)
        .max();
    eprintln!(
        "{}, {what}: pause {:?}, {} of {} posts failed, the slowest took {:?}",
        app.name,
        pause.1 - pause.0,
        failed.len(),
        posted.posts.len(),
        slowest.unwrap_or_default()
    );
    let settled = pause.1 + app.settled_within;
    let after: Vec<_> = failed
        .iter()
        .filter(|post| post.sent > pause.1 || post.done > settled)
        .collect();
    ensure!(
        after.is_empty(),
        "{what}: posts failed after the pause {pause:?}: {after:#?}"
    );
    Ok(pause.1 - pause.0)
}

fn nothing_else_failed(posted: &Posted, faults: &[(Duration, Duration)]) -> Result<()> {
    let at_a_fault = |sent, done| faults.iter().any(|(from, to)| done >= *from && sent <= *to);
    let elsewhere: Vec<_> = posted
        .failed()
        .filter(|post| !at_a_fault(post.sent, post.done))
        .collect();
    ensure!(
        elsewhere.is_empty(),
        "posts failed at no fault: {elsewhere:#?}"
    );
    Ok(())
}

/// Every post that was acknowledged is there, once.
fn all_there(demo: &Demo, app: &App, posted: &Posted) -> Result<()> {
    let mut there = BTreeSet::new();
    for text in (app.take_all)(demo)? {
        ensure!(there.insert(text.clone()), "{text} is there twice");
    }
    let lost: Vec<_> = posted
        .acknowledged()
        .filter(|post| !there.contains(&post.text))
        .collect();
    ensure!(
        lost.is_empty(),
        "posts were acknowledged and are lost: {lost:#?}"
    );
    Ok(())
}
