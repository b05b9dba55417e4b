//! Values at the edges of types, and conditions on them: years before 1, dates after the end of
//! time, strings that are cast to intervals, long numbers.

use serde_json::{Value as Json, json};

use crate::clauses::{Clauses, Dialect};
use crate::random::Random;

/// Values of `created_at` far from the middle of a case. PostgreSQL has no year 0.
pub(crate) const CREATED: [&str; 5] = [
    "0000-01-01T00:00:00Z",
    "0000-02-29T12:00:00.5Z",
    "0000-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
];

/// Values of `period` in payloads.
pub(crate) fn period(random: &mut Random) -> Json {
    let known = [
        "24:00:00",
        "1 day",
        "7 days",
        "1 year 2 mons",
        "P1DT2H",
        "1.5 days",
        "-3 days",
        "1 month 12:30",
        "30 days",
        "soon",
        "",
        "2 hours ago",
        "1 week",
        "90 minutes",
    ];
    json!(random.text(&known))
}

/// Values of `price`, besides those of [`crate::generate`]. PostgreSQL has longer numbers.
pub(crate) fn price(random: &mut Random, dialect: Dialect) -> Json {
    let portable = ["6e-40", "5e-10", "123456789012345678901e-20", "0e5", "\t7\n", " 1e3 "];
    let longer = ["1e308", "1e+308", "-1e29", "99999999999999999999999999999.9999999995"];
    match dialect == Dialect::Whole && random.chance(50) {
        true => json!(random.text(&longer)),
        false => json!(random.text(&portable)),
    }
}

impl Clauses<'_> {
    pub(crate) fn edge_condition(&mut self) -> String {
        let (op, interval) = (self.comparison(), self.interval());
        let period = "(payload->>'period')::interval";
        match self.random.below(if self.dialect == Dialect::Whole { 16 } else { 10 }) {
            0 => format!("({period} {op} {interval})"),
            1 => format!("({period} IS NULL)"),
            2 => format!("(created_at + {period} {op} {})", self.now_bound()),
            3 => format!(
                "({period}::text = '{}')",
                self.random.text(&["24:00:00", "1 day", "1 day 02:00:00", "-3 days"])
            ),
            4 => {
                let field = self.random.text(&["day", "hour", "month", "epoch", "year"]);
                format!("(extract({field} FROM {period}) {op} {})", self.random.between(-1, 3))
            }
            5 => format!("(created_at::text {} '20%')", self.random.text(&["LIKE", "NOT LIKE"])),
            6 => format!("(extract(year FROM created_at - INTERVAL '2026 years') {op} {})", self.random.between(-3, 2)),
            7 => format!("((created_at - INTERVAL '2030 years')::text LIKE '%{}')", self.random.text(&["BC", "+00"])),
            8 => format!(
                "(extract(isoyear FROM created_at - INTERVAL '2026 years') {op} {})",
                self.random.between(-3, 2)
            ),
            9 => format!("(created_at {op} DATE '9999-12-31' + {})", self.random.text(&["1", "1000000"])),
            10 => format!(
                "(created_at {op} now() - INTERVAL '{}')",
                self.random.text(&["999999999 days", "300000 years"])
            ),
            // The bound is NULL until now is 6,739 years after 24 November 4714 BC.
            11 => format!("(created_at {op} now() - INTERVAL '{} years')", self.random.between(6_737, 6_740)),
            12 => format!("((created_at > now() - INTERVAL '{} years') IS NULL)", self.random.between(6_737, 6_740)),
            13 => format!("(created_at - INTERVAL '{} years' IS NULL)", self.random.between(6_737, 6_740)),
            14 => format!(
                "(created_at::date + {} {op} created_at::date)",
                self.random.text(&["2147483647", "9999999999"])
            ),
            _ => format!("(extract(year FROM created_at) {op} {})", self.random.text(&["-1", "0", "1", "9999"])),
        }
    }
}
