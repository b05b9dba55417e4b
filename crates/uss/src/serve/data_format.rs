//! The data folder's format: one number for all its contents, so that a build refuses a folder that
//! is too new for it before it changes anything.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::StartError;

/// The format that this build writes. It grows when a build writes data that earlier builds cannot
/// read. Each part brings an older folder up to date (checkpoints: `segment_engine::machine`;
/// warehouse and config store: migrations).
///
/// 1: folders without this file. 2: checkpoints of format 4. 3: emails are identities. 4: the
/// config store's pages have checksums, which older builds would not write. 5: fewer indexes of users
/// and identities, and one outbox row for many new users. 6: checkpoints are files. 7: memberships in
/// a table without row ids.
const FORMAT: u32 = 7;

const FILE: &str = "FORMAT";

/// Refuses a folder of a newer format. Changes nothing, so that a start that is refused later leaves
/// the folder to the build that made it.
///
/// # Errors
/// The folder has a newer format, or its mark cannot be read.
pub(crate) fn check(folder: &Path) -> Result<(), StartError> {
    read(folder).map(drop)
}

/// Marks an older or new folder with this build's format. Called before the first conversion.
///
/// # Errors
/// The mark cannot be read or written.
pub(crate) fn raise(folder: &Path) -> Result<(), StartError> {
    let found = read(folder)?;
    if found == Some(FORMAT) {
        return Ok(());
    }
    if found.is_some() {
        tracing::info!(to = FORMAT, "bringing the data folder's format up to date");
    }
    mark(folder).map_err(|error| StartError::new(format!("{}: {error}", folder.join(FILE).display())))
}

fn read(folder: &Path) -> Result<Option<u32>, StartError> {
    let path = folder.join(FILE);
    let failed = |what: &str| StartError::new(format!("{}: {what}", path.display()));
    let found = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().parse::<u32>().map_err(|_| {
            failed("it does not hold the number of the data folder's format; restore it from a backup of the folder")
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
        known => Ok(known),
    }
}

/// Writes a new file and renames it, so that a crash leaves either the old mark or the new one.
fn mark(folder: &Path) -> io::Result<()> {
    let new = folder.join("FORMAT.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}
