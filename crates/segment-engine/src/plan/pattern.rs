//! Text patterns: `LIKE`, `ILIKE`, `~`, `~*`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex_automata::meta::Regex;

use super::pattern_error::{PATTERN_PROGRAM_BYTES_MAX, PatternError};
use super::regular::{Plain, plain};

/// How many bytes the table of states may take that a thread builds while it matches. When it is
/// full, the matcher clears it.
const MATCHING_BYTES_MAX: usize = 1 << 18;

/// A compiled text pattern. Patterns are equal if their texts and options are. Copies share
/// everything, including the tables that grow while matching.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    text: String,
    kind: PatternKind,
    ignore_case: bool,
    /// The expression that the matcher was built from.
    expression: String,
    regex: Regex,
    re2: String,
}

/// The syntax of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatternKind {
    /// `%` matches any text, `_` any character, `\` escapes; the whole text must match.
    Like,
    /// A regular expression that is matched in linear time; it may match anywhere.
    Regex,
}

impl Pattern {
    /// Compiles a pattern.
    pub fn new(text: impl Into<String>, kind: PatternKind, ignore_case: bool) -> Result<Pattern, PatternError> {
        let text = text.into();
        let expression = match kind {
            PatternKind::Like => expression_of_like(&text)?,
            PatternKind::Regex => text.clone(),
        };
        // As in Postgres, `.` matches every character, line ends included.
        let Plain { regex, re2 } = plain(&expression, ignore_case)?;
        let config =
            Regex::config().nfa_size_limit(Some(PATTERN_PROGRAM_BYTES_MAX)).hybrid_cache_capacity(MATCHING_BYTES_MAX);
        let built = Regex::builder().configure(config).build(&regex);
        let compiled = built.map_err(|error| match error.size_limit() {
            Some(_) => PatternError::TooLarge,
            None => PatternError::Syntax(error.to_string()),
        })?;
        Ok(Pattern(Arc::new(Compiled { text, kind, ignore_case, expression: regex, regex: compiled, re2 })))
    }

    /// Returns how many bytes it takes, without the tables that grow while matching.
    pub fn heap_bytes(&self) -> usize {
        self.0.regex.memory_usage() + self.0.expression.len() + self.0.re2.len()
    }

    /// Returns the pattern as written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Returns the pattern as a regular expression for RE2, which may match anywhere in a text.
    pub fn re2(&self) -> &str {
        &self.0.re2
    }

    /// Returns the syntax.
    pub fn kind(&self) -> PatternKind {
        self.0.kind
    }

    /// Whether case is ignored (`ILIKE`, `~*`).
    pub fn ignores_case(&self) -> bool {
        self.0.ignore_case
    }

    /// Whether a text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.regex.is_match(text)
    }
}

/// Returns a regular expression that matches the same texts as the `LIKE` pattern, each as a whole.
fn expression_of_like(pattern: &str) -> Result<String, PatternError> {
    let mut expression = String::with_capacity(pattern.len() + 8);
    expression.push_str(r"\A");
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '%' => {
                expression.push_str(".*");
                continue;
            }
            '_' => {
                expression.push('.');
                continue;
            }
            '\\' => characters.next().ok_or(PatternError::EndsWithEscape)?,
            other => other,
        };
        expression.push_str(&regex_syntax::escape(literal.encode_utf8(&mut [0; 4])));
    }
    expression.push_str(r"\z");
    Ok(expression)
}

/// Checkpoints of format 3 name accumulators by this text, so it stays as it was with the `regex`
/// crate's own type.
impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Regex<'a>(&'a str);
        impl fmt::Debug for Regex<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple("Regex").field(&self.0).finish()
            }
        }
        f.debug_struct("Pattern")
            .field("text", &self.0.text)
            .field("kind", &self.0.kind)
            .field("ignore_case", &self.0.ignore_case)
            .field("regex", &Regex(&self.0.expression))
            .field("re2", &self.0.re2)
            .finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        (&self.0.text, self.0.kind, self.0.ignore_case) == (&other.0.text, other.0.kind, other.0.ignore_case)
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.text, self.0.kind, self.0.ignore_case).hash(state);
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn matches_as_postgres_does() {
        use PatternKind::{Like, Regex};
        let cases = [
            (Like, false, "a%", "abc", true),
            (Like, false, "a%", "bac", false),
            (Like, false, "%b%", "a\nb\nc", true),
            (Like, false, "a_c", "añc", true),
            (Like, false, "a_c", "ac", false),
            (Like, false, "", "", true),
            (Like, false, "", "a", false),
            (Like, false, "%", "", true),
            (Like, false, r"10\%", "10%", true),
            (Like, false, r"10\%", "100", false),
            (Like, false, r"\\", r"\", true),
            (Like, false, "a.c", "abc", false),
            (Like, false, "a", "a\n", false),
            (Like, false, "ABC", "abc", false),
            (Like, true, "ABC%", "abcd", true),
            (Like, true, "ÄB", "äb", true),
            (Regex, false, "b", "abc", true),
            (Regex, false, "^b", "abc", false),
            (Regex, false, "^a.c$", "a\nc", true),
            (Regex, false, "a$", "a\n", false),
            (Regex, false, "A", "a", false),
            (Regex, true, "A", "a", true),
            (Regex, false, "", "abc", true),
        ];
        for (kind, ignore_case, pattern, text, expected) in cases {
            let compiled = Pattern::new(pattern, kind, ignore_case).unwrap();
            assert_eq!(compiled.matches(text), expected, "{text:?} {kind:?} {pattern:?}");
        }
    }

    /// Checkpoints of format 3 name accumulators by this text.
    #[test]
    fn the_debug_text_does_not_change() {
        let pattern = Pattern::new("a%", PatternKind::Like, true).unwrap();
        let text = concat!(
            r#"Pattern { text: "a%", kind: Like, ignore_case: true, "#,
            r#"regex: Regex("(?:\\A[Aa][\0-\u{10ffff}]*\\z)"), re2: "(?:\\A[Aa][\\x00-\u{10ffff}]*\\z)" }"#
        );
        assert_eq!(format!("{pattern:?}"), text);
    }

    #[test]
    fn refuses_what_cannot_be_matched() {
        let error = |text, kind| Pattern::new(text, kind, false).unwrap_err();
        assert_eq!(error(r"a\", PatternKind::Like), PatternError::EndsWithEscape);
        assert_eq!(error(r"\w{1000}", PatternKind::Regex), PatternError::TooLarge);
        assert_eq!(error(r"((a{100}){100}){100}", PatternKind::Regex), PatternError::TooManyRepetitions);
        assert!(matches!(error("(", PatternKind::Regex), PatternError::Syntax(_)));
        assert!(matches!(error(r"(a)\1", PatternKind::Regex), PatternError::Syntax(_)));
    }
}
