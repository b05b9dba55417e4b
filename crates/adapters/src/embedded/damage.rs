//! Damage of the database's files, found before fjall opens them: it would mend them by leaving out what it cannot read.
//!
//! The decision is [0013](../../../../docs/decisions/0013-a-damaged-log-is-refused.md).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::journal::{Batch, Tail};
use super::pointers;
use super::stamp::{Mark, Stamp};
use super::store::StoreError;

/// The code of what [`Losses::GiveUp`] gave up.
pub const LOSS_ACCEPTED: &str = "LOG_LOSS_ACCEPTED";

/// What to do about records that were acknowledged and are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// Change nothing and say what is wrong.
    Refuse,
    /// Go on with what is left.
    GiveUp,
}

/// Something about a folder that whoever runs it should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable, machine-readable.
    pub code: &'static str,
    /// What was found, and what was done.
    pub message: String,
}

/// A place of the journal from which on it cannot be used.
struct Break {
    file: PathBuf,
    /// The bytes before it, which can.
    keep: u64,
    /// The files after it.
    later: Vec<PathBuf>,
    reason: String,
}

/// What a sound journal holds.
#[derive(Default)]
struct Walked {
    keyspaces: BTreeSet<u64>,
    /// The last stamp, and fjall's number of that write.
    last: Option<(Stamp, u64)>,
    /// Files whose last write was interrupted, and where it begins.
    torn: Vec<(PathBuf, u64)>,
}

/// Checks a folder before it is opened. A write that was interrupted is cut off; whatever else is wrong is an error, or with
/// [`Losses::GiveUp`] put aside. Answers the last acknowledged write, as far as it is known.
pub fn check(folder: &Path, losses: Losses, findings: &mut Vec<Finding>) -> Result<Option<u64>, StoreError> {
    let mark = read_mark(folder, findings)?;
    let mut files = journals(folder)?;
    if files.is_empty() && !folder.join("keyspaces").exists() && !folder.join("version").exists() {
        return match mark {
            Some(number) if number > 0 && losses == Losses::Refuse => {
                Err(StoreError::Lost(format!("its files are gone, and with them {number} writes")))
            }
            mark => Ok(mark),
        };
    }
    if files.is_empty() && mark.is_some() && losses == Losses::Refuse {
        return Err(StoreError::Lost("its journal is gone, the files *.jnl".to_owned()));
    }
    let walked = match walk(&files)? {
        Ok(walked) => walked,
        Err(found) if losses == Losses::Refuse => return Err(StoreError::Lost(found.reason)),
        Err(found) => {
            put_aside(&found)?;
            findings.push(Finding { code: LOSS_ACCEPTED, message: found.reason });
            files = journals(folder)?;
            walk(&files)?.map_err(|found| StoreError::Corrupt(found.reason))?
        }
    };
    if let Some(what) = pointers::check(folder, &walked.keyspaces, mark.is_some())? {
        return Err(StoreError::Corrupt(what));
    }
    if let (Some((Stamp { number, .. }, _)), Some(mark)) = (walked.last, mark)
        && losses == Losses::Refuse
    {
        check_reached(number, mark)?;
    }
    for (file, at) in walked.torn {
        cut(&file, at)?;
        let (name, code) = (name_of(&file), "LOG_TAIL_CUT");
        let message = format!("{name} ended in a write that was interrupted; nobody had been told that it was stored");
        findings.push(Finding { code, message });
    }
    Ok(mark)
}

/// Fails if a database that has come to write `number` has lost what was acknowledged.
pub fn check_reached(number: u64, acknowledged: u64) -> Result<(), StoreError> {
    if number >= acknowledged {
        return Ok(());
    }
    let lost = acknowledged - number;
    Err(StoreError::Lost(format!(
        "its last {lost} writes are gone: it ends with write {number}, but write {acknowledged} was acknowledged"
    )))
}

fn read_mark(folder: &Path, findings: &mut Vec<Finding>) -> Result<Option<u64>, StoreError> {
    match Mark::read(folder) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let message = format!("the file log/{}: {error}; it is made anew", super::stamp::MARK);
            findings.push(Finding { code: "LOG_MARK_DAMAGED", message });
            // The log was in use, that much is known.
            Ok(Some(0))
        }
        read => Ok(read?),
    }
}

/// The journal's files, oldest first.
fn journals(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(id) = name.strip_suffix(".jnl") {
            let id: u64 = id.parse().map_err(|_| StoreError::Corrupt(format!("{name} is no name of a journal")))?;
            found.push((id, folder.join(name)));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

fn walk(files: &[PathBuf]) -> Result<Result<Walked, Break>, StoreError> {
    let mut walked = Walked::default();
    // A file that is not the last should have no torn end, unless the write was made again in the next.
    let mut doubt: Option<Break> = None;
    for (index, file) in files.iter().enumerate() {
        let (bytes, later) = (fs::read(file)?, &files[index + 1..]);
        let broken = |at: usize, what: &str| {
            let reason = format!("{} cannot be used from byte {at} on: {what}", name_of(file));
            Break { file: file.clone(), keep: at as u64, later: later.to_vec(), reason }
        };
        let mut at = 0;
        while let Some(batch) = Batch::parse(&bytes[at..]) {
            if let Some(stamp) = batch.stamp {
                if let Some(what) = missing_before(walked.last, stamp, batch.seqno) {
                    return Ok(Err(doubt.unwrap_or_else(|| broken(at, &what))));
                }
                doubt = None;
                walked.last = Some((stamp, batch.seqno));
            }
            walked.keyspaces.extend(batch.keyspaces);
            at += batch.bytes;
        }
        match Tail::of(&bytes[at..]) {
            Tail::Unwritten if at == 0 && !later.is_empty() => {
                return Ok(Err(broken(0, "it is empty, and a later file is there")));
            }
            Tail::Unwritten => {}
            Tail::Torn => {
                if !later.is_empty() {
                    doubt = Some(broken(at, "its end cannot be read, and a later file is there"));
                }
                walked.torn.push((file.clone(), at as u64));
            }
            Tail::Damaged(distance) => {
                let what = format!("a write cannot be read, though one at byte {} can", at + distance);
                return Ok(Err(broken(at, &what)));
            }
        }
    }
    Ok(doubt.map_or(Ok(walked), Err))
}

/// What is missing between two writes that follow each other.
fn missing_before(last: Option<(Stamp, u64)>, next: Stamp, seqno: u64) -> Option<String> {
    let (last, last_seqno) = last?;
    if !next.goes_on || (next.number == last.number + 1 && seqno > last_seqno) {
        return None;
    }
    Some(format!("write {} follows write {} there", next.number, last.number))
}

/// Ends the journal before a break. What followed stays in files that nobody reads.
fn put_aside(found: &Break) -> Result<(), StoreError> {
    fs::copy(&found.file, aside(&found.file))?;
    cut(&found.file, found.keep)?;
    for later in &found.later {
        fs::rename(later, aside(later))?;
    }
    Ok(())
}

/// A name beside a file that is not taken.
fn aside(file: &Path) -> PathBuf {
    let names = (0..u32::MAX).map(|n| {
        let ending = if n == 0 { "damaged".to_owned() } else { format!("damaged-{n}") };
        file.with_file_name(format!("{}.{ending}", name_of(file)))
    });
    let mut names = names.skip_while(|name| name.exists());
    names.next().unwrap_or_else(|| file.with_extension("damaged"))
}

fn cut(file: &Path, at: u64) -> Result<(), StoreError> {
    let file = File::options().write(true).open(file)?;
    file.set_len(at)?;
    Ok(file.sync_all()?)
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
