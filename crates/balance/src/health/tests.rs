use super::*;

/// `+` good, `-` bad, `!` bad and suspected; the answer is the state after each.
fn check(results: &str, expected: &str) {
    let mut machine = HealthMachine::new(HealthPolicy::default());
    let states: String = results
        .chars()
        .map(|c| {
            let before = machine.health();
            let change = machine.observe(c == '+', c == '!');
            assert_eq!(change.is_some(), before != machine.health(), "{results}");
            match machine.health() {
                Health::Checking => '?',
                Health::Up => 'U',
                Health::Down => 'D',
            }
        })
        .collect();
    assert_eq!(states, expected, "{results}");
}

#[test]
fn rises_and_falls() {
    check("+", "U");
    check("---", "??D");
    check("-+", "?U");
    check("+--+--", "UUUUUU");
    check("+---", "UUUD");
    check("+---+-++", "UUUDDDDU");
    check("+!", "UD");
    check("+-!", "UUD");
    check("!", "D");
    check("----+", "??DDU");
    check("----+---+", "??DDUUUDD");
    check("+!!++", "UDDDU");
}

#[test]
fn checks_faster_while_changing() {
    let mut machine = HealthMachine::new(HealthPolicy::default());
    let fast = Duration::from_millis(500);
    let slow = Duration::from_secs(2);
    assert_eq!(machine.next_check_in(0.5), START_INTERVAL);
    machine.observe(true, false);
    assert_eq!(machine.next_check_in(0.5), slow);
    machine.observe(false, false);
    assert_eq!(machine.next_check_in(0.5), fast);
    machine.observe(true, false);
    assert_eq!(machine.next_check_in(0.5), slow);
    machine.observe(false, true);
    assert_eq!(machine.next_check_in(0.5), slow, "down, and nothing new");
    machine.observe(true, false);
    assert_eq!(machine.next_check_in(0.5), fast, "one good check of two");
}

#[test]
fn checks_often_until_a_server_was_up_once_but_not_for_ever() {
    let mut machine = HealthMachine::new(HealthPolicy::default());
    for _ in 0..START_CHECKS - 1 {
        machine.observe(false, false);
        assert_eq!(machine.next_check_in(0.5), START_INTERVAL);
    }
    machine.observe(false, false);
    assert_eq!(machine.next_check_in(0.5), Duration::from_millis(500));
    // One that was up before the reload is down for a reason.
    let known = HealthMachine::resume(HealthPolicy::default(), Health::Down, true);
    assert_eq!(known.next_check_in(0.5), Duration::from_secs(2));
}

#[test]
fn jitter_stays_within_ten_percent() {
    let mut machine = HealthMachine::new(HealthPolicy::default());
    machine.observe(true, false);
    for (jitter, millis) in [(0.0, 1_800), (1.0, 2_200), (-5.0, 1_800), (7.0, 2_200)] {
        assert_eq!(machine.next_check_in(jitter), Duration::from_millis(millis));
    }
}

#[test]
fn knows_a_steady_run() {
    let mut machine = HealthMachine::new(HealthPolicy::default());
    machine.observe(true, false);
    assert!(!machine.is_steadily_good());
    machine.observe(true, false);
    assert!(machine.is_steadily_good());
    machine.observe(false, false);
    assert!(!machine.is_steadily_good());
}
