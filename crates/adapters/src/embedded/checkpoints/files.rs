//! The files of one partition's checkpoints, and which of them count.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use ports::checkpoints::{Blocks, CheckpointError, Generation};
use ports::log::Progress;
use rustc_hash::FxHashSet;
use segment_engine::ids::{PartitionId, UserId};
use serde::{Deserialize, Serialize};

use super::super::entry;
use super::super::pending::sync;
use super::super::store::{Change, Opened, Space, StoreError};
use super::run::{Run, RunWriter, Unreadable, file_name, parse_name};

/// Which files hold a generation, and what else belongs to it. Stored in the database, so that a
/// checkpoint and the files that it replaces change at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) progress: Progress,
    pub(super) partition_state: Vec<u8>,
    /// The oldest first. Of several blocks of a user the newest counts.
    pub(super) runs: Vec<Run>,
    /// The highest id of all users that were ever saved.
    pub(super) last_user: Option<UserId>,
}

/// The checkpoints of a partition, for one call at a time.
pub(super) struct Files<'a> {
    pub(super) folder: &'a Path,
    pub(super) opened: &'a Opened,
    pub(super) partition: PartitionId,
    pub(super) writing: &'a mut Writing,
}

/// What is written and not complete.
#[derive(Default)]
pub(super) struct Writing {
    /// The number of the next file; `None` until the folder was read.
    next: Option<u64>,
    run: Option<RunWriter>,
    last_user: Option<UserId>,
    /// Files that no marker named when the last one was written.
    unused: BTreeSet<u64>,
}

/// Returns the key of a generation's marker.
fn key(partition: PartitionId, generation: Generation) -> Vec<u8> {
    let kind = match generation {
        Generation::Latest => 5,
        Generation::Kept => 6,
    };
    let mut key = partition.0.to_be_bytes().to_vec();
    key.push(kind);
    key
}

/// Returns the change of the database that writes a marker, or removes it.
pub(super) fn change(partition: PartitionId, generation: Generation, marker: Option<&Marker>) -> Change {
    let key = key(partition, generation);
    let value = marker.map(|marker| entry::encode(&key, marker).into());
    Change { space: Space::Checkpoints, key: key.into(), value }
}

/// Returns a generation's marker.
pub(super) fn marker(
    opened: &Opened,
    partition: PartitionId,
    generation: Generation,
) -> Result<Option<Marker>, CheckpointError> {
    let key = key(partition, generation);
    let corrupt = |reason| CheckpointError::Corrupt { partition, reason };
    let stored = match opened.space(Space::Checkpoints).get(&key).map_err(StoreError::from) {
        // Damage that fjall finds is like damage that our checksums find.
        Err(StoreError::Corrupt(reason)) => return Err(corrupt(reason)),
        stored => stored?,
    };
    let decoded = stored.map(|value| entry::decode(&key, &value)).transpose();
    decoded.map_err(|what| corrupt(format!("the {} marker: {what}", name(generation))))
}

fn name(generation: Generation) -> &'static str {
    match generation {
        Generation::Latest => "latest",
        Generation::Kept => "kept",
    }
}

fn unavailable(error: io::Error) -> CheckpointError {
    StoreError::from(error).into()
}

impl Files<'_> {
    pub(super) fn marker(&self, generation: Generation) -> Result<Option<Marker>, CheckpointError> {
        marker(self.opened, self.partition, generation)
    }

    /// Adds blocks to the run that is being written.
    pub(super) fn add(&mut self, users: &Blocks) -> Result<(), CheckpointError> {
        self.try_add(users).map_err(|error| {
            // The disk may be full.
            self.forget_added();
            unavailable(error)
        })
    }

    fn try_add(&mut self, users: &Blocks) -> io::Result<()> {
        if users.is_empty() {
            return Ok(());
        }
        if self.writing.run.is_none() {
            self.writing.run = Some(self.create()?);
        }
        let Some(run) = &mut self.writing.run else { return Ok(()) };
        for (user, block) in users {
            run.add(*user, block.as_deref())?;
            self.writing.last_user = self.writing.last_user.max(Some(*user));
        }
        Ok(())
    }

    /// Begins a run.
    pub(super) fn create(&mut self) -> io::Result<RunWriter> {
        let number = match self.writing.next {
            Some(next) => next,
            None => self.numbers()?.last().map_or(1, |last| last + 1),
        };
        self.writing.next = Some(number + 1);
        RunWriter::create(self.folder, self.partition, number)
    }

    /// Completes the files of the checkpoint that is being written, and returns its marker. It counts
    /// when that is [written](Self::switch), with no other change in between.
    pub(super) fn complete(
        &mut self,
        progress: Progress,
        partition_state: Vec<u8>,
        is_whole: bool,
    ) -> Result<Marker, CheckpointError> {
        // A marker that cannot be read names no runs; the worker does not write after it.
        let before = self.marker(Generation::Latest)?;
        let (mut runs, last_user) = before.map_or((Vec::new(), None), |before| (before.runs, before.last_user));
        if is_whole {
            runs.clear();
        }
        if let Some(run) = self.writing.run.take() {
            runs.push(self.finish(run)?);
        }
        let last_user = last_user.max(self.writing.last_user.take());
        let merged = runs.split_off(stay(&runs));
        if !merged.is_empty() {
            match self.merge(&merged, runs.is_empty()) {
                Ok(run) => runs.push(run),
                // A small run may fit on a disk that has no room for a merged one.
                Err(CheckpointError::Unavailable(error)) => {
                    tracing::warn!(partition = self.partition.0, error, "files of checkpoints cannot be merged now");
                    runs.extend(merged);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Marker { progress, partition_state, runs, last_user })
    }

    /// Merges all runs of the latest checkpoint into one, which no longer has what was removed or
    /// replaced. Checks every block. Returns the checkpoint.
    pub(super) fn merge_all(&mut self) -> Result<Option<Marker>, CheckpointError> {
        let Some(mut latest) = self.marker(Generation::Latest)? else { return Ok(None) };
        if latest.runs.len() > 1 {
            latest.runs = vec![self.merge(&latest.runs, true)?];
            self.switch(&[(Generation::Latest, Some(latest.clone()))])?;
        }
        Ok(Some(latest))
    }

    fn merge(&mut self, runs: &[Run], is_oldest: bool) -> Result<Run, CheckpointError> {
        let mut merged = self.create().map_err(unavailable)?;
        let read =
            self.each(runs, |user, block| if is_oldest && block.is_none() { Ok(()) } else { merged.add(user, block) });
        match read {
            Ok(()) => self.finish(merged),
            Err(error) => {
                self.remove([merged.number()].iter());
                Err(error)
            }
        }
    }

    fn finish(&self, run: RunWriter) -> Result<Run, CheckpointError> {
        let number = run.number();
        run.finish().map_err(|error| {
            self.remove([number].iter());
            unavailable(error)
        })
    }

    /// Calls `each` with the newest block of each user in some runs.
    pub(super) fn each(
        &self,
        runs: &[Run],
        mut each: impl FnMut(UserId, Option<&[u8]>) -> io::Result<()>,
    ) -> Result<(), CheckpointError> {
        let mut seen: FxHashSet<UserId> = FxHashSet::default();
        for run in runs.iter().rev() {
            // In a run of an earlier build, a user who was removed and came back stands twice: the block
            // counts.
            let mut removed = Vec::new();
            let read = run.each(self.folder, self.partition, |user, block| match block {
                Some(_) => {
                    if seen.insert(user) {
                        each(user, block)
                    } else {
                        Ok(())
                    }
                }
                None => {
                    removed.push(user);
                    Ok(())
                }
            });
            read.map_err(|error| match error {
                Unreadable::Io(error) => unavailable(error),
                Unreadable::Damaged(what) => CheckpointError::Corrupt {
                    partition: self.partition,
                    reason: format!("{}: {what}", file_name(self.partition, run.number)),
                },
            })?;
            for user in removed {
                if seen.insert(user) {
                    each(user, None).map_err(unavailable)?;
                }
            }
        }
        Ok(())
    }

    /// Writes markers, whose files are on the disk. Removes the files that none has named since the
    /// markers before: if the database loses its last writes, those count again.
    pub(super) fn switch(&mut self, markers: &[(Generation, Option<Marker>)]) -> Result<(), CheckpointError> {
        sync(self.folder).map_err(unavailable)?;
        let changes = markers.iter().map(|(generation, marker)| change(self.partition, *generation, marker.as_ref()));
        self.opened.write(changes.collect())?;
        let before = std::mem::take(&mut self.writing.unused);
        let unused = self.unused();
        self.remove(unused.intersection(&before));
        self.writing.unused = unused;
        Ok(())
    }

    /// Removes the files that no marker names, also those that only the last marker replaced.
    pub(super) fn remove_unused(&mut self) {
        let unused = self.unused();
        self.remove(unused.iter());
    }

    /// What cannot be removed now takes only space, until a later call.
    fn remove<'n>(&self, numbers: impl Iterator<Item = &'n u64>) {
        for number in numbers {
            let _left = fs::remove_file(self.folder.join(file_name(self.partition, *number)));
        }
    }

    /// Returns the files that no marker names, but for the one that is being written.
    fn unused(&self) -> BTreeSet<u64> {
        if self.opened.has_failed() {
            // A marker whose write failed may count when the database is opened again.
            return BTreeSet::new();
        }
        let mut used: BTreeSet<u64> = self.writing.run.iter().map(RunWriter::number).collect();
        for generation in [Generation::Latest, Generation::Kept] {
            match self.marker(generation) {
                Ok(marker) => used.extend(marker.into_iter().flat_map(|marker| marker.runs).map(|run| run.number)),
                // It may name any.
                Err(_) => return BTreeSet::new(),
            }
        }
        self.numbers().unwrap_or_default().difference(&used).copied().collect()
    }

    /// Forgets the run that is being written.
    pub(super) fn forget_added(&mut self) {
        let run = self.writing.run.take();
        self.writing.last_user = None;
        self.remove(run.as_ref().map(RunWriter::number).iter());
    }

    /// Returns the numbers of the partition's files.
    fn numbers(&self) -> io::Result<BTreeSet<u64>> {
        let mut numbers = BTreeSet::new();
        for entry in fs::read_dir(self.folder)? {
            let name = entry?.file_name();
            let parsed = name.to_str().and_then(parse_name);
            numbers.extend(parsed.filter(|(partition, _)| *partition == self.partition).map(|(_, number)| number));
        }
        Ok(numbers)
    }
}

/// Returns how many of the runs stay as they are. The others are merged, so that each run is more than
/// twice as large as all that follow it: there are few, and a block is written about once for each.
fn stay(runs: &[Run]) -> usize {
    let (mut stay, mut bytes) = (runs.len(), 0);
    for (index, run) in runs.iter().enumerate().rev() {
        if run.bytes <= bytes * 2 {
            stay = index;
        }
        bytes += run.bytes;
    }
    stay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_similar_sizes_are_merged() {
        let stays =
            |bytes: &[u64]| stay(&bytes.iter().map(|bytes| Run { number: 0, bytes: *bytes }).collect::<Vec<_>>());
        for (bytes, expected) in [
            (&[][..], 0),
            (&[9], 1),
            (&[100, 9], 2),
            (&[100, 50], 0),
            (&[100, 49], 2),
            (&[1_000, 130, 40, 20], 2),
            (&[1_000, 100, 40, 20], 1),
            (&[130, 100, 40, 20], 0),
            (&[1_000, 300, 100, 60], 1),
        ] {
            assert_eq!(stays(bytes), expected, "{bytes:?}");
        }
    }
}
