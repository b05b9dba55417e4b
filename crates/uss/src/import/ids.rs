//! Event ids derived from the content of rows. Because of them, the events of a repeated import
//! count once.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::event::ImportedEvent;

/// The most different rows in a file: each takes 16 bytes of memory.
const ROWS_MAX: usize = 500_000_000;
/// Bytes of the hash in an id. Two rows get the same id by chance less often than a disk returns
/// wrong data.
const ID_BYTES: usize = 16;

/// Counts the identical rows of a file, since each of them is an event of its own.
#[derive(Default)]
pub(crate) struct Occurrences {
    /// Counts by the first eight bytes of the hash. If two different rows share them, they also
    /// share a count. That does no harm: the id has the longer hash, and the same file gives the
    /// same counts.
    seen: HashMap<u64, u32>,
}

impl Occurrences {
    /// Returns the id of the next row: the hash of its event before any shift of times, and the
    /// count of identical rows so far, this one included.
    ///
    /// # Errors
    /// The file has too many different rows.
    pub(crate) fn event_id(&mut self, event: &ImportedEvent<'_>) -> Result<String, String> {
        if self.seen.len() >= ROWS_MAX {
            return Err(format!("the file has more than {ROWS_MAX} different rows; split it"));
        }
        let hash = Sha256::digest(event.canonical());
        let (start, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        let occurrence = self.seen.entry(u64::from_be_bytes(*start)).or_default();
        *occurrence += 1;
        let digits = hex::encode(&hash[..ID_BYTES]);
        Ok(format!("import:{digits}:{occurrence}"))
    }
}
