//! Splits a stream of bytes into lines, in bounded memory. Pure.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::admission::{Cut, Received};
use crate::limits::Limits;
use crate::split::without_mark;

/// The lines received, and the start of the next one.
pub(crate) struct Lines {
    /// Whole lines, then the start of an unfinished one.
    buffer: Vec<u8>,
    lines: Vec<Line>,
    /// Where the unfinished line starts.
    start: usize,
    /// How the unfinished line goes on, if it is too long to keep.
    rest: Option<Rest>,
    /// Whether no line has ended yet: a byte order mark may come before the first.
    is_first: bool,
    /// The bytes of consecutive blank lines.
    blank_bytes: usize,
    kept_max: usize,
    line_bytes_max: usize,
}

struct Line {
    text: Range<usize>,
    cut: Option<Cut>,
}

struct Rest {
    length: u64,
    hash: Sha256,
}

/// A line, or a run of blank lines, beyond its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endless;

impl Lines {
    /// No lines yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        let kept_max = limits.error_text_bytes_max.max(limits.event_bytes_max);
        let line_bytes_max = limits.line_bytes_max;
        Self {
            buffer: Vec::new(),
            lines: Vec::new(),
            start: 0,
            rest: None,
            is_first: true,
            blank_bytes: 0,
            kept_max,
            line_bytes_max,
        }
    }

    /// Takes the next piece of the stream.
    ///
    /// # Errors
    /// The unfinished line exceeds its bound, or blank lines do. Call [`Lines::finish`] to use what came before; push nothing
    /// more.
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> Result<(), Endless> {
        loop {
            piece = self.skip_breaks(piece);
            if self.blank_bytes > self.line_bytes_max {
                return Err(Endless);
            }
            let Some(end) = memchr::memchr(b'\n', piece) else { break };
            self.extend(&piece[..end])?;
            self.end_line();
            piece = &piece[end + 1..];
        }
        self.extend(piece)
    }

    /// Ends the last line as if a line break had come.
    pub(crate) fn finish(&mut self) {
        self.end_line();
    }

    /// The number of bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The number of whole lines held.
    pub(crate) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Whether the start of a line is held.
    pub(crate) fn has_unfinished(&self) -> bool {
        self.rest.is_some() || self.buffer.len() > self.start
    }

    /// Returns the whole lines.
    pub(crate) fn received(&self) -> Vec<Received<'_>> {
        self.lines.iter().map(|line| Received { cut: line.cut, ..self.buffer[line.text.clone()].into() }).collect()
    }

    /// Drops the whole lines.
    pub(crate) fn clear(&mut self) {
        self.buffer.drain(..self.start);
        self.lines.clear();
        self.start = 0;
    }

    /// Skips line breaks where a line would start: a packed body can have millions of them.
    fn skip_breaks<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        if self.has_unfinished() {
            return piece;
        }
        let breaks = piece.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        self.blank_bytes += breaks;
        &piece[breaks..]
    }

    /// Goes on with the unfinished line, as far as its bound: how much of a line that is too long was read must not depend on
    /// how the stream was cut.
    fn extend(&mut self, piece: &[u8]) -> Result<(), Endless> {
        let before = self.rest.as_ref().map_or((self.buffer.len() - self.start) as u64, |rest| rest.length);
        let bound = self.line_bytes_max.max(self.kept_max) as u64;
        let room = usize::try_from((bound + 1).saturating_sub(before)).unwrap_or(usize::MAX);
        let piece = &piece[..piece.len().min(room)];
        let length = before + piece.len() as u64;
        if let Some(rest) = &mut self.rest {
            rest.length = length;
            rest.hash.update(piece);
        } else {
            self.buffer.extend_from_slice(piece);
            if length > self.kept_max as u64 {
                let hash = Sha256::new_with_prefix(&self.buffer[self.start..]);
                self.rest = Some(Rest { length, hash });
                self.buffer.truncate(self.start + self.kept_max);
            }
        }
        if length > bound { Err(Endless) } else { Ok(()) }
    }

    /// Lines of blanks are not events.
    fn end_line(&mut self) {
        let mut text = self.start..self.buffer.len();
        if std::mem::take(&mut self.is_first) {
            text.start = text.end - without_mark(&self.buffer[text.clone()]).len();
        }
        let cut = self.rest.take().map(|rest| Cut { length: rest.length, sha256: rest.hash.finalize().into() });
        if cut.is_some() || !self.buffer[text.clone()].iter().all(u8::is_ascii_whitespace) {
            self.blank_bytes = 0;
            self.lines.push(Line { text, cut });
        } else {
            self.blank_bytes += self.buffer.len() - self.start + 1;
            self.buffer.truncate(self.start);
        }
        self.start = self.buffer.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { error_text_bytes_max: 8, event_bytes_max: 4, line_bytes_max: 20, ..Limits::default() }
    }

    #[test]
    fn a_line_that_is_too_long_ends_the_stream_however_it_is_cut() {
        let stream = b"one\nthis line has twenty-nine bytes\ntwo\n";
        for piece in 1..=stream.len() {
            let mut lines = Lines::new(&limits());
            let ended = stream.chunks(piece).any(|part| lines.push(part).is_err());
            assert!(ended, "in pieces of {piece}");
            lines.finish();
            let lengths: Vec<_> = lines.received().iter().map(|line| line.cut.map(|cut| cut.length)).collect();
            assert_eq!(lengths, [None, Some(21)], "in pieces of {piece}");
        }
    }

    #[test]
    fn however_the_stream_is_cut_the_lines_are_the_same() {
        let stream = b"one\n\n  \r\ntwo\nnine bytes and more\r\n12345678\nend";
        for piece in 1..stream.len() {
            let mut lines = Lines::new(&limits());
            let mut seen = Vec::new();
            for part in stream.chunks(piece) {
                lines.push(part).unwrap();
                seen.extend(lines.received().iter().map(|line| (line.bytes.to_vec(), line.cut)));
                lines.clear();
            }
            assert!(lines.has_unfinished());
            lines.finish();
            seen.extend(lines.received().iter().map(|line| (line.bytes.to_vec(), line.cut)));
            let cut = Cut { length: 20, sha256: Sha256::digest(b"nine bytes and more\r").into() };
            let expected: [(&[u8], _); 5] =
                [(b"one", None), (b"two", None), (b"nine byt", Some(cut)), (b"12345678", None), (b"end", None)];
            assert_eq!(seen, expected.map(|(text, cut)| (text.to_vec(), cut)), "pieces of {piece}");
        }
    }

    #[test]
    fn an_endless_line_is_an_error_and_costs_little() {
        let mut lines = Lines::new(&limits());
        lines.push(b"first\n0123456789").unwrap();
        assert_eq!(lines.push(&[b'x'; 11]), Err(Endless));
        assert_eq!((lines.bytes(), lines.count()), (13, 1));
        lines.finish();
        assert_eq!(lines.received()[1].cut.unwrap().length, 21);
    }

    #[test]
    fn blank_lines_are_not_kept_and_end_like_an_endless_one() {
        let mut lines = Lines::new(&limits());
        lines.push(b"\n\r\n  \r\n\t\none\n\n\n").unwrap();
        assert_eq!((lines.count(), lines.bytes()), (1, 3));
        lines.push(&[b'\n'; 10]).unwrap();
        lines.push(b"two\n").unwrap();
        assert_eq!(lines.push(&[b'\n'; 21]), Err(Endless));
        let mut blanks = Lines::new(&limits());
        let ends = (0..20).position(|_| blanks.push(b" \n").is_err());
        assert!(ends.is_some(), "blanks before the break too");
        assert_eq!(blanks.bytes(), 0);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_before_the_first_line_only() {
        let stream = "\u{feff}one\n\u{feff}two\n".as_bytes();
        for piece in 1..stream.len() {
            let mut lines = Lines::new(&limits());
            for part in stream.chunks(piece) {
                lines.push(part).unwrap();
            }
            let found: Vec<&[u8]> = lines.received().iter().map(|line| line.bytes).collect();
            assert_eq!(found, [&b"one"[..], "\u{feff}two".as_bytes()], "pieces of {piece}");
        }
    }
}
