//! Checkpoints of earlier builds, up to format 5 of the data folder: each block was an entry of the
//! database. They are written as runs at the first start.
//!
//! ```text
//! key    partition u32 BE | 0                         the latest marker: progress and partition state
//!        partition u32 BE | 1 | user id i64 BE, sign flipped      a user's block
//!        partition u32 BE | 2                         the kept marker: as latest, plus kind and number of its blocks
//!        partition u32 BE | 3 or 4 | user id …        a user's block as kept
//! value  crc32 u32 LE over key and body | body
//! ```

use fjall::{Guard, Slice};
use ports::checkpoints::{CheckpointError, Generation};
use ports::log::Progress;
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::block::checksum;
use super::super::entry;
use super::super::store::{Change, Space, StoreError};
use super::files::{Files, Marker};
use super::run::Run;

const MARKER: u8 = 0;
const USER: u8 = 1;
const KEPT_MARKER: u8 = 2;
/// The number of entries that one write removes.
const REMOVALS_MAX: usize = 4096;

/// The body of the latest marker.
type Latest = (Progress, Vec<u8>);

/// The body of the kept marker.
#[derive(Serialize, Deserialize)]
struct Kept {
    marker: Latest,
    /// The kind of key of its blocks.
    blocks: u8,
    users: u64,
}

/// Writes a partition's checkpoints as runs, if an earlier build left any.
pub(super) fn bring_up_to_date(files: &mut Files<'_>) -> Result<(), CheckpointError> {
    let mut markers = Vec::new();
    for generation in [Generation::Latest, Generation::Kept] {
        match convert(files, generation) {
            Ok(None) => {}
            Ok(Some(marker)) => markers.push((generation, Some(marker))),
            Err(CheckpointError::Corrupt { partition, reason }) => {
                tracing::error!(partition = partition.0, reason, "a checkpoint of an earlier build is damaged");
                markers.push((generation, Some(damaged())));
            }
            Err(error) => return Err(error),
        }
    }
    if !markers.is_empty() {
        files.switch(&markers)?;
    }
    // After the markers, also if an earlier start ended here.
    match clear(files) {
        Err(CheckpointError::Corrupt { partition, reason }) => {
            tracing::warn!(partition = partition.0, reason, "checkpoints of an earlier build cannot be removed");
            Ok(())
        }
        cleared => cleared,
    }
}

/// Returns a marker that cannot be loaded: its run is missing.
fn damaged() -> Marker {
    let progress = Progress { next_offset: 0, time: Timestamp::MIN, behind: 0, notifications_offset: 0 };
    Marker { progress, partition_state: Vec::new(), runs: vec![Run { number: 0, bytes: 0 }], last_user: None }
}

fn convert(files: &mut Files<'_>, generation: Generation) -> Result<Option<Marker>, CheckpointError> {
    if !matches!(files.marker(generation), Ok(None)) {
        // Written by an earlier start, which could not remove what it had read.
        return Ok(None);
    }
    let (marker, blocks, expected) = match generation {
        Generation::Latest => match read::<Latest>(files, MARKER)? {
            Some(marker) => (marker, USER, None),
            None => return Ok(None),
        },
        Generation::Kept => match read::<Kept>(files, KEPT_MARKER)? {
            Some(Kept { marker, blocks, users }) => (marker, blocks, Some(users)),
            None => return Ok(None),
        },
    };
    let (runs, users, last_user) = copy(files, blocks)?;
    if expected.is_some_and(|expected| expected != users) {
        return Err(corrupt(files, format!("it has {users} blocks instead of {}", expected.unwrap_or_default())));
    }
    let (progress, partition_state) = marker;
    Ok(Some(Marker { progress, partition_state, runs, last_user }))
}

fn corrupt(files: &Files<'_>, reason: String) -> CheckpointError {
    CheckpointError::Corrupt { partition: files.partition, reason }
}

/// Treats damage that fjall finds like damage that our checksums find.
fn unread(files: &Files<'_>, error: fjall::Error) -> CheckpointError {
    match StoreError::from(error) {
        StoreError::Corrupt(reason) => corrupt(files, reason),
        other => other.into(),
    }
}

/// Returns the prefix of the keys of a kind. A marker's key is the prefix alone.
fn prefix(partition: PartitionId, kind: u8) -> Vec<u8> {
    let mut key = partition.0.to_be_bytes().to_vec();
    key.push(kind);
    key
}

fn read<T: DeserializeOwned>(files: &Files<'_>, kind: u8) -> Result<Option<T>, CheckpointError> {
    let key = prefix(files.partition, kind);
    let stored = files.opened.space(Space::Checkpoints).get(&key).map_err(|error| unread(files, error))?;
    let decoded = stored.map(|value| entry::decode(&key, &value)).transpose();
    decoded.map_err(|what| corrupt(files, format!("the marker: {what}")))
}

/// Copies the blocks of a kind into a run. Returns it, the number of users, and the last of them.
fn copy(files: &mut Files<'_>, kind: u8) -> Result<(Vec<Run>, u64, Option<UserId>), CheckpointError> {
    let mut run = files.create().map_err(StoreError::from)?;
    let (mut users, mut last) = (0, None);
    let entries = files.opened.space(Space::Checkpoints);
    for guard in entries.prefix(prefix(files.partition, kind)) {
        let (key, value) = guard.into_inner().map_err(|error| unread(files, error))?;
        let id = key.get(5..).and_then(|id| <[u8; 8]>::try_from(id).ok());
        let id = id.ok_or_else(|| corrupt(files, "a key without a valid user id".to_owned()))?;
        let user = UserId(i64::from_be_bytes(id) ^ i64::MIN);
        match value.split_first_chunk::<4>() {
            Some((stored, block)) if u32::from_le_bytes(*stored) == checksum(&key, block) => {
                run.add(user, Some(block)).map_err(StoreError::from)?;
            }
            _ => return Err(corrupt(files, format!("the block of user {user}: its checksum does not match"))),
        }
        users += 1;
        last = Some(user);
    }
    let run = run.finish().map_err(StoreError::from)?;
    Ok((if users == 0 { Vec::new() } else { vec![run] }, users, last))
}

/// Removes all entries of these formats.
fn clear(files: &Files<'_>) -> Result<(), CheckpointError> {
    let old = prefix(files.partition, MARKER)..prefix(files.partition, 5);
    let mut keys = files.opened.space(Space::Checkpoints).range(old).map(Guard::key);
    loop {
        let some: Vec<Slice> =
            keys.by_ref().take(REMOVALS_MAX).collect::<Result<_, _>>().map_err(|error| unread(files, error))?;
        if some.is_empty() {
            return Ok(());
        }
        let removal = |key| Change { space: Space::Checkpoints, key, value: None };
        files.opened.write(some.into_iter().map(removal).collect())?;
    }
}
