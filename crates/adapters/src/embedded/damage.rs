//! Finds damage of the database's files before fjall opens them. fjall would repair it by dropping
//! whatever it cannot read.
//!
//! The decision is [0013](../../../../docs/decisions/0013-a-damaged-log-is-refused.md).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::journal::{Batch, Tail};
use super::pending::{self, PendingRestore};
use super::pointers;
use super::stamp::{Mark, Stamp};
use super::store::StoreError;

/// The code of a finding about losses that [`Losses::GiveUp`] accepted.
pub const LOSS_ACCEPTED: &str = "LOG_LOSS_ACCEPTED";

/// What to do if acknowledged records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// Change nothing, and return an error that says what is wrong.
    Refuse,
    /// Continue with what is left.
    GiveUp,
}

/// Something about a folder that its operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable, machine-readable code.
    pub code: &'static str,
    /// What was found and what was done about it.
    pub message: String,
}

/// A position from which the journal cannot be used.
struct Break {
    file: PathBuf,
    /// The number of usable bytes before it.
    keep: u64,
    /// The journal files after this one.
    later: Vec<PathBuf>,
    reason: String,
}

/// The contents of an intact journal.
#[derive(Default)]
struct Walked {
    keyspaces: BTreeSet<u64>,
    /// The last stamp, with fjall's sequence number of that write.
    last: Option<(Stamp, u64)>,
    /// Files that end in an interrupted write, with the byte where it begins.
    torn: Vec<(PathBuf, u64)>,
}

/// Fails if an earlier start gave up losses and stopped before the log was restored. With
/// [`Losses::GiveUp`] this start goes on with it.
pub(super) fn check_restored(folder: &Path, losses: Losses, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
    let Some(lost) = PendingRestore::of(folder).lost()? else { return Ok(()) };
    let what = if lost.is_empty() { String::new() } else { format!(". It gave up: {lost}") };
    let file = pending::FILE;
    let message = format!(
        "a start with --accept-loss was interrupted before it had restored the log{what}. (If you have put a sound log/ \
         back since, remove log/{file})"
    );
    match losses {
        Losses::Refuse => Err(StoreError::Lost(message)),
        Losses::GiveUp => {
            findings.push(Finding { code: LOSS_ACCEPTED, message });
            Ok(())
        }
    }
}

/// Refuses a loss, or records on the disk that it is given up. Call it before you change a file that
/// shows the loss.
pub(super) fn refuse_or_record(
    folder: &Path,
    losses: Losses,
    lost: String,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    if losses == Losses::Refuse {
        return Err(StoreError::Lost(lost));
    }
    PendingRestore::of(folder).record(&lost)?;
    findings.push(Finding { code: LOSS_ACCEPTED, message: lost });
    Ok(())
}

/// Checks a folder before fjall opens it. Cuts off an interrupted write. Anything else that is
/// wrong is an error; with [`Losses::GiveUp`] it is set aside instead. Returns the number of the
/// last acknowledged write, if it is known.
pub(super) fn check(folder: &Path, losses: Losses, findings: &mut Vec<Finding>) -> Result<Option<u64>, StoreError> {
    let mut mark = read_mark(folder, findings)?;
    let mut files = journals(folder)?;
    if files.is_empty() && !folder.join("keyspaces").exists() && !folder.join("version").exists() {
        return match mark {
            Some(number) if number > 0 => {
                let lost = format!("its files are missing, and with them {number} writes");
                refuse_or_record(folder, losses, lost, findings)?;
                // It would make a start that stops half-way look like damage of the new files.
                Mark::remove(folder)?;
                Ok(None)
            }
            mark => Ok(mark),
        };
    }
    if files.is_empty() && mark.is_some() {
        refuse_or_record(folder, losses, "its journal (the files *.jnl) is missing".to_owned(), findings)?;
    }
    let walked = match walk(&files)? {
        Ok(walked) => walked,
        Err(found) => {
            refuse_or_record(folder, losses, found.reason.clone(), findings)?;
            put_aside(&found)?;
            files = journals(folder)?;
            walk(&files)?.map_err(|found| StoreError::Corrupt(found.reason))?
        }
    };
    if let Some(what) = pointers::check(folder, &walked.keyspaces, mark.is_some())? {
        return Err(StoreError::Corrupt(what));
    }
    if let (Some((Stamp { number, .. }, _)), Some(acknowledged)) = (walked.last, mark)
        && let Err(StoreError::Lost(lost)) = check_reached(number, acknowledged)
    {
        refuse_or_record(folder, losses, lost, findings)?;
        // What looks interrupted may be what was acknowledged.
        walked.torn.iter().try_for_each(|(file, _)| copy_aside(file))?;
        mark = Some(number);
    }
    for (file, at) in walked.torn {
        cut(&file, at)?;
        let (name, code) = (name_of(&file), "LOG_TAIL_CUT");
        let message = format!("{name} ended in a write that cannot be read, which was cut off");
        findings.push(Finding { code, message });
    }
    Ok(mark)
}

/// Fails if a database that ends with write `number` has lost acknowledged writes.
pub(super) fn check_reached(number: u64, acknowledged: u64) -> Result<(), StoreError> {
    if number >= acknowledged {
        return Ok(());
    }
    let lost = acknowledged - number;
    Err(StoreError::Lost(format!(
        "its last {lost} writes are missing: it ends with write {number}, but write {acknowledged} was acknowledged"
    )))
}

fn read_mark(folder: &Path, findings: &mut Vec<Finding>) -> Result<Option<u64>, StoreError> {
    match Mark::read(folder) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let message = format!("the file log/{}: {error}; it is created again", super::stamp::MARK);
            findings.push(Finding { code: "LOG_MARK_DAMAGED", message });
            // The mark exists, so the log was in use.
            Ok(Some(0))
        }
        read => Ok(read?),
    }
}

/// Returns the journal files, oldest first.
fn journals(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(id) = name.strip_suffix(".jnl") {
            let id: u64 =
                id.parse().map_err(|_| StoreError::Corrupt(format!("{name} is not the name of a journal")))?;
            found.push((id, folder.join(name)));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

fn walk(files: &[PathBuf]) -> Result<Result<Walked, Break>, StoreError> {
    let mut walked = Walked::default();
    // Only the last file may have a torn end, unless the next file repeats the interrupted write.
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
                return Ok(Err(broken(0, "it is empty, but a later file exists")));
            }
            // A full disk interrupts a write, and fjall still begins the next file. Nothing in it was
            // acknowledged: the mark says so.
            Tail::Unwritten if at == 0 => doubt = None,
            Tail::Unwritten => {}
            Tail::Torn => {
                if !later.is_empty() {
                    doubt = Some(broken(at, "its end cannot be read, but a later file exists"));
                }
                walked.torn.push((file.clone(), at as u64));
            }
            Tail::Damaged(distance) => {
                let what = format!("a write cannot be read, but a later one at byte {} can", at + distance);
                return Ok(Err(broken(at, &what)));
            }
        }
    }
    Ok(doubt.map_or(Ok(walked), Err))
}

/// Describes the gap between two consecutive stamped writes, if there is one.
fn missing_before(last: Option<(Stamp, u64)>, next: Stamp, seqno: u64) -> Option<String> {
    let (last, last_seqno) = last?;
    if !next.goes_on || (next.number == last.number + 1 && seqno > last_seqno) {
        return None;
    }
    Some(format!("write {} follows write {}", next.number, last.number))
}

/// Ends the journal before a break. What follows stays in files that are never read.
fn put_aside(found: &Break) -> Result<(), StoreError> {
    copy_aside(&found.file)?;
    cut(&found.file, found.keep)?;
    for later in &found.later {
        fs::rename(later, aside(later))?;
    }
    Ok(pending::sync(folder_of(&found.file))?)
}

/// Copies a journal to a file that is never read. Returns when the copy is on the disk.
fn copy_aside(file: &Path) -> io::Result<()> {
    let copy = aside(file);
    fs::copy(file, &copy)?;
    File::open(copy)?.sync_all()?;
    pending::sync(folder_of(file))
}

fn folder_of(file: &Path) -> &Path {
    file.parent().expect("a journal is in a folder")
}

/// Returns an unused file name beside `file`.
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
