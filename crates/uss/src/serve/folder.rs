//! The data folder. It is created, tested, and closed to other accounts of the machine, because it
//! holds the data of people.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;

use super::StartError;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The prefixes of our own names. A folder with other names in it is shared, and keeps its mode.
const OURS: [&str; 6] = ["FORMAT", "log", "warehouse.duckdb", "config.sqlite", "space-probe", WRITE_TEST];
const WRITE_TEST: &str = ".uss-write-test";

/// Prepares the data folder. An error here is clearer than one of a database later.
pub(crate) fn prepare(folder: &Path) -> Result<(), StartError> {
    keep_new_files_private();
    let probe = folder.join(WRITE_TEST);
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    made.and_then(|()| fs::write(&probe, b"")).map_err(|error| {
        StartError::new(format!(
            "the data folder {} cannot be written: {error}; choose another with USS_DATA_DIR or --data-dir, or give this \
             account the right to write there",
            folder.display()
        ))
    })?;
    // A probe that is not removed does no harm.
    let _ = fs::remove_file(probe);
    if let Err(error) = tighten(folder) {
        let folder = folder.display();
        tracing::warn!(%error, "other accounts on this machine may be able to read {folder}: its modes cannot be changed");
    }
    Ok(())
}

/// Makes files and folders private that the process creates from here on. Databases create files
/// at any time, each in its own way.
fn keep_new_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Closes files and folders that an earlier build, or another program, has left open.
fn tighten(folder: &Path) -> io::Result<()> {
    let mut is_ours_alone = true;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if OURS.iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes())) {
            tighten_entry(&entry)?;
        } else {
            is_ours_alone = false;
        }
    }
    if is_ours_alone { set_mode(folder, FOLDER_MODE) } else { Ok(()) }
}

fn tighten_entry(entry: &fs::DirEntry) -> io::Result<()> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        for inner in fs::read_dir(entry.path())? {
            tighten_entry(&inner?)?;
        }
        set_mode(&entry.path(), FOLDER_MODE)
    } else if kind.is_file() {
        set_mode(&entry.path(), FILE_MODE)
    } else {
        // The target of a link may not belong to us.
        Ok(())
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}
