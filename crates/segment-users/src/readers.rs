//! [`Readers`] of this service: workers and archivers.
//!
//! Memberships are not counted. One new segment can bring millions of notifications at once, and no
//! event is late for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ports::log::Topic;
use ports::readers::Readers;
use tokio::time::Instant;

use crate::handle::ServiceHandle;

/// For how long an answer holds.
const FRESH: Duration = Duration::from_millis(10);
/// A reader that has not moved for so long stands still.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(5);

/// Workers and archivers of all partitions.
pub struct ServiceReaders {
    handle: ServiceHandle,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    behind: u64,
    workers: Moving,
    archivers: Moving,
}

/// Readers of one kind, one for each partition.
#[derive(Default)]
struct Moving(Vec<Reader>);

struct Reader {
    position: u64,
    moved: Instant,
}

impl ServiceReaders {
    /// Returns the readers of a running service.
    pub fn new(handle: ServiceHandle) -> Self {
        Self { handle, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the last answer if it still holds. Otherwise the caller finds the next one.
    fn fresh(&self, now: Instant) -> Option<u64> {
        let mut seen = self.seen();
        if seen.at.is_some_and(|at| now < at + FRESH) {
            return Some(seen.behind);
        }
        // Others take the last one meanwhile.
        seen.at = Some(now);
        None
    }
}

#[async_trait]
impl Readers for ServiceReaders {
    async fn behind(&self) -> u64 {
        let now = Instant::now();
        if let Some(behind) = self.fresh(now) {
            return behind;
        }
        let (mut applied, mut archived) = (Vec::new(), Vec::new());
        for (id, partition) in self.handle.by_id() {
            // A log that does not answer holds up nobody here: it refuses what is appended.
            let Ok((_, end)) = self.handle.log.bounds(Topic::Events, id).await else { return 0 };
            applied.push((partition.progress.borrow().next_offset, end));
            archived.push((*partition.archived.borrow(), end));
        }
        let mut seen = self.seen();
        seen.behind = seen.workers.behind(&applied, now).max(seen.archivers.behind(&archived, now));
        seen.behind
    }
}

impl Moving {
    /// Takes the position of each reader and the end of its partition. Returns how many records they
    /// have to read, without those that stand still.
    fn behind(&mut self, readers: &[(u64, u64)], now: Instant) -> u64 {
        self.0.resize_with(readers.len(), || Reader { position: 0, moved: now });
        let mut behind = 0;
        for (reader, (position, end)) in self.0.iter_mut().zip(readers) {
            if reader.position != *position {
                *reader = Reader { position: *position, moved: now };
            }
            if now < reader.moved + STANDS_STILL_AFTER {
                behind += end.saturating_sub(*position);
            }
        }
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_stand_still_count_for_nothing_until_they_move() {
        let (mut moving, began) = (Moving::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(moving.behind(&[(10, 15), (0, 100)], after(0)), 105);
        assert_eq!(moving.behind(&[(11, 16), (0, 200)], after(4)), 205);
        assert_eq!(moving.behind(&[(11, 17), (0, 300)], after(6)), 6, "the second one has not moved for six seconds");
        assert_eq!(moving.behind(&[(11, 18), (1, 400)], after(7)), 406);
        assert_eq!(moving.behind(&[(11, 18), (1, 400)], after(9)), 399, "nor has the first one now");
        assert_eq!(moving.behind(&[(18, 18), (400, 400)], after(20)), 0);
    }
}
