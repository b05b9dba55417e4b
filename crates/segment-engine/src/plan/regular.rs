//! One meaning of regular expressions for two matchers. Expressions are written out so plainly,
//! with classes as ranges and without flags and names, that the `regex` crate here and RE2 in
//! DuckDB read them alike.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::print::Printer;
use regex_syntax::hir::{Capture, Class, Hir, HirKind, Look, Repetition};

use super::pattern_error::{PatternError, REPETITIONS_MAX};

/// An expression, written out.
pub(super) struct Plain {
    /// For the `regex` crate.
    pub regex: String,
    /// For RE2.
    pub re2: String,
}

/// Reads an expression as the `regex` crate does. `.` matches every character, and `\b` is a
/// boundary of ASCII words.
pub(super) fn plain(expression: &str, ignore_case: bool) -> Result<Plain, PatternError> {
    let mut parser = ParserBuilder::new().case_insensitive(ignore_case).dot_matches_new_line(true).build();
    let parsed = parser.parse(expression).map_err(|error| PatternError::Syntax(error.to_string()))?;
    let mut regex = String::new();
    Printer::new().print(&common(&parsed, REPETITIONS_MAX)?, &mut regex).expect("a String takes every text");
    // The printer escapes literals, so only its own spelling of word boundaries and of the empty
    // class is replaced here. NUL would end the query.
    let re2 = [(r"(?-u:\b)", r"\b"), (r"(?-u:\B)", r"\B"), ("[a&&b]", r"[^\x00-\x{10FFFF}]"), ("\0", r"\x00")];
    let re2 = re2.iter().fold(regex.clone(), |text, (ours, theirs)| text.replace(ours, theirs));
    Ok(Plain { regex, re2 })
}

/// Returns the expression with only what both matchers know. The part may be repeated at most
/// `repetitions` times.
fn common(part: &Hir, repetitions: u32) -> Result<Hir, PatternError> {
    let all = |parts: &[Hir]| parts.iter().map(|part| common(part, repetitions)).collect::<Result<Vec<_>, _>>();
    Ok(match part.kind() {
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(Class::Unicode(_)) => part.clone(),
        HirKind::Class(Class::Bytes(bytes)) => {
            let class = bytes.to_unicode_class().ok_or(PatternError::Unsupported("a class of bytes"))?;
            Hir::class(Class::Unicode(class))
        }
        HirKind::Look(look) => Hir::look(match look {
            Look::Start | Look::End | Look::StartLF | Look::EndLF => *look,
            Look::WordAscii | Look::WordUnicode => Look::WordAscii,
            Look::WordAsciiNegate | Look::WordUnicodeNegate => Look::WordAsciiNegate,
            Look::StartCRLF | Look::EndCRLF => return Err(PatternError::Unsupported("the flag R")),
            _ => return Err(PatternError::Unsupported(r"a word boundary other than \b and \B")),
        }),
        HirKind::Repetition(Repetition { min, max, greedy, sub }) => {
            let left = match (min, max) {
                (0 | 1, None | Some(0 | 1)) => repetitions,
                (min, max) => repetitions / max.unwrap_or(*min),
            };
            if left == 0 {
                return Err(PatternError::TooManyRepetitions);
            }
            Hir::repetition(Repetition {
                min: *min,
                max: *max,
                greedy: *greedy,
                sub: Box::new(grouped(common(sub, left)?)),
            })
        }
        HirKind::Capture(Capture { index, sub, .. }) => {
            Hir::capture(Capture { index: *index, name: None, sub: Box::new(common(sub, repetitions)?) })
        }
        HirKind::Concat(parts) => Hir::concat(all(parts)?),
        HirKind::Alternation(parts) => Hir::alternation(all(parts)?),
    })
}

/// Puts a group around a repetition that is repeated: `a**` is an error in RE2.
fn grouped(part: Hir) -> Hir {
    match part.kind() {
        HirKind::Repetition(_) => Hir::capture(Capture { index: 1, name: None, sub: Box::new(part) }),
        _ => part,
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn syntax_that_only_one_matcher_knows_is_written_out() {
        let cases = [
            ("(?x) a b # both", r"(?:ab)"),
            ("[a-c&&b-d]", "[bc]"),
            (r"\d", "[0-9\u{660}-\u{669}"),
            ("(?<name>a)", "(a)"),
            ("(?i)k", "[Kk\u{212a}]"),
            ("a{2}{3}", "(a{2}){3}"),
            (r"\bx", r"(?:\bx)"),
            (r"[^\x00-\x{10FFFF}]", r"[^\x00-\x{10FFFF}]"),
        ];
        for (written, expected) in cases {
            let plain = plain(written, false).unwrap().re2;
            assert!(plain.starts_with(expected), "{written}: {plain}");
        }
        assert!(!plain(".", false).unwrap().re2.contains('\0'), "NUL would end the query");
    }

    #[test]
    fn syntax_that_one_matcher_cannot_do_is_refused() {
        let refused = |text| plain(text, false).err();
        assert_eq!(refused("a{1001}"), Some(PatternError::TooManyRepetitions));
        assert_eq!(refused("((a{10}){10}){11}"), Some(PatternError::TooManyRepetitions));
        assert_eq!(refused("((a{10}){10}){10}|b{1000}"), None);
        assert!(matches!(refused(r"\b{start}a"), Some(PatternError::Unsupported(_))));
        assert!(matches!(refused("(?Rm)^a"), Some(PatternError::Unsupported(_))));
    }
}
