use std::net::Ipv4Addr;

use super::*;

const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const SECOND: Nanos = 1_000_000_000;
const MILLISECOND: Nanos = 1_000_000;

fn always(_: usize, _: usize) -> bool {
    true
}

#[test]
fn two_under_a_lease_are_noticed_at_once() {
    let mut kernel = Kernel::new(3);
    kernel.set(0, IP, None, false);
    assert_eq!(kernel.two_holders(SECOND), None);
    kernel.set(2, IP, None, false);
    assert!(kernel.two_holders(SECOND).is_some());
    kernel.two_holders(3 * SECOND);
    assert_eq!(kernel.longest_with_two(), Duration::from_secs(2));
    kernel.remove(0, IP);
    assert_eq!(kernel.two_holders(4 * SECOND), None);
}

#[test]
fn who_wakes_has_a_moment_and_no_more() {
    let mut kernel = Kernel::new(3);
    kernel.set(0, IP, None, false);
    kernel.suspend(0, true, SECOND);
    kernel.set(1, IP, None, false);
    // Asleep, it answers nobody.
    assert_eq!(kernel.two_holders(2 * SECOND), None);
    assert_eq!(kernel.holders(IP, 2 * SECOND), [1]);
    kernel.suspend(0, false, 3 * SECOND);
    let end = 3 * SECOND + nanos(AFTER_SUSPEND);
    assert_eq!(kernel.two_holders(3 * SECOND), None);
    assert_eq!(kernel.two_holders(end - 1), None);
    assert!(kernel.two_holders(end).is_some());
    assert_eq!(kernel.longest_with_two(), AFTER_SUSPEND);
}

#[test]
fn an_orphan_is_no_holder_and_does_not_stay_beside_one() {
    let mut kernel = Kernel::new(3);
    kernel.set(0, IP, None, true);
    kernel.set(1, IP, None, false);
    assert_eq!(kernel.two_holders(SECOND), None);
    // They do not hear each other: that is what orphans are for.
    let late = SECOND + nanos(ORPHAN_STAYS_MAX) + 1;
    assert_eq!(kernel.orphan_that_stays(SECOND, |_, _| false), None);
    assert_eq!(kernel.orphan_that_stays(late, |_, _| false), None);
    // It counts from when they do, and anew after every break.
    assert_eq!(kernel.orphan_that_stays(late, always), None);
    assert!(
        kernel
            .orphan_that_stays(2 * late - SECOND, always)
            .is_some()
    );
    assert_eq!(kernel.orphan_that_stays(2 * late, |_, _| false), None);
    assert_eq!(kernel.orphan_that_stays(2 * late, always), None);
    kernel.remove(0, IP);
    assert_eq!(kernel.orphan_that_stays(9 * late, always), None);
}

#[test]
fn ticks_stand_still_while_the_machine_sleeps() {
    let mut kernel = Kernel::new(1);
    kernel.set(0, IP, Some(2 * SECOND), false);
    kernel.suspend(0, true, SECOND);
    kernel.suspend(0, false, 5 * SECOND);
    assert!(kernel.has(0, IP, 6 * SECOND - MILLISECOND));
    assert!(!kernel.has(0, IP, 6 * SECOND));
}

#[test]
fn what_a_dead_process_leaves() {
    let mut kernel = Kernel::new(1);
    kernel.set(0, IP, Some(2 * SECOND), true);
    kernel.process_ended(0, true, false);
    assert!(kernel.has(0, IP, SECOND));
    assert_eq!(kernel.serves(0, IP, SECOND), Some(Right::Orphan));
    kernel.process_ended(0, false, false);
    assert!(!kernel.has(0, IP, SECOND), "listeners end with it");
}
