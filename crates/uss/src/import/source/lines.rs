//! Reads lines, and the JSON object of a line.

use std::io::{BufRead, Read};

use ports::records::json::{JsonError, Kind, Reader};
use tempfile::NamedTempFile;

use super::{BadRow, ROW_BYTES_MAX, Row, RowError, RowResult, Text};

/// How much of a too long line is shown.
const SHOWN_BYTES: usize = 1 << 10;

pub(super) struct Lines {
    text: Text,
    /// The number of the line in `buffer`, from 1.
    line: u64,
    pub(super) buffer: Vec<u8>,
    /// Kept here because its drop deletes the file.
    _file: Option<NamedTempFile>,
}

/// The result of reading a line.
pub(super) enum Found {
    Line,
    TooLong,
    End,
}

impl Lines {
    /// Reads on after the first `before` lines.
    pub(super) fn new(text: Text, before: u64) -> Self {
        Self { text, line: before, buffer: Vec::new(), _file: None }
    }

    /// Reads a temporary file, and deletes it when dropped.
    pub(super) fn of_temporary(text: Text, file: NamedTempFile) -> Self {
        Self { text, line: 0, buffer: Vec::new(), _file: Some(file) }
    }

    /// Reads the next line that is not blank into the buffer.
    pub(super) fn read_line(&mut self) -> std::io::Result<Found> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let read = (&mut self.text).take(ROW_BYTES_MAX as u64).read_until(b'\n', &mut self.buffer)?;
            if read == ROW_BYTES_MAX && !self.buffer.ends_with(b"\n") {
                self.buffer.truncate(SHOWN_BYTES);
                self.text.skip_until(b'\n')?;
                return Ok(Found::TooLong);
            }
            if read == 0 {
                return Ok(Found::End);
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Found::Line);
            }
        }
    }

    /// Returns the rows of the lines that are left. `parse` returns the fields of a line.
    pub(super) fn rows(
        mut self,
        parse: impl Fn(&str) -> Result<Vec<(String, String)>, String>,
    ) -> impl Iterator<Item = RowResult> {
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let fields = match self.read_line() {
                Ok(Found::End) => return None,
                Ok(Found::Line) => self.text_of_line().and_then(&parse),
                Ok(Found::TooLong) => Err(format!("longer than {ROW_BYTES_MAX} bytes")),
                Err(error) => {
                    ended = true;
                    return Some(Err(RowError::Broken { line: self.line, reason: error.to_string() }));
                }
            };
            let line = self.line;
            let text = String::from_utf8_lossy(self.buffer.trim_ascii_end()).into_owned();
            Some(match fields {
                Ok(fields) => Ok(Row { line, fields, text }),
                Err(reason) => Err(RowError::Bad(BadRow { line, reason, text })),
            })
        })
    }

    fn text_of_line(&self) -> Result<&str, String> {
        let text = str::from_utf8(&self.buffer).map_err(|error| format!("not UTF-8: {error}"))?;
        // Concatenated files have byte order marks in the middle.
        Ok(text.trim_start_matches('\u{feff}'))
    }
}

/// Returns the fields of a JSON object. The API replaces characters that cannot be stored.
pub(super) fn object_fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut reader = Reader::lenient(text);
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
