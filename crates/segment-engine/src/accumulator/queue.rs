//! A priority queue by instant.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::time::Timestamp;

/// A priority queue by instant. To add an item or to take the soonest one costs O(log n), in
/// whatever order they are added.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T>(BinaryHeap<Reverse<Entry<T>>>);

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    at: Timestamp,
    item: T,
}

impl<T> Queue<T> {
    pub(super) fn push(&mut self, at: Timestamp, item: T) {
        self.0.push(Reverse(Entry { at, item }));
    }

    /// Returns the instant of the soonest item; [`Timestamp::MAX`] if there is none.
    pub(super) fn next(&self) -> Timestamp {
        self.0.peek().map_or(Timestamp::MAX, |Reverse(entry)| entry.at)
    }

    pub(super) fn pop(&mut self) -> Option<(Timestamp, T)> {
        self.0.pop().map(|Reverse(Entry { at, item })| (at, item))
    }

    /// Takes the soonest item, if its instant is not after `now`.
    pub(super) fn pop_until(&mut self, now: Timestamp) -> Option<(Timestamp, T)> {
        if self.is_empty() || self.next() > now { None } else { self.pop() }
    }

    /// Moves the soonest item to the instant that `later` returns for it, and repeats this for the
    /// then soonest until `later` returns no later instant. [`Timestamp::MAX`] removes an item.
    pub(super) fn postpone(&mut self, later: impl Fn(&T) -> Timestamp) {
        while let Some(mut soonest) = self.0.peek_mut() {
            let at = later(&soonest.0.item);
            if at <= soonest.0.at {
                break;
            }
            soonest.0.at = at;
            if at == Timestamp::MAX {
                PeekMut::pop(soonest);
            }
        }
    }

    /// Drops the items for which `keep` is false.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.0.retain(|Reverse(entry)| keep(&entry.item));
    }

    /// Returns all items, in no order.
    pub(super) fn into_entries(self) -> impl Iterator<Item = (Timestamp, T)> {
        self.0.into_iter().map(|Reverse(Entry { at, item })| (at, item))
    }

    /// Returns all items, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timestamp, &T)> {
        self.0.iter().map(|Reverse(entry)| (entry.at, &entry.item))
    }

    /// Returns all items, the latest first.
    pub(crate) fn latest_first(&self) -> Vec<(Timestamp, &T)> {
        let mut entries: Vec<(Timestamp, &T)> = self.iter().collect();
        entries.sort_by_key(|(at, _)| Reverse(*at));
        entries
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the size of the queue without what the items point to.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Entry<T>>()
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(BinaryHeap::new())
    }
}

impl<T> FromIterator<(Timestamp, T)> for Queue<T> {
    /// O(n).
    fn from_iter<I: IntoIterator<Item = (Timestamp, T)>>(entries: I) -> Self {
        let entries: Vec<_> = entries.into_iter().map(|(at, item)| Reverse(Entry { at, item })).collect();
        Self(entries.into())
    }
}

/// Entries compare by their instant alone.
impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
