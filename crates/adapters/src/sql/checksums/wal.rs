//! Checks whether the write-ahead log has lost commits.
//!
//! SQLite reads the log up to the first frame with a wrong checksum, and takes the rest for an
//! interrupted write. A damaged frame would end the log silently and drop all commits after it. A
//! write begins only when the previous one is on the disk, so a valid frame after a commit proves
//! that this commit was acknowledged. If such a pair comes after the first wrong frame, commits
//! were lost. (Nothing here shows whether the very last write was acknowledged. The event log does,
//! for the ids that reached it.)
//!
//! The layout is SQLite's, see "The WAL File Format" at <https://www.sqlite.org/fileformat2.html>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const PAGE_SIZE_MAX: usize = 65_536;

/// The running checksum of a header or frame. Each continues from the one before.
type Sums = [u32; 2];

/// The byte order of the words in the checksum, which the file's header gives.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

struct Header {
    order: Order,
    page_size: usize,
    salts: [u8; 8],
    sums: Sums,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn add(order: Order, bytes: &[u8], mut sums: Sums) -> Sums {
    let read = |four: &[u8]| match order {
        Order::Little => u32::from_le_bytes([four[0], four[1], four[2], four[3]]),
        Order::Big => word(four, 0),
    };
    for eight in bytes.chunks_exact(8) {
        sums[0] = sums[0].wrapping_add(read(&eight[..4])).wrapping_add(sums[1]);
        sums[1] = sums[1].wrapping_add(read(&eight[4..])).wrapping_add(sums[0]);
    }
    sums
}

fn header(bytes: &[u8; HEADER]) -> Option<Header> {
    let order = match word(bytes, 0) {
        0x377f_0682 => Order::Little,
        0x377f_0683 => Order::Big,
        _ => return None,
    };
    let sums = add(order, &bytes[..24], [0, 0]);
    let page_size = word(bytes, 8) as usize;
    let is_whole = sums == [word(bytes, 24), word(bytes, 28)] && page_size <= PAGE_SIZE_MAX;
    let salts = bytes[16..24].try_into().ok()?;
    is_whole.then_some(Header { order, page_size, salts, sums })
}

/// Returns where commits were lost: the frames that cannot be read although later ones were
/// committed.
pub(super) fn lost_commits(wal: &Path) -> io::Result<Option<String>> {
    let file = match File::open(wal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    // The header is on the disk before the first frame is written.
    if length <= HEADER as u64 {
        return Ok(None);
    }
    let mut reader = BufReader::new(file);
    let mut start = [0; HEADER];
    reader.read_exact(&mut start)?;
    match header(&start) {
        None => Ok(Some("its header is damaged".to_owned())),
        Some(header) => lost_after_a_frame(&mut reader, &header, length),
    }
}

fn lost_after_a_frame(reader: &mut impl Read, header: &Header, length: u64) -> io::Result<Option<String>> {
    let mut frame = vec![0; FRAME_HEADER + header.page_size];
    let frames = (length - HEADER as u64) / frame.len() as u64;
    let mut before = header.sums;
    let mut first_wrong = None;
    let mut follows_commit = false;
    for number in 1..=frames {
        reader.read_exact(&mut frame)?;
        let (head, page) = frame.split_at(FRAME_HEADER);
        let stored = [word(head, 16), word(head, 20)];
        let is_of_this_log = head[8..16] == header.salts;
        let continues = is_of_this_log && add(header.order, page, add(header.order, &head[..8], before)) == stored;
        if !continues && first_wrong.is_none() {
            first_wrong = Some(number);
        } else if let Some(first) = first_wrong.filter(|_| continues && follows_commit) {
            return Ok(Some(format!("frame {first} of {frames} is damaged, and later frames were committed")));
        }
        follows_commit = word(head, 4) != 0 && is_of_this_log;
        before = stored;
    }
    Ok(None)
}
