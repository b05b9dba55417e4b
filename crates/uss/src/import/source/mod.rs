//! Reads the rows of files: CSV, JSON (lines or an array) or Parquet.

mod array;
mod csv;
mod lines;
mod parquet;
#[cfg(test)]
mod tests;

pub(crate) use parquet::whole_numbers;

use std::fs::File;
use std::io::{BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;

/// The longest row. An event cannot be longer anyway, and a binary file may have no line breaks.
const ROW_BYTES_MAX: usize = 16 << 20;
/// The first bytes of every gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// U+FEFF in UTF-8, with which .NET, PowerShell and Excel begin a file.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
const READ_BYTES: usize = 1 << 18;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// JSON objects: one per line, or in one array.
    #[value(alias = "json", alias = "jsonl")]
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The number of its line, from 1; in Parquet that of the row.
    pub(crate) line: u64,
    /// Columns and their values in JSON, as the file has them. An empty cell of CSV is left out.
    pub(crate) fields: Vec<(String, String)>,
    /// The row as it is in the file, or as near as the format allows.
    pub(crate) text: String,
}

/// A row that cannot be read. The rows after it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRow {
    /// The number of its line, from 1.
    pub(crate) line: u64,
    pub(crate) reason: String,
    /// The row, as far as it can be shown.
    pub(crate) text: String,
}

/// Why a row is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowError {
    Bad(BadRow),
    /// The file cannot be read any further. Lines count from 1.
    Broken {
        line: u64,
        reason: String,
    },
}

pub(crate) type RowResult = Result<Row, RowError>;

/// A file's rows.
pub(crate) struct Source {
    /// The columns, if the format lists them.
    pub(crate) columns: Option<Vec<String>>,
    /// Whether a column may hold objects, so that paths lead into it.
    pub(crate) nested: bool,
    /// Whether the file may have whole numbers as floats, so that `123.0` stands for 123.
    pub(crate) whole_floats: bool,
    pub(crate) rows: Box<dyn Iterator<Item = RowResult>>,
}

/// Opens a file. The bar counts the bytes that are read.
///
/// # Errors
/// The file cannot be read, or its format is unknown.
pub(crate) fn open(
    file: &Path,
    format: Option<Format>,
    delimiter: Option<char>,
    bar: &ProgressBar,
) -> Result<Source, String> {
    let (by_name, usual) = format_of(file).unzip();
    let delimiter = delimiter.or(usual.flatten()).unwrap_or(',');
    match format.or(by_name) {
        Some(Format::Csv) if delimiter == ' ' => csv::blank_rows(text(file, bar)?),
        Some(Format::Csv) => csv::rows(text(file, bar)?, delimiter),
        Some(Format::Ndjson) => json_rows(text(file, bar)?),
        Some(Format::Parquet) => parquet::rows(file, bar),
        None => Err("its name does not end in a known format; add --format csv, ndjson or parquet".to_owned()),
    }
}

/// Returns the format of a file by its name, and the delimiter if the name implies one.
fn format_of(file: &Path) -> Option<(Format, Option<char>)> {
    let name = file.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" => Some((Format::Csv, None)),
        "tsv" | "tab" => Some((Format::Csv, Some('\t'))),
        "ndjson" | "jsonl" | "json" => Some((Format::Ndjson, None)),
        "parquet" => Some((Format::Parquet, None)),
        _ => None,
    }
}

type Text = Box<dyn BufRead>;

/// Opens a file, decompresses gzip, and skips a byte order mark.
fn text(file: &Path, bar: &ProgressBar) -> Result<Text, String> {
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let mut reader = BufReader::with_capacity(READ_BYTES, bar.wrap_read(opened));
    let start = reader.fill_buf().map_err(|error| error.to_string())?;
    match start.starts_with(&GZIP_MAGIC) {
        true => without_mark(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(reader))),
        false => without_mark(reader),
    }
}

fn without_mark(mut text: impl BufRead + 'static) -> Result<Text, String> {
    let mut start = Vec::new();
    (&mut text).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start).map_err(|error| error.to_string())?;
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16; convert it first, e.g. iconv -f UTF-16 -t UTF-8".to_owned());
    }
    let kept = if start == BYTE_ORDER_MARK { Vec::new() } else { start };
    let text: Chain<Cursor<Vec<u8>>, _> = Cursor::new(kept).chain(text);
    Ok(Box::new(text))
}

/// Reads lines of objects, or one array of objects. The first character decides.
fn json_rows(mut text: Text) -> Result<Source, String> {
    let mut blank_lines = 0;
    let first = loop {
        let buffer = text.fill_buf().map_err(|error| error.to_string())?;
        let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        blank_lines += buffer[..blanks].iter().filter(|byte| **byte == b'\n').count() as u64;
        let (next, length) = (buffer.get(blanks).copied(), buffer.len());
        text.consume(blanks);
        if next.is_some() || length == 0 {
            break next;
        }
    };
    let rows: Box<dyn Iterator<Item = RowResult>> = match first {
        Some(b'[') => Box::new(array::Elements::new(text, blank_lines + 1)),
        _ => Box::new(lines::Lines::new(text, blank_lines).rows(lines::object_fields)),
    };
    Ok(Source { columns: None, nested: true, whole_floats: false, rows })
}

/// Returns a JSON string.
pub(super) fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}
