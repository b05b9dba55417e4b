//! The one thread that writes the log. It takes the queued calls, makes one write of them, syncs
//! once and replies to all.
//!
//! While a sync runs, calls gather in the queue, and the next turn takes them together. So the disk
//! bounds the rate of syncs but not the rate of calls.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ports::clock::Clock;
use ports::log::{LogError, Topic};
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

use super::entry::{Entry, Trimmed};
use super::group::{Call, Group, Place, Prepared, Reply, Request, entry_change};
use super::store::{Change, Opened, Space, Store, StoreError};
use super::tail::{Tail, recover};

/// A group is closed when its records reach this size. Bounds the time of one write, and so every
/// caller's wait.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// A group is closed when it has this many calls.
const GROUP_CALLS_MAX: usize = 4096;
/// How often the writer retries by itself after a failed write.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the writer thread.
pub(super) struct Writer {
    /// The log's database.
    pub store: Arc<Store>,
    /// Shared with the readers.
    pub tail: Arc<Tail>,
    /// Gives the records their instants.
    pub clock: Arc<dyn Clock>,
    /// See `Log::partitions`.
    pub partitions: u32,
    /// The calls to carry out, in order.
    pub queue: Receiver<Call>,
    /// After a failed write: what to repair before the next.
    pub broken: Option<Broken>,
}

/// A failed write. Some of its changes may still appear in the reopened database, although its
/// callers got an error. The changes in `undo` revert them.
pub(super) struct Broken {
    undo: Vec<Change>,
}

impl Writer {
    /// Runs until all senders of the queue are gone and the queue is empty.
    pub(super) fn run(mut self) {
        while let Some(first) = self.next_call() {
            let calls = self.gather(first);
            self.turn(calls);
        }
        if self.broken.is_some() && self.heal().is_err() {
            self.store.abandon();
        }
    }

    /// Waits for a call, and meanwhile repairs the database if needed.
    fn next_call(&mut self) -> Option<Call> {
        while self.broken.is_some() {
            match self.queue.recv_timeout(RETRY_INTERVAL) {
                Ok(call) => return Some(call),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => match self.heal() {
                    Ok(()) => tracing::info!("the log can be written again"),
                    Err(error) => tracing::debug!(%error, "the log still cannot be written"),
                },
            }
        }
        self.queue.recv().ok()
    }

    /// Returns the waiting calls, up to the limits of a group.
    fn gather(&self, first: Call) -> Vec<Call> {
        let mut bytes = first.request.bytes();
        let mut calls = vec![first];
        while bytes < GROUP_BYTES_MAX && calls.len() < GROUP_CALLS_MAX {
            let Ok(call) = self.queue.try_recv() else { break };
            bytes += call.request.bytes();
            calls.push(call);
        }
        calls
    }

    /// Carries out calls in order, and replies to them.
    fn turn(&mut self, calls: Vec<Call>) {
        let mut group = Vec::with_capacity(calls.len());
        for call in calls {
            let alone = matches!(call.request, Request::Trim { .. } | Request::Skip { .. });
            if alone {
                self.write_group(std::mem::take(&mut group));
            }
            let result = match call.request {
                Request::Trim { topic, partition, before } => self.trim(topic, partition, before),
                Request::Skip { topic, partition, to } => self.skip((topic, partition), to),
                _ => {
                    group.push(call);
                    continue;
                }
            };
            let _caller_gone = call.reply.send(result.map(|()| Reply::Done));
        }
        self.write_group(group);
    }

    /// Writes the calls as one and replies to them.
    fn write_group(&mut self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let (mut requests, mut waiting) = (Vec::new(), Vec::new());
        let mut passed = Timestamp::MIN;
        for Call { request, reply, _share: share } in calls {
            if let Request::Commit(commit) = &request {
                passed = passed.max(commit.progress.time);
            }
            requests.push(request);
            waiting.push((reply, share));
        }
        let replies = match self.prepare(requests) {
            Ok((prepared, replies)) => match self.write(&prepared.changes) {
                Ok(()) => {
                    self.tail.publish(&prepared, passed);
                    replies
                }
                Err(error) => {
                    self.tail.give_up();
                    replies.into_iter().map(|_| Err(error.clone().into())).collect()
                }
            },
            Err(error) => waiting.iter().map(|_| Err(error.clone().into())).collect(),
        };
        for ((sender, share), reply) in waiting.into_iter().zip(replies) {
            // Before the reply, so that a caller who gets it finds its room in the queue free
            // again.
            drop(share);
            let _caller_gone = sender.send(reply);
        }
    }

    /// Gives every call its offsets and instant. The instants count as used even if the write
    /// fails.
    fn prepare(&mut self, requests: Vec<Request>) -> Result<(Prepared, Vec<Result<Reply, LogError>>), StoreError> {
        self.heal()?;
        let (ends, highest) = (self.tail.ends(), self.tail.highest());
        self.store.with(|opened| {
            let first = self.tail.begin(&*self.clock, requests.len());
            let mut group = Group::new(opened, &ends, highest);
            let instants = (first.0..).map(Timestamp);
            let replies = requests.into_iter().zip(instants).map(|(request, at)| group.add(request, at)).collect();
            Ok((group.finish(), replies))
        })
    }

    /// Writes and syncs. If flushes or compactions have failed, the database is reopened first.
    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.heal()?;
        let mut written = self.store.write(changes.to_vec());
        if let Err(error @ StoreError::Refusing) = &written {
            tracing::warn!(%error, "reopening the log's database");
            self.broken = Some(Broken { undo: Vec::new() });
            self.heal()?;
            written = self.store.write(changes.to_vec());
        }
        if matches!(written, Err(StoreError::Stalled)) {
            // It was not tried, and reopening would wait for what stands still.
            tracing::error!("could not write to the log: flushes or compactions of its database stand still");
            return written;
        }
        written.inspect_err(|error| {
            tracing::error!(%error, "could not write to the log; none of the write was stored");
            let undo = self.store.with(|opened| changes.iter().map(|change| before(opened, change)).collect());
            self.broken = Some(Broken { undo: undo.unwrap_or_default() });
        })
    }

    /// After a failed write: reopens the database, reverts what the write may have left, and
    /// reloads the tail.
    fn heal(&mut self) -> Result<(), StoreError> {
        let Some(broken) = &self.broken else { return Ok(()) };
        self.store.reopen()?;
        if !broken.undo.is_empty() {
            self.store.write(broken.undo.clone())?;
        }
        let recovered = self.store.with(|opened| recover(opened, self.partitions));
        let recovered = recovered.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.tail.reset(recovered);
        self.broken = None;
        Ok(())
    }

    /// Moves the end of a partition, and stores the skipped range.
    fn skip(&mut self, place: Place, to: u64) -> Result<(), LogError> {
        self.heal()?;
        let (_, end) = self.tail.bounds(place);
        if to <= end {
            return Ok(());
        }
        let mut gaps = self.tail.gaps(place);
        match gaps.last_mut() {
            Some(last) if last.1 == end => last.1 = to,
            _ => gaps.push((end, to)),
        }
        self.write(&[entry_change(&Entry::Gaps(place.0, place.1), &gaps)])?;
        self.tail.set_gaps(place, gaps, to);
        Ok(())
    }

    /// Moves the first retained offset. [`super::reclaim`] removes the blocks before it, on another
    /// thread.
    fn trim(&mut self, topic: Topic, partition: PartitionId, before: u64) -> Result<(), LogError> {
        self.heal()?;
        let place = (topic, partition);
        let (first, end) = self.tail.bounds(place);
        let before = before.clamp(first, end);
        let trimmed = Trimmed { first: before, floor_micros: self.tail.floor().0 };
        self.write(&[entry_change(&Entry::Trimmed(topic, partition), &trimmed)])?;
        self.tail.set_first(place, before);
        Ok(())
    }
}

/// Returns the change that reverts `change` after a failed write. Blocks are always new; other
/// entries get their old value back.
fn before(opened: &Opened, change: &Change) -> Result<Change, StoreError> {
    let value = match change.space {
        Space::Meta => opened.space(Space::Meta).get(&change.key)?,
        Space::Topic(_) | Space::Checkpoints => None,
    };
    Ok(Change { value, ..change.clone() })
}
