//! The scan of a partition's history: it goes round, so that a new segment can join at any place.

use std::collections::VecDeque;

use ports::warehouse::{HistoryCursor, HistoryScan, Warehouse, WarehouseError};
use segment_engine::ids::PartitionId;
use segment_engine::machine::{AccumulatorId, FILTERS_MAX, Filled, Machine, PastEvent, SnapshotError};
use serde::{Deserialize, Serialize};

/// Reads the events of all users for the accumulators that lack history, from the first offset to
/// the last and then from the first again. An accumulator is filled when the scan comes back to
/// where it joined: an event may be added in any order. If the scan fails, it goes on where it was.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// What comes before this offset has been read in this round.
    at: u64,
    filling: Vec<Filling>,
    /// Reads the rest of the round for what is filling now; `None` before the first batch, after a
    /// failure, when an accumulator has joined or left, and where the archive ended.
    cursor: Option<HistoryCursor>,
    /// Where the cursor ends.
    to: u64,
    /// Events that were read and not added yet.
    events: VecDeque<PastEvent>,
}

/// An accumulator that is being filled.
#[derive(Clone, Copy, Debug)]
struct Filling {
    accumulator: AccumulatorId,
    /// The offset at which it joined.
    joined: u64,
    /// Whether the scan has begun another round since.
    is_second_round: bool,
}

impl Filling {
    /// Returns the offset at which the accumulator needs no more in this round.
    fn end(&self, machine: &Machine) -> u64 {
        if self.is_second_round { self.joined } else { machine.fence(&[self.accumulator]).unwrap_or_default() }
    }

    fn is_in_second_round(&self) -> bool {
        self.is_second_round
    }

    fn has_the_whole_round(&self) -> bool {
        self.joined == 0
    }

    fn filled(&self) -> Filled {
        let below = if self.is_second_round { self.joined } else { u64::MAX };
        Filled { accumulator: self.accumulator, below }
    }
}

/// A scan in a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScanBlock {
    at: u64,
    /// The name of each accumulator, the offset at which it joined, and whether that is the second round.
    filling: Vec<(u64, u64, bool)>,
}

impl Scan {
    /// Returns the scan as a restart goes on with it: what was read and not added is read again.
    pub(super) fn save(&self, machine: &Machine) -> ScanBlock {
        let filling = |filling: &Filling| {
            Some((machine.accumulator_name(filling.accumulator)?, filling.joined, filling.is_second_round))
        };
        let at = self.events.front().map_or(self.at, |event| event.offset);
        ScanBlock { at, filling: self.filling.iter().filter_map(filling).collect() }
    }

    pub(super) fn load(block: ScanBlock, machine: &Machine) -> Result<Self, SnapshotError> {
        if block.filling.len() > FILTERS_MAX {
            return Err(SnapshotError::Format("a scan fills more accumulators than it can".to_owned()));
        }
        let filling = |(name, joined, is_second_round)| {
            Some(Filling { accumulator: machine.restored_accumulator(name)?, joined, is_second_round })
        };
        Ok(Self { at: block.at, filling: block.filling.into_iter().filter_map(filling).collect(), ..Self::default() })
    }

    /// Returns the offset before which everything has been read in this round.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Returns what it fills.
    pub(super) fn accumulators(&self) -> impl Iterator<Item = AccumulatorId> {
        self.filling.iter().map(|filling| filling.accumulator)
    }

    /// Whether the next call of [`next`](Self::next) would wait.
    pub(super) fn waits(&self) -> bool {
        self.events.is_empty() && self.cursor.as_ref().is_some_and(HistoryCursor::waits)
    }

    /// Waits until [`next`](Self::next) does not wait; for ever, if it never does. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        match &mut self.cursor {
            Some(cursor) if self.events.is_empty() => cursor.wait().await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.filling.is_empty()
    }

    pub(super) fn has(&self, accumulator: AccumulatorId) -> bool {
        self.filling.iter().any(|filling| filling.accumulator == accumulator)
    }

    /// Returns how many accumulators can join now. None can in the middle of a batch.
    pub(super) fn room(&self) -> usize {
        if self.events.is_empty() { FILTERS_MAX - self.filling.len() } else { 0 }
    }

    /// Adds an accumulator, for which there is room.
    pub(super) fn join(&mut self, accumulator: AccumulatorId) {
        self.filling.push(Filling { accumulator, joined: self.at, is_second_round: false });
        self.cursor = None;
    }

    /// Returns the accumulators that are filled now, and forgets them.
    pub(super) fn take_filled(&mut self, machine: &Machine) -> Vec<AccumulatorId> {
        if !self.events.is_empty() {
            return Vec::new();
        }
        let Self { at, filling, cursor, .. } = self;
        let mut filled = Vec::new();
        let before = filling.len();
        // No segment reads it any longer.
        filling.retain(|filling| machine.fence(&[filling.accumulator]).is_some());
        // Those that a round completes are taken together, so that their segments take effect
        // together.
        for is_complete in [Filling::is_in_second_round, Filling::has_the_whole_round] {
            let complete = filling.iter().filter(|filling| is_complete(filling));
            if complete.map(|filling| filling.end(machine)).max().is_some_and(|end| *at >= end) {
                filled
                    .extend(filling.extract_if(.., |filling| is_complete(filling)).map(|filling| filling.accumulator));
            }
        }
        if filling.len() < before {
            *cursor = None;
        }
        if filling.iter().all(|filling| *at >= filling.end(machine)) {
            *at = 0;
            *cursor = None;
            filling.iter_mut().for_each(|filling| filling.is_second_round = true);
        }
        filled
    }

    /// Reads the next events, if there are none to add. Begins the scan if it is not running, as far as the
    /// partition is `archived`. Returns the offset that the archiver must reach before the scan can come
    /// to its end, if that is known. Cancel-safe.
    pub(super) async fn next(
        &mut self,
        machine: &Machine,
        warehouse: &dyn Warehouse,
        (partition, archived): (PartitionId, u64),
        bytes_max: usize,
    ) -> Result<Option<u64>, WarehouseError> {
        if !self.events.is_empty() {
            return Ok(None);
        }
        let below = self.filling.iter().map(|filling| filling.end(machine)).max().unwrap_or_default();
        let Some(cursor) = &mut self.cursor else {
            let to = below.min(archived);
            if self.at < to {
                let accumulators: Vec<AccumulatorId> = self.accumulators().collect();
                let needs = machine.history_needs(&accumulators);
                let scan = HistoryScan { partition, from: self.at, below: to, needs, bytes_max };
                self.cursor = Some(warehouse.scan_history(scan));
                self.to = to;
            }
            return Ok((to < below).then_some(below));
        };
        let next = cursor.next().await;
        match &next {
            Ok(Some(batch)) => self.at = batch.until,
            Ok(None) => self.at = self.to,
            Err(_) => {}
        }
        if !matches!(next, Ok(Some(_))) {
            self.cursor = None;
        }
        self.events = next?.map_or_else(VecDeque::new, |batch| batch.events.into());
        Ok(None)
    }

    /// Whether it reads.
    pub(super) fn is_running(&self) -> bool {
        self.cursor.is_some()
    }

    /// Adds some of the events that were read.
    pub(super) fn add(&mut self, machine: &mut Machine, partition: PartitionId, count: usize) {
        let filled: Vec<Filled> = self.filling.iter().map(Filling::filled).collect();
        let count = count.min(self.events.len());
        machine.add_scanned(&filled, partition, &self.events.make_contiguous()[..count]);
        self.events.drain(..count);
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns how much of an accumulator's history has been read, from 0 to 1; `None` if it is not
    /// filling.
    pub(super) fn progress(&self, machine: &Machine, accumulator: AccumulatorId) -> Option<f64> {
        let filling = self.filling.iter().find(|filling| filling.accumulator == accumulator)?;
        let fence = machine.fence(&[accumulator])?;
        let before = if filling.is_second_round { fence.saturating_sub(filling.joined) } else { 0 };
        let since = if filling.is_second_round { self.at } else { self.at.saturating_sub(filling.joined) };
        Some(((before + since) as f64 / fence.max(1) as f64).min(1.0))
    }
}
