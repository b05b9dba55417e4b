//! The data folder's format: one number for all that is in it, so that a build tells a folder that is too new for it
//! before it has touched anything.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::StartError;

/// What this build writes. It grows when a build writes something that the builds before it cannot read; what brings an older
/// folder up to date stands with each part (checkpoints: `segment_engine::machine`, warehouse and config store: migrations).
///
/// 1: before there was a file that says so. 2: checkpoints of format 4. 3: emails are identities. 4: the
/// config store's pages have checksums, which older builds would not write.
const FORMAT: u32 = 4;

const FILE: &str = "FORMAT";

/// Refuses a folder of a newer format, and marks an older or new one as being of this build's.
///
/// # Errors
/// The folder is of a newer format, or its mark cannot be read or written. Nothing was changed then.
pub fn check(folder: &Path) -> Result<(), StartError> {
    let path = folder.join(FILE);
    let failed = |what: &str| StartError::new(format!("{}: {what}", path.display()));
    let found = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().parse::<u32>().map_err(|_| {
            failed("it holds no number; it names the data folder's format, so restore it from a backup of the folder")
        })?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&error.to_string())),
    };
    match found {
        Some(newer) if newer > FORMAT => Err(StartError::new(format!(
            "the data folder {} has format {newer}, and this build knows formats up to {FORMAT}. A newer build made it: \
             start that one, or choose another folder. Nothing was changed",
            folder.display()
        ))),
        Some(FORMAT) => Ok(()),
        older => {
            if older.is_some() || folder.join("log").exists() {
                tracing::info!(to = FORMAT, "bringing the data folder's format up to date");
            }
            mark(folder).map_err(|error| failed(&error.to_string()))
        }
    }
}

/// Written beside and renamed, so that a crash leaves the old mark or the new one.
fn mark(folder: &Path) -> io::Result<()> {
    let fresh = folder.join("FORMAT.new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}
