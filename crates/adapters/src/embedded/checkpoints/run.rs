//! A run: users' blocks in one file, written once and never changed.
//!
//! ```text
//! (all little-endian)
//! run    piece…
//! piece  crc32 u32 | bytes of the rest u32 | the rest: LZ4, with the size before compression in front, of
//!        user…
//! user   user id i64 | bytes of the block u32, or u32::MAX for a user who was removed | block
//! ```
//!
//! The checksum covers partition, number of the run and place of the piece too: a piece in the wrong
//! place is as bad as a torn one.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size, uncompressed_size};
use segment_engine::ids::{PartitionId, UserId};
use serde::{Deserialize, Serialize};

use super::super::block::checksum;

/// A piece is written when it reaches this size: it bounds the memory that a reader needs.
const PIECE_BYTES: usize = 1 << 18;
/// A run is synced at least so often. If all of it were synced at the end, the log, which syncs its own
/// writes meanwhile, would wait for it.
const SYNC_BYTES: u64 = 1 << 20;
const HEADER_BYTES: usize = 8;
const REMOVED: u32 = u32::MAX;

/// A complete run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) number: u64,
    /// The size of its file.
    pub(super) bytes: u64,
}

/// Returns the name of a run's file.
pub(super) fn file_name(partition: PartitionId, number: u64) -> String {
    format!("{partition}-{number}.users")
}

/// The inverse of [`file_name`].
pub(super) fn parse_name(name: &str) -> Option<(PartitionId, u64)> {
    let (partition, number) = name.strip_suffix(".users")?.split_once('-')?;
    Some((PartitionId(partition.parse().ok()?), number.parse().ok()?))
}

/// Returns what the checksum of a piece covers besides its bytes.
fn place(partition: PartitionId, number: u64, piece: u64) -> [u8; 20] {
    let mut place = [0; 20];
    place[..4].copy_from_slice(&partition.0.to_le_bytes());
    place[4..12].copy_from_slice(&number.to_le_bytes());
    place[12..].copy_from_slice(&piece.to_le_bytes());
    place
}

/// A run that is being written.
pub(super) struct RunWriter {
    partition: PartitionId,
    number: u64,
    file: File,
    bytes: u64,
    /// So many of them are on the disk.
    synced: u64,
    pieces: u64,
    piece: Vec<u8>,
    /// The bytes that the checksum of the last piece covers. Kept for its memory.
    body: Vec<u8>,
}

impl RunWriter {
    pub(super) fn create(folder: &Path, partition: PartitionId, number: u64) -> io::Result<Self> {
        let file = File::create(folder.join(file_name(partition, number)))?;
        let (piece, body) = (Vec::new(), Vec::new());
        Ok(Self { partition, number, file, bytes: 0, synced: 0, pieces: 0, piece, body })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Adds a user's block; `None` if the user was removed.
    pub(super) fn add(&mut self, user: UserId, block: Option<&[u8]>) -> io::Result<()> {
        let bytes = block.map_or(Ok(REMOVED), |block| u32::try_from(block.len()).map_err(io::Error::other))?;
        self.piece.extend_from_slice(&user.0.to_le_bytes());
        self.piece.extend_from_slice(&bytes.to_le_bytes());
        self.piece.extend_from_slice(block.unwrap_or_default());
        if self.piece.len() >= PIECE_BYTES { self.end_piece() } else { Ok(()) }
    }

    fn end_piece(&mut self) -> io::Result<()> {
        let unpacked = u32::try_from(self.piece.len()).map_err(io::Error::other)?;
        self.body.resize(2 * 4 + get_maximum_output_size(self.piece.len()), 0);
        let packed = compress_into(&self.piece, &mut self.body[8..]).map_err(io::Error::other)?;
        self.piece.clear();
        self.body.truncate(2 * 4 + packed);
        let packed = u32::try_from(4 + packed).map_err(io::Error::other)?;
        self.body[..4].copy_from_slice(&packed.to_le_bytes());
        self.body[4..8].copy_from_slice(&unpacked.to_le_bytes());
        let crc = checksum(&place(self.partition, self.number, self.pieces), &self.body);
        self.file.write_all(&crc.to_le_bytes())?;
        self.file.write_all(&self.body)?;
        self.pieces += 1;
        self.bytes += HEADER_BYTES as u64 + u64::from(packed);
        if self.bytes - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.bytes;
        }
        Ok(())
    }

    /// Returns the run when it is on the disk. The caller syncs the folder.
    pub(super) fn finish(mut self) -> io::Result<Run> {
        if !self.piece.is_empty() {
            self.end_piece()?;
        }
        self.file.sync_all()?;
        Ok(Run { number: self.number, bytes: self.bytes })
    }
}

/// Why a run cannot be read.
pub(super) enum Unreadable {
    /// It is not as it was written.
    Damaged(&'static str),
    /// It cannot be read now.
    Io(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut off"),
            io::ErrorKind::NotFound => Self::Damaged("its file is missing"),
            _ => Self::Io(error),
        }
    }
}

impl Run {
    /// Calls `each` with each user in it, in the order in which they were added.
    pub(super) fn each(
        &self,
        folder: &Path,
        partition: PartitionId,
        mut each: impl FnMut(UserId, Option<&[u8]>) -> io::Result<()>,
    ) -> Result<(), Unreadable> {
        let file = File::open(folder.join(file_name(partition, self.number)))?;
        if file.metadata()?.len() != self.bytes {
            return Err(Unreadable::Damaged("its file has another size"));
        }
        let mut file = BufReader::new(file);
        let (mut left, mut body, mut unpacked) = (self.bytes, Vec::new(), Vec::new());
        for piece in 0.. {
            if left == 0 {
                break;
            }
            let (mut crc, mut bytes) = ([0; 4], [0; 4]);
            file.read_exact(&mut crc)?;
            file.read_exact(&mut bytes)?;
            let packed = u64::from(u32::from_le_bytes(bytes));
            left = left.checked_sub(HEADER_BYTES as u64 + packed).ok_or(Unreadable::Damaged("it is cut off"))?;
            body.clear();
            body.extend_from_slice(&bytes);
            (&mut file).take(packed).read_to_end(&mut body)?;
            if u32::from_le_bytes(crc) != checksum(&place(partition, self.number, piece), &body) {
                return Err(Unreadable::Damaged("its checksum does not match"));
            }
            let mut users = unpack(&body[4..], &mut unpacked).ok_or(Unreadable::Damaged("it cannot be unpacked"))?;
            while !users.is_empty() {
                let (user, block) = split_user(&mut users).ok_or(Unreadable::Damaged("a block is cut off"))?;
                each(user, block)?;
            }
        }
        Ok(())
    }
}

/// Unpacks the users of a piece into memory that is used again.
fn unpack<'m>(packed: &[u8], memory: &'m mut Vec<u8>) -> Option<&'m [u8]> {
    let (size, packed) = uncompressed_size(packed).ok()?;
    if memory.len() < size {
        memory.resize(size, 0);
    }
    let size = decompress_into(packed, &mut memory[..size]).ok()?;
    Some(&memory[..size])
}

/// Takes the first user and their block.
fn split_user<'a>(users: &mut &'a [u8]) -> Option<(UserId, Option<&'a [u8]>)> {
    let (id, rest) = users.split_first_chunk::<8>()?;
    let (bytes, rest) = rest.split_first_chunk::<4>()?;
    let bytes = u32::from_le_bytes(*bytes);
    let user = UserId(i64::from_le_bytes(*id));
    if bytes == REMOVED {
        *users = rest;
        return Some((user, None));
    }
    let (block, rest) = rest.split_at_checked(bytes as usize)?;
    *users = rest;
    Some((user, Some(block)))
}
