//! What clients asked and were told.

use std::collections::BTreeMap;

use crate::executor::{Nanos, executor};
use crate::linear::{self, Model, Operation, Verdict};

/// All calls of a run.
#[derive(Default)]
pub struct History {
    registers: Vec<Record<RegisterCall>>,
    leases: Vec<Record<LeaseCall>>,
    /// The highest revision that anybody was told.
    told: u64,
}

struct Record<C> {
    object: usize,
    invoked: Nanos,
    returned: Option<Nanos>,
    /// What it did, or would have done if it ever did anything; `None`: nothing to check.
    call: Option<C>,
}

/// How a call ended.
pub enum End<C> {
    Call(C),
    /// It may have been done, then or later.
    Open,
    /// It was certainly not done.
    Nothing,
}

/// On a key. Values are unique, so that each stands for one write; `None`: not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegisterCall {
    Read(Option<u64>),
    Write(u64),
    Swap {
        from: Option<u64>,
        to: u64,
    },
    /// Refused: the value was another one.
    NoSwap {
        from: Option<u64>,
    },
}

/// On a lease, with its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseCall {
    Granted(u64),
    PerhapsGranted,
    /// Refused: somebody holds it.
    Taken,
    Renewed(u64),
    /// Refused: not held under that epoch.
    Lost(u64),
    Revoked(u64),
}

impl History {
    pub fn call(&mut self, key: usize, if_never_answered: Option<RegisterCall>) -> usize {
        self.registers.push(Record::new(key, if_never_answered));
        self.registers.len() - 1
    }

    pub fn done(&mut self, number: usize, end: End<RegisterCall>) {
        self.registers[number].end(end);
    }

    pub fn lease_call(&mut self, lease: usize, if_never_answered: Option<LeaseCall>) -> usize {
        self.leases.push(Record::new(lease, if_never_answered));
        self.leases.len() - 1
    }

    pub fn lease_done(&mut self, number: usize, end: End<LeaseCall>) {
        self.leases[number].end(end);
    }

    /// The highest revision told so far: what is asked from now on must not fall behind it.
    pub fn told(&self) -> u64 {
        self.told
    }

    pub fn tell(&mut self, revision: u64) {
        self.told = self.told.max(revision);
    }

    /// Calls that were answered, and those that never were.
    pub fn counts(&self) -> (usize, usize) {
        let all = self.registers.len() + self.leases.len();
        let open = self
            .registers
            .iter()
            .filter(|r| r.returned.is_none())
            .count();
        let open_leases = self.leases.iter().filter(|r| r.returned.is_none()).count();
        (all - open - open_leases, open + open_leases)
    }

    /// Whether each key and each lease behaved as if one call had been done after the other.
    ///
    /// # Errors
    /// Which did not, with the calls around the place.
    pub fn check(&self) -> Result<(), String> {
        check_all::<Register>(&self.registers, "key")?;
        check_all::<Leased>(&self.leases, "lease")
    }
}

fn check_all<M: Model>(records: &[Record<M::Call>], what: &str) -> Result<(), String>
where
    M::Call: Copy + std::fmt::Debug,
{
    let mut objects: BTreeMap<usize, Vec<Operation<M::Call>>> = BTreeMap::new();
    for record in records {
        if let Some(call) = record.call {
            objects.entry(record.object).or_default().push(Operation {
                invoked: record.invoked,
                returned: record.returned,
                call,
            });
        }
    }
    for (object, mut operations) in objects {
        operations.sort_by_key(|operation| operation.invoked);
        match linear::check::<M>(&operations) {
            Verdict::Linearizable => {}
            Verdict::GaveUp => {
                return Err(format!("{what} {object}: too many ways to order its calls"));
            }
            Verdict::Broken { longest } => {
                return Err(format!(
                    "{what} {object}: no order of its calls explains their answers; as far as it goes:{}",
                    linear::excerpt(&operations, &longest)
                ));
            }
        }
    }
    Ok(())
}

impl<C> Record<C> {
    fn new(object: usize, call: Option<C>) -> Self {
        Self {
            object,
            invoked: executor().now(),
            returned: None,
            call,
        }
    }

    fn end(&mut self, end: End<C>) {
        match end {
            End::Call(call) => {
                self.call = Some(call);
                self.returned = Some(executor().now());
            }
            End::Open => {}
            End::Nothing => {
                self.call = None;
                self.returned = Some(executor().now());
            }
        }
    }
}

/// One key of the store.
pub struct Register;

impl Model for Register {
    type State = Option<u64>;
    type Call = RegisterCall;

    fn apply(state: &Option<u64>, call: &RegisterCall) -> Option<Option<u64>> {
        match *call {
            RegisterCall::Read(value) => (*state == value).then_some(*state),
            RegisterCall::Write(value) => Some(Some(value)),
            RegisterCall::Swap { from, to } => (*state == from).then_some(Some(to)),
            RegisterCall::NoSwap { from } => (*state != from).then_some(*state),
        }
    }
}

/// One lease. It may run out at any time.
pub struct Leased;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseState {
    /// Of the last grant whose epoch is known.
    epoch: u64,
    held: Held,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Held {
    #[default]
    No,
    UnderEpoch,
    /// Under some later one, of a grant that was never answered.
    UnderUnknown,
}

impl Model for Leased {
    type State = LeaseState;
    type Call = LeaseCall;

    fn apply(state: &LeaseState, call: &LeaseCall) -> Option<LeaseState> {
        let LeaseState { epoch, held } = *state;
        let is = |epoch, held| Some(LeaseState { epoch, held });
        match *call {
            // Whoever held it before: it ran out in between.
            LeaseCall::Granted(new) => (new > epoch)
                .then_some(())
                .and_then(|()| is(new, Held::UnderEpoch)),
            LeaseCall::PerhapsGranted => is(epoch, Held::UnderUnknown),
            LeaseCall::Taken => (held != Held::No).then_some(*state),
            LeaseCall::Renewed(of) => match held {
                Held::UnderEpoch if of == epoch => Some(*state),
                Held::UnderUnknown if of > epoch => is(of, Held::UnderEpoch),
                _ => None,
            },
            LeaseCall::Lost(of) => match held {
                Held::UnderEpoch if of == epoch => is(epoch, Held::No),
                Held::UnderUnknown if of > epoch => is(of, Held::No),
                _ => Some(*state),
            },
            LeaseCall::Revoked(of) => match held {
                Held::UnderEpoch if of == epoch => is(epoch, Held::No),
                Held::UnderUnknown if of > epoch => is(of, Held::No),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
