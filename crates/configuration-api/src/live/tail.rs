//! Reads the end of the notification topic into the ring buffer while there are subscribers.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use ports::log::{Log, LogError, Record, Topic};
use segment_engine::ids::PartitionId;
use tokio::sync::watch;

use super::ring::{End, Entry, Ring};
use super::text_of;

/// Bytes read from a partition at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Follows all partitions until the server stops or nobody listens.
pub(super) async fn follow(log: Arc<dyn Log>, ring: Arc<Ring>, mut stopped: watch::Receiver<bool>) {
    let (_, mut positions) = ring.next();
    // One wait for each partition, so that a record wakes only its own.
    let waits =
        (0..).map(PartitionId).zip(&positions).map(|(partition, position)| wait(log.clone(), partition, *position));
    let mut waits: FuturesUnordered<_> = waits.collect();
    loop {
        tokio::select! {
            Some(partition) = waits.next() => {
                if let Err(error) = read(log.as_ref(), &ring, partition, &mut positions).await {
                    return fail(&ring, &error);
                }
                waits.push(wait(log.clone(), partition, positions[partition.0 as usize]));
            }
            () = server_stops(&mut stopped) => return ring.end(End::Done),
            () = ring.unheard() => {
                if ring.end_if_unheard() {
                    return;
                }
            }
        }
    }
}

async fn server_stops(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender was dropped, which is a stop too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn wait(log: Arc<dyn Log>, partition: PartitionId, position: u64) -> PartitionId {
    log.wait_for(Topic::Notifications, partition, position).await;
    partition
}

/// Reads a piece of a partition that has more. If the piece is empty, its records have been
/// trimmed.
async fn read(log: &dyn Log, ring: &Ring, partition: PartitionId, positions: &mut [u64]) -> Result<(), LogError> {
    let place = partition.0 as usize;
    let records = log.read_piece(Topic::Notifications, partition, positions[place], PIECE_BYTES).await?;
    if records.is_empty() {
        let (first, _) = log.bounds(Topic::Notifications, partition).await?;
        positions[place] = first.max(positions[place]);
        ring.skip(partition, positions[place]);
    }
    let entry = |record: Record| {
        positions[place] = record.offset + 1;
        Entry::new(partition, record.offset, positions, text_of(record))
    };
    // Before the ring is locked, where every subscriber would wait.
    let entries = records.into_iter().map(entry).collect();
    ring.push(entries);
    Ok(())
}

/// Ends every stream; the clients reconnect with the positions that they have.
fn fail(ring: &Ring, error: &LogError) {
    tracing::error!(%error, "the live transitions cannot be read");
    ring.end(End::Failed(error.to_string()));
}
