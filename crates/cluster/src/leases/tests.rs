use proptest::prelude::*;
use trilith_base::ServerName;
use trilith_consensus::{Lease, Revision};

use super::*;

const TTL: Duration = Duration::from_millis(1300);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn at(millis: u64) -> BootTime {
    BootTime(Duration::from_millis(millis))
}

fn view(leases: &[(&str, u64)]) -> View {
    let lease = |(name, epoch): &(&str, u64)| {
        let lease = Lease {
            holder: ServerName::new("a").unwrap(),
            epoch: Epoch(*epoch),
            ttl: TTL,
        };
        (key(name), lease)
    };
    View {
        revision: Revision(100),
        leases: leases.iter().map(lease).collect(),
        ..View::default()
    }
}

#[test]
fn a_renewal_counts_from_its_arrival() {
    let mut table = LeaseTable::default();
    let (term, vip) = (Term(3), key("vip/1"));
    assert_eq!(
        table.check(term, &vip, Epoch(5)),
        Err(NotRenewed::NotLeading)
    );
    table.lead(term, &view(&[("vip/1", 5)]), at(1000));
    assert_eq!(table.next(), Some(at(2300)));
    assert_eq!(table.renew(term, &vip, Epoch(5), at(2000)), Ok(()));
    assert_eq!(table.next(), Some(at(3300)));
    // One that was overtaken by a later one takes nothing away.
    assert_eq!(table.renew(term, &vip, Epoch(5), at(1500)), Ok(()));
    assert_eq!(table.next(), Some(at(3300)));
    assert_eq!(
        table.renew(term, &vip, Epoch(4), at(2000)),
        Err(NotRenewed::Lost)
    );
    assert_eq!(
        table.renew(term, &key("vip/2"), Epoch(5), at(2000)),
        Err(NotRenewed::Lost)
    );
}

#[test]
fn what_is_about_to_end_is_never_renewed_in_that_leadership() {
    let mut table = LeaseTable::default();
    let (term, vip) = (Term(3), key("vip/1"));
    let state = view(&[("vip/1", 5)]);
    table.lead(term, &state, at(0));
    assert_eq!(table.due(at(1299)), []);
    assert_eq!(table.due(at(1300)), [(vip.clone(), Epoch(5))]);
    assert_eq!(table.due(at(1400)), [], "once");
    assert_eq!(
        table.renew(term, &vip, Epoch(5), at(1300)),
        Err(NotRenewed::Ending)
    );
    // A proposal that seemed to fail may be in the log all the same.
    table.proposal_failed(term, &vip, Epoch(5));
    assert_eq!(
        table.renew(term, &vip, Epoch(5), at(1400)),
        Err(NotRenewed::Ending)
    );
    assert_eq!(
        table.due(at(1400)),
        [(vip.clone(), Epoch(5))],
        "tried again"
    );
    // Nor does a moment of doubt about the leadership wipe that out.
    table.step_down();
    assert_eq!(table.due(at(9000)), []);
    assert_eq!(
        table.check(term, &vip, Epoch(5)),
        Err(NotRenewed::NotLeading)
    );
    table.lead(term, &state, at(1500));
    assert_eq!(
        table.renew(term, &vip, Epoch(5), at(1500)),
        Err(NotRenewed::Ending)
    );
    // A new leadership starts every timer at full length.
    table.lead(Term(4), &state, at(5000));
    assert_eq!(table.renew(Term(4), &vip, Epoch(5), at(5000)), Ok(()));
    assert_eq!(table.next(), Some(at(6300)));
    table.proposal_failed(term, &vip, Epoch(5));
    assert_eq!(
        table.due(at(5001)),
        [],
        "the old leadership's attempt is of no account"
    );
}

#[test]
fn grants_and_losses_are_followed() {
    let mut table = LeaseTable::default();
    let term = Term(1);
    table.lead(term, &view(&[("vip/1", 5)]), at(0));
    table.lead(term, &view(&[("vip/1", 5), ("vip/2", 6)]), at(1000));
    assert_eq!(table.due(at(1300)), [(key("vip/1"), Epoch(5))]);
    // Granted anew: another epoch, another timer.
    table.lead(term, &view(&[("vip/1", 9), ("vip/2", 6)]), at(1400));
    assert_eq!(table.check(term, &key("vip/1"), Epoch(9)), Ok(()));
    assert_eq!(
        table.check(term, &key("vip/1"), Epoch(5)),
        Err(NotRenewed::Lost)
    );
    table.lead(term, &view(&[]), at(1500));
    assert_eq!(table.next(), None);
}

#[test]
fn a_majority_of_each_set_is_needed() {
    let set = |ids: &[u64]| ids.iter().copied().collect();
    let old = set(&[1, 2, 3]);
    let new = set(&[3, 4, 5]);
    assert!(is_majority(std::slice::from_ref(&old), &set(&[1, 2])));
    assert!(!is_majority(std::slice::from_ref(&old), &set(&[1])));
    assert!(!is_majority(&[set(&[1, 2])], &set(&[1])), "half is none");
    assert!(!is_majority(&[old.clone(), new.clone()], &set(&[1, 2, 3])));
    assert!(is_majority(&[old, new], &set(&[1, 3, 4])));
    assert!(!is_majority(&[], &set(&[1])), "nobody votes");
}

proptest! {
    /// Whatever happens: a renewal that was granted keeps the lease from ending for its ttl, as
    /// long as the leadership lasts.
    #[test]
    fn granted_is_granted(steps in proptest::collection::vec((0u8..4, 0u64..700), 1..60)) {
        let mut table = LeaseTable::default();
        let (term, vip, state) = (Term(1), key("vip/1"), view(&[("vip/1", 5)]));
        let mut now = 0;
        table.lead(term, &state, at(now));
        let mut until = at(now) + TTL;
        for (what, wait) in steps {
            now += wait;
            match what {
                0 => if table.renew(term, &vip, Epoch(5), at(now)).is_ok() {
                    until = until.max(at(now) + TTL);
                },
                1 => if let [(_, epoch)] = table.due(at(now))[..] {
                    prop_assert!(at(now) >= until);
                    table.proposal_failed(term, &vip, epoch);
                },
                2 => table.lead(term, &state, at(now)),
                _ => {
                    table.step_down();
                    table.lead(term, &state, at(now));
                }
            }
        }
    }
}
