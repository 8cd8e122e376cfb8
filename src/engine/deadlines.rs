//! When to wake for whom: one structure per core.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// At most one deadline per key.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K: Ord + Copy> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            by_key: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Sets or moves the deadline of `key`.
    pub(super) fn set(&mut self, key: K, at: Instant) {
        match self.by_key.insert(key, at) {
            Some(before) if before == at => {}
            Some(before) => {
                self.by_time.remove(&(before, key));
                self.by_time.insert((at, key));
            }
            None => {
                self.by_time.insert((at, key));
            }
        }
    }

    /// Sets the deadline of `key` unless it has an earlier one.
    pub(super) fn set_earlier(&mut self, key: K, at: Instant) {
        if self.by_key.get(&key).is_none_or(|&before| at < before) {
            self.set(key, at);
        }
    }

    /// Forgets `key`.
    pub(super) fn remove(&mut self, key: K) {
        if let Some(before) = self.by_key.remove(&key) {
            self.by_time.remove(&(before, key));
        }
    }

    /// Takes one key whose deadline is not after `now`, the earliest first.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.remove(key);
        Some(key)
    }

    /// The earliest deadline.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn keys_come_due_in_order_and_once() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        deadlines.set(1, at(30));
        deadlines.set(2, at(10));
        deadlines.set(1, at(20));
        deadlines.set_earlier(2, at(15));
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.pop_due(at(9)), None);
        assert_eq!(deadlines.pop_due(at(25)), Some(2));
        assert_eq!(deadlines.pop_due(at(25)), Some(1));
        assert_eq!(deadlines.pop_due(at(25)), None);
        assert_eq!(deadlines.next(), None);
    }
}
