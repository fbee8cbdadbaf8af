use super::*;
use proptest::prelude::*;

fn check(weights: &[u32], expected: &str) {
    let weights: Vec<_> = (0..).zip(weights.iter().copied()).collect();
    let round: String = smooth_round(&weights)
        .iter()
        .map(|s| char::from(b'a' + *s as u8))
        .collect();
    assert_eq!(round, expected, "{weights:?}");
}

#[test]
fn is_nginx_smooth_round_robin() {
    // The example of the commit that introduced it (nginx 52327e0627f4).
    check(&[5, 1, 1], "aabacaa");
    check(&[1, 1, 1], "abc");
    check(&[7, 7], "ab");
    check(&[1], "a");
    check(&[4, 2], "aba");
    check(&[3, 2, 1], "abacba");
    check(&[0, 1], "ab");
    check(&[], "");
}

proptest! {
    #[test]
    fn shares_follow_the_weights(weights in prop::collection::vec(1u32..=40, 1..12)) {
        let pairs: Vec<_> = (0..).zip(weights.iter().copied()).collect();
        let round = smooth_round(&pairs);
        let total: u32 = weights.iter().sum();
        for (server, weight) in &pairs {
            let turns = round.iter().filter(|s| *s == server).count();
            // Exact over a round.
            let share = u64::from(*weight) * round.len() as u64;
            prop_assert_eq!(turns as u64 * u64::from(total), share);
        }
    }

    #[test]
    fn is_smooth(weights in prop::collection::vec(1u32..=20, 2..8)) {
        let pairs: Vec<_> = (0..).zip(weights.iter().copied()).collect();
        let round = smooth_round(&pairs);
        let total: u32 = weights.iter().sum();
        // After k steps of any prefix no server is a whole server count away from its share.
        for (server, weight) in &pairs {
            let mut turns = 0i64;
            for (k, picked) in round.iter().enumerate() {
                turns += i64::from(picked == server);
                let share = (k as i64 + 1) * i64::from(*weight);
                let distance = (turns * i64::from(total) - share).abs();
                prop_assert!(distance <= i64::from(total) * weights.len() as i64);
            }
        }
    }

    #[test]
    fn is_bounded_and_leaves_nobody_out(weights in prop::collection::vec(1u32..=u32::MAX, 1..50)) {
        let pairs: Vec<_> = (0..).zip(weights.iter().copied()).collect();
        let round = smooth_round(&pairs);
        prop_assert!(round.len() <= SCHEDULE_MAX + 2 * weights.len());
        for (server, _) in &pairs {
            prop_assert!(round.contains(server));
        }
    }
}
