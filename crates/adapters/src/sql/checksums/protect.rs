//! New files have room for checksums; files of earlier builds are copied, once, into ones that do.
//!
//! A copy is written beside the file and renamed over it when it is whole and on the disk. So a crash leaves the old file or
//! the new one, and perhaps a copy that the next start removes.

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
pub enum Protection {
    Checksums,
    /// A file of an earlier build for whose copy there was no room.
    None,
}

/// How a file was found.
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

/// Makes the file if it is missing, or copies it if it is an earlier build's. Without room for the copy the file goes on
/// without checksums, and the next start tries again.
pub async fn protect(file: &Path) -> Result<Protection, ConfigStoreError> {
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
    match look(file).map_err(|error| failed(error.into()))? {
        Found::WithChecksums => Ok(Protection::Checksums),
        Found::Damaged(how) => Err(ConfigStoreError::Corrupt(with_advice(how))),
        Found::Missing => {
            let empty = SqliteConnectOptions::new().in_memory(true);
            copied(empty, &copy, file).await.map(|()| Protection::Checksums).map_err(failed)
        }
        Found::Plain => match copied(SqliteConnectOptions::new().filename(file), &copy, file).await {
            Ok(()) => {
                tracing::info!(file = %file.display(), "the config store's pages have checksums from now on");
                Ok(Protection::Checksums)
            }
            Err(CopyError::Sql(error)) if damage::is_damage_of(&error) => {
                Err(ConfigStoreError::Corrupt(with_advice(error)))
            }
            Err(error) => {
                // Best now: it may be what fills the disk.
                let _ = remove(&copy);
                tracing::warn!(
                    %error,
                    "the config store's pages have no checksums yet: that needs as much room on the disk as the file has; \
                     the next start tries again"
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

/// The header says how many bytes SQLite leaves alone, and the first page's mark what for. Damage in one place does not
/// make a file look like one that never had checksums.
fn look(file: &Path) -> io::Result<Found> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        opened => opened?,
    };
    let mut first = Vec::with_capacity(PAGE);
    opened.take(PAGE as u64).read_to_end(&mut first)?;
    Ok(match <&[u8; PAGE]>::try_from(first.as_slice()) {
        _ if !first.starts_with(b"SQLite format 3\0") => Found::Damaged("the file does not begin as a database does"),
        Ok(page) if has_mark(page) || is_whole(page, 0) || usize::from(page[20]) == RESERVED => Found::WithChecksums,
        Ok(_) => Found::Plain,
        Err(_) => Found::Damaged("the file is cut off within its first page"),
    })
}

/// Copies a database into a file with room for checksums, and puts it in the place of `file`.
async fn copied(from: SqliteConnectOptions, copy: &Path, file: &Path) -> Result<(), CopyError> {
    let mut source = from.disable_statement_logging().connect().await?;
    let written = write_copy(&mut source, copy).await;
    source.close().await?;
    written?;
    // Closed, the last connection has left nothing in the write-ahead log, and removed it. Read with the new file it would
    // put old pages into it.
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
    // A database in memory would be copied into memory.
    let uri = format!("file:{}?vfs={VFS}&mode=rwc&cache=private", escaped(path));
    sqlx::query("VACUUM INTO ?").bind(uri).execute(&mut *source).await?;
    Ok(())
}

/// What means something in a URI is written as its number.
fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

/// Has copies of the database leave room at the end of each page.
#[allow(unsafe_code, reason = "SQLite has no SQL for this")]
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
