//! Creates new files with room for checksums, and copies files of earlier builds into such files
//! once.
//!
//! The copy is written beside the file, synced, and renamed over it. A crash therefore leaves the
//! old file or the new one, and perhaps a copy that the next start removes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ports::config_store::ConfigStoreError;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _};

use super::{PAGE, RESERVED, VFS, damage, has_mark, is_whole, vfs, wal, with_advice};

/// Whether a file's pages have checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    Checksums,
    /// A file of an earlier build that could not be copied for lack of space.
    None,
}

/// The state of a file before it is opened.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Missing,
    WithChecksums,
    /// Made by an earlier build.
    Plain,
    Damaged(&'static str),
}

#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    File(#[from] io::Error),
    #[error("{0}")]
    Other(&'static str),
}

/// Creates the file if it is missing, or copies it if an earlier build made it. Without space for
/// the copy the file stays without checksums, and the next start tries again.
pub(crate) async fn protect(file: &Path) -> Result<Protection, ConfigStoreError> {
    let failed = |error: CopyError| ConfigStoreError::Unavailable(error.to_string());
    vfs::register().map_err(|what| failed(CopyError::Other(what)))?;
    damage::forget(file);
    let copy = beside(file, "-new");
    for left in [copy.clone(), beside(&copy, "-journal")] {
        remove(&left).map_err(|error| failed(error.into()))?;
    }
    if let Some(lost) = wal::lost_commits(&beside(file, "-wal")).map_err(|error| failed(error.into()))? {
        return Err(ConfigStoreError::Corrupt(with_advice(format!("its write-ahead log has lost commits: {lost}"))));
    }
    match inspect(file).map_err(|error| failed(error.into()))? {
        Found::WithChecksums => Ok(Protection::Checksums),
        Found::Damaged(how) => Err(ConfigStoreError::Corrupt(with_advice(how))),
        // SQLite would bring an old log into the new, empty file.
        Found::Missing if beside(file, "-wal").exists() => Err(ConfigStoreError::Corrupt(with_advice(
            "the file is missing, but its write-ahead log is there; put the file back, or move the log away too",
        ))),
        Found::Missing => {
            let empty = SqliteConnectOptions::new().in_memory(true);
            replace_by_copy(empty, &copy, file).await.map(|()| Protection::Checksums).map_err(failed)
        }
        Found::Plain => match replace_by_copy(SqliteConnectOptions::new().filename(file), &copy, file).await {
            Ok(()) => {
                tracing::info!(file = %file.display(), "added checksums to the config store's pages");
                Ok(Protection::Checksums)
            }
            Err(CopyError::Sql(error)) if damage::is_damage_of(&error) => {
                Err(ConfigStoreError::Corrupt(with_advice(error)))
            }
            Err(error) => {
                // Removed now, because it may be what fills the disk.
                let _ = remove(&copy);
                tracing::warn!(
                    %error,
                    "could not add checksums to the config store's pages, which needs as much free disk space \
                     as the file's size; the next start tries again"
                );
                Ok(Protection::None)
            }
        },
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    name.into()
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Inspects a file. Both the header and the first page's mark say whether it has checksums, so
/// damage in one place does not make it look like a file without.
fn inspect(file: &Path) -> io::Result<Found> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        opened => opened?,
    };
    let mut first = Vec::with_capacity(PAGE);
    opened.take(PAGE as u64).read_to_end(&mut first)?;
    Ok(match <&[u8; PAGE]>::try_from(first.as_slice()) {
        _ if !first.starts_with(b"SQLite format 3\0") => {
            Found::Damaged("the file does not begin like a SQLite database")
        }
        Ok(page) if has_mark(page) || is_whole(page, 0) || usize::from(page[20]) == RESERVED => Found::WithChecksums,
        Ok(_) => Found::Plain,
        Err(_) => Found::Damaged("the file ends within its first page"),
    })
}

/// Copies a database into a file with room for checksums, and replaces `file` by it.
async fn replace_by_copy(from: SqliteConnectOptions, copy: &Path, file: &Path) -> Result<(), CopyError> {
    let mut source = from.disable_statement_logging().connect().await?;
    let written = write_copy(&mut source, copy).await;
    source.close().await?;
    written?;
    // When the last connection closes, SQLite empties and removes the write-ahead log. A log that
    // is left would put old pages into the new file.
    if beside(file, "-wal").exists() && file.exists() {
        return Err(CopyError::Other("another process has the file open"));
    }
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(copy)?.sync_all()?;
    File::open(folder)?.sync_all()?;
    fs::rename(copy, file)?;
    Ok(File::open(folder)?.sync_all()?)
}

async fn write_copy(source: &mut SqliteConnection, copy: &Path) -> Result<(), CopyError> {
    reserve(source).await?;
    let path = copy.to_str().ok_or(CopyError::Other("the path of the data folder is not UTF-8"))?;
    // A plain path would be opened in memory if the source is in memory, so this is a URI.
    let uri = format!("file:{}?vfs={VFS}&mode=rwc&cache=private", escaped(path));
    sqlx::query("VACUUM INTO ?").bind(uri).execute(&mut *source).await?;
    Ok(())
}

/// Escapes the characters that have a meaning in a URI.
fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

/// Makes copies of the database leave room at the end of each page.
#[expect(unsafe_code, reason = "SQLite has no SQL for this")]
async fn reserve(source: &mut SqliteConnection) -> Result<(), CopyError> {
    let mut handle = source.lock_handle().await?;
    let mut bytes = RESERVED as std::ffi::c_int;
    // SAFETY: the connection is open and locked; SQLite reads and writes the number.
    let outcome = unsafe {
        libsqlite3_sys::sqlite3_file_control(
            handle.as_raw_handle().as_ptr(),
            c"main".as_ptr(),
            libsqlite3_sys::SQLITE_FCNTL_RESERVE_BYTES,
            (&raw mut bytes).cast(),
        )
    };
    if outcome == libsqlite3_sys::SQLITE_OK {
        Ok(())
    } else {
        Err(CopyError::Other("SQLite leaves no room in its pages"))
    }
}
