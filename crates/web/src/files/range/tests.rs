use proptest::prelude::*;

use super::*;

fn parts(ranges: &[(u64, u64)]) -> Selection {
    // Written as HTTP does it, with the last position included.
    Selection::Parts(
        ranges
            .iter()
            .map(|(first, last)| *first..*last + 1)
            .collect(),
    )
}

#[test]
fn a_file_of_1000_bytes() {
    use Selection::{Unsatisfiable, Whole};
    for (field, selection) in [
        ("bytes=0-0", parts(&[(0, 0)])),
        ("bytes=0-499", parts(&[(0, 499)])),
        ("bytes=500-", parts(&[(500, 999)])),
        ("bytes=-200", parts(&[(800, 999)])),
        ("bytes=-2000", parts(&[(0, 999)])),
        ("bytes=0-", parts(&[(0, 999)])),
        ("bytes=999-", parts(&[(999, 999)])),
        ("bytes=990-2000", parts(&[(990, 999)])),
        ("bytes=0-99999999999999999999999999", parts(&[(0, 999)])),
        ("BYTES=0-1", parts(&[(0, 1)])),
        (" bytes=0-1 ", parts(&[(0, 1)])),
        ("bytes= 0-1 ", parts(&[(0, 1)])),
        // Several.
        ("bytes=0-99,400-499", parts(&[(0, 99), (400, 499)])),
        ("bytes=0-99 ,\t400-499,", parts(&[(0, 99), (400, 499)])),
        ("bytes=400-499,0-99", parts(&[(400, 499), (0, 99)])),
        ("bytes=0-99,2000-3000", parts(&[(0, 99)])),
        ("bytes=0-0,-1", parts(&[(0, 0), (999, 999)])),
        // Overlapping or nearly touching: one.
        ("bytes=0-99,50-149", parts(&[(0, 149)])),
        ("bytes=0-99,100-149", parts(&[(0, 149)])),
        ("bytes=0-9,20-29", parts(&[(0, 29)])),
        ("bytes=50-149,0-99,700-719", parts(&[(0, 149), (700, 719)])),
        ("bytes=0-0,0-0,0-0,0-0", parts(&[(0, 0)])),
        ("bytes=0-,0-,0-,0-,0-", parts(&[(0, 999)])),
        // As much as the file: the file.
        ("bytes=0-449,540-", Whole),
        ("bytes=500-999,0-410", Whole),
        // Nothing of it is there.
        ("bytes=1000-", Unsatisfiable),
        ("bytes=1000-1001,5000-", Unsatisfiable),
        ("bytes=-0", Unsatisfiable),
        ("bytes=99999999999999999999999999-", Unsatisfiable),
        // Not valid, or not bytes: as if it were not there.
        ("bytes=500-499", Whole),
        ("bytes=0-1,5-4", Whole),
        ("bytes=", Whole),
        ("bytes=,", Whole),
        ("bytes=-", Whole),
        ("bytes=--1", Whole),
        ("bytes=1", Whole),
        ("bytes=a-b", Whole),
        ("bytes=0-1-2", Whole),
        ("bytes=+1-2", Whole),
        ("bytes=0 - 1", Whole),
        ("bytes 0-1", Whole),
        ("bytes:0-1", Whole),
        ("byte=0-1", Whole),
        ("seconds=0-1", Whole),
        ("0-1", Whole),
        ("", Whole),
        ("bytes=0-1;x", Whole),
        ("bytes=\u{661}-2", Whole),
    ] {
        assert_eq!(select(field.as_bytes(), 1000), selection, "{field}");
    }
}

#[test]
fn too_many_ranges_are_not_worth_it() {
    let field = |count: u64| {
        let specs: Vec<_> = (0..count)
            .map(|i| format!("{}-{}", i * 1000, i * 1000))
            .collect();
        format!("bytes={}", specs.join(","))
    };
    let Selection::Parts(parts) = select(field(16).as_bytes(), 1_000_000) else {
        panic!("16 are few enough");
    };
    assert_eq!(parts.len(), 16);
    assert_eq!(select(field(17).as_bytes(), 1_000_000), Selection::Whole);
    assert_eq!(select(field(5000).as_bytes(), 1_000_000), Selection::Whole);
}

#[test]
fn an_empty_file_is_sent_whole() {
    for field in ["bytes=0-", "bytes=-1", "bytes=5-6", "nonsense"] {
        assert_eq!(select(field.as_bytes(), 0), Selection::Whole, "{field}");
    }
}

fn spec() -> impl Strategy<Value = (String, Option<(u64, u64)>)> {
    prop_oneof![
        (0u64..1200, 0u64..300).prop_map(|(first, more)| {
            (
                format!("{first}-{}", first + more),
                Some((first, first + more)),
            )
        }),
        (0u64..1200).prop_map(|first| (format!("{first}-"), Some((first, u64::MAX)))),
        (1u64..1200).prop_map(|count| (format!("-{count}"), None)),
    ]
}

proptest! {
    #[test]
    fn never_panics_and_never_leaves_the_file(
        field in prop_oneof!["bytes=[-0-9, ]{0,60}", "\\PC*", "bytes=(([0-9]{1,22})?-([0-9]{1,22})?,?){0,20}"],
        size in prop_oneof![0u64..5, 0u64..2000, Just(u64::MAX), any::<u64>()],
    ) {
        if let Selection::Parts(parts) = select(field.as_bytes(), size) {
            prop_assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
            prop_assert!(parts.iter().all(|p| p.start < p.end && p.end <= size));
            let total: u128 = parts.iter().map(|p| u128::from(p.end - p.start)).sum();
            prop_assert!(total <= u128::from(size), "more than the file is sent");
            let mut sorted = parts.clone();
            sorted.sort_by_key(|p| p.start);
            prop_assert!(sorted.windows(2).all(|w| w[0].end <= w[1].start), "nothing is sent twice");
        }
    }

    /// Every byte that was asked for is in the answer.
    #[test]
    fn what_was_asked_for_is_sent(specs in prop::collection::vec(spec(), 1..8), size in 1u64..1500) {
        let field = specs.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",");
        let asked: Vec<_> = specs.iter().filter_map(|(text, from)| match from {
            Some((first, last)) => (*first < size).then(|| (*first, (*last).min(size - 1))),
            None => Some((size.saturating_sub(text[1..].parse().unwrap()), size - 1)),
        }).collect();
        match select(format!("bytes={field}").as_bytes(), size) {
            Selection::Whole => prop_assert!(specs.len() > 1),
            Selection::Unsatisfiable => prop_assert!(asked.is_empty()),
            Selection::Parts(parts) => for (first, last) in asked {
                prop_assert!(parts.iter().any(|p| p.start <= first && last < p.end));
            },
        }
    }
}
