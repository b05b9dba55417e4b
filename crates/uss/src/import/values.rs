//! Converts values of files to values of events.

/// Converts a number with a decimal comma to one with a decimal point: `1.234,56` to `1234.56`.
/// Points, blanks and apostrophes between groups of three digits are removed. Returns `None` for
/// other strings, and for a number without a comma unless `without_comma`, since `1.234` is
/// ambiguous.
pub(crate) fn decimal_comma(text: &str, without_comma: bool) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = match digits.rsplit_once(',') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None if without_comma && digits.contains(GROUP_MARKS) => (digits, None),
        None => return None,
    };
    let whole = ungrouped(whole)?;
    match fraction {
        Some(fraction) if is_number(fraction) => Some(format!("{sign}{whole}.{fraction}")),
        Some(_) => None,
        None => Some(format!("{sign}{whole}")),
    }
}

const GROUP_MARKS: [char; 6] = ['.', ' ', '\u{a0}', '\u{202f}', '\'', '\u{2019}'];

/// Returns the digits of `1.234.567` or `1234567`.
fn ungrouped(text: &str) -> Option<String> {
    let mut groups = text.split(GROUP_MARKS);
    let mut digits = groups.next().filter(|first| is_number(first))?.to_owned();
    let first = digits.len();
    for group in groups {
        if first > 3 || group.len() != 3 || !is_number(group) {
            return None;
        }
        digits.push_str(group);
    }
    Some(digits)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_comma_becomes_a_point_and_group_marks_are_removed() {
        let cases = [
            ("12,50", Some("12.50")),
            ("-0,5", Some("-0.5")),
            ("+3,0", Some("3.0")),
            ("1.234,56", Some("1234.56")),
            ("1 234 567,8", Some("1234567.8")),
            ("1\u{a0}234,5", Some("1234.5")),
            ("1\u{202f}234,5", Some("1234.5")),
            ("1'234,5", Some("1234.5")),
            ("1234,5", Some("1234.5")),
            ("1234.567,8", None),
            ("12.34,5", None),
            ("1,234.56", None),
            ("1,2,3", None),
            (",5", None),
            ("5,", None),
            ("12,50 EUR", None),
            ("", None),
            ("-", None),
            ("12.50", None),
            ("1.234", None),
            ("1234", None),
        ];
        for (text, expected) in cases {
            assert_eq!(decimal_comma(text, false).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("1.234", Some("1234")),
            ("1.234.567", Some("1234567")),
            ("12.50", None),
            ("1234", None),
            ("1,5", Some("1.5")),
        ] {
            assert_eq!(decimal_comma(text, true).as_deref(), expected, "{text}, an amount");
        }
    }
}
