//! Rows that did not become events: counted, and written to a file with line, reason and text.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::{ImportArgs, ImportError};

/// How many rejected rows are shown one by one.
const EXAMPLES_MAX: usize = 20;
/// How much of a row's text is written.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// How much of a row's text is shown.
const SHOWN_CHARS_MAX: usize = 80;

/// Codes of rows that never reached the API. Those that the API refuses have the API's codes.
pub mod code {
    /// It cannot be read at all.
    pub const UNREADABLE_ROW: &str = "UNREADABLE_ROW";
    /// It names no user.
    pub const MISSING_ID: &str = "MISSING_ID";
    /// It has no time, or one that cannot be read.
    pub const INVALID_CREATED_AT: &str = "INVALID_CREATED_AT";
    /// Its column `payload` is not an object.
    pub const INVALID_FIELD: &str = "INVALID_FIELD";
}

/// One rejected row, as it is written.
#[derive(Clone, Debug, Serialize)]
pub struct RejectedRow<'a> {
    /// The file it stands in.
    pub file: &'a Path,
    /// Its line, from 1; in Parquet its number.
    pub line: u64,
    /// Stable, for programs.
    pub code: &'a str,
    /// Says what to do.
    pub message: &'a str,
    /// The row itself, its start if it is very long.
    pub text: &'a str,
}

/// The rejected rows of an import. Both who reads the files and who posts the events adds to them.
#[derive(Debug)]
pub struct Rejected {
    path: PathBuf,
    max: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Made with the first row.
    file: Option<BufWriter<File>>,
    rows: u64,
    by_api: u64,
    examples: Vec<String>,
}

/// What there is to say of the rejected rows at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many rows.
    pub rows: u64,
    /// How many of them the API refused.
    pub by_api: u64,
    /// The first of them.
    pub examples: Vec<String>,
    /// Where they stand.
    pub path: PathBuf,
}

impl Rejected {
    /// Where the arguments say; by default in the current folder, named after the first file.
    ///
    /// # Errors
    /// The place is one of the files to import.
    pub fn new(args: &ImportArgs) -> Result<Self, ImportError> {
        let path = args.rejected.clone().unwrap_or_else(|| {
            let first = args.files.first().and_then(|file| file.file_name()).unwrap_or_default();
            let mut name = first.to_owned();
            name.push(".rejected");
            PathBuf::from(name)
        });
        let same = |file: &&PathBuf| match (file.canonicalize(), path.canonicalize()) {
            (Ok(file), Ok(path)) => file == path,
            _ => false,
        };
        if let Some(file) = args.files.iter().find(same) {
            let reason = "the rejected rows would be written over it; name another file with --rejected".to_owned();
            return Err(ImportError::File { file: file.clone(), reason });
        }
        Ok(Self { path, max: args.max_rejected, state: Mutex::default() })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It is one too many, or it cannot be written.
    pub fn add(&self, row: &RejectedRow<'_>, by_api: bool) -> Result<(), ImportError> {
        let mut state = self.state();
        state.rows += 1;
        state.by_api += u64::from(by_api);
        if state.examples.len() < EXAMPLES_MAX {
            state.examples.push(example(row));
        }
        self.write(&mut state, row).map_err(|error| ImportError::File {
            file: self.path.clone(),
            reason: format!("the rejected rows cannot be written: {error}; name another file with --rejected"),
        })?;
        match self.max {
            Some(max) if state.rows > max => {
                // Whoever asks to stop looks there next.
                let flushed = state.file.as_mut().map(Write::flush);
                drop(flushed);
                let example = state.examples.first().cloned().unwrap_or_default();
                Err(ImportError::TooManyRejected { max, path: self.path.clone(), example })
            }
            _ => Ok(()),
        }
    }

    /// Writes out what is left, and reports.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&self) -> Result<Report, ImportError> {
        let mut state = self.state();
        if let Some(file) = &mut state.file {
            file.flush().map_err(|error| ImportError::File { file: self.path.clone(), reason: error.to_string() })?;
        }
        let (rows, by_api, examples) = (state.rows, state.by_api, std::mem::take(&mut state.examples));
        Ok(Report { rows, by_api, examples, path: self.path.clone() })
    }

    fn write(&self, state: &mut State, row: &RejectedRow<'_>) -> std::io::Result<()> {
        let file = match &mut state.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(File::create(&self.path)?)),
        };
        let row = RejectedRow { text: &row.text[..row.text.floor_char_boundary(TEXT_BYTES_MAX)], ..row.clone() };
        serde_json::to_writer(&mut *file, &row)?;
        file.write_all(b"\n")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row for people: where it stands, what is wrong, and how it begins.
pub fn example(row: &RejectedRow<'_>) -> String {
    let RejectedRow { file, line, code, message, text } = row;
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{}, line {line}: {message} ({code}): {shown}", file.display())
}
