//! Rows of a file: CSV, NDJSON or Parquet.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use ports::records::json::{JsonError, Kind, Reader};
use tempfile::NamedTempFile;

/// The longest line: more is no event anyway, and a file that is no text has no line breaks.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// The first bytes of everything that gzip wrote.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const READ_BYTES: usize = 1 << 18;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands: its line, from 1.
    pub line: u64,
    /// Columns and their values as JSON, as they stand in the file. An empty cell of CSV is left out.
    pub fields: Vec<(String, String)>,
}

/// Why a row cannot be read.
#[derive(Debug)]
pub struct RowError {
    /// Its line, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// A file's rows.
pub struct Source {
    /// The columns, if the file has the same for all rows.
    pub columns: Option<Vec<String>>,
    /// The rows, in order.
    pub rows: Box<dyn Iterator<Item = Result<Row, RowError>>>,
}

/// Opens a file; the bar's position follows the bytes read of it.
///
/// # Errors
/// Says what is wrong with the file.
pub fn open(file: &Path, format: Option<Format>, delimiter: char, bar: &ProgressBar) -> Result<Source, String> {
    match format.or_else(|| format_of(file)) {
        Some(Format::Csv) if delimiter == ' ' => blank_rows(text(file, bar)?),
        Some(Format::Csv) => csv_rows(text(file, bar)?, delimiter),
        Some(Format::Ndjson) => {
            Ok(Source { columns: None, rows: Box::new(Lines::new(text(file, bar)?, None).rows(object_fields)) })
        }
        Some(Format::Parquet) => parquet_rows(file, bar),
        None => Err("its name does not say what it is; add --format csv, ndjson or parquet".to_owned()),
    }
}

fn format_of(file: &Path) -> Option<Format> {
    let name = file.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" => Some(Format::Csv),
        "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

type Text = Box<dyn BufRead>;

/// The file's text, unpacked if it is packed.
fn text(file: &Path, bar: &ProgressBar) -> Result<Text, String> {
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let mut reader = BufReader::with_capacity(READ_BYTES, bar.wrap_read(opened));
    let start = reader.fill_buf().map_err(|error| error.to_string())?;
    if start.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(reader))));
    }
    Ok(Box::new(reader))
}

fn csv_rows(text: Text, delimiter: char) -> Result<Source, String> {
    let delimiter = u8::try_from(delimiter).map_err(|_| "--delimiter must be one ASCII character".to_owned())?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text);
    let header = reader.headers().map_err(|error| format!("its header cannot be read: {error}"))?;
    let columns: Vec<String> =
        header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    let names = columns.clone();
    let rows = reader.into_records().map(move |record| {
        let record = record.map_err(|error| RowError {
            line: error.position().map_or(0, csv::Position::line),
            reason: csv_reason(&error),
        })?;
        let cells = names.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
        let fields = cells.map(|(name, cell)| (name.clone(), json_text(cell))).collect();
        Ok(Row { line: record.position().map_or(0, csv::Position::line), fields })
    });
    Ok(Source { columns: Some(columns), rows: Box::new(rows) })
}

/// Columns aligned with blanks, as statistics packages write them: any run of blanks separates, there are no quotes.
fn blank_rows(text: Text) -> Result<Source, String> {
    let mut lines = Lines::new(text, None);
    lines.read_line()?;
    let header = str::from_utf8(&lines.buffer).map_err(|error| format!("its header is not UTF-8: {error}"))?;
    let header = header.trim_start_matches('\u{feff}');
    let columns: Vec<String> = header.split_ascii_whitespace().map(str::to_owned).collect();
    let names = columns.clone();
    let rows = lines.rows(move |line| {
        let cells: Vec<&str> = line.split_ascii_whitespace().collect();
        if cells.len() != names.len() {
            return Err(format!("{} cells, but the header has {}", cells.len(), names.len()));
        }
        Ok(names.iter().zip(cells).map(|(name, cell)| (name.clone(), json_text(cell))).collect())
    });
    Ok(Source { columns: Some(columns), rows: Box::new(rows) })
}

fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells, but the header has {expected_len}; quote cells that contain the delimiter")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8; convert the file first".to_owned(),
        _ => error.to_string(),
    }
}

/// DuckDB rewrites the file as lines of JSON beside the other temporary files: it reads every type and version of Parquet
/// in bounded memory.
fn parquet_rows(file: &Path, bar: &ProgressBar) -> Result<Source, String> {
    let lines = NamedTempFile::new().map_err(|error| format!("no temporary file: {error}"))?;
    let quoted = |path: &Path| path.to_str().map(|path| path.replace('\'', "''")).ok_or("its path is not UTF-8");
    let sql =
        format!("COPY (SELECT * FROM read_parquet('{}')) TO '{}' (FORMAT json)", quoted(file)?, quoted(lines.path())?);
    let database = duckdb::Connection::open_in_memory().map_err(|error| error.to_string())?;
    database.execute_batch(&sql).map_err(|error| error.to_string())?;
    bar.set_length(lines.as_file().metadata().map_err(|error| error.to_string())?.len());
    let text = text(lines.path(), bar)?;
    Ok(Source { columns: None, rows: Box::new(Lines::new(text, Some(lines)).rows(object_fields)) })
}

/// Lines of text.
struct Lines {
    text: Text,
    line: u64,
    buffer: Vec<u8>,
    /// Deleted when the last line has been read.
    _file: Option<NamedTempFile>,
}

impl Lines {
    fn new(text: Text, file: Option<NamedTempFile>) -> Self {
        Self { text, line: 0, buffer: Vec::new(), _file: file }
    }

    /// The next line that is not blank; `None` at the end.
    fn read_line(&mut self) -> Result<bool, String> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let mut text = (&mut self.text).take(LINE_BYTES_MAX);
            let read = text.read_until(b'\n', &mut self.buffer).map_err(|error| error.to_string())?;
            if read as u64 == LINE_BYTES_MAX {
                return Err(format!("longer than {LINE_BYTES_MAX} bytes; is this file NDJSON?"));
            }
            if read == 0 || !self.buffer.trim_ascii().is_empty() {
                return Ok(read > 0);
            }
        }
    }

    /// The lines that are left as rows; `parse` takes a line apart.
    fn rows(
        mut self,
        parse: impl Fn(&str) -> Result<Vec<(String, String)>, String>,
    ) -> impl Iterator<Item = Result<Row, RowError>> {
        std::iter::from_fn(move || {
            let fields = match self.read_line() {
                Ok(false) => return None,
                Ok(true) => {
                    str::from_utf8(&self.buffer).map_err(|error| format!("not UTF-8: {error}")).and_then(&parse)
                }
                Err(reason) => Err(reason),
            };
            let line = self.line;
            Some(fields.map(|fields| Row { line, fields }).map_err(|reason| RowError { line, reason }))
        })
    }
}

fn object_fields(line: &str) -> Result<Vec<(String, String)>, String> {
    let mut reader = Reader::new(line);
    if reader.kind().map_err(|error| format!("not JSON: {error}"))? != Kind::Object {
        return Err("not a JSON object".to_owned());
    }
    let mut fields = Vec::new();
    let read = reader.object(|key, reader| {
        fields.push((key.text().unwrap_or_default().into_owned(), reader.value()?.raw().to_owned()));
        Ok::<_, JsonError>(())
    });
    read.and_then(|()| reader.end()).map_err(|error| format!("not JSON: {error}"))?;
    Ok(fields)
}

/// A text as JSON.
pub(super) fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
