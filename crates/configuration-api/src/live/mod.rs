//! Live transitions: one reader of the end of the notification topic for all subscribers.
//!
//! [`tail`] reads each notification once into a ring buffer of the newest ones ([`ring`]), and all
//! subscribers that keep up take them from there. A subscriber that gives an older position, or
//! falls out of the buffer, reads the log by itself in small pieces until it has caught up
//! ([`feed`]). So a subscriber costs the same whether or not it reads, and however many partitions
//! there are.

mod feed;
mod ring;
mod tail;

use std::sync::Arc;

use metrics::gauge;
use ports::ErrorCode;
use ports::log::{Log, LogError, Record, Topic};
use segment_engine::ids::PartitionId;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use uss_http::{Kind, Problem};

pub(crate) use feed::{Feed, Next, Sent};
use ring::{Listener, Ring};

/// Subscribers at once. Each may hold about 200 KiB: its positions, a piece of the log, and what
/// its connection has not sent.
const SUBSCRIBERS_MAX: usize = 2_048;
/// Subscribers that read the log by themselves at the same moment; the others wait. Each read loads
/// a block of the log.
const READERS_MAX: usize = 8;

/// The subscribers of a server.
pub(crate) struct Hub {
    log: Arc<dyn Log>,
    stopped: watch::Receiver<bool>,
    subscribers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    /// `None` until somebody subscribes.
    ring: Mutex<Option<Arc<Ring>>>,
}

/// One of the [`SUBSCRIBERS_MAX`] permits, counted by a metric while it is held.
struct SubscriberPermit(#[allow(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

impl Hub {
    pub(crate) fn new(log: Arc<dyn Log>, stopped: watch::Receiver<bool>) -> Self {
        let (subscribers, readers) = (Semaphore::new(SUBSCRIBERS_MAX), Semaphore::new(READERS_MAX));
        Self { log, stopped, subscribers: Arc::new(subscribers), readers: Arc::new(readers), ring: Mutex::default() }
    }

    /// Subscribes from these positions, one for each partition; without them, from now.
    ///
    /// # Errors
    /// 429 if there are [`SUBSCRIBERS_MAX`] subscribers.
    pub(crate) async fn subscribe(&self, from: Option<Vec<u64>>) -> Result<Feed, Problem> {
        let permit = SubscriberPermit::acquire(&self.subscribers)?;
        let positions = match from {
            Some(positions) => positions,
            None => now(self.log.as_ref()).await?,
        };
        let (ring, listener) = self.listen().await?;
        let (log, readers, stopped) = (self.log.clone(), self.readers.clone(), self.stopped.clone());
        Ok(Feed::new(log, readers, stopped, positions, ring, listener, permit))
    }

    /// Listens to the ring buffer. If its tail has ended for want of listeners, starts another at
    /// the topic's end.
    async fn listen(&self) -> Result<(Arc<Ring>, Listener), LogError> {
        let mut current = self.ring.lock().await;
        if let Some(ring) = current.as_ref()
            && let Some(listener) = ring.listen()
        {
            return Ok((ring.clone(), listener));
        }
        let ring = Arc::new(Ring::new(now(self.log.as_ref()).await?));
        let listener = ring.listen().expect("a new ring buffer has not ended");
        tokio::spawn(tail::follow(self.log.clone(), ring.clone(), self.stopped.clone()));
        *current = Some(ring.clone());
        Ok((ring, listener))
    }
}

impl SubscriberPermit {
    fn acquire(subscribers: &Arc<Semaphore>) -> Result<Self, Problem> {
        let message = format!(
            "there are {SUBSCRIBERS_MAX} subscribers already; close streams that nobody reads, or try again later"
        );
        let full = |_| Problem::new(Kind::TooMany, ErrorCode::TooManyStreams, message);
        let permit = Self(subscribers.clone().try_acquire_owned().map_err(full)?);
        gauge!("uss_stream_subscribers").increment(1.0);
        Ok(permit)
    }
}

impl Drop for SubscriberPermit {
    fn drop(&mut self) {
        gauge!("uss_stream_subscribers").decrement(1.0);
    }
}

/// Returns the end of each partition.
async fn now(log: &dyn Log) -> Result<Vec<u64>, LogError> {
    let mut positions = Vec::with_capacity(log.partitions() as usize);
    for partition in PartitionId::all(log.partitions()) {
        positions.push(log.bounds(Topic::Notifications, partition).await?.1);
    }
    Ok(positions)
}

/// Returns the text of a notification: JSON, and so UTF-8.
fn text_of(record: Record) -> String {
    String::from_utf8(record.value).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Formats positions as [`crate::history::positions::Positions`] does, without a map.
fn format_positions(positions: &[u64]) -> String {
    let mut text = String::with_capacity(positions.len() * 10);
    // Each notification has them, and `write!` would take a third of the time to send it.
    let mut digits = itoa::Buffer::new();
    for (partition, position) in positions.iter().enumerate() {
        if partition > 0 {
            text.push(',');
        }
        text.push_str(digits.format(partition));
        text.push(':');
        text.push_str(digits.format(*position));
    }
    text
}
