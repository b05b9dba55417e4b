//! Values, and until when each of them counts.

use rustc_hash::FxHashMap;

use super::Queue;
use crate::time::Timestamp;
use crate::value::Value;

/// Values with their ends, and a queue by end.
///
/// An end can only be put off. The queue has one entry for each value that will end, at its end or
/// at an earlier one; only the soonest entry is always exact. So an extension costs nothing at
/// first, and later at most one move of the entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    by_value: FxHashMap<Value, Timestamp>,
    soonest: Queue<Value>,
}

impl Ends {
    /// Puts a value's end off. Returns whether the value is there.
    pub(super) fn extend(&mut self, value: &Value, until: Timestamp) -> bool {
        let Some(end) = self.by_value.get_mut(value) else { return false };
        *end = until.max(*end);
        self.keep_exact();
        true
    }

    /// Adds a value that is not there.
    pub(super) fn insert(&mut self, value: Value, until: Timestamp) {
        if until < Timestamp::MAX {
            self.soonest.push(until, value.clone());
        }
        self.by_value.insert(value, until);
    }

    /// Removes the value that ends soonest, if any will end.
    pub(super) fn drop_soonest(&mut self) {
        if let Some((_, value)) = self.soonest.pop() {
            self.by_value.remove(&value);
            self.keep_exact();
        }
    }

    /// Removes the values that have ended.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some((_, value)) = self.soonest.pop_until(now) {
            self.by_value.remove(&value);
            self.keep_exact();
        }
    }

    fn keep_exact(&mut self) {
        let by_value = &self.by_value;
        self.soonest.postpone(|value| by_value.get(value).copied().unwrap_or(Timestamp::MIN));
    }

    /// Returns the soonest end; [`Timestamp::MAX`] if there is none.
    pub(super) fn next(&self) -> Timestamp {
        self.soonest.next()
    }

    pub(super) fn len(&self) -> usize {
        self.by_value.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Value, Timestamp)> {
        self.by_value.iter().map(|(value, end)| (value, *end))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        // The queue shares the strings.
        let texts: usize = self.by_value.keys().map(Value::heap_bytes).sum();
        self.by_value.capacity() * size_of::<(Value, Timestamp)>() + self.soonest.heap_bytes() + texts
    }

    /// Returns what is stored: the queue follows from it.
    pub(crate) fn by_value(&self) -> &FxHashMap<Value, Timestamp> {
        &self.by_value
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = (Value, Timestamp)> {
        self.by_value.into_iter()
    }
}

impl From<FxHashMap<Value, Timestamp>> for Ends {
    /// O(n).
    fn from(by_value: FxHashMap<Value, Timestamp>) -> Self {
        let ending = by_value.iter().filter(|(_, end)| **end < Timestamp::MAX);
        let soonest = ending.map(|(value, end)| (*end, value.clone())).collect();
        Self { by_value, soonest }
    }
}
