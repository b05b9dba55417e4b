//! Checks the small files by which fjall finds its large ones, before fjall follows them.
//!
//! fjall takes a keyspace without its pointer for one that was never finished, and removes it. It
//! also removes tables that a damaged list omits. It stores checksums of these files but does not
//! compare them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

/// The number of keyspaces of a log that was once open: fjall's own and those of `Space`.
const KEYSPACES_MIN: usize = 7;
const VERSION: [u8; 4] = [b'F', b'J', b'L', 3];

/// Returns what is wrong with the pointers of a folder that contains parts of a database.
///
/// `in_journal` are the keyspaces that the journal writes to. `was_opened` says whether the log was
/// ever ready for use.
pub(super) fn check(folder: &Path, in_journal: &BTreeSet<u64>, was_opened: bool) -> io::Result<Option<String>> {
    match fs::read(folder.join("version")) {
        Ok(bytes) if bytes.starts_with(&VERSION) => {}
        Ok(_) => return Ok(Some("the file `version` does not say fjall 3".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some("the file `version` is missing".to_owned()));
        }
        Err(error) => return Err(error),
    }
    let mut keyspaces = 0;
    for entry in read_dir(&folder.join("keyspaces"))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let Ok(id) = name.parse::<u64>() else {
            return Ok(Some(format!("keyspaces/{name} is not a keyspace")));
        };
        let is_required = was_opened || in_journal.contains(&id);
        if let Some(what) = wrong_keyspace(&entry.path(), is_required)? {
            return Ok(Some(format!("keyspaces/{name}: {what}")));
        }
        keyspaces += 1;
    }
    if was_opened && keyspaces < KEYSPACES_MIN {
        return Ok(Some(format!("there are {keyspaces} keyspaces instead of {KEYSPACES_MIN}")));
    }
    Ok(None)
}

/// Returns what is wrong with a keyspace. If it is not required, a crash of the very first start
/// may have left it unfinished.
fn wrong_keyspace(folder: &Path, is_required: bool) -> io::Result<Option<String>> {
    let current = match fs::read(folder.join("current")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let has_data =
                !read_dir(&folder.join("tables"))?.is_empty() || !read_dir(&folder.join("blobs"))?.is_empty();
            return Ok((is_required || has_data).then(|| "the file `current` is missing".to_owned()));
        }
        Err(error) => return Err(error),
    };
    // Version u64 | checksum of its list u128 | kind of checksum u8.
    let (Some((id, rest)), 25) = (current.split_first_chunk::<8>(), current.len()) else {
        return Ok(Some("the file `current` is truncated".to_owned()));
    };
    let id = u64::from_le_bytes(*id);
    let list = match fs::read(folder.join(format!("v{id}"))) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(format!("the file `current` names v{id}, which is missing")));
        }
        Err(error) => return Err(error),
    };
    let is_sound = rest
        .split_first_chunk::<16>()
        .is_some_and(|(sum, kind)| u128::from_le_bytes(*sum) == xxh3_128(&list) && kind == [0]);
    Ok((!is_sound).then(|| format!("the checksum in `current` does not match v{id}")))
}

fn read_dir(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
