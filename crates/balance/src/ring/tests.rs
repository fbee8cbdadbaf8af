use super::*;
use proptest::prelude::*;

fn ring(keys: &[(u16, String, u32)]) -> Ring {
    Ring::new(keys.iter().map(|(n, k, w)| (*n, k.as_str(), *w)))
}

fn keys(weights: &[u32]) -> Vec<(u16, String, u32)> {
    (0..)
        .zip(weights)
        .map(|(n, w)| (n, format!("10.0.0.{n}:8080"), *w))
        .collect()
}

/// Well spread hashes for a test.
fn hash(n: u64) -> u64 {
    xxh3_64(&n.to_le_bytes())
}

#[test]
fn an_empty_ring_has_nobody() {
    assert_eq!(ring(&[]).walk(7).next(), None);
}

#[test]
fn shares_follow_the_weights_roughly() {
    let ring = ring(&keys(&[1, 1, 2]));
    let mut counts = [0; 3];
    for n in 0..40_000 {
        counts[ring.walk(hash(n)).next().unwrap()] += 1;
    }
    for (count, expected) in counts.iter().zip([10_000, 10_000, 20_000]) {
        let off = (f64::from(*count) / f64::from(expected) - 1.0).abs();
        assert!(off < 0.25, "{counts:?}");
    }
}

proptest! {
    #[test]
    fn removal_moves_only_its_share(
        weights in prop::collection::vec(1u32..5, 2..10),
        gone in any::<prop::sample::Index>(),
    ) {
        let all = keys(&weights);
        let gone = gone.index(all.len()) as u16;
        let rest: Vec<_> = all.iter().filter(|(n, ..)| *n != gone).cloned().collect();
        let (before, after) = (ring(&all), ring(&rest));
        for n in 0..500 {
            let was = before.walk(hash(n)).next().unwrap();
            // The whole ring with the server passed over ...
            let passed_over = before.walk(hash(n)).find(|s| *s != usize::from(gone)).unwrap();
            if was != usize::from(gone) {
                prop_assert_eq!(passed_over, was);
            }
            // ... and, where the number of points per weight stays, the ring without it.
            if weights.iter().all(|w| *w == weights[0]) {
                prop_assert_eq!(after.walk(hash(n)).next().unwrap(), passed_over);
            }
        }
    }

    #[test]
    fn a_walk_reaches_everybody(weights in prop::collection::vec(1u32..1000, 1..20), n: u64) {
        let ring = ring(&keys(&weights));
        let mut seen: Vec<_> = ring.walk(n).collect();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), weights.len());
    }
}
