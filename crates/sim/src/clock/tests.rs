use super::*;

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_fast_clock_is_fast() {
    let clock = Clock::new(20_000, 5 * SECOND, SECOND);
    assert_eq!(clock.boot(SECOND), Duration::from_secs(5));
    assert_eq!(clock.boot(2 * SECOND), Duration::from_millis(6020));
    assert_eq!(clock.monotonic(2 * SECOND), 6_020_000_000);
}

#[test]
fn sleepers_wake_on_their_own_clock() {
    for rate in [-20_000, -7, 0, 1, 20_000] {
        let clock = Clock::new(rate, SECOND, 0);
        for missing in [1, 999, 50_000_000, 7 * SECOND + 1] {
            let deadline = clock.monotonic(SECOND) + missing;
            let at = clock.reaches(deadline, SECOND);
            assert!(clock.monotonic(at) >= deadline);
            assert!(clock.monotonic(at - 2) < deadline);
        }
    }
}

#[test]
fn another_rate_moves_no_clock_by_itself() {
    let mut clock = Clock::new(500, 5 * SECOND, 0);
    clock.suspend(SECOND);
    clock.wake(3 * SECOND);
    let (boot, monotonic) = (clock.boot(9 * SECOND), clock.monotonic(9 * SECOND));
    clock.set_rate(-500, 9 * SECOND);
    assert_eq!(clock.boot(9 * SECOND), boot);
    assert_eq!(clock.monotonic(9 * SECOND), monotonic);
    assert_eq!(
        clock.boot(10 * SECOND),
        boot + Duration::from_micros(999_500)
    );
    assert_eq!(clock.monotonic(10 * SECOND), monotonic + 999_500_000);
}

#[test]
fn only_the_boot_clock_goes_on_in_a_suspend() {
    let mut clock = Clock::new(0, 0, 0);
    clock.suspend(SECOND);
    assert_eq!(clock.monotonic(3 * SECOND), SECOND);
    assert_eq!(clock.boot(3 * SECOND), Duration::from_secs(3));
    clock.wake(4 * SECOND);
    assert_eq!(clock.monotonic(5 * SECOND), 2 * SECOND);
    assert_eq!(clock.boot(5 * SECOND), Duration::from_secs(5));
    clock.step(Duration::from_secs(10));
    assert_eq!(clock.monotonic(5 * SECOND), 2 * SECOND);
    assert_eq!(clock.boot(5 * SECOND), Duration::from_secs(15));
    // Not even a step in the middle of a suspend moves the monotonic clock.
    clock.suspend(5 * SECOND);
    clock.step(Duration::from_secs(1));
    assert_eq!(clock.monotonic(6 * SECOND), 2 * SECOND);
    clock.wake(7 * SECOND);
    assert_eq!(clock.monotonic(7 * SECOND), 2 * SECOND);
}
