//! [`Readers`] of this service: workers and archivers.
//!
//! Memberships are not counted. One new segment can bring millions of notifications at once, and no
//! event is late for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ports::log::{LogError, Topic};
use ports::readers::Readers;
use tokio::time::Instant;

use crate::handle::ServiceHandle;

/// For how long an answer holds.
const FRESH: Duration = Duration::from_millis(10);
/// A reader that has not moved for so long stands still. Longer than the archivers of a hundred
/// partitions take in turn, each with a full batch.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(15);

/// Workers and archivers of all partitions.
pub struct ServiceReaders {
    handle: ServiceHandle,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    behind: u64,
    workers: Kind,
    archivers: Kind,
}

/// Readers of one kind, one for each partition.
#[derive(Default)]
struct Kind(Vec<Reader>);

struct Reader {
    position: u64,
    moved: Instant,
    /// How far behind it was when it was first seen or began to move again; the least since.
    owed: u64,
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

    /// Returns the position of each reader, and the end of its partition: of workers and archivers.
    async fn positions(&self) -> Result<[Vec<(u64, u64)>; 2], LogError> {
        let (mut applied, mut archived) = (Vec::new(), Vec::new());
        for (id, partition) in self.handle.by_id() {
            let (_, end) = self.handle.log.bounds(Topic::Events, id).await?;
            applied.push((partition.progress.borrow().next_offset, end));
            archived.push((*partition.archived.borrow(), end));
        }
        Ok([applied, archived])
    }
}

#[async_trait]
impl Readers for ServiceReaders {
    async fn behind(&self) -> u64 {
        let now = Instant::now();
        if let Some(behind) = self.fresh(now) {
            return behind;
        }
        let positions = self.positions().await;
        let mut seen = self.seen();
        seen.behind = match positions {
            Ok([applied, archived]) => seen.workers.behind(&applied, now).max(seen.archivers.behind(&archived, now)),
            // It refuses what is appended, with its reason.
            Err(_) => 0,
        };
        seen.behind
    }
}

impl Kind {
    /// Takes the position of each reader, and the end of its partition. Returns how many records they
    /// have fallen behind.
    fn behind(&mut self, readers: &[(u64, u64)], now: Instant) -> u64 {
        let seen = self.0.len();
        let new = readers.iter().skip(seen);
        self.0.extend(new.map(|(position, end)| Reader {
            position: *position,
            moved: now,
            owed: end.saturating_sub(*position),
        }));
        self.0.iter_mut().zip(readers).map(|(reader, (position, end))| reader.behind(*position, *end, now)).sum()
    }
}

impl Reader {
    fn behind(&mut self, position: u64, end: u64, now: Instant) -> u64 {
        let stood_still = now >= self.moved + STANDS_STILL_AFTER;
        let behind = end.saturating_sub(position);
        if position != self.position {
            (self.position, self.moved) = (position, now);
            if stood_still {
                self.owed = behind;
            }
        } else if stood_still {
            return 0;
        }
        self.owed = self.owed.min(behind);
        behind - self.owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_fell_behind_before_it_moved_does_not_count() {
        let (mut kind, began) = (Kind::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(kind.behind(&[(10, 15), (0, 100)], after(0)), 0, "they have just been started");
        assert_eq!(kind.behind(&[(15, 15), (20, 100)], after(5)), 0);
        assert_eq!(kind.behind(&[(15, 45), (20, 110)], after(6)), 40, "30 and 10 more than the least");
        assert_eq!(kind.behind(&[(16, 45), (20, 500)], after(19)), 429, "29 and 400");
        assert_eq!(kind.behind(&[(17, 45), (20, 900)], after(20)), 28, "the second one has stood still");
        assert_eq!(kind.behind(&[(18, 45), (21, 900)], after(21)), 27, "it moves again, and owes 879");
        assert_eq!(kind.behind(&[(19, 45), (500, 1_000)], after(22)), 26, "now 500");
        assert_eq!(kind.behind(&[(20, 45), (501, 1_101)], after(23)), 125, "100 more than that");
        assert_eq!(kind.behind(&[(45, 45), (1_101, 1_101)], after(24)), 0);
    }
}
