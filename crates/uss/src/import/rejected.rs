//! Counts rejected rows, and writes them to a file, each with its line and the reason.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::{ImportArgs, ImportError};

/// The most rejected rows that the summary shows.
const EXAMPLES_MAX: usize = 20;
/// The most bytes of a row in the file of rejected rows.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// The most characters of a row in the summary.
const EXAMPLE_CHARS_MAX: usize = 80;

/// Codes of rows that are rejected before they reach the API. Rows that the API rejects have the
/// API's codes.
pub(crate) mod code {
    /// The row is not valid CSV or JSON.
    pub(crate) const UNREADABLE_ROW: &str = "UNREADABLE_ROW";
    /// The row has no user id.
    pub(crate) const MISSING_ID: &str = "MISSING_ID";
    /// The row has no time, or one that cannot be read.
    pub(crate) const INVALID_CREATED_AT: &str = "INVALID_CREATED_AT";
    /// The `payload` column is not an object.
    pub(crate) const INVALID_FIELD: &str = "INVALID_FIELD";
}

/// A line of the file of rejected rows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RejectedRow<'a> {
    pub(crate) file: &'a Path,
    /// The number of the line, from 1; in Parquet that of the row.
    pub(crate) line: u64,
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    /// The row, cut off if it is very long.
    pub(crate) text: &'a str,
}

/// The rejected rows of an import. The reader of the files and the poster of the events both add
/// rows.
#[derive(Debug)]
pub(crate) struct Rejected {
    path: PathBuf,
    max: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Created for the first row.
    file: Option<BufWriter<File>>,
    rows: u64,
    by_api: u64,
    examples: Vec<String>,
}

/// The rejected rows, as the summary reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) rows: u64,
    /// How many of the rows the API rejected.
    pub(crate) by_api: u64,
    /// The first rows, for people.
    pub(crate) examples: Vec<String>,
    /// The file of the rows.
    pub(crate) path: PathBuf,
}

impl Rejected {
    /// Takes the file of rejected rows from the arguments. By default it is in the current folder,
    /// named after the first file to import.
    ///
    /// # Errors
    /// The file of rejected rows is one of the files to import.
    pub(crate) fn new(args: &ImportArgs) -> Result<Self, ImportError> {
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
    /// There are more rows than `--max-rejected` allows, or the row cannot be written.
    pub(crate) fn add(&self, row: &RejectedRow<'_>, by_api: bool) -> Result<(), ImportError> {
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
                // The user will read the file next.
                let flushed = state.file.as_mut().map(Write::flush);
                drop(flushed);
                let example = state.examples.first().cloned().unwrap_or_default();
                Err(ImportError::TooManyRejected { max, path: self.path.clone(), example })
            }
            _ => Ok(()),
        }
    }

    /// Flushes the file, and returns the report.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn finish(&self) -> Result<Report, ImportError> {
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

/// Returns a row for people: its place, what is wrong, and its first characters.
pub(crate) fn example(row: &RejectedRow<'_>) -> String {
    let RejectedRow { file, line, code, message, text } = row;
    let mut start: String = text.chars().take(EXAMPLE_CHARS_MAX).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{}, line {line}: {message} ({code}): {start}", file.display())
}
