use std::collections::HashSet;

use super::*;

const ALL: [Termination; 17] = [
    Termination::Complete,
    Termination::Upgraded,
    Termination::ClientGone,
    Termination::ClientTimeout,
    Termination::ClientBody,
    Termination::ClientBodyTimeout,
    Termination::ClientBodyTooLarge,
    Termination::BadRequest,
    Termination::QueueTimeout,
    Termination::QueueFull,
    Termination::UpstreamConnect,
    Termination::UpstreamConnectTimeout,
    Termination::UpstreamClosed,
    Termination::UpstreamTimeout,
    Termination::UpstreamInvalid,
    Termination::UpstreamDeclined,
    Termination::UpstreamBody,
];

#[test]
fn every_word_is_in_the_table() {
    let source = include_str!("../record.rs");
    let words: HashSet<_> = ALL.iter().map(|t| t.as_str()).collect();
    assert_eq!(words.len(), ALL.len());
    for word in words {
        assert!(source.contains(&format!("/// | `{word}` | `")), "{word}");
    }
}

#[test]
fn what_went_wrong_first_is_told_unless_the_end_was_worse() {
    let end = |termination: Termination, end: End| termination.with_end(&end).as_str();
    for (termination, how, word) in [
        (Termination::Complete, End::Complete, "complete"),
        (
            Termination::UpstreamTimeout,
            End::Complete,
            "upstream-timeout",
        ),
        (Termination::Complete, End::ClientGone, "client-gone"),
        (Termination::Complete, End::Upgraded, "upgraded"),
        (
            Termination::Complete,
            End::UpstreamFailed(BodyError::Truncated),
            "upstream-body",
        ),
        (
            Termination::Complete,
            End::UpstreamFailed(BodyError::TooLarge),
            "client-body-too-large",
        ),
    ] {
        assert_eq!(end(termination, how), word);
    }
}
