//! The text functions of PostgreSQL. They count characters. They are NULL for NULL, and where
//! PostgreSQL reports an error.

use crate::plan::{Function, TEXT_BYTES_MAX, TrimSide};
use crate::value::Value;

/// Returns the value of a call; `None` for NULL.
pub(super) fn call(function: &Function, first: &Value, rest: &[Value]) -> Option<Value> {
    let Value::Text(x) = first else { return None };
    let text = |place: usize| match rest.get(place) {
        Some(Value::Text(text)) => Some(&**text),
        _ => None,
    };
    let number = |place: usize| match rest.get(place) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    };
    Some(match function {
        Function::Concat => joined(x, text(0)?)?.into(),
        Function::Trim(side) => trimmed(x, *side, text(0)?).into(),
        Function::Left => left(x, number(0)?).into(),
        Function::Right => right(x, number(0)?).into(),
        Function::Substring if rest.len() == 1 => substring(x, number(0)?, i64::MAX)?.into(),
        Function::Substring => substring(x, number(0)?, number(1)?)?.into(),
        Function::SplitPart => part(x, text(0)?, number(1)?)?.into(),
        Function::Replace => replaced(x, text(0)?, text(1)?)?.into(),
        Function::StrPos => Value::Int(place_of(text(0)?, x)),
        _ => return None,
    })
}

fn joined(a: &str, b: &str) -> Option<String> {
    (a.len() + b.len() <= TEXT_BYTES_MAX).then(|| format!("{a}{b}"))
}

fn trimmed<'a>(x: &'a str, side: TrimSide, characters: &str) -> &'a str {
    let is_trimmed = |character| characters.contains(character);
    match side {
        TrimSide::Both => x.trim_matches(is_trimmed),
        TrimSide::Leading => x.trim_start_matches(is_trimmed),
        TrimSide::Trailing => x.trim_end_matches(is_trimmed),
    }
}

/// Returns the first `count` characters.
fn first(x: &str, count: i64) -> &str {
    let count = usize::try_from(count).unwrap_or(0);
    x.char_indices().nth(count).map_or(x, |(end, _)| &x[..end])
}

/// Returns what follows the first `count` characters.
fn without_first(x: &str, count: i64) -> &str {
    &x[first(x, count).len()..]
}

fn length(x: &str) -> i64 {
    x.chars().count() as i64
}

fn left(x: &str, count: i64) -> &str {
    if count >= 0 { first(x, count) } else { first(x, length(x).saturating_add(count)) }
}

fn right(x: &str, count: i64) -> &str {
    if count >= 0 {
        without_first(x, length(x) - count.min(length(x)))
    } else {
        without_first(x, count.saturating_neg())
    }
}

/// Returns the characters from the place `from` (the first is 1) up to, but not including, `from +
/// count`. Places before the first count, but are empty.
fn substring(x: &str, from: i64, count: i64) -> Option<&str> {
    if count < 0 {
        return None;
    }
    let end = from.saturating_add(count);
    let from = from.max(1);
    Some(first(without_first(x, from - 1), end.saturating_sub(from)))
}

fn part<'a>(x: &'a str, separator: &str, number: i64) -> Option<&'a str> {
    let place = usize::try_from(number.unsigned_abs().checked_sub(1)?).unwrap_or(usize::MAX);
    if separator.is_empty() {
        return Some(if place == 0 { x } else { "" });
    }
    let mut parts = x.split(separator);
    Some(match number > 0 {
        true => parts.nth(place).unwrap_or_default(),
        // Separators are found from the front, even if parts are counted from the end.
        false => parts.collect::<Vec<_>>().into_iter().rev().nth(place).unwrap_or_default(),
    })
}

/// Computes the length before it makes the result, which can be a million times as long as the
/// operands.
fn replaced(x: &str, what: &str, by: &str) -> Option<String> {
    if what.is_empty() {
        return Some(x.to_owned());
    }
    let found = x.matches(what).count();
    let bytes = (x.len() - found * what.len()).checked_add(found.checked_mul(by.len())?)?;
    (bytes <= TEXT_BYTES_MAX).then(|| x.replace(what, by))
}

fn place_of(part: &str, x: &str) -> i64 {
    x.find(part).map_or(0, |start| length(&x[..start]) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are PostgreSQL 15's.
    #[test]
    fn texts_are_cut_by_characters() {
        let cases = [
            (left("jañoc", 3), "jañ"),
            (left("jañoc", 9), "jañoc"),
            (left("jañoc", 0), ""),
            (left("jañoc", -3), "ja"),
            (left("jañoc", -5), ""),
            (left("jañoc", -9), ""),
            (left("jañoc", i64::MIN), ""),
            (right("jañoc", 3), "ñoc"),
            (right("jañoc", 9), "jañoc"),
            (right("jañoc", 0), ""),
            (right("jañoc", -3), "oc"),
            (right("jañoc", -9), ""),
            (right("jañoc", i64::MIN), ""),
            (trimmed("  a b ", TrimSide::Both, " "), "a b"),
            (trimmed("xyañyx", TrimSide::Both, "yx"), "añ"),
            (trimmed("xyañyx", TrimSide::Leading, "xy"), "añyx"),
            (trimmed("xyañyx", TrimSide::Trailing, "xy"), "xyañ"),
            (trimmed("\ta ", TrimSide::Both, " "), "\ta"),
            (trimmed("xx", TrimSide::Both, "x"), ""),
            (trimmed("xx", TrimSide::Both, ""), "xx"),
        ];
        for (number, (got, expected)) in cases.into_iter().enumerate() {
            assert_eq!(got, expected, "case {number}");
        }
    }

    /// By PostgreSQL 15.
    #[test]
    fn a_substring_may_begin_before_the_text_and_end_after_it() {
        let cases = [
            (2, 2, Some("añ")),
            (2, i64::MAX, Some("añoc")),
            (0, 3, Some("ja")),
            (-1, 3, Some("j")),
            (-3, 3, Some("")),
            (-3, i64::MAX, Some("jañoc")),
            (4, 0, Some("")),
            (4, -1, None),
            (6, 2, Some("")),
            (i64::MAX, i64::MAX, Some("")),
            (i64::MIN, i64::MAX, Some("")),
        ];
        for (from, count, expected) in cases {
            assert_eq!(substring("jañoc", from, count), expected, "from {from} for {count}");
        }
    }

    /// Expected values are PostgreSQL 15's.
    #[test]
    fn parts_are_counted_from_either_end() {
        let cases = [
            ("a/b//c", "/", 1, Some("a")),
            ("a/b//c", "/", 3, Some("")),
            ("a/b//c", "/", 4, Some("c")),
            ("a/b//c", "/", 5, Some("")),
            ("a/b//c", "/", -1, Some("c")),
            ("a/b//c", "/", -4, Some("a")),
            ("a/b//c", "/", -5, Some("")),
            ("a/b", "/", 0, None),
            ("a/b", "x", 1, Some("a/b")),
            ("a/b", "x", -1, Some("a/b")),
            ("a/b", "x", 2, Some("")),
            ("a/b", "", 1, Some("a/b")),
            ("a/b", "", -1, Some("a/b")),
            ("a/b", "", 2, Some("")),
            ("", "/", 1, Some("")),
            // The separator is found from the front: |aa|a. So the last part is `a`.
            ("aaa", "aa", -1, Some("a")),
            ("a", "/", i64::MIN, Some("")),
        ];
        for (x, separator, number, expected) in cases {
            assert_eq!(part(x, separator, number), expected, "split_part({x}, {separator}, {number})");
        }
    }

    #[test]
    fn results_have_a_bound() {
        assert_eq!(joined("a", "").as_deref(), Some("a"));
        let half = "x".repeat(TEXT_BYTES_MAX / 2);
        assert!(joined(&half, &half).is_some());
        assert_eq!(joined(&half, &format!("{half}x")), None);

        assert_eq!(replaced("aXbXc", "X", "").as_deref(), Some("abc"));
        assert_eq!(replaced("aaa", "aa", "b").as_deref(), Some("ba"));
        assert_eq!(replaced("abc", "", "x").as_deref(), Some("abc"));
        assert_eq!(replaced("", "a", "x").as_deref(), Some(""));
        assert!(replaced("ab", "a", &half).is_some());
        assert_eq!(replaced("aab", "a", &half), None);
        assert_eq!(replaced(&half, "x", &half), None);
    }

    #[test]
    fn places_are_counted_in_characters_from_one() {
        for (x, part, expected) in [("ñañ", "ñ", 1), ("ñañ", "añ", 2), ("ñañ", "x", 0), ("ñañ", "", 1), ("", "", 1)]
        {
            assert_eq!(place_of(part, x), expected, "{part} in {x}");
        }
    }
}
