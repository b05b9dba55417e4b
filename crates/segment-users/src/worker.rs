//! The worker of one partition: turn after turn, and queries answered in between.

use std::sync::Arc;
use std::time::Duration;

use ports::log::{Progress, Topic};
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::machine::Explanation;
use segment_engine::time::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::archiver::flush_until;
use crate::partition::{Partition, Ports, WorkerError};
use crate::settings::Settings;
use crate::stats::PartitionStats;
use crate::supervise::{RESTART_DELAY, catch_panic};

/// How many queries may wait for a partition.
pub(crate) const QUERIES_MAX: usize = 256;

/// The longest sleep, however far away the next deadline is: timers do not notice that somebody
/// set the wall clock or that the machine was suspended.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How many turns in a row may have records while there is also other work. Then some of that is done
/// first, if a core is free for it.
const BUSY_TURNS_MAX: u32 = 8;

/// A query to a partition, answered between two turns.
pub(crate) enum Query {
    /// Why is the user in the segment with this tag, or not?
    Explain {
        user: UserId,
        tag: String,
        response: oneshot::Sender<Option<Explanation>>,
    },
    /// See [`Partition::progress_and_told`].
    Progress {
        segment: SegmentId,
        version: SegmentVersion,
        response: oneshot::Sender<Option<(f64, u64)>>,
    },
    Stats {
        response: oneshot::Sender<PartitionStats>,
    },
}

impl Query {
    fn answer(self, partition: &mut Partition) {
        // A caller that has gone no longer wants the response.
        match self {
            Self::Explain { user, tag, response } => {
                let _ = response.send(partition.machine.explain(user, &tag));
            }
            Self::Progress { segment, version, response } => {
                let _ = response.send(partition.progress_and_told(segment, version));
            }
            Self::Stats { response } => {
                let _ = response.send(PartitionStats::of(partition));
            }
        }
    }
}

/// Opens every partition, and returns them in order of their ids. At most as many open at once as
/// there are threads, to save memory: while a checkpoint is read, memory holds it twice. The first
/// failure ends the opening, and is logged with its partition.
pub(crate) async fn open_all(ports: &Ports, settings: Settings) -> Result<Vec<Partition>, WorkerError> {
    let permits = Arc::new(Semaphore::new(Handle::current().metrics().num_workers()));
    let mut opening = JoinSet::new();
    for id in PartitionId::all(ports.log.partitions()) {
        let (permits, ports) = (permits.clone(), ports.clone());
        opening.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let opened = catch_panic(Partition::open(id, ports, settings)).await;
            opened.inspect_err(|error| tracing::error!(partition = id.0, "the partition cannot be opened: {error}"))
        });
    }
    let mut partitions = Vec::new();
    while let Some(opened) = opening.join_next().await {
        partitions.push(opened.map_err(|error| WorkerError::Panicked(error.to_string()))??);
    }
    partitions.sort_by_key(Partition::id);
    Ok(partitions)
}

pub(crate) struct Worker {
    pub(crate) queries: mpsc::Receiver<Query>,
    /// The position of the last turn.
    pub(crate) progress: watch::Sender<Progress>,
    /// The position of the last checkpoint.
    pub(crate) marker: watch::Sender<Progress>,
    /// False from a failure until the partition is open again.
    pub(crate) running: watch::Sender<bool>,
    /// The position of this partition's archiver.
    pub(crate) archived: watch::Receiver<u64>,
    /// See [`Signals::flush`](crate::archiver::Signals).
    pub(crate) flush: watch::Sender<u64>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Worker {
    pub(crate) async fn run(mut self, mut partition: Partition) {
        loop {
            self.running.send_replace(true);
            // A panic is a defect. Start again all the same, so that this partition's users do not
            // stay frozen.
            let Err(error) = catch_panic(self.turns(&mut partition)).await else { return };
            self.running.send_replace(false);
            let (id, ports, settings) = (partition.id, partition.ports.clone(), partition.settings);
            tracing::error!(partition = id.0, "the worker stopped and starts again from its last commit: {error}");
            partition.saving.end().await;
            // With what it holds: memory, and a scan of the history.
            drop(partition);
            partition = loop {
                tokio::select! {
                    () = tokio::time::sleep(RESTART_DELAY) => {}
                    _ = self.stop.wait_for(|stop| *stop) => return,
                }
                match catch_panic(Partition::open(id, ports.clone(), settings)).await {
                    Ok(partition) => break partition,
                    Err(error) => tracing::error!(partition = id.0, "the partition cannot be opened: {error}"),
                }
            };
        }
    }

    /// Runs turn after turn until `stop`; then writes a last checkpoint, so that the next start is quick.
    async fn turns(&mut self, partition: &mut Partition) -> Result<(), WorkerError> {
        let (mut queries, mut busy_turns) = (Vec::new(), 0);
        let background = partition.ports.background.clone();
        loop {
            // Also while the worker always has more to do: else callers would wait for ever.
            while queries.len() < QUERIES_MAX
                && let Ok(query) = self.queries.try_recv()
            {
                queries.push(query);
            }
            let turn = partition.turn().await?;
            // First, while nothing that was read waits to be added.
            partition.tend_checkpoint().await?;
            let filling = if partition.backfill.waits() { false } else { self.read_more(partition).await? };
            if let Some(offset) = partition.backfill.awaits() {
                flush_until(&self.flush, offset);
            }
            self.progress.send_replace(partition.progress());
            self.marker.send_replace(partition.marker);
            for query in queries.drain(..) {
                query.answer(partition);
            }
            if *self.stop.borrow() {
                return partition.checkpoint().await;
            }
            let log = partition.ports.log.clone();
            let (id, next_offset) = (partition.id, partition.progress.next_offset);
            if turn.is_behind || partition.has_work() {
                busy_turns += 1;
                if busy_turns > BUSY_TURNS_MAX
                    && let Some(_core) = background.free_core()
                {
                    busy_turns = 0;
                    partition.work();
                    continue;
                }
                let sleep = sleep_until(partition.next_due(), partition.ports.clock.now());
                tokio::select! {
                    biased;
                    () = log.wait_for(Topic::Events, id, next_offset) => {}
                    Some(query) = self.queries.recv() => queries.push(query),
                    () = tokio::task::yield_now(), if !partition.untold.is_empty() => {}
                    // Who is behind is late anyway.
                    () = tokio::time::sleep(sleep), if !turn.is_behind => {}
                    _core = background.core() => {
                        busy_turns = 0;
                        partition.work();
                    }
                }
                continue;
            }
            if turn.more || filling {
                tokio::task::yield_now().await;
                continue;
            }
            let wake_at = partition.next_due().min(partition.checkpoint_due());
            let sleep = sleep_until(wake_at, partition.ports.clock.now());
            tokio::select! {
                () = log.wait_for(Topic::Events, id, next_offset) => {}
                () = tokio::time::sleep(sleep) => {}
                () = partition.backfill.wait(), if !partition.machine.is_saving_apart() => {}
                () = partition.saving.continues() => {}
                // The archiver has advanced: a backfill may be waiting for it to pass the fence.
                _ = self.archived.changed() => {}
                Some(query) = self.queries.recv() => queries.push(query),
                _ = self.stop.changed() => {}
            }
        }
    }

    /// Reads history for new segments. Returns whether there is more to do at once.
    async fn read_more(&mut self, partition: &mut Partition) -> Result<bool, WorkerError> {
        let archived = *self.archived.borrow_and_update();
        let step = tokio::select! {
            biased;
            // A stop abandons the step: what it has read is not saved anyway.
            _ = self.stop.wait_for(|stop| *stop) => Ok(false),
            step = partition.read_more(archived) => step,
        };
        match step {
            Err(WorkerError::Warehouse(error)) => {
                tracing::warn!(partition = partition.id.0, "a new segment waits for its history: {error}");
                Ok(false)
            }
            outcome => outcome,
        }
    }
}

fn sleep_until(due: Timestamp, now: Timestamp) -> Duration {
    let micros = u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0);
    Duration::from_micros(micros).min(SLEEP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_looks_at_the_clock_soon_however_far_the_deadline() {
        assert_eq!(sleep_until(Timestamp(5_000), Timestamp(2_000)), Duration::from_millis(3));
        assert_eq!(sleep_until(Timestamp(0), Timestamp(2_000)), Duration::ZERO);
        assert_eq!(sleep_until(Timestamp::MAX, Timestamp(2_000)), SLEEP_MAX);
        assert!(SLEEP_MAX <= Duration::from_secs(1));
    }
}
