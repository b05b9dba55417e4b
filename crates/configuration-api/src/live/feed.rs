//! What one subscriber is sent.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ports::log::{Log, LogError, Record, Topic};
use tokio::sync::{Semaphore, watch};

use super::Subscriber;
use super::ring::{End, Entry, Look, Ring, Seat};

/// Read at a time by who is behind, and held until it is sent.
const PIECE_BYTES: usize = 64 * 1024;

/// One subscriber's way through the notifications: each once, those of a partition in order.
pub(crate) struct Feed {
    log: Arc<dyn Log>,
    readers: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
    /// The next offset of each partition.
    positions: Vec<u64>,
    /// Read from `held_of` and not sent.
    held: VecDeque<Record>,
    held_of: u32,
    /// Partitions to be read from the log, and up to where: from there on the ring has everything.
    behind: VecDeque<(u32, u64)>,
    /// Partitions in which the subscriber stands beyond the ring. Nearly always empty.
    ahead: BTreeSet<u32>,
    ring: Arc<Ring>,
    /// Of the next entry of the ring.
    number: u64,
    seat: Seat,
    _subscriber: Subscriber,
}

/// A notification and the position after it.
pub(crate) enum Sent {
    /// As all get it who have kept up.
    Shared(Arc<Entry>),
    Own {
        position: String,
        notification: String,
    },
}

impl Sent {
    /// The position after it.
    pub(crate) fn position(&self) -> &str {
        match self {
            Sent::Shared(entry) => &entry.position,
            Sent::Own { position, .. } => position,
        }
    }

    /// JSON.
    pub(crate) fn notification(&self) -> &str {
        match self {
            Sent::Shared(entry) => &entry.notification,
            Sent::Own { notification, .. } => notification,
        }
    }
}

impl Feed {
    pub(super) fn new(
        log: Arc<dyn Log>,
        readers: Arc<Semaphore>,
        stopped: watch::Receiver<bool>,
        positions: Vec<u64>,
        ring: Arc<Ring>,
        seat: Seat,
        subscriber: Subscriber,
    ) -> Self {
        let mut feed = Self {
            log,
            readers,
            stopped,
            positions,
            held: VecDeque::new(),
            held_of: 0,
            behind: VecDeque::new(),
            ahead: BTreeSet::new(),
            ring,
            number: 0,
            seat,
            _subscriber: subscriber,
        };
        feed.join();
        feed
    }

    /// Finds out where it stands beside the ring.
    fn join(&mut self) {
        let (number, ring) = self.ring.next();
        self.number = number;
        let places = || (0_u32..).zip(self.positions.iter().zip(&ring));
        self.behind = places().filter(|(_, (own, ring))| own < ring).map(|(at, (_, ring))| (at, *ring)).collect();
        self.ahead = places().filter(|(_, (own, ring))| own > ring).map(|(at, _)| at).collect();
    }

    /// The next notification; `None` as soon as the server is told to stop, since thousands of subscribers would hold up the
    /// stop with what they have not read. Each comes back with the position it has.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Option<Sent>, LogError> {
        loop {
            if self.is_stopping() {
                return Ok(None);
            }
            if let Some(record) = self.held.pop_front() {
                self.positions[self.held_of as usize] = record.offset + 1;
                let notification = String::from_utf8_lossy(&record.value).into_owned();
                return Ok(Some(Sent::Own { position: super::written(&self.positions), notification }));
            }
            if let Some((partition, until)) = self.behind.front().copied() {
                self.catch_up(partition, until).await?;
                continue;
            }
            match self.ring.look(self.number) {
                Look::Entry(entry) => {
                    self.number += 1;
                    if let Some(sent) = self.take(entry) {
                        return Ok(Some(sent));
                    }
                }
                Look::Gone => self.join(),
                Look::Over(End::Done) => return Ok(None),
                Look::Over(End::Failed(reason)) => return Err(LogError::Unavailable(reason)),
                Look::Not => {
                    // The ring, and with it what changes, lives as long as this does.
                    let _changed = self.seat.changed().await;
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Reads a piece of a partition in which it is behind.
    async fn catch_up(&mut self, partition: u32, until: u64) -> Result<(), LogError> {
        let position = self.positions[partition as usize];
        if position >= until {
            self.behind.pop_front();
            return Ok(());
        }
        let _reads = self.readers.acquire().await;
        if self.is_stopping() {
            return Ok(());
        }
        let records = self.log.read_piece(Topic::Notifications, partition, position, PIECE_BYTES).await?;
        self.held_of = partition;
        self.held = records.into_iter().take_while(|record| record.offset < until).collect();
        if self.held.is_empty() {
            // What was there has been trimmed.
            self.positions[partition as usize] = until;
        }
        Ok(())
    }

    /// An entry of the ring, unless it lies before where the subscriber stands.
    fn take(&mut self, entry: Arc<Entry>) -> Option<Sent> {
        let position = &mut self.positions[entry.partition as usize];
        let after = entry.offset + 1;
        if after <= *position {
            if after == *position {
                self.ahead.remove(&entry.partition);
            }
            return None;
        }
        *position = after;
        self.ahead.remove(&entry.partition);
        if self.ahead.is_empty() {
            return Some(Sent::Shared(entry));
        }
        let position = super::written(&self.positions);
        Some(Sent::Own { position, notification: entry.notification.clone() })
    }
}
