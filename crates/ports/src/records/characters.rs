//! Characters that JSON can write and a database cannot store: NUL, which PostgreSQL's `text` cannot hold, and half of a
//! surrogate pair, which UTF-8 cannot encode. JSON writes them as escapes only.

/// Replaces every escape of such a character by the escape of U+FFFD, the replacement character. Both have six bytes, so
/// nothing else moves. `json` is valid JSON, or a piece of it.
pub fn replace_unstorable(json: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = json.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        at += found;
        at += match code_unit(json, at) {
            None => 2,
            Some(0xD800..=0xDBFF) if matches!(code_unit(json, at + 6), Some(0xDC00..=0xDFFF)) => 12,
            Some(0 | 0xD800..=0xDFFF) => {
                json[at + 2..at + 6].copy_from_slice(b"fffd");
                6
            }
            Some(_) => 6,
        };
    }
}

/// Returns the code unit of the escape `\uXXXX` at this place, if there is one.
fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digit = |digit: &u8| char::from(*digit).to_digit(16).map(|digit| digit as u16);
    digits.iter().try_fold(0, |unit, byte| Some(unit << 4 | digit(byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_characters_that_cannot_be_stored_are_replaced() {
        let cases = [
            (r#""""#, r#""""#),
            (r#""plain \n \\ \" \u00fc""#, r#""plain \n \\ \" \u00fc""#),
            (r#""a\u0000b\u0000""#, r#""a\ufffdb\ufffd""#),
            (r#""\\u0000""#, r#""\\u0000""#),
            (r#""\\\u0000""#, r#""\\\ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\uD83D\uDE00\uD83D""#, r#""\uD83D\uDE00\ufffd""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ud83d\n\ude00""#, r#""\ufffd\n\ufffd""#),
            (r#"{"\u0000":["\udfff"]}"#, r#"{"\ufffd":["\ufffd"]}"#),
            (r"\", r"\"),
            (r"\u00", r"\u00"),
            (r"\ud83d\u", r"\ufffd\u"),
        ];
        for (json, expected) in cases {
            let mut bytes = json.as_bytes().to_vec();
            replace_unstorable(&mut bytes);
            assert_eq!(str::from_utf8(&bytes).unwrap(), expected, "{json}");
        }
    }
}
