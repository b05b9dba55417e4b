//! Numbers the writes of the database, so that a missing write is noticed.
//!
//! Each write contains a [`Stamp`] with its number. After its sync the number also goes to a file
//! of its own, the [`Mark`]. The mark is not synced: setting it costs a microsecond, it survives
//! the process like every written byte, and after a power loss it may be too low but never too
//! high. So a database that ends before its mark has lost acknowledged writes, and a journal whose
//! numbers have a gap has lost the writes in the gap.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::block::checksum;
use super::entry::{self, Entry};

/// How far fjall's own upkeep may raise its sequence number between our reading it and the write.
const SEQNO_AHEAD_MAX: u64 = 1 << 20;
/// The file name of the mark, beside the journal.
pub(super) const MARK: &str = "acknowledged";

/// The number in each write. The newest is an entry of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The number of the write, counted from 1.
    pub number: u64,
    /// The least sequence number that fjall can have given. fjall's checksum does not cover it.
    pub seqno_min: u64,
    /// Whether the write before it in the journal has the previous number. False after an accepted
    /// loss.
    pub goes_on: bool,
}

impl Stamp {
    /// Returns the stamp if the entry is one.
    pub(super) fn of(key: &[u8], value: &[u8]) -> Option<Self> {
        if key != Entry::Stamp.key() {
            return None;
        }
        entry::decode(key, value).ok()
    }

    /// Whether fjall can have given the write this sequence number.
    pub(super) fn admits(&self, seqno: u64) -> bool {
        (self.seqno_min..=self.seqno_min.saturating_add(SEQNO_AHEAD_MAX)).contains(&seqno)
    }
}

/// A file with the number of the last acknowledged write.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    /// Reads the mark of a folder: `Ok(None)` if there is none, an error of kind `InvalidData` if
    /// it is damaged.
    pub(super) fn read(folder: &Path) -> io::Result<Option<u64>> {
        let mut bytes = Vec::new();
        match File::open(folder.join(MARK)) {
            Ok(file) => file.take(13).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let number = <[u8; 12]>::try_from(bytes).ok().and_then(|bytes| {
            let (number, sum) = bytes.split_first_chunk::<8>()?;
            (sum == checksum(&[], number).to_le_bytes()).then(|| u64::from_le_bytes(*number))
        });
        number.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its checksum does not match"))
    }

    /// Opens the mark of a folder for writing, and creates it if needed.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(folder.join(MARK))?;
        file.set_len(12)?;
        Ok(Self(file))
    }

    /// Removes the mark of a folder. Returns when it is gone from the disk.
    pub(super) fn remove(folder: &Path) -> io::Result<()> {
        std::fs::remove_file(folder.join(MARK))?;
        super::pending::sync(folder)
    }

    /// Sets the mark. If that fails the mark is too low, which does no harm.
    pub(super) fn set(&self, number: u64) {
        let number = number.to_le_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&checksum(&[], &number).to_le_bytes());
        if let Err(error) = self.0.write_all_at(&bytes, 0) {
            tracing::debug!(%error, "could not set the mark of the last acknowledged write");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_returns_the_number_that_was_set_and_damage_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(folder.path()).unwrap(), None);
        let mark = Mark::open(folder.path()).unwrap();
        assert!(Mark::read(folder.path()).is_err(), "created, but never set");
        for number in [0, 7, u64::MAX] {
            mark.set(number);
            assert_eq!(Mark::read(folder.path()).unwrap(), Some(number));
        }
        let sound = std::fs::read(folder.path().join(MARK)).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut damaged = sound.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(folder.path().join(MARK), damaged).unwrap();
            assert!(Mark::read(folder.path()).is_err(), "bit {bit}");
        }
        for length in (0..sound.len()).chain([13]) {
            std::fs::write(folder.path().join(MARK), vec![0; length]).unwrap();
            assert!(Mark::read(folder.path()).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_stamp_admits_the_numbers_that_fjall_can_have_given() {
        let stamp = Stamp { number: 3, seqno_min: 100, goes_on: true };
        for (seqno, is_admitted) in [(99, false), (100, true), (103, true), (100 | 1 << 40, false), (0, false)] {
            assert_eq!(stamp.admits(seqno), is_admitted, "{seqno}");
        }
    }
}
