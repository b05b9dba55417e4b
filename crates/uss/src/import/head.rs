//! Checks the first rows of a file before any event is sent, so that a wrong mapping does not make
//! a million wrong events.

use std::collections::BTreeSet;
use std::path::Path;

use super::mapping::{Mapping, lacks_field, missing_column};
use super::source::{self, BadRow, Row, RowError, RowResult};
use super::{ImportArgs, nested};

/// The most rows that are checked.
pub(crate) const ROWS_MAX: usize = 1_000;
/// The most bytes of rows that are checked, since rows may be long.
const BYTES_MAX: usize = 4 << 20;

/// A file that is ready to be imported.
pub(crate) struct Checked {
    pub(crate) mapping: Mapping,
    /// All rows of the file, including the first ones.
    pub(crate) rows: Box<dyn Iterator<Item = RowResult>>,
}

/// The first rows of a file.
struct Head {
    rows: Vec<RowResult>,
    /// Whether the file has no other rows.
    is_whole: bool,
}

/// Opens a file and checks its mapping on the first rows.
///
/// # Errors
/// Returns what is wrong with the file or the mapping.
pub(crate) fn open(args: &ImportArgs, file: &Path, bar: &indicatif::ProgressBar) -> Result<Checked, String> {
    let mut source = source::open(file, args.format, args.delimiter, bar)?;
    let mapping = Mapping::new(args, &source)?;
    let head = Head::read(&mut *source.rows);
    head.check_columns(&mapping, |column| later_row_has(args, file, &mapping, column))?;
    head.check_events(&mapping)?;
    Ok(Checked { mapping, rows: Box::new(head.rows.into_iter().chain(source.rows)) })
}

impl Head {
    fn read(rows: &mut dyn Iterator<Item = RowResult>) -> Self {
        let mut head = Self { rows: Vec::new(), is_whole: false };
        let mut bytes = 0;
        while head.rows.len() < ROWS_MAX && bytes < BYTES_MAX {
            let Some(row) = rows.next() else {
                head.is_whole = true;
                break;
            };
            bytes += match &row {
                Ok(row) => row.text.len(),
                Err(RowError::Bad(bad)) => bad.text.len(),
                Err(RowError::Broken { .. }) => 0,
            };
            head.rows.push(row);
        }
        head
    }

    fn good(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter_map(|row| row.as_ref().ok())
    }

    /// Checks that every mapped column occurs, in these rows or in a later one (which takes a pass
    /// over the file), and that these rows have the fields that every event needs.
    fn check_columns(
        &self,
        mapping: &Mapping,
        later_row_has: impl Fn(&str) -> Result<bool, String>,
    ) -> Result<(), String> {
        if self.good().next().is_none() {
            return Ok(());
        }
        let names =
            || -> Vec<String> { self.good().flat_map(nested::names).collect::<BTreeSet<_>>().into_iter().collect() };
        for column in mapping.mapped_columns() {
            let found = self.good().any(|row| mapping.has(row, column)) || mapping.is_column(column);
            if !found && (self.is_whole || !later_row_has(column)?) {
                return Err(missing_column(column, &names(), "no row has"));
            }
        }
        if mapping.knows_columns() {
            // `Mapping::new` has checked the names of the columns.
            return Ok(());
        }
        match mapping.needed().find(|needed| !self.good().any(|row| mapping.gives(row, needed))) {
            Some(needed) => Err(lacks_field(needed, &names())),
            None => Ok(()),
        }
    }

    /// Refuses a file if none of its first rows becomes an event, since later rows most likely
    /// would not either.
    fn check_events(&self, mapping: &Mapping) -> Result<(), String> {
        if self.is_whole {
            return Ok(());
        }
        let mut first = None;
        for row in &self.rows {
            let (line, reason) = match row {
                Ok(row) => match mapping.event(row) {
                    Ok(_) => return Ok(()),
                    Err(problem) => (row.line, problem.message),
                },
                Err(RowError::Bad(BadRow { line, reason, .. })) => (*line, reason.clone()),
                // The reader of all rows reports this.
                Err(RowError::Broken { .. }) => return Ok(()),
            };
            first.get_or_insert((line, reason));
        }
        let (line, reason) = first.unwrap_or_default();
        let rows = self.rows.len();
        Err(format!("none of its first {rows} rows is an event, so nothing was sent; line {line}: {reason}"))
    }
}

/// Returns whether a row after the first ones has a column. Rows that cannot be read have none.
fn later_row_has(args: &ImportArgs, file: &Path, mapping: &Mapping, column: &str) -> Result<bool, String> {
    if !std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file()) {
        // A pipe cannot be read twice.
        return Ok(false);
    }
    let source = source::open(file, args.format, args.delimiter, &indicatif::ProgressBar::hidden())?;
    Ok(source.rows.filter_map(Result::ok).any(|row| mapping.has(&row, column)))
}
