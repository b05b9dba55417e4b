//! Reads fjall's journal before fjall opens it, without changing it.
//!
//! fjall treats the first unreadable entry as the end of its journal and truncates the file there.
//! That is right for a write that a crash interrupted. It is wrong for a write that was damaged
//! later, because the writes after it were acknowledged.
//!
//! ```text
//! (all little-endian)
//! batch  1 | items u32 | seqno u64 | item… | 3 | xxh3 of the items u64 | "FJL" 3
//! item   2 | value type u8 | compression u8 | keyspace u64 | key bytes u16 | value bytes u32
//!          | stored bytes u32 | key | value
//!        4 | keyspace u64                                             (a keyspace was emptied)
//! ```
//!
//! A new file is 64 MiB of zeros, written from the start. At most one batch is not synced: the
//! last.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

use super::stamp::Stamp;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];
/// The highest tags of a value type and of a compression.
const VALUE_TYPE_MAX: u8 = 2;
const COMPRESSION_MAX: u8 = 1;

/// A batch whose checksum matches.
pub(super) struct Batch {
    /// fjall's sequence number of the write. Its checksum does not cover it, so the [`Stamp`] does.
    pub seqno: u64,
    /// The batch's length in the file.
    pub bytes: usize,
    /// Our number of the write. `None` if an earlier build wrote it.
    pub stamp: Option<Stamp>,
    /// The keyspaces that the batch writes to.
    pub keyspaces: BTreeSet<u64>,
}

/// What follows the last intact batch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing but zeros.
    Unwritten,
    /// Bytes that are not a batch, with no batch after them: an interrupted write.
    Torn,
    /// Bytes that are not a batch, with a batch after them at this distance: damage.
    Damaged(usize),
}

impl Batch {
    /// Parses the batch at the start of `bytes`, if there is one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = Bytes(bytes);
        if rest.u8()? != START {
            return None;
        }
        let (items, seqno) = (rest.u32()?, rest.u64()?);
        let body = rest.0;
        let (mut stamp, mut keyspaces) = (None, BTreeSet::new());
        for _ in 0..items {
            match rest.u8()? {
                ITEM => {
                    let (kind, compression, keyspace) = (rest.u8()?, rest.u8()?, rest.u64()?);
                    let (key, value, stored) = (rest.u16()?, rest.u32()?, rest.u32()?);
                    let is_sound = kind <= VALUE_TYPE_MAX
                        && compression <= COMPRESSION_MAX
                        && (compression > 0 || value == stored);
                    if !is_sound {
                        return None;
                    }
                    let (key, value) = (rest.take(usize::from(key))?, rest.take(stored as usize)?);
                    stamp = stamp.or_else(|| Stamp::of(key, value));
                    keyspaces.insert(keyspace);
                }
                CLEAR => drop(keyspaces.insert(rest.u64()?)),
                _ => return None,
            }
        }
        let items = &body[..body.len() - rest.0.len()];
        if rest.u8()? != END || rest.u64()? != xxh3_64(items) || rest.take(TRAILER.len())? != TRAILER {
            return None;
        }
        let bytes = bytes.len() - rest.0.len();
        let batch = Self { seqno, bytes, stamp, keyspaces };
        batch.stamp.is_none_or(|stamp| stamp.admits(seqno)).then_some(batch)
    }
}

impl Tail {
    /// Classifies `bytes`, which do not start with a batch.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let Some(written) = first_written(bytes) else { return Self::Unwritten };
        let mut at = written;
        while let Some(next) = bytes[at..].iter().position(|byte| *byte == START) {
            at += next;
            if at > 0 && Batch::parse(&bytes[at..]).is_some() {
                return Self::Damaged(at);
            }
            at += 1;
        }
        Self::Torn
    }
}

/// Returns where the zeros end. Compares in pieces, because there can be 64 MiB of them.
fn first_written(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut pieces = bytes.chunks(ZEROS.len()).enumerate();
    let (index, piece) = pieces.find(|(_, piece)| **piece != ZEROS[..piece.len()])?;
    Some(index * ZEROS.len() + piece.iter().position(|byte| *byte != 0)?)
}

/// Bytes consumed from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
