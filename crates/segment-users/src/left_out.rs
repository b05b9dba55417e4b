//! Which records the workers left out, for the archivers: events that were delivered before, and what
//! came for users who were merged or deleted.
//!
//! Worker and archiver read the same records, and must leave out the same ones. The worker knows
//! from its state; the archiver would have to ask the warehouse. So the worker reports what it left
//! out. Only memory has that: what a worker does not apply again after a restart, the archiver looks
//! up.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use segment_engine::ids::PartitionId;
use tokio::sync::watch;

/// How many offsets of a partition are kept. An archiver that is so far behind that there are more asks
/// the warehouse.
const LEFT_OUT_MAX: usize = 1 << 20;

/// What was left out of every partition. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LeftOut(Arc<Mutex<HashMap<PartitionId, watch::Sender<Decided>>>>);

/// What a worker has decided.
#[derive(Debug, Default)]
struct Decided {
    /// The offsets of the records that it covers.
    offsets: Range<u64>,
    /// The offsets of what was left out among them, ascending.
    left_out: Vec<u64>,
}

impl LeftOut {
    /// A worker applies records from this offset on, and has forgotten what it decided before.
    pub(crate) fn begin(&self, partition: PartitionId, at: u64) {
        let decided = Decided { offsets: at..at, left_out: Vec::new() };
        self.of(partition).send_replace(decided);
    }

    /// A worker has committed the records before `to`, and left out these offsets among them.
    pub(crate) fn decided(&self, partition: PartitionId, to: u64, left_out: &[u64]) {
        self.of(partition).send_modify(|decided| {
            decided.offsets.end = to;
            decided.left_out.extend(left_out);
            if decided.left_out.len() > LEFT_OUT_MAX {
                *decided = Decided { offsets: to..to, left_out: Vec::new() };
            }
        });
    }

    /// Returns up to which of these offsets the worker has decided, and what it left out of them,
    /// ascending; `None` if it has not decided about the first.
    pub(crate) fn among(&self, partition: PartitionId, offsets: Range<u64>) -> Option<(u64, Vec<u64>)> {
        let of = self.of(partition);
        let decided = of.borrow();
        if !decided.offsets.contains(&offsets.start) {
            return None;
        }
        let [first, end] = [offsets.start, offsets.end].map(|at| decided.left_out.partition_point(|it| *it < at));
        Some((decided.offsets.end.min(offsets.end), decided.left_out[first..end].to_vec()))
    }

    /// Returns up to which offset the worker has decided.
    pub(crate) fn end(&self, partition: PartitionId) -> u64 {
        self.of(partition).borrow().offsets.end
    }

    /// Waits while a worker is on the way to this offset, but has not decided about it. Cancel-safe.
    pub(crate) async fn wait(&self, partition: PartitionId, offset: u64) {
        let mut of = self.of(partition).subscribe();
        // At 0 no worker has begun, or it has nothing before it that it could leave out. `self`
        // keeps the sender, so the wait cannot fail.
        let _ = of.wait_for(|Decided { offsets, .. }| offsets.end == 0 || offset < offsets.end).await;
    }

    /// Drops what is needed no longer: the archiver is at this offset.
    pub(crate) fn forget(&self, partition: PartitionId, below: u64) {
        self.of(partition).send_if_modified(|decided| {
            let first = decided.left_out.partition_point(|offset| *offset < below);
            decided.left_out.drain(..first);
            decided.offsets.start = below.clamp(decided.offsets.start, decided.offsets.end);
            false
        });
    }

    fn of(&self, partition: PartitionId) -> watch::Sender<Decided> {
        let mut of = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        of.entry(partition).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: PartitionId = PartitionId(3);
    const LATER: u64 = u64::MAX;

    #[test]
    fn only_what_was_decided_and_not_forgotten_is_known() {
        let left_out = LeftOut::default();
        assert_eq!(left_out.among(PARTITION, 0..LATER), None, "no worker has begun");
        left_out.begin(PARTITION, 10);
        left_out.decided(PARTITION, 20, &[12, 15]);
        left_out.decided(PARTITION, 30, &[21]);
        assert_eq!(left_out.among(PARTITION, 9..LATER), None);
        assert_eq!(left_out.among(PARTITION, 10..LATER), Some((30, vec![12, 15, 21])));
        assert_eq!(left_out.among(PARTITION, 15..LATER), Some((30, vec![15, 21])));
        assert_eq!(left_out.among(PARTITION, 29..LATER), Some((30, vec![])));
        assert_eq!(left_out.among(PARTITION, 12..21), Some((21, vec![12, 15])));
        assert_eq!(left_out.among(PARTITION, 30..LATER), None);
        left_out.forget(PARTITION, 15);
        assert_eq!(left_out.among(PARTITION, 14..LATER), None);
        assert_eq!(left_out.among(PARTITION, 16..LATER), Some((30, vec![21])));
        assert_eq!(left_out.among(PartitionId(4), 16..LATER), None);
        left_out.begin(PARTITION, 10);
        assert_eq!(left_out.among(PARTITION, 16..LATER), None, "the worker has begun again");
    }

    #[test]
    fn an_archiver_far_behind_looks_up_what_was_too_much_to_keep() {
        let left_out = LeftOut::default();
        left_out.begin(PARTITION, 0);
        let many: Vec<u64> = (0..=LEFT_OUT_MAX as u64).collect();
        left_out.decided(PARTITION, many.len() as u64, &many);
        assert_eq!(left_out.among(PARTITION, 0..LATER), None);
        left_out.decided(PARTITION, many.len() as u64 + 9, &[]);
        assert_eq!(left_out.among(PARTITION, many.len() as u64..LATER), Some((many.len() as u64 + 9, vec![])));
    }

    #[tokio::test]
    async fn an_archiver_waits_for_a_worker_that_is_on_the_way() {
        let left_out = LeftOut::default();
        left_out.wait(PARTITION, 50).await;
        left_out.begin(PARTITION, 10);
        left_out.wait(PARTITION, 5).await;
        let (worker, waiting) = (left_out.clone(), left_out.wait(PARTITION, 20));
        let decide = async {
            worker.decided(PARTITION, 20, &[]);
            tokio::task::yield_now().await;
            worker.decided(PARTITION, 21, &[20]);
        };
        tokio::join!(waiting, decide);
        assert_eq!(left_out.among(PARTITION, 20..LATER), Some((21, vec![20])));
    }
}
