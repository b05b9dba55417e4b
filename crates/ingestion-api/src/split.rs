//! Splits a JSON body into its events by quotes and brackets alone. What is wrong inside an element is for
//! [`admit`](crate::admission::admit) to say, and costs that element only. Pure.

use memchr::memchr2;
use ports::ErrorCode;
use uss_http::{Kind, Problem};

use crate::admission::Rejection;
use crate::limits::Limits;

/// Some programs write it before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a JSON body holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Events<'a> {
    /// One event, or something that was meant as one.
    One(&'a [u8]),
    /// The elements of an array.
    Many(Vec<&'a [u8]>),
    /// Neither, for this reason: where its events begin and end is unknown.
    Broken(&'a [u8], Rejection),
}

/// Removes a byte order mark.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Splits a JSON body.
///
/// # Errors
/// 400 for an empty body, 413 for too many events.
pub(crate) fn split<'a>(body: &'a [u8], limits: &Limits) -> Result<Events<'a>, Problem> {
    let text = without_mark(body);
    // Offsets are those in the body.
    let mut scanner = Scanner { bytes: body, at: body.len() - text.len(), open_string: None };
    match scanner.peek() {
        None => {
            let message = "the body is empty; send one event, or an array of events, as JSON";
            Err(Problem::invalid(ErrorCode::EmptyBody, message))
        }
        Some(b'[') => scanner.array(limits),
        Some(b'{') => Ok(scanner.object().map_or_else(|reason| Events::Broken(text, reason), |()| Events::One(text))),
        Some(_) => Ok(Events::One(text)),
    }
}

fn invalid(what: impl std::fmt::Display) -> Rejection {
    Rejection::new(ErrorCode::InvalidJson, format!("the body is not valid JSON: {what}"))
}

/// Finds where values end.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where a string begins that does not end.
    open_string: Option<usize>,
}

impl<'a> Scanner<'a> {
    /// Returns the elements of the array that begins here, each up to the comma or bracket that ends it.
    fn array(&mut self, limits: &Limits) -> Result<Events<'a>, Problem> {
        let whole = &self.bytes[self.at..];
        let mut elements = Vec::new();
        let mut count = 0;
        self.at += 1;
        if self.peek() == Some(b']') {
            return Ok(self.ended(whole, elements));
        }
        loop {
            let start = self.at;
            self.skip_element();
            count += 1;
            if count <= limits.array_events_max {
                elements.push(self.bytes[start..self.at].trim_ascii());
            }
            match self.peek() {
                Some(b',') => {
                    let comma = self.at;
                    self.at += 1;
                    if self.peek() == Some(b']') {
                        let advice = "take it away, and send the array again";
                        let reason = format!("the comma at byte {comma} comes before the end of the array; {advice}");
                        return Ok(Events::Broken(whole, invalid(reason)));
                    }
                }
                Some(_) => break,
                None => return Ok(Events::Broken(whole, self.endless())),
            }
        }
        if count > limits.array_events_max {
            return Err(too_many(count, limits));
        }
        Ok(self.ended(whole, elements))
    }

    /// At the closing bracket of the array: nothing may follow it.
    fn ended(&mut self, whole: &'a [u8], elements: Vec<&'a [u8]>) -> Events<'a> {
        self.at += 1;
        match self.peek() {
            None => Events::Many(elements),
            Some(_) => {
                let at = self.at;
                Events::Broken(whole, invalid(format!("text after the array, at byte {at}; send one array of events")))
            }
        }
    }

    /// Why the array has no end.
    fn endless(&self) -> Rejection {
        let advice = "send the whole array, with its `]`";
        match self.open_string {
            Some(at) => {
                invalid(format!("the array does not end: the string from byte {at} on has no closing quote; {advice}"))
            }
            None => invalid(format!("the array does not end: its `]` is missing at byte {}; {advice}", self.at)),
        }
    }

    /// Requires that nothing follows the object that begins here. An object without an end is left to its reader.
    fn object(&mut self) -> Result<(), Rejection> {
        self.skip_value();
        let after = self.at;
        let advice = match self.peek() {
            None => return Ok(()),
            Some(b'{') => "for several events send lines of JSON with Content-Type: application/x-ndjson",
            Some(b',') => "for several events send an array, `[` before them and `]` after",
            Some(_) => "send one event, or an array of events",
        };
        Err(invalid(format!("more text after the object that ends at byte {after}; {advice}")))
    }

    /// Skips an element of an array, up to the comma or bracket behind it.
    fn skip_element(&mut self) {
        while let Some(byte) = self.byte() {
            match byte {
                b',' | b']' => return,
                _ => self.skip_value(),
            }
        }
    }

    /// Skips a string, everything between brackets, or one byte. It does not check which bracket closes which.
    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.byte() {
            self.at += 1;
            match byte {
                b'"' => self.skip_string(),
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips the rest of a string, whatever bytes it has.
    fn skip_string(&mut self) {
        let start = self.at - 1;
        while let Some(found) = memchr2(b'"', b'\\', self.bytes.get(self.at..).unwrap_or_default()) {
            self.at += found + 1;
            if self.bytes[self.at - 1] == b'"' {
                return;
            }
            self.at += 1;
        }
        self.at = self.bytes.len();
        self.open_string = Some(start);
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Returns the next byte that is not a blank.
    fn peek(&mut self) -> Option<u8> {
        while self.byte().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.byte()
    }
}

fn too_many(count: usize, limits: &Limits) -> Problem {
    let message = format!(
        "the array has {count} events; send at most {}, or lines of JSON (application/x-ndjson) without a limit",
        limits.array_events_max
    );
    Problem::new(Kind::TooLarge, ErrorCode::TooManyEvents, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(body: &[u8]) -> Vec<String> {
        match split(body, &Limits::default()).unwrap() {
            Events::Many(elements) => {
                elements.iter().map(|element| String::from_utf8_lossy(element).into_owned()).collect()
            }
            other => panic!("{}: {other:?}", String::from_utf8_lossy(body)),
        }
    }

    #[test]
    fn an_element_ends_where_its_strings_and_brackets_do() {
        let none: [&str; 0] = [];
        assert_eq!(many(b" [ ] "), none);
        assert_eq!(many(b"\xef\xbb\xbf[1]"), ["1"], "a byte order mark");
        assert_eq!(many(b"[ 1 ,\n{\"a\": [1, {}]} , \"x\" ]\r\n"), ["1", "{\"a\": [1, {}]}", "\"x\""]);
        assert_eq!(many(br#"["],[", "\"],[", "\\",2]"#), [r#""],[""#, r#""\"],[""#, r#""\\""#, "2"]);
    }

    #[test]
    fn a_bad_element_costs_only_itself() {
        let deep = "[".repeat(5_000) + &"]".repeat(5_000);
        let cases: [&[u8]; 12] = [
            b"{\"id\":\"\\ud83d\"}",
            b"{\"id\":\"\\u00\"}",
            b"{\"id\":\"\\x\"}",
            b"{\"id\":\"\xff\xfe\"}",
            b"{\"id\":\"\xc3\"}",
            b"{\"id\":\"\0\n\"}",
            deep.as_bytes(),
            b"01x",
            b"{\"id\":1]",
            b"{\"id\":1}}",
            b"{\"id\" 1} {\"id\"}",
            b"",
        ];
        for bad in cases {
            let body = [b"[1,", bad, b",2]"].concat();
            assert_eq!(many(&body), ["1", &String::from_utf8_lossy(bad), "2"]);
        }
    }

    #[test]
    fn the_rejection_says_what_breaks_a_body() {
        let cases = [
            ("[1,2,]", "the comma at byte 4 comes before the end"),
            ("[1 , \n]", "the comma at byte 3 comes before the end"),
            ("[", "`]` is missing at byte 1"),
            ("[1,", "`]` is missing at byte 3"),
            ("[1,{\"a\":[2}", "`]` is missing at byte 11"),
            ("[1,\"a]", "the string from byte 3 on has no closing quote"),
            ("[1,\"a\\", "the string from byte 3 on has no closing quote"),
            ("[1] x", "text after the array, at byte 4"),
            ("[1][2]", "text after the array, at byte 3"),
            ("\u{feff}[1][2]", "text after the array, at byte 6"),
            (
                "{\"a\":1}\n{\"a\":2}",
                "ends at byte 7; for several events send lines of JSON with Content-Type: application/x-ndjson",
            ),
            ("{\"a\":1},{\"a\":2}", "ends at byte 7; for several events send an array"),
            ("{\"a\":\"}\"} x", "ends at byte 9; send one event"),
        ];
        for (body, message) in cases {
            match split(body.as_bytes(), &Limits::default()).unwrap() {
                Events::Broken(_, rejection) => {
                    assert_eq!(rejection.code, ErrorCode::InvalidJson, "{body}");
                    assert!(rejection.message.contains(message), "{body}: {}", rejection.message);
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn anything_else_is_one_event_or_none() {
        let limits = Limits { array_events_max: 2, ..Limits::default() };
        for body in ["{}", " {\"a\":\"{\"} ", "5", "\"x\"", "x", "{\"a\":", "{\"a\":1]"] {
            assert_eq!(split(body.as_bytes(), &limits).unwrap(), Events::One(body.as_bytes()), "{body}");
        }
        for (body, code) in
            [("", ErrorCode::EmptyBody), ("\u{feff} \n", ErrorCode::EmptyBody), ("[1,2,3]", ErrorCode::TooManyEvents)]
        {
            assert_eq!(split(body.as_bytes(), &limits).unwrap_err().code, code, "{body}");
        }
        assert!(matches!(split(b"[1,2]", &limits), Ok(Events::Many(_))));
    }
}
