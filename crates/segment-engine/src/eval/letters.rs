//! `lower` and `upper`, letter by letter as in Postgres, by Unicode's simple mappings: one letter
//! becomes one letter.
//!
//! The mappings are those of Unicode 15, like the warehouse's, because a newer compiler must not
//! change memberships.

/// Returns `lower(text)`.
pub(super) fn lower(text: &str) -> String {
    text.chars().map(|letter| simple(letter, letter.to_lowercase(), SIMPLE_LOWER)).collect()
}

/// Returns `upper(text)`.
pub(super) fn upper(text: &str) -> String {
    text.chars().map(|letter| simple(letter, letter.to_uppercase(), SIMPLE_UPPER)).collect()
}

/// Runs of letters whose full mapping, the one of the standard library, has several letters, but
/// that have a simple mapping too: the first and the last letter, and the distance to the other
/// case. Other letters with several letters in their full mapping do not change.
type Runs = &'static [(char, char, i32)];

/// The capital I with dot.
const SIMPLE_LOWER: Runs = &[('\u{130}', '\u{130}', 'i' as i32 - 0x130)];

/// The Greek vowels with iota subscript, whose capitals have the iota beside them.
const SIMPLE_UPPER: Runs = &[
    ('\u{1f80}', '\u{1f87}', 8),
    ('\u{1f90}', '\u{1f97}', 8),
    ('\u{1fa0}', '\u{1fa7}', 8),
    ('\u{1fb3}', '\u{1fb3}', 9),
    ('\u{1fc3}', '\u{1fc3}', 9),
    ('\u{1ff3}', '\u{1ff3}', 9),
];

/// Letters that have another case only since Unicode 16 or 17.
const WITHOUT_CASE: &[(char, char)] = &[
    ('\u{19b}', '\u{19b}'),
    ('\u{264}', '\u{264}'),
    ('\u{1c89}', '\u{1c8a}'),
    ('\u{a7cb}', '\u{a7cf}'),
    ('\u{a7d2}', '\u{a7d5}'),
    ('\u{a7da}', '\u{a7dc}'),
    ('\u{10d50}', '\u{10d85}'),
    ('\u{16ea0}', '\u{16ed3}'),
];

fn simple(letter: char, mut full: impl ExactSizeIterator<Item = char>, runs: Runs) -> char {
    if !letter.is_ascii() && WITHOUT_CASE.iter().any(|(first, last)| (*first..=*last).contains(&letter)) {
        return letter;
    }
    if full.len() == 1 {
        return full.next().unwrap_or(letter);
    }
    let run = runs.iter().find(|(first, last, _)| (*first..=*last).contains(&letter));
    let other = run.and_then(|(_, _, distance)| char::from_u32((letter as u32).wrapping_add_signed(*distance)));
    other.unwrap_or(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_becomes_one() {
        for (letter, lowered, raised) in [
            ("ß", "ß", "ß"),
            ("ẞ", "ß", "ẞ"),
            ("İ", "i", "İ"),
            ("ı", "ı", "I"),
            ("ŉ", "ŉ", "ŉ"),
            ("ǅ", "ǆ", "Ǆ"),
            ("ᾀ", "ᾀ", "ᾈ"),
            ("ᾈ", "ᾀ", "ᾈ"),
            ("ᾳ", "ᾳ", "ᾼ"),
            ("ΰ", "ΰ", "ΰ"),
            ("ﬁ", "ﬁ", "ﬁ"),
            ("\u{a7cb}", "\u{a7cb}", "\u{a7cb}"),
            ("ΣΑΣ", "σασ", "ΣΑΣ"),
            ("straße", "straße", "STRAßE"),
        ] {
            assert_eq!((lower(letter).as_str(), upper(letter).as_str()), (lowered, raised), "{letter}");
        }
    }
}
