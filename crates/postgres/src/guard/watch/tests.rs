use super::*;

fn at(millis: u64) -> BootTime {
    BootTime(Duration::from_millis(100_000 + millis))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn armed(deadline: u64) -> Watch {
    let mut watch = Watch::new(at(0));
    watch.hear(Message::Deadline(at(deadline)), at(0));
    watch
}

/// A guard that has killed everything at `now`.
fn fenced(deadline: u64, now: u64) -> Watch {
    let mut watch = armed(deadline);
    assert_eq!(watch.next(at(now)), Todo::Kill);
    watch.looked(true, at(now));
    watch.looked(false, at(now));
    watch
}

#[test]
fn it_waits_for_the_deadline_and_the_grace_in_short_steps() {
    let watch = armed(2_000);
    assert_eq!(watch.next(at(0)), Todo::Wait(ms(50)));
    assert_eq!(watch.next(at(2_120)), Todo::Wait(ms(30)));
    assert_eq!(watch.next(at(2_149)), Todo::Wait(ms(1)));
    assert_eq!(watch.next(at(2_150)), Todo::Kill);
    assert_eq!(watch.next(at(90_000)), Todo::Kill, "after a suspend");
}

#[test]
fn the_last_word_counts() {
    let mut watch = armed(2_000);
    watch.hear(Message::Deadline(at(3_000)), at(2_100));
    assert_eq!(watch.next(at(2_150)), Todo::Wait(ms(50)));
    // Earlier than before: that is meant.
    watch.hear(Message::Deadline(at(2_200)), at(2_160));
    assert_eq!(watch.next(at(2_350)), Todo::Kill);
    watch.hear(Message::NoDeadline, at(2_350));
    assert_eq!(watch.next(at(2_351)), Todo::Wait(ms(29_999)));
    watch.hear(Message::End, at(2_400));
    assert_eq!(watch.next(at(2_400)), Todo::End);
    // A new agent, before it has ended.
    watch.hear(Message::Deadline(at(5_000)), at(2_400));
    assert_eq!(watch.next(at(2_400)), Todo::Wait(ms(50)));
}

#[test]
fn it_looks_again_until_nothing_is_left() {
    let mut watch = armed(0);
    let mut now = 150;
    for pause in [1, 2, 4, 8, 16, 32, 50, 50] {
        assert_eq!(watch.next(at(now)), Todo::Kill);
        watch.looked(true, at(now));
        assert_eq!(watch.killing(), Some(at(0)));
        assert_eq!(watch.next(at(now)), Todo::Wait(ms(pause)));
        now += pause;
    }
    // One that waits for a dead disk.
    for _ in 0..100_000 {
        watch.looked(true, at(now));
        now += 50;
        assert_eq!(watch.next(at(now)), Todo::Kill);
    }
    watch.looked(false, at(now));
    assert_eq!(watch.killing(), None);
    assert_eq!(watch.next(at(now)), Todo::Wait(ms(50)));
}

#[test]
fn it_stays_a_while_for_what_was_just_being_started() {
    let mut watch = fenced(0, 150);
    assert_eq!(watch.next(at(349)), Todo::Wait(ms(1)));
    assert_eq!(watch.next(at(350)), Todo::Kill);
    watch.looked(false, at(350));
    assert_eq!(watch.next(at(549)), Todo::Wait(ms(1)));
    assert_eq!(watch.next(at(550)), Todo::Kill);
    watch.looked(true, at(550));
    assert_eq!(watch.killing(), Some(at(0)), "the deadline that was missed");
    watch.looked(false, at(551));
    // Ten seconds from the end of that.
    assert_eq!(watch.next(at(10_550)), Todo::Kill);
    watch.looked(false, at(10_550));
    assert_eq!(watch.next(at(10_551)), Todo::End);
}

#[test]
fn after_a_kill_the_agent_decides() {
    let mut watch = fenced(0, 150);
    watch.hear(Message::NoDeadline, at(200));
    assert_eq!(watch.next(at(10_151)), Todo::Wait(ms(20_049)));

    let mut watch = fenced(0, 150);
    watch.hear(Message::Deadline(at(2_000)), at(200));
    assert_eq!(watch.next(at(1_000)), Todo::Wait(ms(50)));
    assert_eq!(watch.next(at(2_150)), Todo::Kill);

    // An agent that wakes up and tells an old deadline: nothing has changed, but it is there.
    let mut watch = fenced(0, 150);
    watch.hear(Message::Deadline(at(40)), at(5_000));
    assert_eq!(watch.next(at(5_000)), Todo::Kill);
    watch.looked(false, at(5_000));
    assert_eq!(watch.next(at(14_999)), Todo::Kill);
    assert_eq!(watch.next(at(15_000)), Todo::End);
}

#[test]
fn an_agent_that_wakes_up_in_the_middle() {
    let mut watch = armed(0);
    watch.looked(true, at(150));
    // Old news do not stop it; news do.
    watch.hear(Message::Deadline(at(1)), at(151));
    assert_eq!(watch.next(at(151)), Todo::Kill);
    assert_eq!(watch.killing(), Some(at(0)));
    watch.hear(Message::Deadline(at(2_000)), at(151));
    assert_eq!(watch.next(at(151)), Todo::Wait(ms(50)));
    assert_eq!(watch.killing(), None);
}

#[test]
fn a_forgotten_guard_ends() {
    let mut watch = Watch::new(at(0));
    assert_eq!(watch.next(at(0)), Todo::Wait(ms(30_000)));
    assert_eq!(watch.next(at(29_999)), Todo::Wait(ms(1)));
    assert_eq!(watch.next(at(30_000)), Todo::End);
    watch.hear(Message::NoDeadline, at(29_999));
    assert_eq!(watch.next(at(30_000)), Todo::Wait(ms(29_999)));
    // It has nothing to look for.
    watch.looked(true, at(30_000));
    assert_eq!(watch.killing(), None);
}
