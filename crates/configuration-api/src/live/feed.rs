//! The notifications that one subscriber is sent: each once, those of a partition in order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ports::log::{Log, LogError, Record, Topic};
use segment_engine::ids::PartitionId;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::SubscriberPermit;
use super::ring::{End, Entry, Listener, Ring, Slot};

/// Bytes that a subscriber that is behind reads at a time, and holds until they are sent.
const PIECE_BYTES: usize = 64 * 1024;

/// One subscriber's position and what it has read ahead.
pub(crate) struct Feed {
    log: Arc<dyn Log>,
    readers: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
    /// The next offset of each partition.
    positions: Vec<u64>,
    /// Read from `piece_partition` and not sent.
    piece: VecDeque<Record>,
    piece_partition: PartitionId,
    /// Partitions to be read from the log, and up to which offset: from there on the ring buffer
    /// has everything.
    behind: VecDeque<(PartitionId, u64)>,
    /// Partitions in which the subscriber's position is beyond the ring buffer's. Nearly always
    /// empty.
    ahead: BTreeSet<PartitionId>,
    ring: Arc<Ring>,
    /// The number of the ring buffer's next entry.
    next_number: u64,
    listener: Listener,
    _permit: SubscriberPermit,
}

/// A notification and the position after it.
pub(crate) enum Sent {
    /// The same for all subscribers that keep up.
    Shared(Arc<Entry>),
    /// Read by this subscriber, or with a position of its own.
    Own { position: String, notification: String },
}

/// What comes next for a subscriber.
pub(crate) enum Next {
    Sent(Sent),
    /// Nothing came for some time.
    Idle,
    /// Nothing more will come.
    End,
}

impl Sent {
    /// Returns the position after it.
    pub(crate) fn position(&self) -> &str {
        match self {
            Sent::Shared(entry) => &entry.position,
            Sent::Own { position, .. } => position,
        }
    }

    /// Returns the notification as JSON.
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
        listener: Listener,
        permit: SubscriberPermit,
    ) -> Self {
        let mut feed = Self {
            log,
            readers,
            stopped,
            positions,
            piece: VecDeque::new(),
            piece_partition: PartitionId(0),
            behind: VecDeque::new(),
            ahead: BTreeSet::new(),
            ring,
            next_number: 0,
            listener,
            _permit: permit,
        };
        feed.join();
        feed
    }

    /// Joins the ring buffer at its end, and notes in which partitions the subscriber is behind it
    /// or ahead of it.
    fn join(&mut self) {
        let (next_number, ring) = self.ring.next();
        self.next_number = next_number;
        let pairs = || (0..).map(PartitionId).zip(self.positions.iter().zip(&ring));
        self.behind = pairs().filter(|(_, (own, ring))| own < ring).map(|(at, (_, ring))| (at, *ring)).collect();
        self.ahead = pairs().filter(|(_, (own, ring))| own > ring).map(|(at, _)| at).collect();
    }

    /// Returns the next notification, or that there was none for some time. It ends as soon as the
    /// server stops, since unread notifications of thousands of subscribers would delay the stop. Each
    /// reconnects with the position it has.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) async fn next(&mut self, idle_after: Duration) -> Result<Next, LogError> {
        loop {
            if self.is_stopping() {
                return Ok(Next::End);
            }
            if let Some(sent) = self.at_hand() {
                return Ok(Next::Sent(sent));
            }
            if let Some((partition, until)) = self.behind.front().copied() {
                self.catch_up(partition, until).await?;
                continue;
            }
            match self.ring.get(self.next_number) {
                // It has just been pushed.
                Slot::Entry(_) => {}
                Slot::Overwritten => self.join(),
                Slot::Ended(End::Done) => return Ok(Next::End),
                Slot::Ended(End::Failed(reason)) => return Err(LogError::Unavailable(reason)),
                Slot::Pending => {
                    // `changed` fails only without a sender, and `self.ring` holds the sender.
                    if timeout(idle_after, self.listener.changed()).await.is_err() {
                        return Ok(Next::Idle);
                    }
                }
            }
        }
    }

    /// Returns the next notification if it is in memory.
    pub(crate) fn at_hand(&mut self) -> Option<Sent> {
        if let Some(record) = self.piece.pop_front() {
            self.positions[self.piece_partition.0 as usize] = record.offset + 1;
            let position = super::format_positions(&self.positions);
            return Some(Sent::Own { position, notification: super::text_of(record) });
        }
        while self.behind.is_empty()
            && let Slot::Entry(entry) = self.ring.get(self.next_number)
        {
            self.next_number += 1;
            if let Some(sent) = self.take(entry) {
                return Some(sent);
            }
        }
        None
    }

    fn is_stopping(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Reads a piece of a partition in which the subscriber is behind.
    async fn catch_up(&mut self, partition: PartitionId, until: u64) -> Result<(), LogError> {
        let position = self.positions[partition.0 as usize];
        if position >= until {
            self.behind.pop_front();
            return Ok(());
        }
        let _reads = self.readers.acquire().await;
        if self.is_stopping() {
            return Ok(());
        }
        let records = self.log.read_piece(Topic::Notifications, partition, position, PIECE_BYTES).await?;
        self.piece_partition = partition;
        self.piece = records.into_iter().take_while(|record| record.offset < until).collect();
        if self.piece.is_empty() {
            // The records have been trimmed.
            self.positions[partition.0 as usize] = until;
        }
        Ok(())
    }

    /// Takes an entry of the ring buffer, unless the subscriber's position is beyond it.
    fn take(&mut self, entry: Arc<Entry>) -> Option<Sent> {
        let position = &mut self.positions[entry.partition.0 as usize];
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
        let position = super::format_positions(&self.positions);
        Some(Sent::Own { position, notification: entry.notification.clone() })
    }
}
