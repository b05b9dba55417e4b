//! Reports a damaged page: a line in the log, a failing health check, and errors that say what to
//! do.

use ports::ErrorCode;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr};

/// The first damaged page found in each file, counted from 1 like SQLite does. Global, because
/// SQLite registers VFSs by name for the whole process.
static FOUND: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());

const ADVICE: &str = "stop USS and restore the data folder from a backup, as a whole";

fn found() -> MutexGuard<'static, BTreeMap<PathBuf, u64>> {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that a page did not match its checksum.
pub(super) fn note(file: &Path, page: u64) {
    if found().contains_key(file) {
        return;
    }
    let code = ErrorCode::StoreDamaged;
    tracing::error!(%code, file = %file.display(), page, "a page of the config store is damaged; {ADVICE}");
    found().insert(file.to_owned(), page);
}

/// Forgets a file's damage when it is opened, because it may have been restored.
pub(super) fn forget(file: &Path) {
    found().remove(&full(file));
}

/// Returns a damaged page of this file, if one was found since it was opened.
pub(crate) fn damaged_page(file: &Path) -> Option<u64> {
    let all = found();
    // Usually there is none: then the file's full name is not needed.
    if all.is_empty() { None } else { all.get(&full(file)).copied() }
}

/// Returns the name by which SQLite knows a file.
fn full(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_owned())
}

/// Whether SQLite reports that stored data cannot be read.
pub(crate) fn is_damage(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    is_damage_of(error)
}

pub(super) fn is_damage_of(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    // The low byte is the kind; the upper bytes are details.
    code.is_some_and(|code| {
        code == libsqlite3_sys::SQLITE_IOERR_DATA
            || matches!(code & 0xff, libsqlite3_sys::SQLITE_CORRUPT | libsqlite3_sys::SQLITE_NOTADB)
    })
}

/// Appends what to do to what is wrong.
pub(crate) fn with_advice(what: impl std::fmt::Display) -> String {
    format!("{what}; {ADVICE}")
}
