use proptest::prelude::*;

use super::*;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
}

#[test]
fn reads_and_prints_what_postgres_reads() {
    let cases = [
        ("0", "0"),
        ("-0", "0"),
        ("12.50", "12.5"),
        (" 3 ", "3"),
        ("+3", "3"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-1.5e3", "-1500"),
        ("1E-3", "0.001"),
        ("1e+2", "100"),
        ("0.0000000005", "0.000000001"),
        ("-0.0000000005", "-0.000000001"),
        ("0.00000000049999", "0"),
        ("1.9999999995", "2"),
        ("0000000000000000000000000000000000000000000000000001", "1"),
        ("99999999999999999999999999999.999999999", "99999999999999999999999999999.999999999"),
        ("5e-10", "0.000000001"),
        ("5e-11", "0"),
        ("0e1000000", "0"),
        ("1e28", "10000000000000000000000000000"),
    ];
    for (text, printed) in cases {
        assert_eq!(decimal(text).to_string(), printed, "{text:?}");
    }
}

#[test]
fn other_texts_and_too_large_numbers_are_refused() {
    let cases = [
        "",
        " ",
        "-",
        ".",
        "e5",
        "1e",
        "1e+",
        "1.2.3",
        "1 2",
        "0x10",
        "1_000",
        "1,5",
        "NaN",
        "Infinity",
        "--1",
        "+-1",
        "١",
        "1e29",
        "1e2000000000",
        "1e99999999999999999999",
        "999999999999999999999999999999999999999999999999",
        "99999999999999999999999999999e9",
        "100000000000000000000000000000",
        "99999999999999999999999999999.9999999995",
    ];
    for text in cases {
        assert_eq!(Decimal::parse(text), None, "{text:?}");
    }
}

#[test]
fn arithmetic_rounds_half_away_from_zero_and_knows_its_range() {
    let greatest = "99999999999999999999999999999.999999999";
    type Operation = fn(Decimal, Decimal) -> Option<Decimal>;
    let cases: [(&str, Operation, &str, Option<&str>); 18] = [
        ("1", Decimal::checked_div, "3", Some("0.333333333")),
        ("2", Decimal::checked_div, "3", Some("0.666666667")),
        ("-2", Decimal::checked_div, "3", Some("-0.666666667")),
        ("1", Decimal::checked_div, "-2000000000", Some("-0.000000001")),
        ("1", Decimal::checked_div, "0", None),
        (greatest, Decimal::checked_div, "0.5", None),
        (greatest, Decimal::checked_div, "2", Some("50000000000000000000000000000")),
        ("0.000000001", Decimal::checked_mul, "0.5", Some("0.000000001")),
        ("-0.000000001", Decimal::checked_mul, "0.5", Some("-0.000000001")),
        ("0.000000001", Decimal::checked_mul, "0.499999999", Some("0")),
        ("100000000000000", Decimal::checked_mul, "100000000000000", Some("10000000000000000000000000000")),
        ("1000000000000000", Decimal::checked_mul, "100000000000000", None),
        (greatest, Decimal::checked_mul, greatest, None),
        (greatest, Decimal::checked_add, "0.000000001", None),
        (greatest, Decimal::checked_add, greatest, None),
        ("-99999999999999999999999999999", Decimal::checked_sub, greatest, None),
        ("0.1", Decimal::checked_add, "0.2", Some("0.3")),
        ("0.1", Decimal::checked_sub, "0.2", Some("-0.1")),
    ];
    for (left, operation, right, expected) in cases {
        assert_eq!(operation(decimal(left), decimal(right)), expected.map(decimal), "{left} ? {right}");
    }
}

#[test]
fn rounds_to_places_and_to_whole_numbers() {
    let cases = [
        ("2.5", 0, Some("3")),
        ("-2.5", 0, Some("-3")),
        ("2.4999", 0, Some("2")),
        ("1.005", 2, Some("1.01")),
        ("1.23456789", 9, Some("1.23456789")),
        ("99999999999999999999999999999.9", 0, None),
    ];
    for (number, places, expected) in cases {
        assert_eq!(decimal(number).round(places), expected.map(decimal), "round({number}, {places})");
    }
    assert_eq!(decimal("9223372036854775807.4").to_int(), Some(i64::MAX));
    assert_eq!(decimal("9223372036854775807.5").to_int(), None);
    assert_eq!(decimal("-9223372036854775808.4").to_int(), Some(i64::MIN));
}

proptest! {
    #[test]
    fn a_printed_number_is_read_back(scaled in -(LIMIT - 1)..LIMIT) {
        let number = Decimal::from_scaled(scaled).unwrap();
        prop_assert_eq!(Decimal::parse(&number.to_string()), Some(number));
    }

    #[test]
    fn narrow_and_wide_division_agree(left in any::<i64>(), right in any::<i64>()) {
        prop_assume!(right != 0);
        let narrow = Decimal::from_scaled(divide_half_away(i128::from(left) * UNIT, i128::from(right)));
        let wide = from_wide_quotient(I256::from(left) * I256::from(UNIT), I256::from(right));
        prop_assert_eq!(narrow, wide);
    }
}

#[test]
fn a_stored_number_of_more_than_38_digits_is_refused() {
    for scaled in [Decimal::MAX.scaled(), -Decimal::MAX.scaled(), 0] {
        let stored = postcard::to_stdvec(&scaled).unwrap();
        assert_eq!(postcard::from_bytes::<Decimal>(&stored).unwrap().scaled(), scaled);
        assert_eq!(postcard::to_stdvec(&Decimal::from_scaled(scaled).unwrap()).unwrap(), stored);
    }
    for scaled in [Decimal::MAX.scaled() + 1, -Decimal::MAX.scaled() - 1, i128::MAX, i128::MIN] {
        assert!(postcard::from_bytes::<Decimal>(&postcard::to_stdvec(&scaled).unwrap()).is_err(), "{scaled}");
    }
}
