//! What becomes of a damaged page: a line in the log, a health check that fails, and errors that say what to do.

use ports::ErrorCode;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr};

/// The first damaged page found of each file, from 1 as SQLite counts them. SQLite knows its VFSs by name, for the whole
/// process, and so this is the process's too.
static FOUND: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());

const ADVICE: &str = "stop USS and restore the data folder from a backup, as a whole";

fn found() -> MutexGuard<'static, BTreeMap<PathBuf, u64>> {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that a page was read that is not as it was written.
pub(super) fn note(file: &Path, page: u64) {
    if found().contains_key(file) {
        return;
    }
    tracing::error!(code = %ErrorCode::StoreDamaged, file = %file.display(), page, "a page of the config store is damaged; {ADVICE}");
    found().insert(file.to_owned(), page);
}

/// A file that is opened anew may have been restored.
pub(super) fn forget(file: &Path) {
    found().remove(&full(file));
}

/// A damaged page of this file, if one was found since it was opened.
pub fn damaged_page(file: &Path) -> Option<u64> {
    let all = found();
    // Nearly always there is none, and no reason to ask for the file's full name.
    if all.is_empty() { None } else { all.get(&full(file)).copied() }
}

/// The name by which SQLite knows a file.
fn full(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_owned())
}

/// Whether SQLite says that what is stored cannot be read.
pub fn is_damage(error: &DbErr) -> bool {
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
    // The low byte is the kind; what is above it says more.
    code.is_some_and(|code| {
        code == libsqlite3_sys::SQLITE_IOERR_DATA
            || matches!(code & 0xff, libsqlite3_sys::SQLITE_CORRUPT | libsqlite3_sys::SQLITE_NOTADB)
    })
}

/// What is wrong, and what to do.
pub fn with_advice(what: impl std::fmt::Display) -> String {
    format!("{what}; {ADVICE}")
}
