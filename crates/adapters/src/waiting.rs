//! Calls that wait for their turn to write. The one whose turn it is writes for all.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// What waits to be written, in the order in which it came.
#[derive(Debug)]
pub(crate) struct Waiting<Item, Outcome> {
    waiters: Mutex<VecDeque<Waiter<Item, Outcome>>>,
    pushed: Notify,
}

/// One of them, and where its caller waits for the outcome.
#[derive(Debug)]
pub(crate) struct Waiter<Item, Outcome> {
    pub(crate) item: Item,
    pub(crate) outcome: oneshot::Sender<Outcome>,
}

impl<Item, Outcome> Default for Waiting<Item, Outcome> {
    fn default() -> Self {
        Self { waiters: Mutex::default(), pushed: Notify::new() }
    }
}

impl<Item, Outcome> Waiting<Item, Outcome> {
    /// Adds an item. The receiver gets what became of it.
    pub(crate) fn push(&self, item: Item) -> oneshot::Receiver<Outcome> {
        let (outcome, receiver) = oneshot::channel();
        self.waiters().push_back(Waiter { item, outcome });
        self.pushed.notify_one();
        receiver
    }

    /// Takes the first items: as many as have at most so many rows together, but at least one.
    /// Leaves out those whose callers have gone.
    pub(crate) fn next_group(&self, rows_max: usize, rows_of: impl Fn(&Item) -> usize) -> Vec<Waiter<Item, Outcome>> {
        let mut waiters = self.waiters();
        let count = group_len(&mut waiters, rows_max, rows_of);
        waiters.drain(..count).collect()
    }

    /// Returns how many rows of a kind [`Self::next_group`] would take.
    pub(crate) fn in_next_group(
        &self,
        rows_max: usize,
        rows_of: impl Fn(&Item) -> usize,
        of_kind: impl Fn(&Item) -> usize,
    ) -> usize {
        let mut waiters = self.waiters();
        let count = group_len(&mut waiters, rows_max, rows_of);
        waiters.iter().take(count).map(|waiter| of_kind(&waiter.item)).sum()
    }

    /// Takes the first items, of which the last is cut if needed, so that they have exactly so many
    /// rows together. The caller of one that is cut waits for the rest of it, which is the first of
    /// those that wait now: if its beginning fails, [`Self::fail_rest`] says so. `None` if fewer rows
    /// wait.
    pub(crate) fn exact_group(
        &self,
        rows: usize,
        rows_of: impl Fn(&Item) -> usize,
        cut: impl FnOnce(&mut Item, usize) -> Item,
    ) -> Option<(Vec<Waiter<Item, Outcome>>, bool)> {
        let mut waiters = self.waiters();
        waiters.retain(|waiter| !waiter.outcome.is_closed());
        let (mut count, mut left) = (0, rows);
        while left > 0 {
            let of_next = rows_of(&waiters.get(count)?.item);
            if of_next > left {
                break;
            }
            left -= of_next;
            count += 1;
        }
        let mut group: Vec<_> = waiters.drain(..count).collect();
        if left > 0 {
            let first = waiters.front_mut().expect("it has more rows than are left");
            let rest = cut(&mut first.item, left);
            // Nobody waits for this part alone.
            let outcome = oneshot::channel().0;
            group.push(Waiter { item: std::mem::replace(&mut first.item, rest), outcome });
        }
        Some((group, left > 0))
    }

    /// Gives the rest of an item the outcome of its beginning, which failed. To be called before the
    /// next group is taken.
    pub(crate) fn fail_rest(&self, outcome: Outcome) {
        if let Some(rest) = self.waiters().pop_front() {
            let _caller_gone = rest.outcome.send(outcome);
        }
    }

    /// Returns how many rows the items that wait have together.
    pub(crate) fn rows(&self, rows_of: impl Fn(&Item) -> usize) -> usize {
        self.waiters().iter().map(|waiter| rows_of(&waiter.item)).sum()
    }

    /// Waits until an item was added since the last call.
    pub(crate) async fn pushed(&self) {
        self.pushed.notified().await;
    }

    fn waiters(&self) -> MutexGuard<'_, VecDeque<Waiter<Item, Outcome>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many of the first items make up a group. Leaves out those whose callers have gone.
fn group_len<Item, Outcome>(
    waiters: &mut VecDeque<Waiter<Item, Outcome>>,
    rows_max: usize,
    rows_of: impl Fn(&Item) -> usize,
) -> usize {
    waiters.retain(|waiter| !waiter.outcome.is_closed());
    let (mut count, mut rows) = (0, 0);
    for waiter in waiters.iter() {
        rows += rows_of(&waiter.item);
        if count > 0 && rows > rows_max {
            break;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_bounded_number_of_rows_but_any_single_item() {
        let waiting = Waiting::<usize, ()>::default();
        let _receivers: Vec<_> = [11, 9, 1, 1, 0, 30, 0].into_iter().map(|rows| waiting.push(rows)).collect();
        let mut groups = Vec::new();
        for expected in [11, 10, 1, 30, 0] {
            assert_eq!(waiting.in_next_group(10, |rows| *rows, |rows| *rows), expected);
            let group = waiting.next_group(10, |rows| *rows);
            groups.push(group.into_iter().map(|waiter| waiter.item).collect::<Vec<_>>());
        }
        assert_eq!(groups, [vec![11], vec![9, 1], vec![1, 0], vec![30], vec![0]]);
        assert!(waiting.next_group(10, |rows| *rows).is_empty());
    }

    #[test]
    fn an_exact_group_ends_within_an_item_if_it_must() {
        let waiting = Waiting::<usize, ()>::default();
        let cut = |item: &mut usize, rows| std::mem::replace(item, rows) - rows;
        let group = |rows| {
            let (group, is_cut) = waiting.exact_group(rows, |rows| *rows, cut)?;
            let open: Vec<bool> = group.iter().map(|waiter| !waiter.outcome.is_closed()).collect();
            assert_eq!(open.iter().all(|is_open| *is_open), !is_cut, "nobody waits for a part alone");
            Some(group.into_iter().map(|waiter| waiter.item).zip(open).collect::<Vec<_>>())
        };
        let _receivers: Vec<_> = [4, 0, 9, 3].into_iter().map(|rows| waiting.push(rows)).collect();
        assert_eq!(group(17), None, "there are too few");
        assert_eq!(group(4).unwrap(), [(4, true)]);
        assert_eq!(group(6).unwrap(), [(0, true), (6, false)]);
        assert_eq!(group(6).unwrap(), [(3, true), (3, true)]);
        assert_eq!(group(1), None);
    }

    #[test]
    fn the_item_of_a_caller_that_has_gone_is_left_out() {
        let waiting = Waiting::<usize, ()>::default();
        drop(waiting.push(1));
        let mut kept = waiting.push(2);
        let group = waiting.next_group(10, |rows| *rows);
        assert_eq!(group.iter().map(|waiter| waiter.item).collect::<Vec<_>>(), [2]);
        group.into_iter().for_each(|waiter| waiter.outcome.send(()).expect("its caller waits"));
        assert_eq!(kept.try_recv(), Ok(()));
    }
}
