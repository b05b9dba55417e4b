//! Characters that come with text from web pages and word processors, and look like what SQL means without being it.
//!
//! The parser takes every letter outside ASCII for part of a name, and would say something about a column that nobody
//! sees. Inside quotes they are text like any other.

use super::error::{CompileError, Pos, code};
use super::print::quoted;

/// Quotes and primes of all kinds but the straight ones.
const QUOTES: &str = "‘’‚‛“”„‟«»‹›′″‴‵‶´＇＂";

/// Returns the first such character outside quotes.
pub(super) fn look_alike(text: &str) -> Option<CompileError> {
    let mut pos = Pos::START;
    let mut inside: Option<char> = None;
    for (start, character) in text.char_indices() {
        match (inside, character) {
            (None, '\'' | '"') => inside = Some(character),
            // A doubled quote ends the text and begins it again.
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
        '`' => ("a backtick", "Names stand without quotes, and a text in single ones: 'text'".to_owned()),
        '−' | '–' | '—' | '‐' | '‑' | '‒' | '―' => ("a typographic dash", "Write -".to_owned()),
        '≠' => ("no operator of SQL", "Write <>".to_owned()),
        '≤' => ("no operator of SQL", "Write <=".to_owned()),
        '≥' => ("no operator of SQL", "Write >=".to_owned()),
        '…' => ("an ellipsis", "Write the clause in full".to_owned()),
        '（' | '）' | '，' | '＝' | '＜' | '＞' | '；' => {
            ("a wide character", "Write the plain one of ASCII".to_owned())
        }
        _ => return None,
    };
    let message = format!("{character} (U+{:04X}) is {what}", u32::from(character));
    Some(CompileError::new(code::SYNTAX, pos, message).suggest(suggestion))
}

/// Returns what stands between this quote and the next like it, in straight ones, if it is short.
fn straight(rest: &str) -> String {
    const SHORT_CHARS: usize = 40;
    let text: Vec<char> = rest.chars().skip(1).take(SHORT_CHARS).collect();
    match text.iter().position(|character| QUOTES.contains(*character)) {
        Some(end) if !text[..end].contains(&'\n') => {
            let text: String = text[..end].iter().collect();
            format!("A text stands in straight quotes: {}", quoted(text.trim()))
        }
        _ => "A text stands in straight quotes: 'text'".to_owned(),
    }
}

/// Characters that show as a blank or not at all.
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
