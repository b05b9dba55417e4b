//! Checksums on every page of the config store's file, so that damage is found when a page is read
//! and never served.
//!
//! SQLite leaves the last [`RESERVED`] bytes of each page alone. They hold a mark and a CRC-32 of
//! the page's number and content. [`vfs`] computes them on each write to the file and compares them
//! on each read. [`protect`] creates new files with room for them, and copies files of earlier
//! builds into such files. The write-ahead log has SQLite's own checksums; [`wal`] notices when
//! SQLite would end it too early. Why: `docs/decisions/0012-checksums-of-config-store-pages.md`.

mod damage;
mod protect;
mod vfs;
mod wal;

pub(super) use damage::{damaged_page, is_damage, with_advice};
pub(super) use protect::{Protection, protect};

/// The VFS's name, for code that opens a config store's file directly. Pages that are written
/// without it have no checksum and count as damaged.
pub const VFS: &str = "uss-page-checksums";

/// SQLite's default, which all builds have used.
const PAGE: usize = 4096;
/// The bytes that SQLite leaves free at the end of each page: the mark, then the checksum.
const RESERVED: usize = 8;
const SUM_AT: usize = PAGE - 4;
const MARK_AT: usize = PAGE - RESERVED;
/// Says that the page has a checksum. Identifies a protected file even if its header is damaged.
const MARK: [u8; 4] = *b"uss\x01";

/// Computes the checksum of a page. Includes the page's number, counted from 0, so that a misplaced
/// page is noticed.
fn sum(page: &[u8; PAGE], number: u64) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&page[..SUM_AT]);
    hasher.finalize().to_le_bytes()
}

/// Writes mark and checksum into a page.
fn seal(page: &mut [u8; PAGE], number: u64) {
    page[MARK_AT..SUM_AT].copy_from_slice(&MARK);
    let sum = sum(page, number);
    page[SUM_AT..].copy_from_slice(&sum);
}

/// Whether a page matches its checksum.
fn is_whole(page: &[u8; PAGE], number: u64) -> bool {
    has_mark(page) && page[SUM_AT..] == sum(page, number)
}

fn has_mark(page: &[u8; PAGE]) -> bool {
    page[MARK_AT..SUM_AT] == MARK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_and_a_misplaced_page_are_detected() {
        let mut page = [0; PAGE];
        for (at, byte) in page.iter_mut().enumerate() {
            *byte = (at * 7 % 251) as u8;
        }
        seal(&mut page, 3);
        assert!(is_whole(&page, 3));
        assert!(!is_whole(&page, 4), "under another number");
        for at in 0..PAGE {
            let mut damaged = page;
            damaged[at] ^= 1 << (at % 8);
            assert!(!is_whole(&damaged, 3), "byte {at}");
        }
        assert!(!is_whole(&[0; PAGE], 0), "a page of zeros");
    }
}
