//! Event ids derived from the content: what makes an import that is run twice count once.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::event::ImportedEvent;

/// How many rows of one file are told apart: 16 bytes of memory each.
const ROWS_MAX: usize = 500_000_000;
/// Bytes of the hash in an id: two different rows get one id by chance less often than disks lie.
const ID_BYTES: usize = 16;

/// Counts the identical rows of a file: each of them is an event of its own.
#[derive(Default)]
pub struct Occurrences {
    /// By the first eight bytes of the hash. Should two rows share them, their numbers interleave, which does no harm:
    /// the id has the longer hash, and the same file gives the same numbers.
    seen: HashMap<u64, u32>,
}

impl Occurrences {
    /// The id of the next row: the hash of the event as the file gives it (before any shift of times), and how many
    /// identical rows came before it in the file.
    ///
    /// # Errors
    /// The file has too many rows.
    pub fn event_id(&mut self, event: &ImportedEvent) -> Result<String, String> {
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
