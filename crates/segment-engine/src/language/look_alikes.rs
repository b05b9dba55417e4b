//! Characters from web pages and word processors that look like characters of SQL.
//!
//! The parser takes every letter outside ASCII as part of a name, so its error would be about a
//! column that users cannot see. Inside quotes these characters are ordinary text.

use super::error::{CompileError, Pos, code};
use super::quote::quoted;

/// Quotes and primes of all kinds, except the straight ones.
const QUOTES: &str = "‘’‚‛“”„‟«»‹›′″‴‵‶´＇＂";

/// Refuses the first such character outside quotes.
pub(super) fn look_alike(text: &str) -> Option<CompileError> {
    let mut pos = Pos::START;
    let mut inside: Option<char> = None;
    for (start, character) in text.char_indices() {
        match (inside, character) {
            (None, '\'' | '"') => inside = Some(character),
            // A doubled quote ends the string and begins it again.
            (Some(quote), end) if quote == end => inside = None,
            (Some(_), _) => {}
            (None, _) => {
                if let Some(error) = refused(character, &text[start..], pos) {
                    return Some(error);
                }
            }
        }
        pos = match character {
            '\n' => Pos { line: pos.line + 1, column: 1 },
            _ => Pos { column: pos.column + 1, ..pos },
        };
    }
    None
}

fn refused(character: char, rest: &str, pos: Pos) -> Option<CompileError> {
    if let Some(name) = blank(character) {
        let message = format!("there is {name} (U+{:04X}) here, which SQL does not read", u32::from(character));
        return Some(
            CompileError::new(code::SYNTAX, pos, message).suggest("Delete it, and write a plain space if one is meant"),
        );
    }
    let (what, suggestion) = match character {
        quote if QUOTES.contains(quote) => ("a typographic quote", straight(rest)),
        '`' => ("a backtick", "Write names without quotes, and text in single quotes: 'text'".to_owned()),
        '−' | '–' | '—' | '‐' | '‑' | '‒' | '―' => ("a typographic dash", "Write -".to_owned()),
        '≠' => ("not an operator of SQL", "Write <>".to_owned()),
        '≤' => ("not an operator of SQL", "Write <=".to_owned()),
        '≥' => ("not an operator of SQL", "Write >=".to_owned()),
        '…' => ("an ellipsis", "Write the clause in full".to_owned()),
        '（' | '）' | '，' | '＝' | '＜' | '＞' | '；' => {
            ("a wide character", "Write the plain one of ASCII".to_owned())
        }
        _ => return None,
    };
    let message = format!("{character} (U+{:04X}) is {what}", u32::from(character));
    Some(CompileError::new(code::SYNTAX, pos, message).suggest(suggestion))
}

/// Suggests the text up to the next such quote in straight quotes, if it is short.
fn straight(rest: &str) -> String {
    const SHORT_CHARS: usize = 40;
    let text: Vec<char> = rest.chars().skip(1).take(SHORT_CHARS).collect();
    match text.iter().position(|character| QUOTES.contains(*character)) {
        Some(end) if !text[..end].contains(&'\n') => {
            let text: String = text[..end].iter().collect();
            format!("Put text in straight quotes: {}", quoted(text.trim()))
        }
        _ => "Put text in straight quotes: 'text'".to_owned(),
    }
}

/// Names characters that look like a blank or cannot be seen.
fn blank(character: char) -> Option<&'static str> {
    Some(match character {
        '\u{a0}' | '\u{202f}' => "a no-break space",
        '\u{feff}' => "a byte order mark",
        '\u{200b}' => "a space of no width",
        '\u{ad}' => "a soft hyphen",
        '\u{200c}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{180e}'
        | '\u{fe00}'..='\u{fe0f}' => "an invisible character",
        ' ' | '\t' | '\n' | '\r' => return None,
        other if other.is_whitespace() => "an unusual space",
        other if other.is_control() => "a control character",
        _ => return None,
    })
}
