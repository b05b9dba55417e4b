//! DECIMAL(38,9), the one type of fractional numbers. There is no floating point, so sums do not
//! depend on order.

use std::fmt;

use ethnum::I256;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Digits after the decimal point.
pub const SCALE: u8 = 9;
/// Digits in all.
pub const PRECISION: u8 = 38;

const UNIT: i128 = 1_000_000_000;
/// 10³⁸: the first scaled number that has too many digits.
const LIMIT: i128 = 10_i128.pow(PRECISION as u32);
/// Postgres refuses exponents beyond this as bad syntax; it also keeps the arithmetic on exponents
/// from overflowing.
const EXPONENT_MAX: i64 = (i32::MAX / 2) as i64;

/// A decimal number with 9 fractional digits and at most 38 digits in all: the number times 10⁹.
///
/// Every operation that leaves this range returns `None`, which is NULL in SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i128")]
pub struct Decimal(i128);

impl Decimal {
    /// 0
    pub const ZERO: Decimal = Decimal(0);
    /// 1
    pub const ONE: Decimal = Decimal(UNIT);
    /// The greatest decimal. The least is its negative.
    pub const MAX: Decimal = Decimal(LIMIT - 1);

    /// Returns the number `scaled / 10⁹`; `None` if it has more than 38 digits.
    pub const fn from_scaled(scaled: i128) -> Option<Decimal> {
        if -LIMIT < scaled && scaled < LIMIT { Some(Decimal(scaled)) } else { None }
    }

    /// Returns the number times 10⁹.
    pub const fn scaled(self) -> i128 {
        self.0
    }

    /// Returns a whole number; every `i64` fits.
    pub const fn from_int(number: i64) -> Decimal {
        Decimal(number as i128 * UNIT)
    }

    /// Returns the nearest whole number, half away from zero; `None` if that does not fit an `i64`.
    pub fn to_int(self) -> Option<i64> {
        i64::try_from(divide_half_away(self.0, UNIT)).ok()
    }

    /// Reads a number in Postgres' syntax (`12`, `-1.5`, `.5`, `5.`, `1e-3`, blanks around it).
    /// Digits beyond the ninth fractional one are rounded half away from zero. `None` for anything
    /// else, also `NaN` and `Infinity`.
    pub fn parse(text: &str) -> Option<Decimal> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = whole.bytes().chain(fraction.bytes());
        if whole.len() + fraction.len() == 0 || !digits.clone().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        // How many of the digits stand before the end of the ninth fractional place.
        let kept = whole.len() as i64 + exponent + i64::from(SCALE);
        let magnitude = scaled_from_digits(digits, kept)?;
        Decimal::from_scaled(if negative { -magnitude } else { magnitude })
    }

    /// Returns the sum.
    pub fn checked_add(self, other: Decimal) -> Option<Decimal> {
        // An i128 holds 1.7 · 10³⁸, which is less than the sum of two large numbers.
        Decimal::from_scaled(self.0.checked_add(other.0)?)
    }

    /// Returns the difference.
    pub fn checked_sub(self, other: Decimal) -> Option<Decimal> {
        Decimal::from_scaled(self.0.checked_sub(other.0)?)
    }

    /// Returns the product, half away from zero.
    pub fn checked_mul(self, other: Decimal) -> Option<Decimal> {
        match self.0.checked_mul(other.0) {
            Some(product) => Decimal::from_scaled(divide_half_away(product, UNIT)),
            None => from_wide_quotient(I256::from(self.0) * I256::from(other.0), I256::from(UNIT)),
        }
    }

    /// Returns the quotient, half away from zero; `None` also for division by zero.
    pub fn checked_div(self, other: Decimal) -> Option<Decimal> {
        if other.0 == 0 {
            return None;
        }
        match self.0.checked_mul(UNIT) {
            Some(dividend) => Decimal::from_scaled(divide_half_away(dividend, other.0)),
            None => from_wide_quotient(I256::from(self.0) * I256::from(UNIT), I256::from(other.0)),
        }
    }

    /// Returns the negated number. Never `None`, because the range is symmetric.
    pub fn checked_neg(self) -> Option<Decimal> {
        Some(Decimal(-self.0))
    }

    /// Returns the absolute value. Never `None`, because the range is symmetric.
    pub fn checked_abs(self) -> Option<Decimal> {
        Some(Decimal(self.0.abs()))
    }

    /// Returns the nearest number with this many fractional digits, half away from zero.
    pub fn round(self, places: u8) -> Option<Decimal> {
        let Some(dropped) = SCALE.checked_sub(places) else { return Some(self) };
        let step = 10_i128.pow(u32::from(dropped));
        Decimal::from_scaled(divide_half_away(self.0, step) * step)
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Decimal {
        Decimal::from_int(number)
    }
}

/// Stored decimals are read like this: one that is out of range is damage.
impl TryFrom<i128> for Decimal {
    type Error = &'static str;

    fn try_from(scaled: i128) -> Result<Decimal, &'static str> {
        Decimal::from_scaled(scaled).ok_or("a decimal has more than 38 digits")
    }
}

/// The shortest spelling: `12.5`, `3`, `-0.000000001`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, fraction) = (magnitude / UNIT as u128, magnitude % UNIT as u128);
        let mut text = whole.to_string();
        if fraction != 0 {
            let digits = format!("{fraction:09}");
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        f.pad_integral(self.0 >= 0, "", &text)
    }
}

/// Returns the exponent after an `e`: a whole number with an optional sign.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // All digits, so the only possible error is a number beyond i64, which is too large anyway.
    let exponent: i64 = text.parse().ok()?;
    (exponent.abs() < EXPONENT_MAX).then_some(exponent)
}

/// Returns the number made of the first `kept` digits (zeros after the last), rounded half away by
/// the digit after them.
fn scaled_from_digits(digits: impl Iterator<Item = u8>, kept: i64) -> Option<i128> {
    let mut number: i128 = 0;
    let mut missing = kept;
    for digit in digits {
        if missing <= 0 {
            let rounds_up = missing == 0 && digit >= b'5';
            return Some(number + i128::from(rounds_up));
        }
        number = number.checked_mul(10)? + i128::from(digit - b'0');
        if number >= LIMIT {
            return None;
        }
        missing -= 1;
    }
    for _ in 0..missing {
        if number == 0 {
            break;
        }
        number = number.checked_mul(10)?;
        if number >= LIMIT {
            return None;
        }
    }
    Some(number)
}

fn divide_half_away(dividend: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (dividend / divisor, dividend % divisor);
    let rest = remainder.unsigned_abs();
    // rest ≥ |divisor| − rest says 2·rest ≥ |divisor| without overflow.
    if rest != 0 && rest >= divisor.unsigned_abs() - rest {
        quotient + if (dividend < 0) == (divisor < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

/// Returns `dividend / divisor`, half away from zero. No product of two decimals overflows the wide
/// type.
fn from_wide_quotient(dividend: I256, divisor: I256) -> Option<Decimal> {
    let (quotient, remainder) = (dividend / divisor, dividend % divisor);
    let away = if (dividend < 0) == (divisor < 0) { I256::ONE } else { I256::MINUS_ONE };
    let rounded = if remainder.abs() * 2 >= divisor.abs() { quotient + away } else { quotient };
    Decimal::from_scaled(i128::try_from(rounded).ok()?)
}
