//! A small linearizability checker: is there an order of the calls, compatible with real time, in which a
//! sequential object would have given these answers? (Wing and Gong, "Testing and Verifying Concurrent
//! Objects", 1993, with the memory of visited configurations of Lowe, "Testing for Linearizability", 2017.)

use std::collections::HashSet;
use std::fmt::Debug;
use std::fmt::Write;
use std::hash::Hash;

use crate::executor::Nanos;
use crate::limits::CHECKER_STEPS_MAX;
use crate::trace::Stamp;

/// A sequential object.
pub trait Model {
    type State: Clone + Debug + Default + Eq + Hash;
    /// A call together with its answer.
    type Call;

    /// The state after the call; `None` when the object would not have answered like that.
    fn apply(state: &Self::State, call: &Self::Call) -> Option<Self::State>;
}

#[derive(Clone, Copy, Debug)]
pub struct Operation<C> {
    pub invoked: Nanos,
    /// `None`: never answered. It may have been done at any time after `invoked`, or never.
    pub returned: Option<Nanos>,
    pub call: C,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// The longest order that could be found, as indexes.
    Broken {
        longest: Vec<usize>,
    },
    /// There were too many ways.
    GaveUp,
}

/// `operations` are in the order of `invoked`.
pub fn check<M: Model>(operations: &[Operation<M::Call>]) -> Verdict {
    let mut search = Search::<M> {
        operations,
        done: vec![0; operations.len().div_ceil(64)],
        seen: HashSet::new(),
        order: Vec::new(),
        longest: Vec::new(),
        steps: 0,
    };
    match search.extend(0, &M::State::default()) {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::Broken {
            longest: search.longest,
        },
        None => Verdict::GaveUp,
    }
}

struct Search<'a, M: Model> {
    operations: &'a [Operation<M::Call>],
    /// One bit per operation.
    done: Vec<u64>,
    seen: HashSet<(Vec<u64>, M::State)>,
    order: Vec<usize>,
    longest: Vec<usize>,
    steps: u64,
}

impl<M: Model> Search<'_, M> {
    /// Whether the order so far can be completed; `None` when it takes too long to tell. Everything before
    /// `from` is done or was never answered.
    fn extend(&mut self, mut from: usize, state: &M::State) -> Option<bool> {
        self.steps += 1;
        if self.steps > CHECKER_STEPS_MAX {
            return None;
        }
        if self.order.len() > self.longest.len() {
            self.longest = self.order.clone();
        }
        while from < self.operations.len()
            && (self.is_done(from) || self.operations[from].returned.is_none())
        {
            from += 1;
        }
        // Next can only come what was invoked before anything that is left had returned.
        let mut earliest = Nanos::MAX;
        let mut answered = Vec::new();
        for index in from..self.operations.len() {
            let operation = &self.operations[index];
            if operation.invoked > earliest {
                break;
            }
            if let Some(returned) = operation.returned.filter(|_| !self.is_done(index)) {
                earliest = earliest.min(returned);
                answered.push(index);
            }
        }
        if answered.is_empty() {
            return Some(true);
        }
        answered.retain(|index| self.operations[*index].invoked <= earliest);
        // What changes nothing may as well come now.
        for &index in &answered {
            if M::apply(state, &self.operations[index].call).as_ref() == Some(state) {
                return self.put(index, from, state.clone());
            }
        }
        let open =
            (0..self.operations.len()).take_while(|i| self.operations[*i].invoked <= earliest);
        let open: Vec<usize> = open
            .filter(|i| self.operations[*i].returned.is_none() && !self.is_done(*i))
            .collect();
        for index in answered.into_iter().chain(open) {
            if let Some(after) = M::apply(state, &self.operations[index].call)
                && self.put(index, from, after)?
            {
                return Some(true);
            }
        }
        Some(false)
    }

    fn put(&mut self, index: usize, from: usize, after: M::State) -> Option<bool> {
        self.flip(index);
        let new = self.seen.insert((self.done.clone(), after.clone()));
        let mut found = Some(false);
        if new {
            self.order.push(index);
            found = self.extend(from, &after);
            self.order.pop();
        }
        self.flip(index);
        found
    }

    fn is_done(&self, index: usize) -> bool {
        self.done[index / 64] & (1 << (index % 64)) != 0
    }

    fn flip(&mut self, index: usize) {
        self.done[index / 64] ^= 1 << (index % 64);
    }
}

/// The end of the longest order, and what could not follow it.
pub fn excerpt<C: Debug>(operations: &[Operation<C>], longest: &[usize]) -> String {
    const SHOWN: usize = 12;
    let mut text = String::new();
    let mut line = |mark: &str, index: usize| {
        let Operation {
            invoked,
            returned,
            call,
        } = &operations[index];
        let end = returned.map_or("never".to_owned(), |at| Stamp(at).to_string());
        let _ = write!(text, "\n  {mark} {} .. {end} {call:?}", Stamp(*invoked));
    };
    for index in longest.iter().rev().take(SHOWN).rev() {
        line(" ", *index);
    }
    let rest = (0..operations.len()).filter(|index| !longest.contains(index));
    for index in rest.take(SHOWN) {
        line("?", index);
    }
    text
}

#[cfg(test)]
mod tests;
