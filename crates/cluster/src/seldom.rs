//! What strangers can cause at will must not fill the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use trilith_base::BootTime;

use crate::limits::{COMPLAINT_INTERVAL, COMPLAINTS_MAX};

/// Lets one complaint of a kind through every ten seconds. Counting is for metrics, which see all.
#[derive(Debug)]
pub struct Seldom<K> {
    last: Mutex<HashMap<K, BootTime>>,
}

impl<K: Eq + Hash> Seldom<K> {
    pub fn new() -> Self {
        Self {
            last: Mutex::new(HashMap::new()),
        }
    }

    /// Whether to complain about `kind` at that time.
    pub fn allows(&self, kind: K, now: BootTime) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |at: &BootTime| now.since(*at) < COMPLAINT_INTERVAL;
        if last.get(&kind).is_some_and(recent) {
            return false;
        }
        if last.len() >= COMPLAINTS_MAX {
            last.retain(|_, at| recent(at));
            if last.len() >= COMPLAINTS_MAX {
                return false;
            }
        }
        last.insert(kind, now);
        true
    }
}

impl<K: Eq + Hash> Default for Seldom<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_of_a_kind_in_ten_seconds() {
        let seldom = Seldom::new();
        let at = |seconds| BootTime(Duration::from_secs(seconds));
        assert!(seldom.allows("a", at(100)));
        assert!(!seldom.allows("a", at(109)));
        assert!(seldom.allows("b", at(109)));
        assert!(seldom.allows("a", at(110)));
    }

    #[test]
    fn many_kinds_are_bounded() {
        let seldom = Seldom::new();
        let now = BootTime(Duration::from_secs(100));
        let allowed = (0..10_000).filter(|n| seldom.allows(*n, now)).count();
        assert_eq!(allowed, COMPLAINTS_MAX);
        assert!(seldom.allows(10_000, now + COMPLAINT_INTERVAL));
    }
}
