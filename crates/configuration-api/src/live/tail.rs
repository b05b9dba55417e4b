//! Reads the end of the notification topic into the ring, for as long as there are subscribers.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use ports::log::{Log, LogError, Topic};
use tokio::sync::watch;

use super::ring::{End, Ring};

/// Read at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Follows all partitions until the server stops or nobody listens.
pub(super) async fn follow(log: Arc<dyn Log>, ring: Arc<Ring>, mut stopped: watch::Receiver<bool>) {
    let (_, mut positions) = ring.next();
    // One wait of each partition: a record wakes that of its own.
    let waits = (0..).zip(&positions).map(|(partition, position)| wait(log.clone(), partition, *position));
    let mut waits: FuturesUnordered<_> = waits.collect();
    loop {
        tokio::select! {
            Some(partition) = waits.next() => {
                let position = &mut positions[partition as usize];
                if let Err(error) = read(log.as_ref(), &ring, partition, position).await {
                    return fail(&ring, &error);
                }
                waits.push(wait(log.clone(), partition, *position));
            }
            () = told(&mut stopped) => return ring.end(End::Done),
            () = ring.deserted() => {
                if ring.end_if_deserted() {
                    return;
                }
            }
        }
    }
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    let _who_could_tell_is_gone = stopped.wait_for(|stop| *stop).await;
}

async fn wait(log: Arc<dyn Log>, partition: u32, position: u64) -> u32 {
    log.wait_for(Topic::Notifications, partition, position).await;
    partition
}

/// Reads a piece of a partition that has more. If it is empty, what was there has been trimmed.
async fn read(log: &dyn Log, ring: &Ring, partition: u32, position: &mut u64) -> Result<(), LogError> {
    let records = log.read_piece(Topic::Notifications, partition, *position, PIECE_BYTES).await?;
    if records.is_empty() {
        let (first, _) = log.bounds(Topic::Notifications, partition).await?;
        *position = first.max(*position);
        ring.skip(partition, *position);
    }
    for record in records {
        *position = record.offset + 1;
        ring.push(partition, record.offset, String::from_utf8_lossy(&record.value).into_owned());
    }
    Ok(())
}

/// Every stream ends; its client comes back with the position it has.
fn fail(ring: &Ring, error: &LogError) {
    tracing::error!(%error, "the live transitions cannot be read");
    ring.end(End::Failed(error.to_string()));
}
