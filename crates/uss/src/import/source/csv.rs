//! Reads rows of CSV.

use csv::{ByteRecord, Position, ReaderBuilder, WriterBuilder};

use super::lines::{Found, Lines};
use super::{BadRow, Row, RowError, RowResult, Source, Text, json_text};

/// Reads rows with a delimiter and quotes.
pub(super) fn rows(text: Text, delimiter: char) -> Result<Source, String> {
    let delimiter = u8::try_from(delimiter).map_err(|_| "--delimiter must be one ASCII character".to_owned())?;
    // `flexible`: a row that does not fit the header is a bad row, and the rows after it are read.
    let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text);
    let header = reader.headers().map_err(|error| format!("its header cannot be read: {error}"))?;
    let columns: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    let names = columns.clone();
    let mut record = ByteRecord::new();
    let mut ended = false;
    let rows = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        match reader.read_byte_record(&mut record) {
            Ok(true) => Some(row(&names, &record, delimiter)),
            Ok(false) => None,
            Err(error) => {
                ended = true;
                Some(Err(RowError::Broken { line: reader.position().line(), reason: error.to_string() }))
            }
        }
    });
    Ok(Source { columns: Some(columns), nested: false, whole_floats: false, rows: Box::new(rows) })
}

fn row(names: &[String], record: &ByteRecord, delimiter: u8) -> RowResult {
    let line = record.position().map_or(0, Position::line);
    let text = written(record, delimiter);
    let fields = if record.len() == names.len() {
        names.iter().zip(record).filter_map(|(name, cell)| cell_of(name, cell).transpose()).collect()
    } else {
        let (found, wanted) = (record.len(), names.len());
        Err(format!("{found} cells, but the header has {wanted}; quote cells that contain the delimiter"))
    };
    match fields {
        Ok(fields) => Ok(Row { line, fields, text }),
        Err(reason) => Err(RowError::Bad(BadRow { line, reason, text })),
    }
}

/// Returns a cell without the blanks around it, which the header loses too. An empty cell is
/// `None`.
fn cell_of(name: &str, cell: &[u8]) -> Result<Option<(String, String)>, String> {
    let cell = str::from_utf8(cell).map_err(|_| "not UTF-8; convert the file first".to_owned())?.trim();
    Ok((!cell.is_empty()).then(|| (name.to_owned(), json_text(cell))))
}

/// Writes the record as a line again, with quotes where they are needed.
fn written(record: &ByteRecord, delimiter: u8) -> String {
    let mut writer = WriterBuilder::new().delimiter(delimiter).flexible(true).from_writer(Vec::new());
    let line = match writer.write_byte_record(record) {
        Ok(()) => writer.into_inner().unwrap_or_default(),
        Err(_) => Vec::new(), // writing to memory does not fail
    };
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

/// Reads columns that are aligned with blanks, as statistics packages write them. Any run of blanks
/// is a delimiter, and there are no quotes.
pub(super) fn blank_rows(text: Text) -> Result<Source, String> {
    let mut lines = Lines::new(text, 0);
    if let Found::TooLong = lines.read_line().map_err(|error| error.to_string())? {
        return Err("its header is too long; is this file a table?".to_owned());
    }
    let header = str::from_utf8(&lines.buffer).map_err(|error| format!("its header is not UTF-8: {error}"))?;
    let columns: Vec<String> = header.split_ascii_whitespace().map(str::to_owned).collect();
    let names = columns.clone();
    let rows = lines.rows(move |line| {
        let cells: Vec<&str> = line.split_ascii_whitespace().collect();
        if cells.len() != names.len() {
            return Err(format!("{} cells, but the header has {}", cells.len(), names.len()));
        }
        Ok(names.iter().zip(cells).map(|(name, cell)| (name.clone(), json_text(cell))).collect())
    });
    Ok(Source { columns: Some(columns), nested: false, whole_floats: false, rows: Box::new(rows) })
}
