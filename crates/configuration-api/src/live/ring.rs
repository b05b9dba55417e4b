//! A ring buffer of the newest notifications, in one order, for all subscribers that keep up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use segment_engine::ids::PartitionId;
use tokio::sync::watch;

/// The most that the buffer holds, though always at least the newest entry. A subscriber that is
/// further behind reads the log.
const RING_BYTES_MAX: usize = 16 << 20;
/// What an entry takes besides its strings.
const ENTRY_BYTES: usize = 128;

/// A notification, and what every subscriber is sent with it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub partition: PartitionId,
    pub offset: u64,
    /// The positions after it, for a subscriber that received everything before it.
    pub position: String,
    pub notification: String,
}

/// The newest notifications, numbered without gaps.
pub(super) struct Ring {
    buffer: Mutex<Buffer>,
    /// Wakes those that wait for another entry, or the end.
    changed: watch::Sender<()>,
}

struct Buffer {
    /// The number of the oldest of `entries`.
    first: u64,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Of each partition, after the newest of `entries`.
    positions: Vec<u64>,
    end: Option<End>,
}

/// Why no more entries come.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Nobody listens any more, or the server stops.
    Done,
    /// The log cannot be read.
    Failed(String),
}

/// What the buffer has at a number.
pub(super) enum Slot {
    Entry(Arc<Entry>),
    /// Newer entries took its place.
    Overwritten,
    /// It has not been pushed yet.
    Pending,
    Ended(End),
}

/// Wakes its holder at every change. The tail runs while anybody has one.
pub(super) type Listener = watch::Receiver<()>;

impl Ring {
    /// An empty buffer; the next entries are those after these positions.
    pub(super) fn new(positions: Vec<u64>) -> Self {
        let buffer = Buffer { first: 0, entries: VecDeque::new(), bytes: 0, positions, end: None };
        Self { buffer: Mutex::new(buffer), changed: watch::Sender::new(()) }
    }

    /// Returns `None` if no more entries will come.
    pub(super) fn listen(&self) -> Option<Listener> {
        let buffer = self.buffer();
        buffer.end.is_none().then(|| self.changed.subscribe())
    }

    /// Adds entries in order, and wakes the subscribers once.
    pub(super) fn push(&self, entries: Vec<Arc<Entry>>) {
        if entries.is_empty() {
            return;
        }
        let mut buffer = self.buffer();
        entries.into_iter().for_each(|entry| buffer.push(entry));
        drop(buffer);
        self.changed.send_replace(());
    }

    /// Records that a partition has nothing before this position.
    pub(super) fn skip(&self, partition: PartitionId, to: u64) {
        let position = &mut self.buffer().positions[partition.0 as usize];
        *position = to.max(*position);
    }

    /// Returns the number of the next entry, and the positions before it.
    pub(super) fn next(&self) -> (u64, Vec<u64>) {
        let buffer = self.buffer();
        (buffer.first + buffer.entries.len() as u64, buffer.positions.clone())
    }

    pub(super) fn get(&self, number: u64) -> Slot {
        let buffer = self.buffer();
        let Some(index) = number.checked_sub(buffer.first) else { return Slot::Overwritten };
        let entry = usize::try_from(index).ok().and_then(|index| buffer.entries.get(index));
        match (entry, &buffer.end) {
            (Some(entry), _) => Slot::Entry(entry.clone()),
            (None, Some(end)) => Slot::Ended(end.clone()),
            (None, None) => Slot::Pending,
        }
    }

    /// No more entries come.
    pub(super) fn end(&self, end: End) {
        self.buffer().end = Some(end);
        self.changed.send_replace(());
    }

    /// Returns once nobody listens.
    pub(super) async fn unheard(&self) {
        self.changed.closed().await;
    }

    /// Ends the buffer if nobody listens, and returns whether it did. From then on nobody can
    /// listen.
    pub(super) fn end_if_unheard(&self) -> bool {
        let mut buffer = self.buffer();
        let is_unheard = self.changed.receiver_count() == 0;
        if is_unheard {
            buffer.end = Some(End::Done);
            // Nobody will read these.
            buffer.entries.clear();
        }
        is_unheard
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn push(&mut self, entry: Arc<Entry>) {
        self.positions[entry.partition.0 as usize] = entry.offset + 1;
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.bytes > RING_BYTES_MAX && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.bytes();
                self.first += 1;
            }
        }
    }
}

impl Entry {
    /// Returns the entry of a notification; `positions` are those after it.
    pub(super) fn new(partition: PartitionId, offset: u64, positions: &[u64], notification: String) -> Arc<Self> {
        let position = super::format_positions(positions);
        Arc::new(Self { partition, offset, position, notification })
    }

    fn bytes(&self) -> usize {
        self.position.len() + self.notification.len() + ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_within_the_bound() {
        let ring = Ring::new(vec![7, 0]);
        let _listener = ring.listen().unwrap();
        assert!(matches!(ring.get(0), Slot::Pending));
        let large = "x".repeat(RING_BYTES_MAX / 4);
        for offset in 7..20 {
            ring.push(vec![Entry::new(PartitionId(0), offset, &[offset + 1, 0], large.clone())]);
            assert!(ring.buffer().bytes <= RING_BYTES_MAX);
        }
        let (next, positions) = ring.next();
        assert_eq!((next, positions), (13, vec![20, 0]));
        // A quarter of the bound each, and a little beside: three fit.
        let kept: Vec<bool> = (0..13).map(|number| matches!(ring.get(number), Slot::Entry(_))).collect();
        assert_eq!(kept, (0..13).map(|number| number >= 10).collect::<Vec<_>>());
        assert!(matches!(ring.get(9), Slot::Overwritten) && matches!(ring.get(13), Slot::Pending));
        let Slot::Entry(entry) = ring.get(12) else { panic!("12 is the newest") };
        assert_eq!((entry.partition, entry.offset, &*entry.position), (PartitionId(0), 19, "0:20,1:0"));
        ring.push(vec![Entry::new(PartitionId(1), 0, &[20, 1], "x".repeat(2 * RING_BYTES_MAX))]);
        assert!(matches!(ring.get(13), Slot::Entry(_)), "the newest stays, however large");
        assert!(matches!(ring.get(12), Slot::Overwritten));
    }

    #[test]
    fn it_ends_only_when_nobody_listens() {
        let ring = Ring::new(vec![0]);
        let listener = ring.listen().unwrap();
        assert!(!ring.end_if_unheard());
        drop(listener);
        assert!(ring.end_if_unheard());
        assert!(ring.listen().is_none(), "later subscribers need another ring buffer");
    }
}
