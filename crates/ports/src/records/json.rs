//! A strict JSON reader that returns pieces of its text: one pass, no copies, numbers as they were sent.
//!
//! Both ends of the event topic use it; `docs/decisions/0014-own-json-reader.md` says why it is not `serde_json`. It accepts what
//! `serde_json` accepts, up to [`DEPTH_MAX`] levels, but no string that a database could not give back (see
//! [`characters`](super::characters)), unless it is lenient.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::characters::replace_unstorable;

/// How deep arrays and objects may nest in an event. It is below `serde_json`'s own bound (128), so that every consumer can read
/// what was accepted, also inside of other records.
pub const DEPTH_MAX: u32 = 64;

/// Why a text is not JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct JsonError {
    /// Bytes from the start of the text.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are JSON's")]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Object,
    Array,
}

impl Kind {
    /// The kind in messages: "a number".
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Object => "an object",
            Kind::Array => "an array",
        }
    }
}

/// A valid value: its piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a> {
    kind: Kind,
    raw: &'a str,
    escaped: bool,
    unstorable: bool,
}

/// null.
impl Default for Json<'_> {
    fn default() -> Self {
        Self { kind: Kind::Null, raw: "null", escaped: false, unstorable: false }
    }
}

/// Writes the value as it was sent.
impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw_value().serialize(serializer)
    }
}

impl<'a> Json<'a> {
    /// The kind of the value.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The value as sent: valid JSON.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// The value as sent, for serde.
    pub fn raw_value(&self) -> &'a RawValue {
        serde_json::from_str(self.raw).expect("the reader has checked this piece")
    }

    /// Whether a string in it, or a key, has a character that cannot be stored. Only a lenient reader lets them pass.
    pub fn is_unstorable(&self) -> bool {
        self.unstorable
    }

    /// Whether a string has escapes.
    pub(super) fn is_escaped(&self) -> bool {
        self.escaped
    }

    /// The characters of a string; `None` for other kinds. Those that cannot be stored are replaced.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match (self.kind, self.escaped) {
            (Kind::String, false) => Some(Cow::Borrowed(&self.raw[1..self.raw.len() - 1])),
            (Kind::String, true) => {
                let mut raw = Cow::Borrowed(self.raw.as_bytes());
                if self.unstorable {
                    replace_unstorable(raw.to_mut());
                }
                Some(Cow::Owned(serde_json::from_slice(&raw).expect("the reader has checked every escape")))
            }
            _ => None,
        }
    }

    /// Returns the value as a tree. A number that a tree would not keep as it was sent (`19.90`, more digits than a float has)
    /// becomes a string: `->>` and casts then see what was sent. So do numbers with an exponent, which the warehouse prints in
    /// its own spelling (`1e308` for `1e+308`), and negative zero, which has no sign in the text of a list.
    pub fn to_value(&self) -> Value {
        match self.kind {
            Kind::Null => Value::Null,
            Kind::Bool => Value::Bool(self.raw == "true"),
            Kind::Number => kept_number(self.raw).map_or_else(|| Value::String(self.raw.to_owned()), Value::Number),
            Kind::String => Value::String(self.text().unwrap_or_default().into_owned()),
            Kind::Object | Kind::Array => {
                Reader::of_checked(self.raw).tree().expect("the reader has checked this piece")
            }
        }
    }
}

/// Returns the number if a tree would keep it as it was sent: see [`Json::to_value`].
fn kept_number(raw: &str) -> Option<serde_json::Number> {
    let number = raw.parse::<serde_json::Number>().ok()?;
    (number.to_string() == raw && !raw.contains('e') && raw != "-0.0").then_some(number)
}

/// Whether a tree would keep a number as it was sent.
pub(super) fn is_kept_number(raw: &str) -> bool {
    // Most numbers are such: they are printed as they were read.
    let is_short_integer = raw.len() < 19 && raw.bytes().all(|byte| byte.is_ascii_digit());
    is_short_integer || kept_number(raw).is_some()
}

/// Reads values from the front of a text.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    depth_max: u32,
    lenient: bool,
    /// How many characters that cannot be stored a lenient reader has passed.
    unstorable: usize,
}

/// Returns how many of eight bytes come before the first quote, backslash or control character.
fn plain_bytes(chunk: [u8; 8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // "Determine if a word has a byte less than n / equal to n", from Anderson's Bit Twiddling Hacks.
    let less = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGHS;
    let chunk = u64::from_le_bytes(chunk);
    let quote = less(chunk ^ (ONES * u64::from(b'"')), 1);
    let backslash = less(chunk ^ (ONES * u64::from(b'\\')), 1);
    // A borrow can mark bytes after the first marked one, never before it.
    ((quote | backslash | less(chunk, 0x20)).trailing_zeros() / 8) as usize
}

impl<'a> Reader<'a> {
    /// Starts at the front of a text.
    pub fn new(text: &'a str) -> Self {
        Self::with_depth(text, DEPTH_MAX)
    }

    /// Starts at the front of a text that may nest deeper than an event. Reading recurses: some hundred bytes of stack per level.
    pub fn with_depth(text: &'a str, depth_max: u32) -> Self {
        Self { text, at: 0, depth: 0, depth_max, lenient: false, unstorable: 0 }
    }

    /// Starts at the front of a text whose strings may have characters that cannot be stored.
    pub fn lenient(text: &'a str) -> Self {
        Self { lenient: true, ..Self::new(text) }
    }

    /// Starts at the front of a piece that a reader has checked. However deep it is: that reader has its own bound.
    pub(super) fn of_checked(raw: &'a str) -> Self {
        Self { lenient: true, ..Self::with_depth(raw, u32::MAX) }
    }

    /// Whether a character that cannot be stored has been read.
    pub fn has_unstorable(&self) -> bool {
        self.unstorable > 0
    }

    /// Returns the next value, whole, and lets `read` look into it: it must read exactly this value.
    pub fn value_with<E: From<JsonError>>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Json<'a>, E> {
        let kind = self.kind()?;
        let (start, unstorable) = (self.at, self.unstorable);
        read(self)?;
        let raw = &self.text[start..self.at];
        Ok(Json { kind, raw, escaped: raw.contains('\\'), unstorable: self.unstorable > unstorable })
    }

    /// Requires that only blanks are left.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("more text after the value")),
        }
    }

    /// Returns the kind of the next value, judged by its first character.
    pub fn kind(&mut self) -> Result<Kind, JsonError> {
        match self.peek() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(_) => Err(self.error("no JSON value")),
            None => Err(self.error("the text ends too early")),
        }
    }

    /// Returns the next value, whole.
    pub fn value(&mut self) -> Result<Json<'a>, JsonError> {
        let kind = self.kind()?;
        let (start, unstorable) = (self.at, self.unstorable);
        let mut escaped = false;
        match kind {
            Kind::String => escaped = self.skip_string()?,
            Kind::Number => self.skip_number()?,
            Kind::Null => self.skip_word("null")?,
            Kind::Bool if self.byte() == Some(b't') => self.skip_word("true")?,
            Kind::Bool => self.skip_word("false")?,
            Kind::Object => self.object(|_, reader| reader.value().map(drop))?,
            Kind::Array => self.array(|reader| reader.value().map(drop))?,
        }
        Ok(Json { kind, raw: &self.text[start..self.at], escaped, unstorable: self.unstorable > unstorable })
    }

    /// Reads an object: `field` gets each key and must read exactly one value.
    pub fn object<E: From<JsonError>>(
        &mut self,
        mut field: impl FnMut(Json<'a>, &mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'{', "no object")?;
        if self.accept(b'}') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("no key in quotes").into());
            }
            let key = self.value()?;
            if !self.accept(b':') {
                return Err(self.error("no colon after the key").into());
            }
            field(key, self)?;
            if !self.accept(b',') {
                break;
            }
        }
        Ok(self.close(b'}', "neither a comma nor the end of the object")?)
    }

    /// Reads an array: `element` must read exactly one value each time.
    pub fn array<E: From<JsonError>>(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.open(b'[', "no array")?;
        if self.accept(b']') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            element(self)?;
            if !self.accept(b',') {
                break;
            }
        }
        Ok(self.close(b']', "neither a comma nor the end of the array")?)
    }

    /// Returns the next value as a tree: see [`Json::to_value`].
    pub fn tree(&mut self) -> Result<Value, JsonError> {
        match self.kind()? {
            Kind::Object => {
                let mut map = Map::new();
                self.object(|key, reader| {
                    map.insert(key.text().unwrap_or_default().into_owned(), reader.tree()?);
                    Ok::<_, JsonError>(())
                })?;
                Ok(Value::Object(map))
            }
            Kind::Array => {
                let mut elements = Vec::new();
                self.array(|reader| {
                    elements.push(reader.tree()?);
                    Ok::<_, JsonError>(())
                })?;
                Ok(Value::Array(elements))
            }
            _ => Ok(self.value()?.to_value()),
        }
    }

    fn error(&self, reason: &'static str) -> JsonError {
        JsonError { offset: self.at, reason }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Returns the next byte that is not a blank.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.byte() {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn accept(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn open(&mut self, bracket: u8, reason: &'static str) -> Result<(), JsonError> {
        if !self.accept(bracket) {
            return Err(self.error(reason));
        }
        self.depth += 1;
        if self.depth > self.depth_max { Err(self.error("values nested too deep")) } else { Ok(()) }
    }

    fn close(&mut self, bracket: u8, reason: &'static str) -> Result<(), JsonError> {
        self.depth -= 1;
        if self.accept(bracket) { Ok(()) } else { Err(self.error(reason)) }
    }

    fn skip_word(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("no JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Skips a string from its opening quote on. Returns whether it has escapes.
    fn skip_string(&mut self) -> Result<bool, JsonError> {
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        self.at += 1;
        loop {
            while let Some(chunk) = bytes.get(self.at..self.at + 8) {
                let plain = plain_bytes(chunk.try_into().expect("a piece of eight bytes"));
                self.at += plain;
                if plain < 8 {
                    break;
                }
            }
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.skip_escape()?;
                }
                Some(0..0x20) => return Err(self.error("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.error("a string without its closing quote")),
            }
        }
    }

    fn skip_escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => match self.code_unit()? {
                0 => self.pass_unstorable("the character NUL in a string"),
                0xDC00..=0xDFFF => self.pass_unstorable("half of a surrogate pair"),
                0xD800..=0xDBFF => self.skip_low_surrogate(),
                _ => Ok(()),
            },
            _ => Err(self.error("an unknown escape")),
        }
    }

    fn skip_low_surrogate(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.text.as_bytes().get(start..start + 2) == Some(b"\\u") {
            self.at += 1;
            if matches!(self.code_unit()?, 0xDC00..=0xDFFF) {
                return Ok(());
            }
        }
        self.pass_unstorable("half of a surrogate pair")?;
        // What follows may be the first half of another pair.
        self.at = start;
        Ok(())
    }

    fn pass_unstorable(&mut self, reason: &'static str) -> Result<(), JsonError> {
        self.unstorable += 1;
        if self.lenient { Ok(()) } else { Err(self.error(reason)) }
    }

    /// Reads the four hexadecimal digits after a `u`.
    fn code_unit(&mut self) -> Result<u16, JsonError> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return Err(self.error("an escape without four hexadecimal digits")) };
        self.at += 5;
        let value = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or_default() as u16;
        Ok(digits.iter().fold(0, |unit, digit| unit << 4 | value(digit)))
    }

    fn skip_number(&mut self) -> Result<(), JsonError> {
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.skip_digits()?;
        }
        match self.byte() {
            Some(b'0'..=b'9') => Err(self.error("a number with a leading zero")),
            _ => Ok(()),
        }
    }

    fn skip_digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("a number without digits")) } else { Ok(()) }
    }
}
