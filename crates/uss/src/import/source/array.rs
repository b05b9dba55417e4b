//! Reads the elements of a JSON array one by one, so that memory stays bounded.

use std::io::BufRead;

use super::lines::object_fields;
use super::{BadRow, ROW_BYTES_MAX, Row, RowError, RowResult, Text};

/// How much of a too long element is shown.
const SHOWN_BYTES: usize = 1 << 10;

/// The elements of an array. Only brackets and quotes decide where an element ends, so that
/// elements after a bad one can still be read.
pub(super) struct Elements {
    text: Text,
    /// The line of the next byte, from 1.
    line: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the opening bracket.
    Start,
    /// Before an element.
    Within,
    /// After the closing bracket.
    After,
    End,
}

/// The bytes up to the end of an element.
struct Element {
    bytes: Vec<u8>,
    /// The number of bytes, kept or not.
    length: usize,
    /// `,` or `]`; `None` at the end of the file.
    end: Option<u8>,
}

impl Elements {
    /// The next byte of `text` must be the opening bracket, in this line.
    pub(super) fn new(text: Text, line: u64) -> Self {
        Self { text, line, state: State::Start }
    }

    fn byte(&mut self) -> std::io::Result<Option<u8>> {
        let byte = self.text.fill_buf()?.first().copied();
        if let Some(byte) = byte {
            self.text.consume(1);
            self.line += u64::from(byte == b'\n');
        }
        Ok(byte)
    }

    fn first_not_blank(&mut self) -> std::io::Result<Option<u8>> {
        loop {
            match self.byte()? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                found => return Ok(found),
            }
        }
    }

    /// Reads the element that begins with `first`, and the comma or bracket behind it.
    fn element(&mut self, first: u8) -> std::io::Result<Element> {
        let mut element = Element { bytes: Vec::new(), length: 0, end: None };
        let (mut depth, mut in_string, mut escaped) = (0_u64, false, false);
        let mut next = Some(first);
        while let Some(byte) = next {
            if !in_string && depth == 0 && matches!(byte, b',' | b']') {
                element.end = Some(byte);
                break;
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'[' | b'{' if !in_string => depth += 1,
                b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
            if element.length < ROW_BYTES_MAX {
                element.bytes.push(byte);
            }
            element.length += 1;
            next = self.byte()?;
        }
        Ok(element)
    }

    fn next_row(&mut self) -> std::io::Result<Option<RowResult>> {
        if self.state == State::Start {
            self.byte()?;
            self.state = State::Within;
            // An empty array has no elements.
            return match self.first_not_blank()? {
                Some(b']') => self.after(),
                first => self.row(first).map(Some),
            };
        }
        match self.state {
            State::Within => {
                let first = self.first_not_blank()?;
                self.row(first).map(Some)
            }
            State::After => self.after(),
            State::Start | State::End => Ok(None),
        }
    }

    fn row(&mut self, first: Option<u8>) -> std::io::Result<RowResult> {
        let line = self.line;
        let Some(first) = first else {
            self.state = State::End;
            return Ok(bad(line, "the array ends without its closing bracket", String::new()));
        };
        let Element { mut bytes, length, end } = self.element(first)?;
        self.state = match end {
            Some(b']') => State::After,
            Some(_) => State::Within,
            None => State::End,
        };
        if length > ROW_BYTES_MAX {
            bytes.truncate(SHOWN_BYTES);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(bad(line, &format!("longer than {ROW_BYTES_MAX} bytes"), text));
        }
        let text = String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned();
        let fields = match (str::from_utf8(&bytes), end) {
            (Err(error), _) => Err(format!("not UTF-8: {error}")),
            (_, None) => Err("the array ends within this element".to_owned()),
            (Ok(_), _) => object_fields(&text),
        };
        Ok(match fields {
            Ok(fields) => Ok(Row { line, fields, text }),
            Err(reason) => bad(line, &reason, text),
        })
    }

    /// Reports text after the array as a bad row.
    fn after(&mut self) -> std::io::Result<Option<RowResult>> {
        self.state = State::End;
        Ok(self.first_not_blank()?.map(|_| bad(self.line, "more text after the array; it is not read", String::new())))
    }
}

impl Iterator for Elements {
    type Item = RowResult;

    fn next(&mut self) -> Option<RowResult> {
        self.next_row().unwrap_or_else(|error| {
            self.state = State::End;
            Some(Err(RowError::Broken { line: self.line, reason: error.to_string() }))
        })
    }
}

fn bad(line: u64, reason: &str, text: String) -> RowResult {
    Err(RowError::Bad(BadRow { line, reason: reason.to_owned(), text }))
}
