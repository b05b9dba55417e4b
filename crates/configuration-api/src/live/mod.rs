//! Live transitions: one reader of the end of the notification topic for all subscribers.
//!
//! A subscriber who keeps up shares what [`tail`] reads, out of a [`ring`] of the newest notifications. Who comes with an
//! older position, or falls out of the ring, reads the log by itself in small pieces until it has caught up ([`feed`]). So
//! what a subscriber costs depends neither on the number of partitions read ahead nor on whether it reads.

mod feed;
mod ring;
mod tail;

use std::sync::Arc;

use metrics::gauge;
use ports::ErrorCode;
use ports::log::{Log, LogError, Topic};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use uss_http::{Kind, Problem};

pub(crate) use feed::{Feed, Sent};
use ring::{Ring, Seat};

/// Subscribers at once. Each may hold about 150 KiB: its positions, a piece of the log, and what its connection has not sent.
const SUBSCRIBERS_MAX: usize = 2_048;
/// Subscribers who read the log by themselves at the same moment; the others wait. Each look takes a block of the log.
const READERS_MAX: usize = 8;

/// The subscribers of a server.
pub(crate) struct Hub {
    log: Arc<dyn Log>,
    stopped: watch::Receiver<bool>,
    seats: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    /// The ring of the newest notifications, if one has been needed.
    ring: Mutex<Option<Arc<Ring>>>,
}

/// A subscriber's place among those there may be.
struct Subscriber(#[allow(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

impl Hub {
    pub(crate) fn new(log: Arc<dyn Log>, stopped: watch::Receiver<bool>) -> Self {
        let (seats, readers) = (Semaphore::new(SUBSCRIBERS_MAX), Semaphore::new(READERS_MAX));
        Self { log, stopped, seats: Arc::new(seats), readers: Arc::new(readers), ring: Mutex::default() }
    }

    /// Subscribes from these positions on, one of each partition; without, from now.
    ///
    /// # Errors
    /// 429 if there are as many subscribers as there may be.
    pub(crate) async fn subscribe(&self, from: Option<Vec<u64>>) -> Result<Feed, Problem> {
        let subscriber = Subscriber::new(&self.seats)?;
        let positions = match from {
            Some(positions) => positions,
            None => now(self.log.as_ref()).await?,
        };
        let (ring, seat) = self.seat().await?;
        let (log, readers, stopped) = (self.log.clone(), self.readers.clone(), self.stopped.clone());
        Ok(Feed::new(log, readers, stopped, positions, ring, seat, subscriber))
    }

    /// A seat at the ring. If nobody sits there, its tail has ended, and another begins at the end of the topic.
    async fn seat(&self) -> Result<(Arc<Ring>, Seat), LogError> {
        let mut current = self.ring.lock().await;
        if let Some(ring) = current.as_ref()
            && let Some(seat) = ring.sit()
        {
            return Ok((ring.clone(), seat));
        }
        let ring = Arc::new(Ring::new(now(self.log.as_ref()).await?));
        let seat = ring.sit().expect("it has just begun");
        tokio::spawn(tail::follow(self.log.clone(), ring.clone(), self.stopped.clone()));
        *current = Some(ring.clone());
        Ok((ring, seat))
    }
}

impl Subscriber {
    fn new(seats: &Arc<Semaphore>) -> Result<Self, Problem> {
        let message = format!(
            "there are {SUBSCRIBERS_MAX} subscribers already; close streams that nobody reads, or come back later"
        );
        let full = |_| Problem::new(Kind::TooMany, ErrorCode::TooManyStreams, message);
        let subscriber = Self(seats.clone().try_acquire_owned().map_err(full)?);
        gauge!("uss_stream_subscribers").increment(1.0);
        Ok(subscriber)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        gauge!("uss_stream_subscribers").decrement(1.0);
    }
}

/// The end of each partition.
async fn now(log: &dyn Log) -> Result<Vec<u64>, LogError> {
    let mut positions = Vec::with_capacity(log.partitions() as usize);
    for partition in 0..log.partitions() {
        positions.push(log.bounds(Topic::Notifications, partition).await?.1);
    }
    Ok(positions)
}

/// As [`crate::history::positions::Positions`] are written.
fn written(positions: &[u64]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(positions.len() * 8);
    for (partition, position) in positions.iter().enumerate() {
        let between = if partition == 0 { "" } else { "," };
        write!(text, "{between}{partition}:{position}").expect("memory takes every text");
    }
    text
}
