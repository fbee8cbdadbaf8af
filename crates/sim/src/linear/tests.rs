use super::*;
use crate::history::{LeaseCall, Leased, Register, RegisterCall};

fn operation<C>(invoked: Nanos, returned: Nanos, call: C) -> Operation<C> {
    let returned = (returned > 0).then_some(returned);
    Operation {
        invoked,
        returned,
        call,
    }
}

#[track_caller]
fn registers(expected: bool, operations: &[(Nanos, Nanos, RegisterCall)]) {
    let operations: Vec<_> = operations
        .iter()
        .map(|(i, r, c)| operation(*i, *r, *c))
        .collect();
    let found = check::<Register>(&operations) == Verdict::Linearizable;
    assert_eq!(found, expected);
}

#[track_caller]
fn leases(expected: bool, operations: &[(Nanos, Nanos, LeaseCall)]) {
    let operations: Vec<_> = operations
        .iter()
        .map(|(i, r, c)| operation(*i, *r, *c))
        .collect();
    let found = check::<Leased>(&operations) == Verdict::Linearizable;
    assert_eq!(found, expected);
}

use LeaseCall::{Granted, Lost, PerhapsGranted, Renewed, Revoked, Taken};
use RegisterCall::{NoSwap, Read, Swap, Write};

/// Never answered.
const OPEN: Nanos = 0;

#[test]
fn nothing_happened() {
    registers(true, &[]);
}

#[test]
fn reads_follow_writes() {
    registers(true, &[(1, 2, Write(1)), (3, 4, Read(Some(1)))]);
    registers(false, &[(1, 2, Write(1)), (3, 4, Read(None))]);
    registers(true, &[(1, 4, Write(1)), (2, 3, Read(None))]);
    registers(true, &[(1, 4, Write(1)), (2, 3, Read(Some(1)))]);
    // New, then old again.
    registers(
        false,
        &[(1, 9, Write(1)), (2, 3, Read(Some(1))), (4, 5, Read(None))],
    );
}

#[test]
fn what_was_never_answered_may_be_done_later_or_never() {
    registers(
        true,
        &[
            (1, OPEN, Write(1)),
            (2, 3, Read(None)),
            (4, 5, Read(Some(1))),
        ],
    );
    registers(true, &[(1, OPEN, Write(1)), (2, 3, Read(None))]);
    registers(false, &[(2, 3, Read(Some(1))), (4, OPEN, Write(1))]);
    // Done twice.
    registers(
        false,
        &[
            (1, OPEN, Write(1)),
            (2, 3, Read(Some(1))),
            (4, 5, Write(2)),
            (6, 7, Read(Some(1))),
        ],
    );
}

#[test]
fn of_two_swaps_one_wins() {
    let swap = |to| Swap { from: None, to };
    registers(true, &[(1, 4, swap(1)), (2, 5, NoSwap { from: None })]);
    registers(false, &[(1, 4, swap(1)), (2, 5, swap(2))]);
    registers(false, &[(1, 2, NoSwap { from: None })]);
}

#[test]
fn many_at_once_are_told_apart() {
    // Twelve writes side by side, read in an order that only one permutation explains.
    let mut operations: Vec<_> = (1..=12).map(|value| (value, 1_000, Write(value))).collect();
    operations.extend((1..=12).map(|n| (100 + 2 * n, 101 + 2 * n, Read(Some(13 - n)))));
    registers(true, &operations);
    operations.push((200, 201, Read(Some(12))));
    registers(false, &operations);
}

#[test]
fn a_lease_has_one_holder() {
    leases(
        true,
        &[
            (1, 2, Granted(5)),
            (3, 4, Renewed(5)),
            (5, 6, Taken),
            (7, 8, Granted(9)),
        ],
    );
    // Renewed after somebody else was granted it.
    leases(
        false,
        &[(1, 2, Granted(5)), (3, 4, Granted(9)), (5, 6, Renewed(5))],
    );
    // An epoch that goes back.
    leases(false, &[(1, 2, Granted(9)), (3, 4, Granted(5))]);
    // Lost is lost.
    leases(
        false,
        &[(1, 2, Granted(5)), (3, 4, Lost(5)), (5, 6, Renewed(5))],
    );
    leases(false, &[(1, 2, Taken)]);
    leases(
        true,
        &[(1, 2, Granted(5)), (3, 4, Revoked(5)), (5, 6, Lost(5))],
    );
    leases(
        false,
        &[(1, 2, Granted(5)), (3, 4, Revoked(5)), (5, 6, Taken)],
    );
}

#[test]
fn a_grant_without_answer_shows_later() {
    leases(
        true,
        &[(1, OPEN, PerhapsGranted), (3, 4, Taken), (5, 6, Renewed(7))],
    );
    leases(true, &[(1, OPEN, PerhapsGranted), (3, 4, Granted(9))]);
    leases(
        false,
        &[
            (1, 2, Granted(9)),
            (3, OPEN, PerhapsGranted),
            (5, 6, Renewed(8)),
        ],
    );
}
