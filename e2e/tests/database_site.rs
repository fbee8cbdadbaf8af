//! People write into the guest book, through the floating address, while its primary is handed over and
//! while the primary's server dies: the site goes on, and keeps what it said it has.

#![allow(clippy::print_stderr)]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use trilith_e2e::{Client, Demo, DemoOptions, Kill, Posted, Posts, drills_per_fault_of_database};

const PATIENCE: Duration = Duration::from_secs(90);
/// A second.
const RATE: u32 = 40;
/// Without an acknowledged post around a switchover.
const SWITCHOVER_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Around the death of the primary's server.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// One that was sent in the pause is answered soon after its end: who waits asks again many times a second.
const ANSWERED_SOON: Duration = Duration::from_secs(1);

#[test]
fn the_site_goes_on_while_its_primary_changes() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    demo.await_standing(PATIENCE)?;
    for _ in 0..drills_per_fault_of_database() {
        let floating = demo.block().floating_http();
        let post = |client: &mut Client, text: &str| {
            client.post_form("/entries", &[("name", "Ada"), ("message", text)])
        };
        let posts = Posts::start(move || Client::new(floating), post, 303, RATE);
        posts.go_on_for(40)?;

        let from = posts.now();
        demo.switchover(None)?;
        posts.go_on_for(40)?;
        let handed_over = (from, posts.now());
        demo.await_standing(PATIENCE)?;

        let victim = demo.primary()?;
        let from = posts.now();
        demo.kill(&victim, Kill::Everything)?;
        posts.go_on_for(40)?;
        let died = (from, posts.now());
        demo.run_server(&victim)?;
        demo.await_standing(PATIENCE)?;
        posts.go_on_for(40)?;

        let posted = posts.stop();
        goes_on("switchover", &posted, handed_over, SWITCHOVER_PAUSE_MAX)?;
        goes_on("kill -9 of everything", &posted, died, PAUSE_MAX)?;
        nothing_else_failed(&posted, &[handed_over, died])?;
        all_there(&demo, &posted)?;
    }
    demo.stop()
}

/// The pause is short, and no post failed that was sent after it.
fn goes_on(
    what: &str,
    posted: &Posted,
    (from, to): (Duration, Duration),
    pause_max: Duration,
) -> Result<()> {
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
        "{what}: pause {:?}, {} of {} posts failed, the slowest took {:?}",
        pause.1 - pause.0,
        failed.len(),
        posted.posts.len(),
        slowest.unwrap_or_default()
    );
    let pause_length = pause.1 - pause.0;
    ensure!(
        pause_length < pause_max,
        "{what}: a pause of {pause_length:?}"
    );
    let after: Vec<_> = failed
        .iter()
        .filter(|post| post.sent > pause.1 || post.done > pause.1 + ANSWERED_SOON)
        .collect();
    ensure!(
        after.is_empty(),
        "{what}: posts failed after the pause {pause:?}: {after:#?}"
    );
    Ok(())
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

/// Every post that was acknowledged is in the database, once.
fn all_there(demo: &Demo, posted: &Posted) -> Result<()> {
    let rows = demo
        .sql()?
        .ask("SELECT message FROM entries WHERE message LIKE 'post number %'")?;
    let mut there = BTreeSet::new();
    for message in rows.into_iter().flatten() {
        ensure!(there.insert(message.clone()), "{message} is there twice");
    }
    let lost: Vec<_> = posted
        .acknowledged()
        .filter(|post| !there.contains(&post.text))
        .collect();
    ensure!(
        lost.is_empty(),
        "posts were acknowledged and are lost: {lost:#?}"
    );
    demo.sql()?
        .ask("DELETE FROM entries WHERE message LIKE 'post number %'")?;
    Ok(())
}
